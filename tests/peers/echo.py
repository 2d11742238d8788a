"""Echo requests, counted to the last.

iputils' ping leaves two round trips after its last request, which on a busy machine is before the answer.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time

REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
ANSWER = {socket.AF_INET: 0, socket.AF_INET6: 129}
PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
FLOOD_S = 0.01  # without an answer, the next request of a flood goes out after this, as ping's does


def _checksum(message: bytes) -> int:
    total = sum(struct.unpack(f"!{len(message) // 2}H", message[: len(message) & ~1]))
    total += message[-1] << 8 if len(message) & 1 else 0
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def answered(address: str, count: int, *, interval_s: float | None, size: int = 56, wait_s: float = 5) -> int:
    """How many of `count` requests with `size` bytes each were answered.

    They leave `interval_s` apart, or in a flood (None): each when the one before was answered.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    identifier = int.from_bytes(os.urandom(2), "big")
    missing: set[int] = set()
    with socket.socket(family, socket.SOCK_RAW, PROTOCOL[family]) as icmp:
        icmp.connect((address, 0))
        for number in range(count):
            head = struct.pack("!BBHHH", REQUEST[family], 0, 0, identifier, number)
            request = head + bytes(size)
            if family == socket.AF_INET:  # over IPv6 the kernel fills it in
                request = request[:2] + struct.pack("!H", _checksum(request)) + request[4:]
            missing.add(number)
            icmp.send(request)
            if interval_s is None:
                _collect(icmp, identifier, missing, FLOOD_S, until_all=True)
            else:
                _collect(icmp, identifier, missing, interval_s, until_all=False)
        _collect(icmp, identifier, missing, wait_s, until_all=True)
    return count - len(missing)


def _collect(icmp: socket.socket, identifier: int, missing: set[int], seconds: float, *, until_all: bool) -> None:
    end = time.monotonic() + seconds
    while not (until_all and not missing) and (left := end - time.monotonic()) > 0:
        if not select.select([icmp], [], [], left)[0]:
            return
        packet = icmp.recv(65536)
        if icmp.family == socket.AF_INET:
            packet = packet[4 * (packet[0] & 0xF) :]
        kind, _, _, whose, number = struct.unpack("!BBHHH", packet[:8])
        if kind == ANSWER[icmp.family] and whose == identifier:
            missing.discard(number)
