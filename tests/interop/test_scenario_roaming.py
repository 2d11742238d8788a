"""N6 to N9: who is authenticated may move, over IPv4 and IPv6; the inner source is checked all the same; new keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from peers.device import genkey, pubkey
from peers.pairings import OURS, Pairing, every_pairing, pairings
from peers.tunnel import PORT, Tunnel
from peers.wire import INITIATION, Wire

if TYPE_CHECKING:
    from lab import Lab

NEW_PORT = 9999


def move(tunnel: Tunnel, old: str, new: str, bits: int) -> None:
    """Device a gets another address and another port."""
    a = tunnel.a
    extra = ("nodad",) if ":" in new else ()
    a.host.run("ip", "address", "delete", f"{old}/{bits}", "dev", a.host.link)
    a.host.run("ip", "address", "add", f"{new}/{bits}", "dev", a.host.link, *extra)
    a.wg_set("listen-port", str(NEW_PORT))


def assert_followed(tunnel: Tunnel, endpoint: str) -> None:
    with Wire(tunnel.b.host, port=NEW_PORT) as wire:
        assert tunnel.ping("a", "-W", "2", family=6) == 1
        initiations = wire.datagrams(kind=INITIATION)
    assert tunnel.b.peer(tunnel.a).endpoint == endpoint
    assert initiations == [], "the session was to live on"
    # and the other way, which needs what was learnt
    assert tunnel.ping("b", "-W", "2") == 1
    tunnel.transfer(2_000_000, "b").assert_whole()


@every_pairing
def test_n06_another_address_and_port_over_ipv4(lab: Lab, pairing: Pairing) -> None:
    tunnel = pairing.tunnel(lab)
    assert tunnel.ping() == 1
    move(tunnel, tunnel.a.host.ipv4, "192.0.2.121", 24)
    assert_followed(tunnel, f"192.0.2.121:{NEW_PORT}")


@every_pairing
def test_n07_another_address_and_port_over_ipv6(lab: Lab, pairing: Pairing) -> None:
    tunnel = pairing.tunnel(lab, outer=6)
    assert tunnel.ping() == 1
    move(tunnel, tunnel.a.host.ipv6, "2001:db8::121", 64)
    assert_followed(tunnel, f"[2001:db8::121]:{NEW_PORT}")


@pytest.mark.parametrize("peer", [OURS, "boringtun-cli"])
def test_n07_from_ipv4_to_ipv6_and_back(lab: Lab, peer: str) -> None:
    """We are told another endpoint, of the other family; the peer follows with the next packet.

    (wireguard-go cuts short the first IPv6 destination after an IPv4 one, which is why it fails N17 as well.)
    """
    pairing = Pairing(a=OURS, b=peer)
    tunnel = pairing.tunnel(lab)
    a, b = tunnel.devices
    assert tunnel.ping() == 1
    for to, source in ((f"[{b.host.ipv6}]:{PORT}", f"[{a.host.ipv6}]"), (f"{b.host.ipv4}:{PORT}", a.host.ipv4)):
        a.wg_set("peer", b.public, "endpoint", to)
        assert tunnel.ping("a") == 1
        assert b.peer(a).endpoint == f"{source}:{PORT}"
        assert tunnel.ping("b") == 1


# boringtun-cli checks a source against the sender's own list only (C3 row 13).
@pairings(never_a="boringtun-cli")
def test_n08_a_narrower_prefix_of_another_peer_wins_and_roaming_does_not_care(lab: Lab, pairing: Pairing) -> None:
    tunnel = pairing.tunnel(lab)
    a, b = tunnel.devices
    a.wg_set("peer", b.public, "allowed-ips", "10.9.0.0/24")
    assert tunnel.ping("b") == 1

    dead = pubkey(genkey())
    a.wg_set("peer", dead, "allowed-ips", "10.9.0.2/32")
    b.wg_set("listen-port", "9997")
    assert tunnel.ping("b", "-W", "1", count=2) == 0, "an address of another peer was taken from this one"
    # authenticated all the same: the peer has moved
    assert a.peer(b).endpoint == f"{b.host.ipv4}:9997"

    a.wg_set("peer", dead, "remove")
    assert tunnel.ping("b") == 1, "the wide prefix did not come back into force"


@every_pairing
def test_n09_a_new_private_key_takes_effect_at_once(lab: Lab, pairing: Pairing) -> None:
    """Device a gets another key while its session lives; the other side knows a by that key alone from now on."""
    tunnel = pairing.tunnel(lab, psk=True)
    a, b = tunnel.devices
    assert tunnel.ping() == 1
    for _ in range(2):
        old, a.private = a.public, genkey()
        a.public = pubkey(a.private)
        b.wg_set(
            *("peer", a.public, "preshared-key", "/dev/stdin"),
            *("allowed-ips", f"{tunnel.ipv4[0]}/32,{tunnel.ipv6[0]}/128"),
            stdin=tunnel.psk,
        )
        b.wg_set("peer", old, "remove")
        a.wg_set("private-key", "/dev/stdin", stdin=a.private)
        with Wire(b.host) as wire:
            assert tunnel.ping("a", "-W", "1") == 1, "the new key was to be used at once"
            sent = wire.datagrams(source=a.host.ipv4)
        assert sent[0].kind == INITIATION, "a session of the old key went on"
        assert set(b.show().peers) == {a.public}
        assert tunnel.ping("b", family=6) == 1
