"""Answers leave from the address that the peer addressed (N18), until it is gone (N17) or another way is better (N19).

One host has more than one address; its peer, ours or wireguard-go, has one. What leaves the host is seen on the wire.
(wireguard-go itself fails N17 and N18.)
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from lab import dut, lacking, program, run, until
from peers.device import genkey
from peers.tunnel import PORT, Tunnel, establish
from peers.wire import DATA, INITIATION, RESPONSE, Datagram, Wire

if TYPE_CHECKING:
    from lab import Host, Lab
    from peers.device import Program
    from peers.process import Process

FAMILIES = pytest.mark.parametrize("outer", [4, 6])
PEERS = pytest.mark.parametrize("peer", ["wgengine", "wireguard-go"])
ROLES = pytest.mark.parametrize("role", ["responder", "initiator"])
RESPONDER = pytest.mark.parametrize("role", ["responder"])

SECOND = {4: "192.0.2.22", 6: "2001:db8::22"}
APART = {4: "198.51.100.1", 6: "2001:db8:ff::1"}
BETTER = {4: "203.0.113.2", 6: "2001:db8:3::2"}
BITS = {4: 24, 6: 64}


def url(address: str, port: int = PORT) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def first(host: Host, outer: int) -> str:
    return host.ipv4 if outer == 4 else host.ipv6


def add(host: Host, address: str, bits: int, link: str) -> None:
    host.run("ip", "address", "add", f"{address}/{bits}", "dev", link, *(["nodad"] if ":" in address else []))


def add_second(host: Host, address: str, bits: int) -> None:
    """One more, which the kernel does not choose: of IPv4 because it comes second, of IPv6 because it is deprecated."""
    extra = ["nodad", "preferred_lft", "0"] if ":" in address else []
    host.run("ip", "address", "add", f"{address}/{bits}", "dev", host.link, *extra)


def start_echoes(tunnel: Tunnel) -> Process:
    """Echo requests from the host with several addresses, one every 20 ms, until they are counted."""
    return tunnel.b.host.spawn("ping", "-n", "-i", "0.02", tunnel.ipv4[0])


def lost(echoes: Process) -> int:
    """How many had no answer; the last one may still be under way."""
    echoes.stop(signal.SIGINT)
    found = re.search(r"(\d+) packets transmitted, (\d+) received", echoes.log)
    assert found, echoes.log
    sent, received = map(int, found.groups())
    return sent - received


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What left a host since the last look."""

    datagrams: list[Datagram]

    def sources(self, *kinds: int) -> set[str]:
        return {d.source for d in self.datagrams if not kinds or d.kind in kinds}


@contextmanager
def leaving(host: Host, *links: str) -> Iterator[Callable[[], Seen]]:
    """What the host's device sends on these links, in a look at a time."""
    ours = set(re.findall(r"inet6? ([\w.:]+)/", host.run("ip", "address")))
    wires = [Wire(host, link) for link in links or (host.link,)]

    def look() -> Seen:
        return Seen(datagrams=[d for wire in wires for d in wire.datagrams() if d.source in ours])

    try:
        yield look
    finally:
        for wire in wires:
            wire.__exit__(None, None, None)


def joined(
    lab: Lab, peer: str, outer: int, role: str, known: Callable[[Host], str], ours: Program | None = None, **env: str
) -> tuple[Tunnel, str]:
    """A tunnel whose side b, ours, is known to its peer by the address that `known` adds to b's host.

    As the responder b is asked there at once. As the initiator it shakes hands from whatever address the kernel
    chooses, and is then told by its peer's datagrams which one the peer would rather have.
    """
    one, many = lab.pair()
    a = lab.wgengine(one) if peer == "wgengine" else lab.device(program(peer), one)
    b = lab.device(ours or dut(), many, env=env)
    address = known(many)
    tunnel = establish(a, b, outer=outer, initiator="b" if role == "initiator" else "a")
    if role == "initiator":
        assert tunnel.ping("b") == 1
    a.wg_set("peer", b.public, "endpoint", url(address))
    assert tunnel.ping("a") == 1
    return tunnel, address


def on_the_link(outer: int) -> Callable[[Host], str]:
    def known(host: Host) -> str:
        add_second(host, SECOND[outer], BITS[outer])
        return SECOND[outer]

    return known


def on_an_unused_link(outer: int) -> Callable[[Host], str]:
    """On a veth end that leads nowhere, as on a dummy interface."""

    def known(host: Host) -> str:
        other = next(each for each in host.lab.hosts if each is not host)
        host.run("ip", "link", "add", "spare", "type", "veth", "peer", "name", "spare-end")
        host.run("ip", "link", "set", "spare", "addrgenmode", "none", "up")
        add(host, APART[outer], 32 if outer == 4 else 128, "spare")
        other.run("ip", "route", "add", APART[outer], "via", first(host, outer))
        return APART[outer]

    return known


def assert_all_from(tunnel: Tunnel, address: str) -> None:
    """Echoes, batches and handshakes of side b leave from one address, in both directions of the traffic."""
    a, b = tunnel.devices
    with leaving(b.host) as look:
        assert tunnel.ping("a", "-i", "0.1", count=3) == 3
        assert look().sources(DATA) == {address}
        assert tunnel.ping("b", "-i", "0.1", count=3) == 3
        tunnel.transfer(3_000_000, "b").assert_whole()
        tunnel.transfer(3_000_000, "a").assert_whole()
        assert look().sources(DATA) == {address}
        # with another key and then its own, b has no session any more; where its peer is it still knows, and from where
        for private in (genkey(), b.private):
            b.wg_set("private-key", "/dev/stdin", stdin=private)
        assert tunnel.ping("b") == 1
        assert look().sources(INITIATION) == {address}
        a.wg_set("peer", b.public, "remove")
        a.wg_set("peer", b.public, "allowed-ips", f"{tunnel.ipv4[1]}/32", "endpoint", url(address))
        assert tunnel.ping("a") == 1
        assert look().sources(RESPONSE) == {address}
    assert a.peer(b).endpoint == url(address), "the peer does not know us by this address any more"


@PEERS
@ROLES
@FAMILIES
def test_n18_what_leaves_leaves_from_the_address_that_was_addressed(lab: Lab, peer: str, role: str, outer: int) -> None:
    tunnel, address = joined(lab, peer, outer, role, on_the_link(outer))
    assert_all_from(tunnel, address)


@PEERS
@RESPONDER
@FAMILIES
def test_n18_an_address_of_a_link_that_leads_nowhere(lab: Lab, peer: str, role: str, outer: int) -> None:
    tunnel, address = joined(lab, peer, outer, role, on_an_unused_link(outer))
    assert_all_from(tunnel, address)


@FAMILIES
def test_n18_with_a_mark_that_chooses_the_routes(lab: Lab, outer: int) -> None:
    """As wg-quick sets up a default route: whatever does not bear the device's mark goes into the tunnel."""
    tunnel, address = joined(lab, "wgengine", outer, "responder", on_the_link(outer))
    b = tunnel.b
    over = ["-6"] if outer == 6 else []
    b.wg_set("fwmark", "77")
    b.host.run("ip", *over, "route", "add", "default", "dev", b.name, "table", "77")
    b.host.run("ip", *over, "rule", "add", "not", "fwmark", "77", "table", "77")
    assert_all_from(tunnel, address)


@pytest.mark.parametrize("peer", ["wireguard-go"])
@RESPONDER
@FAMILIES
def test_n18_each_packet_thread_of_several(lab: Lab, peer: str, role: str, outer: int) -> None:
    tunnel, address = joined(lab, peer, outer, role, on_the_link(outer), WGENGINE_SHARDS="3")
    assert_all_from(tunnel, address)


def test_n18_a_link_local_address_and_its_link(lab: Lab) -> None:
    """The link has another one, which the kernel would choose."""
    one, many = lab.pair()
    add(one, "fe80::1", 64, one.link)
    add(many, "fe80::2", 64, many.link)
    add_second(many, "fe80::22", 64)
    tunnel = establish(lab.wgengine(one), lab.wgengine(many), initiator="a")
    a, b = tunnel.devices
    a.wg_set("peer", b.public, "endpoint", f"[fe80::22%{one.link}]:{PORT}")
    assert tunnel.ping("a") == 1
    with leaving(many) as look:
        assert tunnel.ping("a") == 1
        tunnel.transfer(3_000_000, "b").assert_whole()
        assert look().sources() == {"fe80::22"}
    assert a.peer(b).endpoint == f"[fe80::22%{one.link}]:{PORT}"
    assert b.peer(a).endpoint == f"[fe80::1%{many.link}]:{PORT}"


@PEERS
@ROLES
@FAMILIES
def test_n17_a_source_that_is_removed_while_in_use_is_forgotten(lab: Lab, peer: str, role: str, outer: int) -> None:
    tunnel, address = joined(lab, peer, outer, role, on_the_link(outer))
    a, b = tunnel.devices
    with leaving(b.host) as look:
        echoes = start_echoes(tunnel)
        until(lambda: look().sources(DATA) == {address}, "b sends from the address that it is known by", timeout_s=5)
        b.host.run("ip", "address", "del", f"{address}/{BITS[outer]}", "dev", b.host.link)
        until(lambda: a.peer(b).endpoint == url(first(b.host, outer)), "the peer sees another source", timeout_s=2)
        assert lost(echoes) <= 1
        assert tunnel.ping("a") == 1
        look()
        assert tunnel.ping("b") == 1
        assert look().sources() == {first(b.host, outer)}
    assert a.peer(b).endpoint == url(first(b.host, outer))


@FAMILIES
def test_n17_without_netlink_a_refused_source_is_left_out(lab: Lab, outer: int) -> None:
    """As under systemd's RestrictAddressFamilies: nobody tells that the address went, and nobody can be asked."""
    ours = lacking("netlink")
    tunnel, address = joined(lab, "wgengine", outer, "responder", on_the_link(outer), ours)
    a, b = tunnel.devices
    with leaving(b.host) as look:
        assert tunnel.ping("a") == 1
        assert look().sources() == {address}
        b.host.run("ip", "address", "del", f"{address}/{BITS[outer]}", "dev", b.host.link)
        tunnel.transfer(3_000_000, "b").assert_whole()
        assert tunnel.ping("b") == 1
        assert look().sources() == {first(b.host, outer)}
    assert a.peer(b).endpoint == url(first(b.host, outer))


@FAMILIES
def test_n17_batches_go_on_when_their_source_is_removed(lab: Lab, outer: int) -> None:
    tunnel, address = joined(lab, "wgengine", outer, "responder", on_the_link(outer))
    b = tunnel.b
    with leaving(b.host) as look:
        running = tunnel.start_transfer(200_000_000, "b")
        until(lambda: look().sources(DATA) == {address}, "b sends from the address that it is known by", timeout_s=5)
        assert running.sender.running
        b.host.run("ip", "address", "del", f"{address}/{BITS[outer]}", "dev", b.host.link)
        running.result().assert_whole()
        assert look().sources(DATA) >= {first(b.host, outer)}


def join_again(a: Host, b: Host, outer: int) -> None:
    """A second veth, on which b has another address and a has none."""
    run(["ip", "link", "add", "u1", "netns", a.name, "type", "veth", "peer", "name", "u1", "netns", b.name])
    for host in (a, b):
        host.run("ip", "link", "set", "u1", "addrgenmode", "none", "up")
        host.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.u1.rp_filter=0")
    # unlike ARP, neighbour discovery answers only for the addresses of its own link, and asks only from them
    for host, other, address in ((a, b, BETTER[6]), (b, a, a.ipv6)):
        link_address = other.run("cat", "/sys/class/net/u1/address").strip()
        host.run("ip", "neighbour", "add", address, "lladdr", link_address, "dev", "u1")
    add(b, BETTER[outer], BITS[outer], "u1")
    a.run("ip", "route", "add", BETTER[outer], "dev", "u1")


@FAMILIES
def test_n18_n19_rules_by_source_are_followed(lab: Lab, outer: int) -> None:
    """As on a host with two providers: what comes in by the second one's address leaves by the second one."""
    tunnel, _ = joined(lab, "wgengine", outer, "responder", lambda host: first(host, outer))
    a, b = tunnel.devices
    join_again(a.host, b.host, outer)
    address = BETTER[outer]
    over = ["-6"] if outer == 6 else []
    b.host.run("ip", *over, "route", "add", first(a.host, outer), "dev", "u1", "table", "77")
    b.host.run("ip", *over, "rule", "add", "from", address, "lookup", "77")
    a.wg_set("peer", b.public, "endpoint", url(address))
    assert tunnel.ping("a") == 1
    with leaving(b.host, "u1") as second, leaving(b.host) as look:
        assert tunnel.ping("a", "-i", "0.1", count=3) == 3
        assert tunnel.ping("b") == 1
        assert second().sources() == {address}
        assert not look().datagrams
        b.host.run("ip", *over, "rule", "del", "from", address, "lookup", "77")
        assert tunnel.ping("b") == 1
        assert look().sources() == {first(b.host, outer)}
        assert not second().datagrams


@PEERS
@ROLES
@FAMILIES
def test_n19_a_better_way_wins_and_the_peer_sees_the_new_source(lab: Lab, peer: str, role: str, outer: int) -> None:
    """b has a second link to its peer, who has one address only. A route of a lower metric over it comes and goes."""
    tunnel, known = joined(lab, peer, outer, role, lambda host: first(host, outer))
    a, b = tunnel.devices
    prefix, better = "192.0.2.0/24" if outer == 4 else "2001:db8::/64", BETTER[outer]
    join_again(a.host, b.host, outer)
    over = ["-6"] if outer == 6 else []

    def route(verb: str, link: str, metric: int, source: str) -> None:
        b.host.run("ip", *over, "route", verb, prefix, "dev", link, "metric", str(metric), "src", source)

    b.host.run("ip", *over, "route", "flush", prefix, "dev", b.host.link)
    route("add", b.host.link, 1002, known)
    assert tunnel.ping("a") == 1
    with leaving(b.host, b.host.link, "u1") as look:
        echoes = start_echoes(tunnel)
        until(lambda: look().sources(DATA) == {known}, "b sends from the address that it is known by", timeout_s=5)
        route("add", "u1", 1001, better)
        until(lambda: a.peer(b).endpoint == url(better), "the peer sees the new source", timeout_s=2)
        look()
        assert tunnel.ping("a") == 1
        assert look().sources() == {better}
        route("del", "u1", 1001, better)
        until(lambda: a.peer(b).endpoint == url(known), "and the old one when that way is gone", timeout_s=2)
        assert lost(echoes) <= 2
        look()
        assert tunnel.ping("a") == 1
        assert look().sources() == {known}


@PEERS
@RESPONDER
@FAMILIES
def test_n19_a_link_that_goes_down_takes_its_source_with_it(lab: Lab, peer: str, role: str, outer: int) -> None:
    """As from a wire to a radio: the address stays where it is, and nothing leaves by its link any more."""
    tunnel, known = joined(lab, peer, outer, role, lambda host: first(host, outer))
    a, b = tunnel.devices
    join_again(a.host, b.host, outer)
    over = ["-6"] if outer == 6 else []
    b.host.run("ip", *over, "route", "add", first(a.host, outer), "dev", "u1", "metric", "3000", "src", BETTER[outer])
    b.host.run("ip", *over, "route", "add", first(a.host, outer), "dev", b.host.link, "metric", "100", "src", known)
    echoes = start_echoes(tunnel)
    with leaving(b.host) as look:
        until(lambda: look().sources(DATA) == {known}, "b sends from the address that it is known by", timeout_s=5)
    b.host.run("ip", "link", "set", b.host.link, "down")
    until(lambda: a.peer(b).endpoint == url(BETTER[outer]), "the peer sees the new source", timeout_s=2)
    assert lost(echoes) <= 2
    with leaving(b.host, "u1") as look:
        assert tunnel.ping("a") == 1
        assert look().sources() == {BETTER[outer]}
