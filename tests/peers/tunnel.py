"""Two devices that know each other, and what is sent through them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from peers.device import Device, genpsk
from peers.process import until

if TYPE_CHECKING:
    from lab import Host, Lab

    from peers.process import Process

TRANSFER = Path(__file__).with_name("transfer.py")
PORT = 51820

Side = Literal["a", "b"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """A bulk transfer, as both of its ends saw it."""

    size_bytes: int
    seconds: float
    sent_sha256: str
    received_sha256: str
    retransmits: int
    checksum_errors: int

    def assert_whole(self) -> None:
        assert self.received_sha256 == self.sent_sha256, f"the bytes that arrived differ: {self}"
        assert self.checksum_errors == 0, f"TcpInCsumErrors grew by {self.checksum_errors}"

    def __str__(self) -> str:
        rate = f"{self.size_bytes * 8 / self.seconds / 1e9:.2f} Gbit/s"
        return f"{self.size_bytes} bytes at {rate}, {self.retransmits} retransmits, sha256 {self.sent_sha256[:12]}"


@dataclass(slots=True, kw_only=True)
class Tunnel:
    """Device a (10.9.0.1, fd00:9::1) and device b (10.9.0.2, fd00:9::2)."""

    a: Device
    b: Device
    psk: str = field(default="", repr=False)

    ipv4: tuple[str, str] = ("10.9.0.1", "10.9.0.2")
    ipv6: tuple[str, str] = ("fd00:9::1", "fd00:9::2")

    @property
    def devices(self) -> tuple[Device, Device]:
        return self.a, self.b

    def ends(self, sender: Side, family: int = 4) -> tuple[Device, Device, str]:
        """The sender, the receiver, and the receiver's address inside."""
        addresses = self.ipv4 if family == 4 else self.ipv6
        return (self.a, self.b, addresses[1]) if sender == "a" else (self.b, self.a, addresses[0])

    def ping(self, sender: Side = "a", *options: str, family: int = 4, count: int = 1, timeout_s: float = 30) -> int:
        source, _, address = self.ends(sender, family)
        return source.host.ping(address, *options, count=count, timeout_s=timeout_s)

    def start_transfer(self, size_bytes: int, sender: Side = "a", *, family: int = 4, port: int = 5301) -> Running:
        """Pseudo-random bytes over one TCP connection, hashed at both ends."""
        source, target, address = self.ends(sender, family)
        receiver = target.host.spawn(sys.executable, TRANSFER, "receive", address, str(port))
        until(lambda: target.host.listening(port) or not receiver.running, "the receiver listens")
        errors = source.host.tcp_checksum_errors() + target.host.tcp_checksum_errors()
        return Running(
            sender=source.host.spawn(sys.executable, TRANSFER, "send", address, str(port), str(size_bytes)),
            receiver=receiver,
            hosts=(source.host, target.host),
            errors_before=errors,
            size_bytes=size_bytes,
        )

    def transfer(
        self, size_bytes: int, sender: Side = "a", *, family: int = 4, port: int = 5301, timeout_s: float = 90
    ) -> Transferred:
        return self.start_transfer(size_bytes, sender, family=family, port=port).result(timeout_s)

    def start_iperf(
        self, seconds: float, *options: str, sender: Side = "a", family: int = 4, port: int = 5201
    ) -> Process:
        """iperf3 from the sender to the other side; its JSON is the process's output."""
        source, target, address = self.ends(sender, family)
        server = target.host.spawn("iperf3", "-s", "-1", "-p", str(port), "-B", address)
        until(lambda: target.host.listening(port) or not server.running, "iperf3 listens")
        return source.host.spawn(
            "iperf3", "-c", address, "-p", str(port), "-t", f"{seconds:g}", "-J", "--connect-timeout", "5000", *options
        )

    def iperf(
        self, seconds: float, *options: str, sender: Side = "a", family: int = 4, port: int = 5201
    ) -> dict[str, Any]:
        client = self.start_iperf(seconds, *options, sender=sender, family=family, port=port)
        return read_iperf(client, seconds + 30)


@dataclass(slots=True, kw_only=True)
class Running:
    """A transfer under way."""

    sender: Process
    receiver: Process
    hosts: tuple[Host, Host]
    errors_before: int
    size_bytes: int

    def result(self, timeout_s: float = 90) -> Transferred:
        sent = json.loads(self.sender.output(timeout_s))
        received = json.loads(self.receiver.output(timeout_s))
        assert received["size_bytes"] == self.size_bytes, f"{received['size_bytes']} of {self.size_bytes} bytes arrived"
        return Transferred(
            size_bytes=self.size_bytes,
            seconds=received["seconds"],
            sent_sha256=sent["sha256"],
            received_sha256=received["sha256"],
            retransmits=sent["retransmits"],
            checksum_errors=sum(host.tcp_checksum_errors() for host in self.hosts) - self.errors_before,
        )


def read_iperf(client: Process, timeout_s: float) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(client.output(timeout_s))
    assert "error" not in report, report["error"]
    return report


def seconds_of_silence(report: dict[str, Any]) -> list[float]:
    """The starts of those intervals of an iperf3 run in which nothing went through."""
    return [interval["sum"]["start"] for interval in report["intervals"] if interval["sum"]["bytes"] == 0]


def establish(
    a: Device,
    b: Device,
    *,
    psk: bool = False,
    outer: int = 4,
    initiator: Side | None = None,
    mtu: int = 1420,
    keepalive: int = 0,
    allowed: Sequence[str] = (),
    around: Tunnel | None = None,
) -> Tunnel:
    """Makes two fresh devices peers of each other, each in one request, and brings them up.

    With an `initiator` the other side is given no endpoint: it has to learn where its peer is, if it can. `around`
    is a tunnel between the same hosts that this one is to go through.
    """
    tunnel = Tunnel(a=a, b=b, psk=genpsk() if psk else "")
    port = PORT
    if around:
        tunnel.ipv4, tunnel.ipv6, port = ("10.10.0.1", "10.10.0.2"), ("fd00:10::1", "fd00:10::2"), PORT + 1
    # who may speak first comes last, or would not be heard
    for number in (0, 1) if initiator == "b" else (1, 0):
        own, other = tunnel.devices[number], tunnel.devices[1 - number]
        hosts = (around.ipv4, around.ipv6) if around else ((a.host.ipv4, b.host.ipv4), (a.host.ipv6, b.host.ipv6))
        address = hosts[0][1 - number] if outer == 4 else f"[{hosts[1][1 - number]}]"
        text = own.interface_section(port) + f"\n[Peer]\nPublicKey = {other.public}\n"
        text += f"AllowedIPs = {tunnel.ipv4[1 - number]}/32, {tunnel.ipv6[1 - number]}/128"
        text += "".join(f", {prefix}" for prefix in allowed) + "\n"
        if psk:
            text += f"PresharedKey = {tunnel.psk}\n"
        if initiator in (None, "ab"[number]) or not own.program.roams:
            text += f"Endpoint = {address}:{port}\n"
        if keepalive and initiator in (None, "ab"[number]):
            text += f"PersistentKeepalive = {keepalive}\n"
        own.address(f"{tunnel.ipv4[number]}/24", f"{tunnel.ipv6[number]}/64")
        own.up(mtu)
        own.setconf(text)
    return tunnel


def between(lab: Lab, *, env: Mapping[str, str] | None = None, **options: Any) -> Tunnel:
    """The device under test on both of two fresh hosts."""
    a, b = (lab.wgengine(host, env=env or {}) for host in lab.pair())
    return establish(a, b, **options)
