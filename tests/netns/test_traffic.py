"""N2 with two shards. (All pairings of N2 to N4 and N10: tests/interop/test_scenario_traffic.py.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.traffic import exchange
from peers.tunnel import between

if TYPE_CHECKING:
    from lab import Lab


def test_n02_ping_tcp_and_udp_with_two_shards(lab: Lab) -> None:
    exchange(between(lab, env={"WGENGINE_SHARDS": "2"}), large_ping=1392)
