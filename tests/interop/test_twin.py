"""The seed's twin does what we say that the seed does: its decisions, their order, and its known defects.

These tests are about the seed, not about us: what we compare ourselves with is only worth what is known of it. The
numbered ones show a defect that our engine does not have (docs/seed.md).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import need
from peers import build
from peers.process import LabError
from peers.twin import Owner, Twin, TwinError, free_port
from peers.twin_sequences import hexadecimal, node_key

A, B, C = (node_key(hexadecimal(name)) for name in "abc")
A4, A6, B4, C4 = "100.64.0.1", "fd7a:115c:a1e0::1", "100.64.0.2", "100.64.0.3"
IDLE_S = 300
ROUTER = {"LocalAddrs": ["100.127.0.1/32"], "Routes": ["100.64.0.0/10"]}
DNS = {"DefaultResolvers": [{"Addr": "9.9.9.9"}], "SearchDomains": ["tail.example."]}


@pytest.fixture(scope="module")
def process() -> Iterator[Twin]:
    need(build.path("twin").exists(), "the seed's twin is not built: python tests/peers/build.py twin")
    with Twin() as twin:
        yield twin


@pytest.fixture
def twin(process: Twin) -> Twin:
    """With an engine that nobody has configured yet."""
    process.new()
    return process


def wireguard(*peers: dict[str, Any], private: str = "own") -> dict[str, Any]:
    return {
        "PrivateKey": f"privkey:{hexadecimal(private)}",
        "Addresses": ["100.127.0.1/32", "fd7a:115c:a1e0:ffff::1/128"],
        "Peers": list(peers),
    }


def peer(key: str, *allowed: str, disco: str = "1") -> dict[str, Any]:
    return {"PublicKey": key, "DiscoKey": f"discokey:{hexadecimal(key, disco)}", "AllowedIPs": list(allowed)}


def node(number: int, key: str, *addresses: str, **more: Any) -> dict[str, Any]:
    whole = {"ID": number, "StableID": f"n{number}", "Key": key, "Addresses": list(addresses), "HomeDERP": 1}
    return whole | more


ONE = peer(A, f"{A4}/32", f"{A6}/128")
TWO = peer(B, f"{B4}/32")
BEHIND = peer(C, f"{C4}/32", "10.0.0.0/8")


# -- Which peers the device has.


def test_a_peer_without_traffic_is_not_in_the_device(twin: Twin) -> None:
    answer = twin.reconfig(wireguard(ONE, TWO), {}, {})
    assert twin.device_peers() == {}
    assert [(call.peers, call.of) for call in answer.calls if call.what == "device.set"] == [(0, 2)]


@pytest.mark.parametrize("ip", [A4, A6])
def test_a_packet_to_a_trimmed_peer_brings_it(twin: Twin, ip: str) -> None:
    twin.reconfig(wireguard(ONE, TWO), {}, {})
    answer = twin.sent(ip)
    assert twin.device_peers() == {A: 1}
    assert answer.order == ["device.set"]


def test_a_datagram_of_a_trimmed_peer_brings_it(twin: Twin) -> None:
    twin.reconfig(wireguard(ONE, TWO), {}, {})
    assert twin.received(B).value is True
    assert twin.device_peers() == {B: 1}


def test_the_transport_tells_of_a_peer_once_in_more_than_ten_seconds(twin: Twin) -> None:
    twin.reconfig(wireguard(ONE), {}, {})
    assert [twin.received(A).value, twin.received(A).value] == [True, False]
    twin.advance(10)
    assert twin.received(A).value is False
    twin.advance(0.001)
    assert twin.received(A).value is True


def test_an_idle_peer_stays_until_somebody_looks(twin: Twin) -> None:
    twin.reconfig(wireguard(ONE, TWO), {}, {})
    twin.sent(A4)
    twin.advance(IDLE_S + 1000)
    assert twin.device_peers() == {A: 1}, "there is no timer"
    twin.sent(B4)
    assert twin.device_peers() == {B: 1}


@pytest.mark.parametrize(("idle_s", "stays"), [(IDLE_S - 1, True), (IDLE_S, False)])
def test_five_minutes_are_the_limit(twin: Twin, idle_s: int, stays: bool) -> None:
    twin.reconfig(wireguard(ONE, TWO), {}, {})
    twin.sent(A4)
    twin.advance(idle_s)
    twin.received(B)
    assert (A in twin.device_peers()) is stays


@pytest.mark.parametrize("occasion", ["reconfig", "sent", "received"])
def test_what_makes_the_engine_look(twin: Twin, occasion: str) -> None:
    twin.reconfig(wireguard(ONE, TWO), {}, {})
    twin.sent(A4)
    twin.advance(IDLE_S)
    {
        "reconfig": lambda: twin.reconfig(wireguard(ONE, TWO, BEHIND)),
        "sent": lambda: twin.sent(B4),
        "received": lambda: twin.received(B),
    }[occasion]()
    assert A not in twin.device_peers()


def test_a_packet_within_a_minute_of_the_last_makes_nobody_look(twin: Twin) -> None:
    twin.reconfig(wireguard(ONE, TWO), {}, {})
    twin.sent(A4)
    twin.advance(IDLE_S - 30)
    twin.sent(B4)  # noted, and the last look while A was live
    twin.advance(59)
    twin.sent(B4)
    assert twin.device_peers() == {A: 1, B: 1}
    twin.advance(60)
    twin.sent(B4)
    assert twin.device_peers() == {B: 1}


def test_traffic_keeps_a_peer(twin: Twin) -> None:
    twin.reconfig(wireguard(ONE, TWO), {}, {})
    twin.sent(A4)
    for _ in range(5):
        twin.advance(IDLE_S - 1)
        twin.received(A)
        twin.sent(B4)
    assert twin.device_peers() == {A: 1, B: 1}, "and its session"


def test_row_07_a_peer_with_a_subnet_is_never_trimmed(twin: Twin) -> None:
    twin.reconfig(wireguard(ONE, BEHIND), {}, {})
    assert twin.device_peers() == {C: 1}
    twin.advance(10 * IDLE_S)
    twin.sent(A4)
    assert twin.device_peers() == {A: 1, C: 1}


def test_a_peer_without_addresses_is_trimmed_for_good(twin: Twin) -> None:
    """Only an address can be active: receiving makes the engine look, and it trims the peer again."""
    twin.reconfig(wireguard(peer(A)), {}, {})
    assert twin.received(A).value is True
    assert twin.device_peers() == {}


def test_the_knob_keeps_all(twin: Twin) -> None:
    twin.knob("keep_full_wg_config", True)
    twin.reconfig(wireguard(ONE, TWO), {}, {})
    assert twin.device_peers() == {A: 1, B: 1}
    twin.env("TS_DEBUG_TRIM_WIREGUARD", "true")  # stronger than the knob
    twin.reconfig(wireguard(TWO, ONE))
    assert twin.device_peers() == {}


def test_a_removed_peer_leaves_the_device_and_is_new_when_it_comes_back(twin: Twin) -> None:
    twin.reconfig(wireguard(ONE, TWO), {}, {})
    twin.sent(A4)
    twin.reconfig(wireguard(TWO))
    assert twin.device_peers() == {}
    twin.reconfig(wireguard(ONE, TWO))
    assert twin.device_peers() == {}
    assert twin.sent(A4).order == ["device.set"]
    assert twin.device_peers() == {A: 2}


def test_who_gets_an_active_address_is_live_at_once(twin: Twin) -> None:
    twin.reconfig(wireguard(ONE), {}, {})
    twin.sent(A4)
    twin.reconfig(wireguard(peer(B, f"{A4}/32")))
    assert twin.device_peers() == {B: 1}


def test_a_restarted_peer_loses_its_session_and_no_other_does(twin: Twin) -> None:
    twin.reconfig(wireguard(ONE, TWO, BEHIND), {}, {})
    twin.sent(A4)
    twin.sent(B4)
    again = [peer(A, f"{A4}/32", f"{A6}/128", disco="2"), TWO, BEHIND]
    answer = twin.reconfig(wireguard(*again))
    assert answer.order == ["device.flush", "device.set"]
    assert twin.device_peers() == {A: 2, B: 1, C: 1}


def test_a_restarted_peer_that_is_trimmed_has_no_session_to_lose(twin: Twin) -> None:
    twin.reconfig(wireguard(ONE), {}, {})
    assert twin.reconfig(wireguard(peer(A, f"{A4}/32", f"{A6}/128", disco="2"))).order == []
    assert twin.device_peers() == {}


# -- The order of things.


def test_what_a_new_engine_does(process: Twin) -> None:
    assert process.new().order == ["router.up", "router.clear"]
    assert process.new(bird=True).order == ["bird.disable", "router.up", "router.clear"]


def test_device_before_router_before_dns(twin: Twin) -> None:
    answer = twin.reconfig(wireguard(ONE), ROUTER, DNS)
    assert answer.order == ["device.set", "router.set", "dns.set", "vpn"]
    [router], [dns] = answer.configs("router.set"), answer.configs("dns.set")
    assert router is not None
    assert {name: router[name] for name in ROUTER} == ROUTER
    assert dns is not None
    assert (dns["Nameservers"], dns["SearchDomains"]) == (["9.9.9.9"], ["tail.example."])


def test_dns_is_set_again_after_the_router_alone(twin: Twin) -> None:
    twin.reconfig(wireguard(ONE), ROUTER, DNS)
    assert twin.reconfig(router={}).order == ["router.set", "dns.set", "vpn"]
    assert twin.reconfig(dns={}).order == ["dns.set", "vpn"]
    assert twin.reconfig(wireguard(ONE, TWO)).order == ["device.set"]


def test_bird_follows_the_primary_routes_and_comes_last(process: Twin) -> None:
    process.new(bird=True)
    route = "10.0.0.0/8"
    me = node(9, node_key(hexadecimal("own")), "100.127.0.1/32", Hostinfo={"RoutableIPs": [route]})
    process.netmap({"SelfNode": me, "Peers": []})
    process.reconfig(wireguard(ONE), {}, {})
    process.netmap({"SelfNode": {**me, "PrimaryRoutes": [route]}, "Peers": []})
    assert process.reconfig(router=ROUTER).order == ["router.set", "dns.set", "vpn", "bird.enable"]
    process.netmap({"SelfNode": me, "Peers": []})
    assert process.reconfig().order == ["bird.disable"]


def test_a_bird_that_fails_is_asked_again(process: Twin) -> None:
    process.new(bird=True)
    me = node(9, C, "100.127.0.1/32", Hostinfo={"RoutableIPs": ["10.0.0.0/8"]}, PrimaryRoutes=["10.0.0.0/8"])
    process.netmap({"SelfNode": me, "Peers": []})
    answer = process.reconfig(wireguard(ONE), {}, {}, fail=["bird.enable"])
    assert (answer.order[-1], answer.error) == ("bird.enable!", "")
    assert process.reconfig().order == ["bird.enable"]


@pytest.mark.parametrize(
    ("major", "up", "order"),
    [(True, True, ["dns.set", "vpn"]), (True, False, []), (False, True, []), (False, False, [])],
)
def test_a_major_link_change_sets_dns_again(twin: Twin, major: bool, up: bool, order: list[str]) -> None:
    assert twin.link_change(major=True, up=True).order == [], "nothing to set yet"
    first = twin.reconfig(wireguard(ONE), ROUTER, DNS)
    again = twin.link_change(major=major, up=up)
    assert again.order == order
    assert again.configs("dns.set") == first.configs("dns.set")[: len(again.configs("dns.set"))]


def test_reset_and_stop_empties_everything(twin: Twin) -> None:
    twin.reconfig(wireguard(ONE, BEHIND), ROUTER, DNS)
    twin.sent(A4)
    status, answer = twin.reset_and_stop()
    assert (status.peers, status.derps) == ((), 0)
    assert answer.order == ["device.set", "router.set", "dns.set", "vpn"]
    assert twin.device_peers() == {}


def test_close_takes_dns_and_router_down(process: Twin) -> None:
    process.new(bird=True)
    process.reconfig(wireguard(ONE), ROUTER, DNS)
    assert process.close().order == ["dns.close", "router.close", "bird.disable", "bird.close"]
    with pytest.raises(LabError, match="engine closing; no status"):
        process.status()


def test_status_has_the_peers_of_the_device_in_the_order_of_the_configuration(twin: Twin) -> None:
    twin.reconfig(wireguard(BEHIND, TWO, ONE), {}, {})
    twin.sent(A4)
    assert twin.status().peers == (C, A)


# -- The port.


def test_row_03_no_changes_cannot_be_had_with_an_automatic_port(process: Twin) -> None:
    process.new()
    process.reconfig(wireguard(ONE), ROUTER, DNS)
    answer = process.reconfig()
    assert (answer.error, answer.order) == ("", []), "done, and nothing was"
    port = free_port()
    assert process.new(listen_port=port).value == port
    process.reconfig(wireguard(ONE), ROUTER, DNS)
    assert process.reconfig().no_changes


def test_the_knob_for_a_random_port(process: Twin) -> None:
    port = process.new(listen_port=free_port()).value
    process.reconfig(wireguard(ONE), {}, {})
    process.knob("randomize_client_port", True)
    process.reconfig()
    assert process.port() != port
    process.knob("randomize_client_port", False)
    process.reconfig()
    assert process.port() == port


# -- Failures.


def test_row_01_a_failed_router_is_never_tried_again(process: Twin) -> None:
    process.new(listen_port=free_port())
    answer = process.reconfig(wireguard(ONE), ROUTER, DNS, fail=["router.set"])
    assert (answer.order[-1], answer.error) == ("router.set!", "router.set failed, as it was asked to")
    assert process.reconfig().no_changes


def test_row_01_a_failed_dns_is_tried_again_only_when_a_link_changes(process: Twin) -> None:
    process.new(listen_port=free_port())
    assert process.reconfig(wireguard(ONE), ROUTER, DNS, fail=["dns.set"]).error
    assert process.reconfig().no_changes
    assert process.link_change(major=True, up=True).order == ["dns.set", "vpn"]


def test_row_02_a_failed_router_skips_dns_and_bird(process: Twin) -> None:
    process.new(bird=True)
    me = node(9, C, "100.127.0.1/32", Hostinfo={"RoutableIPs": ["10.0.0.0/8"]}, PrimaryRoutes=["10.0.0.0/8"])
    process.netmap({"SelfNode": me, "Peers": []})
    answer = process.reconfig(wireguard(ONE), ROUTER, DNS, fail=["router.set"])
    assert answer.order == ["device.set", "router.set!"]


@pytest.mark.parametrize(
    ("fail", "order"),
    [("router.up", ["router.up!"]), ("router.clear", ["router.up", "router.clear!"])],
)
def test_row_14_an_engine_that_fails_to_start_takes_nothing_down(fail: str, order: list[str]) -> None:
    """Its list of what to close was copied while it was empty: not even the port is free again."""
    with Twin() as own:
        port = free_port()
        answer = own.new(listen_port=port, bird=True, fail=[fail])
        assert "failed, as it was asked to" in answer.error
        assert answer.order == ["bird.disable", *order]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other, pytest.raises(OSError, match="in use"):
            other.bind(("", port))


# -- Whose an address is.


@pytest.fixture
def mapped(twin: Twin) -> Twin:
    """With a netmap of two peers and ourselves, and a third that is configured alone."""
    me = node(9, node_key(hexadecimal("own")), "100.127.0.1/32", AllowedIPs=["100.127.0.1/32", "10.50.0.0/16"])
    both = [node(1, A, f"{A4}/32", f"{A6}/128"), node(2, B, f"{B4}/32", "198.51.100.2/32")]
    twin.netmap({"SelfNode": me, "Peers": both})
    twin.reconfig(wireguard(ONE, peer(B, f"{B4}/32", "10.1.0.0/16", "10.0.0.0/8"), BEHIND), {}, {})
    return twin


@pytest.mark.parametrize(
    ("ip", "found"),
    [
        (A4, Owner(key=A, is_self=False, route=f"{A4}/32")),
        (A6, Owner(key=A, is_self=False, route=f"{A6}/128")),
        ("100.127.0.1", Owner(key=node_key(hexadecimal("own")), is_self=True, route="100.127.0.1/32")),
        ("10.1.2.3", Owner(key=B, is_self=False, route="10.1.0.0/16")),
        (C4, None),
        ("10.50.0.1", Owner(key=B, is_self=False, route="10.0.0.0/8")),
        ("192.0.2.1", None),
        ("198.51.100.2", None),
    ],
    ids=["v4", "v6", "self", "longest", "not-in-netmap", "own-subnet-is-not-self", "nobody", "not-of-tailscale"],
)
def test_peer_for_ip(mapped: Twin, ip: str, found: Owner | None) -> None:
    assert mapped.peer_for_ip(ip) == found


def test_peer_for_ip_knows_nobody_without_a_netmap(mapped: Twin) -> None:
    mapped.netmap(None)
    assert mapped.peer_for_ip(A4) is None


def test_row_08_an_address_mapped_into_ipv6_is_nobodys(mapped: Twin) -> None:
    assert mapped.peer_for_ip(f"::ffff:{A4}") is None


def test_row_08_the_first_of_two_with_one_prefix_where_the_device_has_the_last(mapped: Twin) -> None:
    found = mapped.peer_for_ip("10.9.9.9")
    assert found is not None
    assert found.key == B, "C has 10.0.0.0/8 too, and comes later"


# -- What a client makes of a netmap.


@pytest.mark.parametrize(
    ("prefs", "allowed", "routes"),
    [
        ({}, [f"{A4}/32"], [f"{A4}/32"]),
        ({"RouteAll": True}, [f"{A4}/32", "10.0.0.0/8"], ["10.0.0.0/8", f"{A4}/32"]),
    ],
    ids=["plain", "accept-routes"],
)
def test_what_a_client_makes_of_a_netmap(
    process: Twin, prefs: dict[str, Any], allowed: list[str], routes: list[str]
) -> None:
    netmap = {
        "SelfNode": node(9, node_key(hexadecimal("own")), "100.127.0.1/32", Name="own.tail.example."),
        "Peers": [
            node(1, A, f"{A4}/32", Name="a.tail.example.", AllowedIPs=[f"{A4}/32", "10.0.0.0/8", "0.0.0.0/0"]),
            node(2, B, f"{B4}/32", Expired=True),
            {**node(3, C, f"{C4}/32"), "HomeDERP": 0},
        ],
        "DNS": {"Proxied": True, "Domains": ["tail.example"], "Resolvers": [{"Addr": "9.9.9.9"}]},
    }
    derived = process.derive(netmap, {"CorpDNS": True, **prefs})
    assert [(one["PublicKey"], one["AllowedIPs"]) for one in derived["wg"]["Peers"]] == [(A, allowed)]
    assert derived["router"]["Routes"] == [*routes, "100.100.100.100/32"]
    assert derived["router"]["LocalAddrs"] == ["100.127.0.1/32"]
    assert derived["dns"]["SearchDomains"] == ["tail.example."]
    assert derived["dns"]["Hosts"]["a.tail.example."] == [A4]
    assert derived["dns"]["DefaultResolvers"] == [{"Addr": "9.9.9.9"}]


def test_an_exit_node_takes_every_route_that_it_has(process: Twin) -> None:
    exit_node = node(1, A, f"{A4}/32", StableID="exit", AllowedIPs=[f"{A4}/32", "0.0.0.0/0"])
    netmap = {"SelfNode": node(9, node_key(hexadecimal("own")), "100.127.0.1/32"), "Peers": [exit_node]}
    derived = process.derive(netmap, {"ExitNodeID": "exit"})
    assert derived["wg"]["Peers"][0]["AllowedIPs"] == [f"{A4}/32", "0.0.0.0/0"]
    assert {"0.0.0.0/0", "::/0"} <= set(derived["router"]["Routes"]), "what it has not leads nowhere"


# -- The driver.


def test_a_command_that_makes_no_sense_is_an_error(twin: Twin) -> None:
    with pytest.raises(TwinError, match="no such command"):
        twin.ask({"do": "jump"})
    with pytest.raises(TwinError, match="unknown field"):
        twin.reconfig({"Peeers": []})
    with pytest.raises(TwinError, match="no such knob"):
        twin.knob("sideways", True)


def test_the_pinned_version_is_that_of_its_modules() -> None:
    pin = build.PINS["twin"]
    assert pin.folder is not None
    assert re.search(rf"\btailscale\.com {re.escape(pin.version)}\n", Path(pin.folder, "go.mod").read_text())
