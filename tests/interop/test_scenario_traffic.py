"""N2 to N4 and N10 in every pairing: everything that an application may send, also in jumbo packets, also nested."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.pairings import Pairing, every_pairing, pairings
from peers.traffic import exchange
from peers.tunnel import PORT, Tunnel, establish

if TYPE_CHECKING:
    from lab import Lab

JUMBO = 34_736
NESTED = 1420 - 80  # IPv6, UDP and WireGuard's own

# It reads the MTU when it starts, and cuts off what is longer.
takes_jumbo = pairings(without="boringtun-cli")


def assert_over_ipv6(tunnel: Tunnel) -> None:
    for device in tunnel.devices:
        (peer,) = device.show().peers.values()
        assert peer.endpoint is not None
        assert peer.endpoint.startswith("[2001:db8::")


@every_pairing
def test_n02_ping_tcp_and_udp_of_both_families(lab: Lab, pairing: Pairing) -> None:
    exchange(pairing.tunnel(lab), large_ping=1392)


@takes_jumbo
def test_n03_jumbo_packets(lab: Lab, pairing: Pairing) -> None:
    exchange(pairing.tunnel(lab, mtu=JUMBO), large_ping=JUMBO - 48)


@every_pairing
def test_n04_over_ipv6(lab: Lab, pairing: Pairing) -> None:
    tunnel = pairing.tunnel(lab, outer=6)
    exchange(tunnel, large_ping=1392)
    assert_over_ipv6(tunnel)


@takes_jumbo
def test_n04_jumbo_packets_over_ipv6(lab: Lab, pairing: Pairing) -> None:
    tunnel = pairing.tunnel(lab, outer=6, mtu=JUMBO)
    exchange(tunnel, large_ping=JUMBO - 48)
    assert_over_ipv6(tunnel)


@every_pairing
def test_n10_a_tunnel_through_a_tunnel(lab: Lab, pairing: Pairing) -> None:
    around = pairing.tunnel(lab)
    hosts = around.a.host, around.b.host
    nested = establish(*pairing.devices(lab, *hosts), outer=6, mtu=NESTED, psk=True, around=around)
    for host in hosts:
        host.nft(
            "table inet lab { counter bare { }\n"
            f'chain in {{ type filter hook prerouting priority -300; iifname "{host.link}" '
            f"udp dport {PORT + 1} counter name bare; }}; }}\n"
        )
    exchange(nested, large_ping=NESTED - 48)
    for device in nested.devices:
        (peer,) = device.show().peers.values()
        assert peer.endpoint is not None
        assert peer.endpoint.startswith("[fd00:9::")
        assert device.host.counted("bare") == 0, "the nested tunnel's datagrams went past the one around it"
