"""Everything that an application may send, through the tunnel: N2 over IPv4, N4 over IPv6 with jumbo packets too."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import pytest
from peers.tunnel import Tunnel, between

if TYPE_CHECKING:
    from lab import Lab

FAMILIES: tuple[Literal[4, 6], ...] = (4, 6)


# Not -f: under load it now and then counts one answer less than the TUN has handed to the kernel.
FAST = ("-i", "0.002")


def exchange(tunnel: Tunnel, large_ping: int) -> None:
    """Pings, TCP and UDP of both families in both directions, and a TCP connection for each processor."""
    for family in FAMILIES:
        assert tunnel.ping("a", *FAST, family=family, count=100) == 100
        assert tunnel.ping("b", *FAST, family=family, count=100) == 100
        assert tunnel.ping("a", *FAST, "-s", str(large_ping), family=family, count=20) == 20
        tunnel.transfer(8_000_000, "a", family=family).assert_whole()
        tunnel.transfer(8_000_000, "b", family=family).assert_whole()
        udp = tunnel.iperf(1, "-u", "-b", "20M", "-l", "1200", family=family)["end"]["sum"]
        assert udp["packets"] > 1000
        assert udp["lost_percent"] < 1, f"{udp['lost_packets']} of {udp['packets']} datagrams of UDP were lost"
    parallel = os.cpu_count() or 1
    report = tunnel.iperf(1, "-P", str(parallel))
    streams = [stream["receiver"]["bytes"] for stream in report["end"]["streams"]]
    assert len(streams) == parallel
    assert min(streams) > 1_000_000, f"a connection starved: {streams}"


@pytest.mark.parametrize("shards", ["1", "2"])
def test_n02_ping_tcp_and_udp_of_both_families(lab: Lab, shards: str) -> None:
    exchange(between(lab, env={"WGENGINE_SHARDS": shards}), large_ping=1392)


@pytest.mark.parametrize("mtu", [1420, 34_736])
def test_n04_the_same_over_ipv6_and_with_jumbo_packets(lab: Lab, mtu: int) -> None:
    tunnel = between(lab, outer=6, mtu=mtu)
    exchange(tunnel, large_ping=mtu - 48)
    for device in tunnel.devices:
        (peer,) = device.show().peers.values()
        assert peer.endpoint is not None
        assert peer.endpoint.startswith("[2001:db8::")


def test_n03_jumbo_packets_over_ipv4(lab: Lab) -> None:
    exchange(between(lab, mtu=34_736), large_ping=34_736 - 48)
