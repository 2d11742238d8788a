"""What goes over a wire: the datagrams that pass a link, noted by a packet socket, and those that a stranger throws."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from lab import Host

INITIATION, RESPONSE, COOKIE, DATA = 1, 2, 3, 4
KEEPALIVE_BYTES = 32

ETH_P_ALL = 3
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
UDP = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Datagram:
    """One UDP datagram and when the kernel saw it (seconds since 1970)."""

    time_s: float
    source: str
    source_port: int
    target: str
    target_port: int
    payload: bytes

    @property
    def length(self) -> int:
        return len(self.payload)

    @property
    def kind(self) -> int:
        """The message type of the whitepaper, 5.4; the three bytes after it are zero."""
        return self.payload[0] if len(self.payload) >= 4 and not any(self.payload[1:4]) else 0

    def __repr__(self) -> str:
        return f"<{self.source} to {self.target}: type {self.kind}, {self.length} bytes>"


class Wire:
    """Notes every datagram from the start of the `with` block on; `datagrams()` gives those not yet given."""

    def __init__(self, host: Host, link: str | None = None, port: int = 51820) -> None:
        self.port = port

        def opened() -> socket.socket:
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            tap.bind((link or host.link, ETH_P_ALL))
            tap.setblocking(False)
            return tap

        self._tap = host.call(opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._tap.close()

    def datagrams(self, *, source: str | None = None, kind: int | None = None) -> list[Datagram]:
        return [d for d in self._frames() if source in (None, d.source) and kind in (None, d.kind)]

    def _frames(self) -> Iterator[Datagram]:
        while True:
            try:
                frame, ancillary, _, _ = self._tap.recvmsg(65600, 64)
            except BlockingIOError:
                return
            time_s = 0.0
            for level, what, value in ancillary:
                if level == socket.SOL_SOCKET and what == SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("=qq", value[:16])
                    time_s = seconds + nanoseconds / 1e9
            datagram = parse(frame[14:], time_s)
            if datagram and self.port in (datagram.source_port, datagram.target_port):
                yield datagram


def throw(host: Host, target: str, payloads: Sequence[bytes], *, source_port: int = 0, port: int = 51820) -> None:
    """Sends datagrams from a host, not faster than the receiver empties its buffer."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thrower:
            thrower.bind(("", source_port))
            for number, payload in enumerate(payloads):
                thrower.sendto(payload, (target, port))
                if number % 64 == 0:
                    time.sleep(0.001)

    host.call(send)


def parse(packet: bytes, time_s: float) -> Datagram | None:
    """The UDP datagram in an IP packet, None for anything else (later fragments too)."""
    if len(packet) >= 28 and packet[0] >> 4 == 4 and packet[9] == UDP:
        if struct.unpack_from(">H", packet, 6)[0] & 0x1FFF:
            return None
        addresses, header = (packet[12:16], packet[16:20]), (packet[0] & 15) * 4
    elif len(packet) >= 48 and packet[0] >> 4 == 6 and packet[6] == UDP:
        addresses, header = (packet[8:24], packet[24:40]), 40
    else:
        return None
    source_port, target_port, length = struct.unpack_from(">HHH", packet, header)
    return Datagram(
        time_s=time_s,
        source=str(ip_address(addresses[0])),
        source_port=source_port,
        target=str(ip_address(addresses[1])),
        target_port=target_port,
        payload=packet[header + 8 : header + length] if length else packet[header + 8 :],
    )
