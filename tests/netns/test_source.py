"""The address inside decides who may have sent it, over the whole device: case 26. (N8: test_scenario_roaming.py.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peers.device import genkey, pubkey
from peers.tunnel import between

if TYPE_CHECKING:
    from lab import Host, Lab


def count_arrivals(host: Host, link: str, sources: dict[str, str]) -> None:
    """A named counter for each source address, at the first moment that the kernel sees the packet."""
    counters = "".join(f"counter {name} {{ }}\n" for name in sources)
    rules = "".join(
        f'iifname "{link}" {"ip6" if ":" in source else "ip"} saddr {source} counter name {name}\n'
        for name, source in sources.items()
    )
    host.nft(f"table inet lab {{\n{counters}chain seen {{ type filter hook prerouting priority -300;\n{rules}}}\n}}\n")


@pytest.mark.parametrize("family", [4, 6])
def test_case_26_source_check_goes_by_the_whole_device(lab: Lab, family: int) -> None:
    tunnel = between(lab)
    a, b = tunnel.devices
    wide, narrow, inside, outside, target = {
        4: ("10.9.0.0/16", "10.9.5.5/32", "10.9.5.5", "10.9.5.6", tunnel.ipv4[0]),
        6: ("2001:db8:9::/48", "2001:db8:9::5/128", "2001:db8:9::5", "2001:db8:9::6", tunnel.ipv6[0]),
    }[family]
    third = pubkey(genkey())
    a.wg_set("peer", b.public, "allowed-ips", f"{wide},{tunnel.ipv4[1]}/32", "peer", third, "allowed-ips", narrow)
    for address in (inside, outside):
        bits = "/128" if family == 6 else "/32"
        b.host.run("ip", "address", "add", f"{address}{bits}", "dev", "lo")
    a.host.run("ip", "route", "replace", wide, "dev", a.name)
    count_arrivals(a.host, a.name, {"theirs": inside, "own": outside})

    assert b.host.ping(target, "-I", outside, "-i", "0.2", count=3) == 3
    assert a.host.counted("own") == 3
    assert b.host.ping(target, "-I", inside, "-i", "0.2", count=3, wait_s=1) == 0
    assert a.host.counted("theirs") == 0

    a.wg_set("peer", third, "remove")
    assert b.host.ping(target, "-I", inside, "-i", "0.2", count=3) == 3
    assert a.host.counted("theirs") == 3
