"""Tailscale's own engine at the other end: no control server, our node plain WireGuard in its netmap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from lab import Lab, LabError, need, until
from peers import build
from peers.tsengine import TailscaleEngine, node, tailscale_engine

if TYPE_CHECKING:
    from peers.device import Device

OURS = ("100.64.0.1/32", "fd7a:115c:a1e0::1/128")
THEIRS = ("100.64.0.2/32", "fd7a:115c:a1e0::2/128")
PORT = 51820

both_families = pytest.mark.parametrize("family", [0, 1], ids=["v4", "v6"])


def bare(prefix: str) -> str:
    return prefix.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    ours: Device
    theirs: TailscaleEngine


@pytest.fixture
def ends(lab: Lab) -> Iterator[Ends]:
    """A device of ours and Tailscale's engine on one wire, each told of the other."""
    need(build.path("tsengine").exists(), "it is not built: python tests/peers/build.py tsengine")
    a, b = lab.pair()
    ours = lab.wgengine(a)
    us = node(2, ours.public, OURS, endpoint=f"{a.ipv4}:{PORT}")
    with tailscale_engine(b, lab.interface(), *THEIRS, port=PORT, peers=[us]) as theirs:
        ours.setconf(
            f"{ours.interface_section(PORT)}[Peer]\nPublicKey = {theirs.public}\n"
            f"AllowedIPs = {', '.join(THEIRS)}\nEndpoint = {b.ipv4}:{PORT}\n"
        )
        ours.address(*OURS)
        ours.up(1280)
        for host, name, peers in ((a, ours.name, THEIRS), (b, theirs.name, OURS)):
            for prefix in peers:
                host.run("ip", "route", "add", prefix, "dev", name)
        yield Ends(ours=ours, theirs=theirs)


@both_families
def test_we_shake_hands_with_it_and_its_kernel_answers(ends: Ends, family: int) -> None:
    assert ends.ours.host.ping(bare(THEIRS[family])) == 1
    assert ends.ours.peer(ends.theirs.public).latest_handshake > 0
    assert ends.theirs.status().peers[ends.ours.public].handshaken


@both_families
def test_it_shakes_hands_with_us_and_our_kernel_answers(ends: Ends, family: int) -> None:
    assert ends.theirs.host.ping(bare(OURS[family])) == 1
    status = ends.theirs.status().peers[ends.ours.public]
    assert status.handshaken
    assert status.rx_bytes > 0
    assert status.tx_bytes > 0


@both_families
def test_its_icmp_ping(ends: Ends, family: int) -> None:
    result = ends.theirs.ping(bare(OURS[family]), "ICMP")
    assert (result["Err"], result["NodeName"]) == ("", "n2")
    assert result["LatencySeconds"] > 0


def test_a_peer_that_leaves_its_netmap_is_gone(ends: Ends) -> None:
    assert ends.ours.host.ping(bare(THEIRS[0])) == 1
    ends.theirs.set_peers()
    assert ends.theirs.ping(bare(OURS[0]), "ICMP")["Err"] == "no matching peer"
    until(lambda: ends.ours.public not in ends.theirs.status().peers, "it has forgotten us")


def test_an_error_says_what_was_asked(ends: Ends) -> None:
    with pytest.raises(LabError, match="asked to ping: ping: ip and timeout_ms are needed"):
        ends.theirs.ping(bare(OURS[0]), "ICMP", timeout_s=0)
