"""N12: behind a NAT that forgets a silent flow after two seconds, a keepalive of one second keeps the way in open."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from lab import Host, need
from peers.pairings import OURS, Pairing, every_pairing
from peers.tunnel import PORT, Tunnel, establish

if TYPE_CHECKING:
    from lab import Lab

FORGETS_S = 2


@pytest.fixture
def behind_nat(lab: Lab) -> tuple[Host, Host, Host]:
    """A host, the router that hides it, and a host outside."""
    inside, router, outside = lab.host(), lab.host(), lab.host()
    lab.join(inside, router, subnet=16)
    lab.join(router, outside, link="u1", subnet=32)
    outside.link = "u1"
    inside.run("ip", "route", "add", "default", "via", router.ipv4)
    # What comes in unasked is dropped, or its answer from the router itself would make the NAT a hard one.
    router.nft(
        "table inet lab {\n"
        'chain nat { type nat hook postrouting priority 100; oifname "u1" masquerade; }\n'
        'chain in { type filter hook input priority 0; iifname "u1" ct state new drop; }\n'
        'chain through { type filter hook forward priority 0; iifname "u1" ct state new drop; }\n}\n'
    )
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    for row in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
        said = router.attempt("sysctl", "-qw", f"net.netfilter.{row}={FORGETS_S}")
        need(said.returncode == 0, f"this kernel has no net.netfilter.{row} in a namespace")
    return inside, router, outside


def tunnel_through(pairing: Pairing, hosts: tuple[Host, Host, Host], keepalive: int) -> Tunnel:
    inside, _, outside = hosts
    devices = pairing.devices(inside.lab, inside, outside)
    tunnel = establish(*devices, initiator="a", keepalive=keepalive)
    assert tunnel.ping("a", "-W", "2") == 1
    assert tunnel.ping("b", "-W", "2") == 1
    assert tunnel.b.peer(tunnel.a).endpoint == f"192.0.2.33:{PORT}", "outside only the router is seen"
    return tunnel


@every_pairing
def test_n12_a_keepalive_holds_the_nat_open(behind_nat: tuple[Host, Host, Host], pairing: Pairing) -> None:
    tunnel = tunnel_through(pairing, behind_nat, keepalive=1)
    time.sleep(FORGETS_S + 1)
    assert tunnel.ping("b", "-W", "1") == 1, "the NAT has forgotten who is inside"


def test_n12_without_a_keepalive_the_nat_forgets(behind_nat: tuple[Host, Host, Host]) -> None:
    """That it is the keepalive which holds it open, and no lax router."""
    tunnel = tunnel_through(Pairing(a=OURS, b=OURS), behind_nat, keepalive=0)
    time.sleep(FORGETS_S + 1)
    assert tunnel.ping("b", "-W", "1") == 0
    assert tunnel.ping("a", "-W", "1") == 1, "who is inside opens it again"
    assert tunnel.ping("b", "-W", "1") == 1
