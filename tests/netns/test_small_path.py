"""A path smaller than the tunnel's packets: case 24.

Single datagrams would be fragmented and would arrive; a batch that the kernel is to cut is refused with EMSGSIZE.
(wireguard-go fails all but the one in mid-transfer; boringtun-cli, which sends datagrams singly, passes.)
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from peers.tunnel import Tunnel, between

if TYPE_CHECKING:
    from lab import Lab

SMALL = "1280"


def wire_mtu(tunnel: Tunnel, mtu: str) -> None:
    for device in tunnel.devices:
        device.host.run("ip", "link", "set", device.host.link, "mtu", mtu)


def assert_passes(tunnel: Tunnel, size_bytes: int = 3_000_000, timeout_s: float = 5) -> None:
    for sender in ("a", "b"):
        tunnel.transfer(size_bytes, sender, timeout_s=timeout_s).assert_whole()
        assert tunnel.ping(sender, "-s", "1372") == 1


@pytest.mark.parametrize("outer", [4, 6])
def test_case_24_a_wire_of_1280_bytes(lab: Lab, outer: int) -> None:
    tunnel = between(lab, outer=outer)
    wire_mtu(tunnel, SMALL)
    assert_passes(tunnel)
    # inner IPv6 keeps working: the interface's MTU is not lowered under 1280
    assert tunnel.ping("a", "-s", "1352", family=6) == 1
    tunnel.transfer(3_000_000, family=6, timeout_s=5).assert_whole()
    for device in tunnel.devices:
        assert "mtu 1420" in device.host.run("ip", "link", "show", device.name)


def test_case_24_only_the_route_is_small(lab: Lab) -> None:
    tunnel = between(lab)
    a, b = (device.host for device in tunnel.devices)
    a.run("ip", "route", "replace", f"{b.ipv4}/32", "dev", a.link, "mtu", SMALL)
    assert_passes(tunnel)


def test_case_24_the_wire_shrinks_and_grows_in_mid_transfer(lab: Lab) -> None:
    tunnel = between(lab)
    for _ in range(2):
        running = tunnel.start_transfer(100_000_000)
        time.sleep(0.1)
        wire_mtu(tunnel, SMALL)
        time.sleep(0.5)
        wire_mtu(tunnel, "1500")
        running.result(timeout_s=30).assert_whole()


def test_case_24_it_is_said_once_and_not_for_every_packet(lab: Lab) -> None:
    tunnel = between(lab)
    wire_mtu(tunnel, SMALL)
    assert_passes(tunnel)
    for device in tunnel.devices:
        assert len(device.log.splitlines()) < 20, device.log[:2000]
