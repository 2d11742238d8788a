"""What an application may send, through a tunnel."""

from __future__ import annotations

import os
from typing import Literal

from peers.tunnel import Tunnel, read_iperf

FAMILIES: tuple[Literal[4, 6], ...] = (4, 6)
# Not -f, which waits for each answer: several are under way at a time.
FAST = ("-i", "0.002")


def exchange(tunnel: Tunnel, large_ping: int) -> None:
    """Pings, TCP and UDP of both families in both directions, and a TCP connection for each processor."""
    for family in FAMILIES:
        for sender in ("a", "b"):
            assert tunnel.ping(sender, *FAST, family=family, count=50) == 50
            assert tunnel.ping(sender, *FAST, "-s", str(large_ping), family=family, count=10) == 10
            tunnel.transfer(4_000_000, sender, family=family).assert_whole()
    datagrams = ("-u", "-b", "20M", "-l", "1200")
    flows = [tunnel.start_iperf(1, *datagrams, family=family, port=5200 + family) for family in FAMILIES]
    for flow in flows:
        udp = read_iperf(flow, timeout_s=30)["end"]["sum"]
        assert udp["packets"] > 1000
        assert udp["lost_percent"] < 1, f"{udp['lost_packets']} of {udp['packets']} datagrams of UDP were lost"
    parallel = os.cpu_count() or 1
    report = tunnel.iperf(1, "-P", str(parallel))
    streams = [stream["receiver"]["bytes"] for stream in report["end"]["streams"]]
    assert len(streams) == parallel
    # wireguard-go itself loses packets of 34 KB when it sends over IPv6, to its own kind as well: in most seconds it
    # moves hardly 1 MB, while every fragment that leaves arrives and is put together.
    ours = tunnel.a.program.name == tunnel.b.program.name == "wgengine"
    assert min(streams) > (1_000_000 if ours else 100_000), f"a connection starved: {streams}"
