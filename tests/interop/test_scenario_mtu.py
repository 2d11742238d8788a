"""N5 in every pairing: padding is capped by the MTU, so that no datagram is longer than the longest packet makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.pairings import Pairing, every_pairing
from peers.wire import DATA, Wire

if TYPE_CHECKING:
    from lab import Host, Lab

MTU = 1300
HEADERS = 20 + 8  # IPv4, UDP
SEALED = 32  # header and tag
LIMIT = MTU + SEALED + HEADERS
SIZES = range(MTU - 20, MTU + 1)  # of packets: every remainder of 16, and the last one that fits


def drop_longer(host: Host, limit: int) -> None:
    host.cut_batches()
    host.nft(
        "table inet lab { counter longer { }\n"
        f"chain in {{ type filter hook prerouting priority -300; meta l4proto udp meta length > {limit} "
        "counter name longer drop; }; }\n"
    )


@every_pairing
def test_n05_padding_never_overshoots_the_mtu(lab: Lab, pairing: Pairing) -> None:
    tunnel = pairing.tunnel(lab, mtu=MTU)
    for device in tunnel.devices:
        drop_longer(device.host, LIMIT)
    assert tunnel.ping() == 1
    with Wire(tunnel.b.host) as wire:
        for sender in ("a", "b"):
            for size in SIZES:
                arrived = tunnel.ping(sender, "-W", "1", "-s", str(size - 28))
                assert arrived == 1, f"a packet of {size} bytes from {sender} became too long, or got lost"
        seen = wire.datagrams(kind=DATA)
    for name, device in zip(pairing.names, tunnel.devices, strict=True):
        lengths = {d.length - SEALED for d in seen if d.source == device.host.ipv4}
        padded = {min(-(-size // 16) * 16, MTU) for size in SIZES}
        # boringtun-cli does not pad (C3 row 3)
        assert lengths == (set(SIZES) if name == "boringtun-cli" else padded) | (lengths & {0})
        assert device.host.counted("longer") == 0


@every_pairing
def test_n05_a_route_that_is_narrower_than_the_interface(lab: Lab, pairing: Pairing) -> None:
    """The kernel cuts what the tunnel is given to the route's MTU; nothing of it becomes too long for the interface's.

    (Kernel WireGuard pads to the route's MTU. A program behind a TUN knows the interface's only: a packet of 1297
    bytes becomes 1300 long, not 1299.)
    """
    tunnel = pairing.tunnel(lab, mtu=MTU)
    for device, other in zip(tunnel.devices, reversed(tunnel.ipv4), strict=True):
        device.host.run("ip", "route", "add", f"{other}/32", "dev", device.name, "mtu", "1299")
        drop_longer(device.host, LIMIT)
    for sender in ("a", "b"):
        for payload in (1269, 1271, 1272, 2600):
            assert tunnel.ping(sender, "-W", "2", "-s", str(payload), "-M", "dont") == 1
    tunnel.transfer(2_000_000).assert_whole()
    for device in tunnel.devices:
        assert device.host.counted("longer") == 0
