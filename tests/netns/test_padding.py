"""Data is padded to a multiple of 16 bytes, but never beyond the interface's MTU: case 30 (whitepaper 5.4.6)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from peers.tunnel import between
from peers.wire import DATA, KEEPALIVE_BYTES, Wire

if TYPE_CHECKING:
    from lab import Lab

MTU = 1420
PING_HEADERS = 28


def padded(inner_bytes: int) -> int:
    """The UDP payload that carries an inner packet of this length."""
    return 32 + min(-(-inner_bytes // 16) * 16, MTU)


def test_case_30_only_multiples_of_16_leave(lab: Lab) -> None:
    tunnel = between(lab)
    assert tunnel.ping() == 1
    sizes = [*range(56, 89), 1384, 1391, 1392]
    with Wire(tunnel.b.host) as wire:
        wire.datagrams()
        for size in sizes:
            assert tunnel.ping("a", "-s", str(size), "-M", "do") == 1, f"a ping of {size} bytes was not answered"
        time.sleep(0.1)
        lengths = [d.length for d in wire.datagrams(source=tunnel.a.host.ipv4, kind=DATA)]
    lengths = [length for length in lengths if length != KEEPALIVE_BYTES]
    assert lengths == [padded(size + PING_HEADERS) for size in sizes]
    # as kernel and wireguard-go have it
    assert [padded(size + PING_HEADERS) for size in (56, 68, 69, 84, 85, 1392)] == [128, 128, 144, 144, 160, 1452]


def test_case_30_the_receiver_hands_on_exactly_the_inner_length(lab: Lab) -> None:
    tunnel = between(lab)
    assert tunnel.ping() == 1
    counter = f"/sys/class/net/{tunnel.b.name}/statistics/rx_bytes"
    for size in (56, 57, 68, 69, 1391, 1392):
        before = int(tunnel.b.host.run("cat", counter))
        assert tunnel.ping("a", "-s", str(size)) == 1
        assert int(tunnel.b.host.run("cat", counter)) - before == size + PING_HEADERS
