"""From netmaps to configurations: ours against what Tailscale's client of the seed's version makes of the same."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from typing import Any

import pytest
from lab import need
from peers import build
from peers.twin import Twin
from peers.twin_sequences import hexadecimal, node_key
from wgengine.derive import Derived, Surroundings, derive
from wgengine.keys import PrivateKey
from wgengine.netmap import NetMap
from wgengine.prefs import Prefs

PRIVATE_KEY = PrivateKey.from_hex(hexadecimal("own"))
OUTSIDE = "198.51.100."  # where some nodes have an address that Tailscale would not give
EVERYWHERE = ("0.0.0.0/0", "::/0")


@pytest.fixture(scope="module")
def twin() -> Iterator[Twin]:
    need(build.path("twin").exists(), "the seed's twin is not built: python tests/peers/build.py twin")
    with Twin() as twin:
        yield twin


@pytest.fixture(scope="module")
def around(twin: Twin) -> Surroundings:
    """The networks that this machine is in, as the twin sees them; an address in each stands for it."""

    def local_routes(**prefs: Any) -> list[str]:
        derived = twin.derive({"SelfNode": Netmaps(0).me(), "Peers": []}, {"ExitNodeID": "any", **prefs})
        return derived["router"]["LocalRoutes"] or []

    internal = local_routes()
    everything = local_routes(ExitNodeAllowLANAccess=True)
    return Surroundings(
        internal=tuple(map(inside, internal)), external=tuple(inside(net) for net in everything if net not in internal)
    )


def inside(network: str) -> str:
    return f"{ipaddress.ip_network(network)[1]}/{network.partition('/')[2]}"


class Netmaps:
    """Netmaps and preferences at random, by the names of Tailscale's JSON."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed

    def perhaps(self, chance: float) -> bool:
        return self.random.random() < chance

    def netmap(self) -> dict[str, Any]:
        count = self.random.choice((0, 1, 2, 5, 20))
        return {"SelfNode": self.me(), "Peers": [self.peer(i) for i in range(1, count + 1)], "DNS": self.dns()}

    def prefs(self) -> dict[str, Any]:
        exit_node = self.random.choice(("", "", "n1", "n2"))
        return {
            "RouteAll": self.perhaps(0.5),
            "CorpDNS": self.perhaps(0.8),
            "ExitNodeID": exit_node,
            "ExitNodeAllowLANAccess": self.perhaps(0.5),
            "AdvertiseRoutes": self.some("192.168.7.0/24", "10.77.0.0/16", *EVERYWHERE),
            "NoSNAT": self.perhaps(0.5),
            "NoStatefulFiltering": self.perhaps(0.5),
        }

    def some(self, *of: Any) -> list[Any]:
        return [one for one in of if self.perhaps(0.3)]

    def me(self) -> dict[str, Any]:
        families = self.random.choice((0, 0, 1, 2))
        addresses = [
            ["100.127.0.1/32", "fd7a:115c:a1e0:ffff::1/128"],
            ["100.127.0.1/32"],
            ["fd7a:115c:a1e0:ffff::1/128"],
        ]
        return {
            "ID": 999_999,
            "StableID": "own",
            "Name": "own.tail.example.",
            "Key": node_key(bytes(PRIVATE_KEY.public_key).hex()),
            "Addresses": addresses[families],
            "CapMap": dict.fromkeys(self.some("one-cgnat?v=true", "log-exit-flows")),
        }

    def peer(self, number: int) -> dict[str, Any]:
        own = [f"100.64.{number >> 8}.{number & 255}/32"]
        if self.perhaps(0.6):
            own.append(f"fd7a:115c:a1e0::{number:x}/128")
        if self.perhaps(0.1):
            own.append(f"{OUTSIDE}{number}/32")
        allowed = [*own, *self.some(f"10.{number}.0.0/16", f"2001:db8:{number:x}::/48", f"203.0.113.{number}/32")]
        if number <= 2 and self.perhaps(0.7):
            allowed += self.some(*EVERYWHERE, *EVERYWHERE)
        plain = self.perhaps(0.2)
        node: dict[str, Any] = {
            "ID": number,
            "StableID": f"n{number}",
            "Name": f"p{number}.tail.example.",
            "Key": node_key(hexadecimal(self.seed, number)),
            "Addresses": own,
            "AllowedIPs": list(dict.fromkeys(allowed)),
            "HomeDERP": self.random.choice((0, 1)),
            "IsWireGuardOnly": plain,
            "Expired": self.perhaps(0.1),
            "IsJailed": self.perhaps(0.1),
        }
        if self.perhaps(0.7) and not plain:
            node["DiscoKey"] = f"discokey:{hexadecimal(self.seed, 'disco', number)}"
        if self.perhaps(0.1):
            node["SelfNodeV4MasqAddrForThisPeer"] = f"100.99.0.{number}"
        if self.perhaps(0.1):
            node["SelfNodeV6MasqAddrForThisPeer"] = f"fd7a:115c:a1e0:99::{number:x}"
        if plain and self.perhaps(0.5):
            node["ExitNodeDNSResolvers"] = [{"Addr": "10.64.0.1"}]
        if self.perhaps(0.3):
            services = [("peerapi4", 4321), ("peerapi6", 4322), ("peerapi-dns-proxy", 1)]
            node["Hostinfo"] = {"Services": [{"Proto": proto, "Port": port} for proto, port in services]}
        return node

    def dns(self) -> dict[str, Any]:
        def resolver(addr: str) -> dict[str, Any]:
            return {"Addr": addr} | ({"UseWithExitNode": True} if self.perhaps(0.3) else {})

        return {
            "Proxied": self.perhaps(0.7),
            "Domains": self.some("tail.example", "corp.example"),
            "Resolvers": [
                resolver(addr) for addr in self.some("9.9.9.9", "https://dns.example/dns-query", "2620:fe::9")
            ],
            "FallbackResolvers": [resolver(addr) for addr in self.some("8.8.8.8")],
            "Routes": {suffix: [resolver("10.1.0.53")] for suffix in self.some("corp.example", "lab.example.")}
            | {suffix: [] for suffix in self.some("nothing.example")},
            "ExtraRecords": [{"Name": name, "Value": ip} for name, ip in self.some(("db.corp.example", "10.1.2.3"))],
        }


def ours(netmap: dict[str, Any], prefs: dict[str, Any], around: Surroundings, previous: Derived | None) -> Derived:
    return derive(
        NetMap.from_dict({**netmap, "PrivateKey": f"privkey:{hexadecimal('own')}"}),
        Prefs(
            exit_node=prefs["ExitNodeID"],
            allow_lan=prefs["ExitNodeAllowLANAccess"],
            accept_routes=prefs["RouteAll"],
            accept_dns=prefs["CorpDNS"],
            advertise_routes=prefs["AdvertiseRoutes"],
            snat=not prefs["NoSNAT"],
            stateful_filtering=not prefs["NoStatefulFiltering"],
        ),
        around=around,
        previous=previous,
    )


# The fields of a peer, each with what an empty one is.
PEER: dict[str, Any] = {
    "PublicKey": "",
    "DiscoKey": "",
    "AllowedIPs": [],
    "V4MasqAddr": None,
    "V6MasqAddr": None,
    "IsJailed": False,
}


def wireguard(derived: Derived) -> list[dict[str, Any]]:
    """As the twin says it."""
    return [
        {
            "PublicKey": node_key(bytes(peer.public_key).hex()),
            "DiscoKey": f"discokey:{bytes(peer.disco_key).hex() if peer.disco_key else '0' * 64}",
            "AllowedIPs": list(peer.allowed_ips),
            "V4MasqAddr": peer.v4_masq_addr,
            "V6MasqAddr": peer.v6_masq_addr,
            "IsJailed": peer.jailed,
        }
        for peer in derived.wg.peers
    ]


def same_elsewhere(theirs: dict[str, Any], derived: Derived) -> None:
    """What is to be the same in any case."""
    router, dns, ours = theirs["router"], theirs["dns"], derived.dns
    peers = [{name: peer[name] or nothing for name, nothing in PEER.items()} for peer in theirs["wg"]["Peers"]]
    assert wireguard(derived) == peers
    assert list(derived.router.local_addrs) == router["LocalAddrs"]
    assert list(derived.router.local_routes) == (router["LocalRoutes"] or [])
    assert list(derived.router.subnet_routes) == (router["SubnetRoutes"] or [])
    assert derived.router.snat_subnet_routes == router["SNATSubnetRoutes"]
    assert derived.router.stateful_filtering == router["StatefulFiltering"]
    assert (ours.accept_dns, ours.only_ipv6) == (dns["AcceptDNS"], dns["OnlyIPv6"])
    assert list(ours.search_domains) == (dns["SearchDomains"] or [])


def same_routes(theirs: dict[str, Any], derived: Derived) -> None:
    """A node's own address outside Tailscale's ranges has a route here always, there only where all are accepted."""
    missing = set(theirs["router"]["Routes"]) - set(derived.router.routes)
    beside = set(derived.router.routes) - set(theirs["router"]["Routes"])
    assert not missing
    assert all(route.startswith(OUTSIDE) and route.endswith("/32") for route in beside), beside


def out_of_reach(netmap: dict[str, Any], prefs: dict[str, Any]) -> bool:
    """Whether the exit node answers DNS, but at no address of a family that we have: they ask a URL without a host, and
    we what is asked without an exit node."""
    mine = {":" in address for address in netmap["SelfNode"]["Addresses"]}
    return any(
        peer["StableID"] == prefs["ExitNodeID"]
        and "Hostinfo" in peer
        and mine.isdisjoint(":" in address for address in peer["Addresses"])
        for peer in netmap["Peers"]
    )


def same_resolvers(theirs: dict[str, Any], derived: Derived) -> None:
    """Reverse names of a family that we have no address of are answered there, not here. A record that no suffix
    covers has one of its own here, so that it is found."""
    resolvers = [one["Addr"] for one in theirs["dns"]["DefaultResolvers"] or []]
    assert [one.addr for one in derived.dns.default_resolvers] == resolvers
    records = {name for name, _ in derived.dns.hosts}
    suffixes = {name: [one.addr for one in to] for name, to in derived.dns.routes if name not in records}
    wanted = {name: [one["Addr"] for one in to or []] for name, to in (theirs["dns"]["Routes"] or {}).items()}
    families = {":" in address for address in derived.wg.addresses}
    for name in list(wanted):
        if name.endswith(".arpa.") and name.endswith(".ip6.arpa.") not in families:
            assert wanted.pop(name) == []
    assert suffixes == wanted


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_generated_netmaps_come_to_what_tailscales_client_makes_of_them(
    twin: Twin, around: Surroundings, soak: bool
) -> None:
    for seed in range(5_000 if soak else 100):
        made = Netmaps(seed)
        previous: Derived | None = None
        for _ in range(3):
            netmap, prefs = made.netmap(), made.prefs()
            theirs = twin.derive(netmap, prefs)
            previous = ours(netmap, prefs, around, previous)
            same_elsewhere(theirs, previous)
            same_routes(theirs, previous)
            if not out_of_reach(netmap, prefs):
                same_resolvers(theirs, previous)
