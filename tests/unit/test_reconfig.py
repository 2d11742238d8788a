"""The diff: its lines, its order, and what it does not do."""

from types import SimpleNamespace

import pytest
from wgengine.config import Config, Endpoint, Peer
from wgengine.device_plan import PeerDelta, device_plan
from wgengine.keys import PresharedKey, PrivateKey, PublicKey
from wgengine.reconfig import (
    AddAddress,
    AddPeer,
    AddRoute,
    ChangePeer,
    Changes,
    RemoveAddress,
    RemovePeer,
    RemoveRoute,
    SetListenPort,
    SetPrivateKey,
    Skipped,
    diff,
)

SECRET, OTHER_SECRET = PrivateKey.from_hex("08" * 32), PrivateKey.from_hex("10" * 32)
A, B, C = (PublicKey.from_bytes(bytes([n]) * 32) for n in (11, 12, 13))
PSK = PresharedKey.from_hex("5e" * 32)


def make_config(*peers, **fields):
    return Config(**{"private_key": SECRET, "peers": peers, **fields})


def make_peer(key=A, *allowed_ips, **fields):
    return Peer(public_key=key, allowed_ips=allowed_ips, **fields)


def test_the_lines_of_a_first_plan():
    config = make_config(
        make_peer(A, "10.9.0.2/32", "10.20.0.0/16", endpoint="vpn.example:51820", preshared_key=PSK),
        make_peer(B, persistent_keepalive=25),
        listen_port=51820,
        fwmark=0x64,
        addresses=["10.9.0.1/24"],
        mtu=1380,
        dns=["10.9.0.53"],
        dns_search=["corp.example"],
    )
    assert str(diff(None, config, can_dns=True)).splitlines() == [
        f"~ private_key (public key {SECRET.public_key})",
        "~ listen_port 0 → 51820",
        "~ fwmark 0x0 → 0x64",
        f"+ peer {A} endpoint vpn.example:51820 allowed_ips 10.9.0.2/32, 10.20.0.0/16 preshared_key (hidden)",
        f"+ peer {B} persistent_keepalive 25",
        "+ address 10.9.0.1/24",
        "~ mtu default → 1380",
        "+ route 10.20.0.0/16",
        "~ dns 10.9.0.53 corp.example",
    ]


def test_the_lines_of_a_change():
    before = make_config(
        make_peer(A, "10.1.0.0/16", "10.2.0.0/16", persistent_keepalive=25, preshared_key=PSK),
        make_peer(B, "10.3.0.0/16"),
        addresses=["10.9.0.1/24"],
        mtu=1380,
        table=1234,
    )
    after = make_config(
        make_peer(A, "10.1.0.0/16", "10.4.0.0/16", endpoint="[2001:db8::1]:1"),
        make_peer(C),
        private_key=OTHER_SECRET,
        addresses=["10.9.0.1/24", "fd00::1/64"],
        table=1234,
    )
    assert list(diff(before, after)) == [
        f"~ private_key (public key {OTHER_SECRET.public_key})",
        f"~ peer {A} preshared_key none endpoint [2001:db8::1]:1 allowed_ips -10.2.0.0/16, +10.4.0.0/16 "
        "persistent_keepalive off",
        f"+ peer {C}",
        f"- peer {B}",
        "- route 10.2.0.0/16 table 1234",
        "- route 10.3.0.0/16 table 1234",
        "+ address fd00::1/64",
        "~ mtu 1380 → default",
        "+ route 10.4.0.0/16 table 1234",
    ]


def test_a_plan_shows_no_secret():
    config = make_config(make_peer(A, preshared_key=PSK))
    changes = diff(None, config)
    shown = f"{changes}{changes!r}{device_plan(changes.steps)!r}"
    for secret in (SECRET, PSK):
        assert secret.to_base64() not in shown
        assert secret.to_hex() not in shown


def test_many_allowed_ips_are_cut_short_in_a_line_only():
    peer = make_peer(A, *(f"10.0.{n}.0/24" for n in range(20)))
    (line,) = [line for line in diff(None, make_config(peer)) if line.startswith("+ peer")]
    assert line.endswith("10.0.7.0/24 and 12 more")
    (delta,) = device_plan(diff(None, make_config(peer)).steps).peers
    assert len(delta.allowed_ips) == 20


def test_changes_are_falsy_when_nothing_is_done():
    assert not Changes()
    assert str(Changes()) == "nothing changes"
    skipped = Changes((), (Skipped("dns 10.0.0.1", "a DNS manager"),))
    assert not skipped
    assert str(skipped) == "! dns 10.0.0.1: not done, it needs a DNS manager"
    some = Changes((RemovePeer(A), RemoveRoute("::/0", None)))
    assert some
    assert len(some) == 2
    assert list(some) == [f"- peer {A}", "- route ::/0"]


def test_what_a_library_does_not_run_is_named():
    config = make_config().replace(post_up=("echo up",), pre_down=("echo down",), save_config=True)
    skipped = diff(None, config).skipped
    assert [one.what for one in skipped] == ["post up", "pre down", "save config"]
    assert diff(config, config).skipped == skipped
    assert diff(None, make_config()).skipped == ()


def test_a_default_route_needs_a_router():
    config = make_config(make_peer(A, "0.0.0.0/0", "::/0", "10.0.0.0/8"))
    changes = diff(None, config)
    assert [step for step in changes.steps if isinstance(step, AddRoute)] == [AddRoute("10.0.0.0/8", None)]
    assert [skipped.what for skipped in changes.skipped] == ["route 0.0.0.0/0", "route ::/0"]
    assert all("wg-quick" in skipped.needs for skipped in changes.skipped)
    routed = diff(None, config, can_route_default=True)
    assert routed.skipped == ()
    assert [step.prefix for step in routed.steps if isinstance(step, AddRoute)] == ["0.0.0.0/0", "::/0", "10.0.0.0/8"]


@pytest.mark.parametrize(
    ("address", "allowed_ip", "routed"),
    [
        ("10.9.0.1/24", "10.9.0.0/24", False),
        ("10.9.0.1/24", "10.9.0.2/32", False),
        ("10.9.0.1/24", "10.9.0.0/16", True),
        ("10.9.0.1/24", "10.9.1.0/24", True),
        ("10.9.0.1/32", "10.9.0.2/32", True),
        ("fd00::1/64", "fd00::2/128", False),
        ("fd00::1/64", "10.9.0.2/32", True),
    ],
)
def test_an_address_subnet_needs_no_route(address, allowed_ip, routed):
    steps = diff(None, make_config(make_peer(A, allowed_ip), addresses=[address])).steps
    assert (AddRoute(allowed_ip, None) in steps) == routed


def test_another_table_moves_the_routes():
    before = make_config(make_peer(A, "10.0.0.0/8"), table="auto")
    assert diff(before, before.replace(table=1234)).steps == (
        RemoveRoute("10.0.0.0/8", None),
        AddRoute("10.0.0.0/8", 1234),
    )
    assert diff(before, before.replace(table="off")).steps == (RemoveRoute("10.0.0.0/8", None),)


def test_the_last_ipv4_address_takes_the_ipv4_routes_along():
    before = make_config(make_peer(A, "10.0.0.0/8", "fd00::/8"), addresses=["192.0.2.1/32"])
    assert diff(before, before.replace(addresses=["192.0.2.2/32"])).steps == (
        RemoveAddress("192.0.2.1/32"),
        AddAddress("192.0.2.2/32"),
        AddRoute("10.0.0.0/8", None),
    )
    both = before.replace(addresses=["192.0.2.1/32", "198.51.100.1/32"])
    assert diff(both, both.replace(addresses=["198.51.100.1/32"])).steps == (RemoveAddress("192.0.2.1/32"),)


def test_a_primary_address_takes_its_secondaries_along():
    before = make_config(addresses=["10.9.0.1/24", "10.9.0.2/24", "10.8.0.1/24"])
    assert diff(before, before.replace(addresses=["10.9.0.2/24", "10.8.0.1/24"])).steps == (
        RemoveAddress("10.9.0.1/24"),
        AddAddress("10.9.0.2/24"),
    )


def test_a_prefix_that_moves_is_only_given():
    before = make_config(make_peer(A, "10.0.0.0/8", "10.1.0.0/16"), make_peer(B))
    after = make_config(make_peer(A), make_peer(B, "10.0.0.0/8"))
    changes = diff(before, after)
    assert device_plan(changes.steps).peers == (
        PeerDelta(public_key=A, update_only=True, allowed_ips=("-10.1.0.0/16",)),
        PeerDelta(public_key=B, update_only=True, allowed_ips=("10.0.0.0/8",)),
    )
    assert [step for step in changes.steps if isinstance(step, AddRoute | RemoveRoute)] == [
        RemoveRoute("10.1.0.0/16", None)
    ]


def test_an_endpoint_is_changed_but_never_taken_back():
    before = make_config(make_peer(A, endpoint="192.0.2.1:1"))
    (step,) = diff(before, make_config(make_peer(A, endpoint="192.0.2.2:1"))).steps
    assert step == ChangePeer(peer=make_peer(A, endpoint="192.0.2.2:1"), endpoint=Endpoint("192.0.2.2", 1))
    assert not diff(before, make_config(make_peer(A)))


def test_the_plan_for_the_device():
    before = make_config(make_peer(A, preshared_key=PSK), make_peer(B), listen_port=1, fwmark=2)
    after = make_config(make_peer(A), make_peer(C, "10.0.0.0/8", persistent_keepalive=5), private_key=OTHER_SECRET)
    plan = device_plan(diff(before, after).steps)
    assert (plan.private_key, plan.listen_port, plan.fwmark) == (OTHER_SECRET, 0, 0)
    assert plan.peers == (
        PeerDelta(public_key=A, update_only=True, clear_preshared_key=True),
        PeerDelta(public_key=C, replace_allowed_ips=True, allowed_ips=("10.0.0.0/8",), persistent_keepalive=5),
        PeerDelta(public_key=B, remove=True),
    )
    assert not device_plan(diff(after, after).steps)


# -- Against the device's real state.


def make_observed(*peers, public_key=SECRET.public_key, listen_port=0, fwmark=0):
    return SimpleNamespace(public_key=public_key, listen_port=listen_port, fwmark=fwmark, peers=peers)


def make_seen(key, *allowed_ips, preshared_key=None, endpoint=None, persistent_keepalive=0):
    return SimpleNamespace(
        public_key=key,
        preshared_key=preshared_key,
        endpoint=endpoint,
        persistent_keepalive=persistent_keepalive,
        allowed_ips=list(allowed_ips),
    )


def test_a_device_that_holds_what_it_should_is_left_alone():
    config = make_config(make_peer(A, "10.0.0.0/8", "::ffff:0:0/96", endpoint="vpn.example:1"), fwmark=1)
    zero = PresharedKey.from_hex("00" * 32)
    seen = make_seen(A, "0:0::ffff:0.0.0.0/96", "10.0.0.0/8", endpoint="198.51.100.9:4", preshared_key=zero)
    assert not diff(config, config, observed=make_observed(seen, fwmark=1, listen_port=40000))


def test_what_was_changed_from_outside_is_put_right():
    config = make_config(make_peer(A, "10.0.0.0/8", preshared_key=PSK), make_peer(B), listen_port=51820)
    observed = make_observed(
        make_seen(A, "10.0.0.0/8", "10.1.0.0/16", persistent_keepalive=7),
        make_seen(C, "192.0.2.0/24"),
        public_key=None,
        listen_port=4,
    )
    assert diff(config, config, observed=observed).steps == (
        SetPrivateKey(SECRET),
        SetListenPort(4, 51820),
        ChangePeer(peer=config.peers[0], preshared_key=True, removed=("10.1.0.0/16",), persistent_keepalive=0),
        AddPeer(config.peers[1]),
        RemovePeer(C),
    )


@pytest.mark.parametrize(
    ("applied", "seen", "desired", "wanted"),
    [
        ("192.0.2.1:1", "198.51.100.1:9", "192.0.2.1:1", None),  # it roamed
        ("192.0.2.1:1", None, "192.0.2.1:1", "192.0.2.1:1"),  # made anew by someone, without one
        ("192.0.2.1:1", "198.51.100.1:9", "192.0.2.2:1", "192.0.2.2:1"),
        ("192.0.2.1:1", "192.0.2.2:1", "192.0.2.2:1", None),  # it is there already
        (None, "198.51.100.1:9", None, None),
    ],
)
def test_an_endpoint_that_wandered_is_right(applied, seen, desired, wanted):
    changes = diff(
        make_config(make_peer(A, endpoint=applied)),
        make_config(make_peer(A, endpoint=desired)),
        observed=make_observed(make_seen(A, endpoint=seen)),
    )
    assert [str(step.endpoint) for step in changes.steps] == ([wanted] if wanted else [])


def test_any_port_is_right_where_any_was_asked_for():
    fixed, any_port = make_config(listen_port=51820), make_config()
    observed = make_observed(listen_port=51820)
    assert not diff(any_port, any_port, observed=observed)
    assert not diff(fixed, fixed, observed=observed)
    assert diff(fixed, any_port, observed=observed).steps == (SetListenPort(51820, 0),)


# -- The cost follows the change.


class Counting:
    """A stand-in for Peer that counts comparisons."""

    compared = 0

    def __init__(self, peer):
        self.peer = peer

    def __getattr__(self, name):
        return getattr(self.peer, name)

    def __eq__(self, other):
        Counting.compared += 1
        return self.peer == other.peer

    __hash__ = None


def test_one_change_among_thousands_compares_one_peer():
    keys = [PublicKey.from_bytes(n.to_bytes(2, "big") * 16) for n in range(1000, 4000)]
    peers = [Counting(make_peer(key, f"10.{n >> 8}.{n & 255}.0/24")) for n, key in enumerate(keys)]
    config = make_config(*peers)
    changed = Counting(peers[1500].peer.replace(allowed_ips=["192.0.2.0/24"]))
    after = make_config(*peers[:1500], changed, *peers[1501:])
    Counting.compared = 0
    changes = diff(config, after)
    assert [type(step) for step in changes.steps] == [ChangePeer, RemoveRoute, AddRoute]
    assert Counting.compared == 1
