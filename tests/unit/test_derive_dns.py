"""From a netmap and preferences to what DNS is to do: each rule by itself."""

import pytest
from wgengine.derive import derive
from wgengine.derive.dns import reverse_zones
from wgengine.dns_config import DNSConfig, Resolver
from wgengine.netmap import NetMap
from wgengine.prefs import Prefs

SECRET = "08" * 32
V4, V6 = "100.64.0.1/32", "fd7a:115c:a1e0::1/128"
MYSELF = {"Key": f"nodekey:{'16' * 32}", "Name": "me.tail.example.", "Addresses": [V4, V6]}
EXIT = {
    "Key": f"nodekey:{'15' * 32}",
    "StableID": "exit",
    "Addresses": ["100.64.0.2/32", "fd7a:115c:a1e0::2/128"],
    "AllowedIPs": ["0.0.0.0/0", "::/0"],
    "HomeDERP": 1,
    "Cap": 26,
    "Hostinfo": {"Services": [{"Proto": "peerapi4", "Port": 4444}, {"Proto": "peerapi6", "Port": 6666}]},
}
ZONES = {"0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa.", *(f"{n}.100.in-addr.arpa." for n in range(64, 128))}


def dns(settings=None, *, prefs=None, myself=None, peers=()):
    document = {
        "PrivateKey": f"privkey:{SECRET}",
        "SelfNode": {**MYSELF, **(myself or {})},
        "Peers": list(peers),
        "DNS": settings,
    }
    return derive(NetMap.from_dict(document), prefs or Prefs()).dns


def test_without_settings_there_is_nothing_but_peers_names():
    assert dns() == DNSConfig(accept_dns=True, magic_hosts_unrouted=True)
    nobody = NetMap.from_dict({"PrivateKey": f"privkey:{SECRET}"})
    assert derive(nobody).dns == DNSConfig(accept_dns=True)


def test_an_expired_node_takes_no_names_away():
    assert dns({"Resolvers": [{"Addr": "192.0.2.53"}]}, myself={"Expired": True}) == DNSConfig()


@pytest.mark.parametrize(("addresses", "only"), [([V6], True), ([V4], False), ([V4, V6], False), ([], False)])
def test_who_has_no_ipv4_asks_by_ipv6(addresses, only):
    assert dns(myself={"Addresses": addresses}).only_ipv6 == only


def test_who_does_not_accept_dns_still_serves_the_extra_records():
    settings = {
        "Resolvers": [{"Addr": "192.0.2.53"}],
        "Proxied": True,
        "ExtraRecords": [{"Name": "X.y", "Value": "::1"}],
    }
    assert dns(settings, prefs=Prefs(accept_dns=False)) == DNSConfig(hosts={"x.y.": ["::1"]})


def test_servers_suffixes_and_search_domains():
    made = dns(
        {
            "Resolvers": [{"Addr": "192.0.2.53"}],
            "FallbackResolvers": [{"Addr": "192.0.2.99"}],
            "Routes": {"corp.example": [{"Addr": "192.0.2.54"}], "ours.example": []},
            "Domains": ["b.example", "a.example"],
        }
    )
    assert made.default_resolvers == (Resolver("192.0.2.53"),)
    assert made.routes == (("corp.example.", (Resolver("192.0.2.54"),)), ("ours.example.", ()))
    assert made.search_domains == ("b.example.", "a.example.")


def test_magic_names_are_ours_and_backwards_too():
    made = dns({"Proxied": True})
    assert {suffix for suffix, resolvers in made.routes if not resolvers} == {"tail.example.", *ZONES}
    assert not made.magic_hosts_unrouted
    elsewhere = dns({"Proxied": True}, myself={"Addresses": ["10.9.0.1/23", "192.0.2.7/32"]})
    zones = {"7.2.0.192.in-addr.arpa.", "0.9.10.in-addr.arpa.", "1.9.10.in-addr.arpa."}
    assert {suffix for suffix, _ in elsewhere.routes} == {"tail.example.", *zones}
    assert dns({"Proxied": True}, myself={"Name": ""}).routes == ()
    # what the netmap says of the suffix wins
    said = dns({"Proxied": True, "Routes": {"tail.example": [{"Addr": "192.0.2.1"}]}})
    assert dict(said.routes)["tail.example."] == (Resolver("192.0.2.1"),)


@pytest.mark.parametrize(
    ("prefix", "zones"),
    [
        ("10.0.0.0/8", ["10.in-addr.arpa."]),
        ("10.8.0.0/15", ["8.10.in-addr.arpa.", "9.10.in-addr.arpa."]),
        ("192.0.2.1/32", ["1.2.0.192.in-addr.arpa."]),
        ("0.0.0.0/0", ["in-addr.arpa."]),
        ("2001:db8::/31", ["8.b.d.0.1.0.0.2.ip6.arpa.", "9.b.d.0.1.0.0.2.ip6.arpa."]),
        ("2000::/4", ["2.ip6.arpa."]),
    ],
)
def test_reverse_zones(prefix, zones):
    assert list(reverse_zones(prefix)) == zones


def test_extra_records_have_a_way_to_them(caplog):
    made = dns(
        {
            "Routes": {"corp.example": [{"Addr": "192.0.2.54"}]},
            "ExtraRecords": [
                {"Name": "a.corp.example", "Value": "192.0.2.1"},
                {"Name": "b.else.example", "Type": "A", "Value": "192.0.2.2"},
                {"Name": "B.else.example.", "Type": "AAAA", "Value": "2001:DB8::2"},
                {"Name": "c.else.example", "Type": "TXT", "Value": "192.0.2.3"},
                {"Name": "d.else.example", "Value": "no address"},
                {"Name": "e..example", "Value": "192.0.2.5"},
            ],
        }
    )
    assert made.hosts == (("a.corp.example.", ("192.0.2.1",)), ("b.else.example.", ("192.0.2.2", "2001:db8::2")))
    assert made.routes == (("b.else.example.", ()), ("corp.example.", (Resolver("192.0.2.54"),)))
    assert len([record for record in caplog.records if record.name == "wgengine.derive"]) == 3


SETTINGS = {
    "Resolvers": [{"Addr": "192.0.2.53"}],
    "FallbackResolvers": [{"Addr": "192.0.2.99"}],
    "Routes": {
        "a.example": [{"Addr": "192.0.2.1"}, {"Addr": "192.0.2.2", "UseWithExitNode": True}],
        "b.example": [{"Addr": "192.0.2.3"}],
        "ours.example": [],
    },
}
PREFS = Prefs(exit_node="exit")


def test_an_exit_node_is_asked_for_all_but_what_is_flagged():
    made = dns(SETTINGS, prefs=PREFS, peers=[EXIT])
    assert made.default_resolvers == (Resolver("http://100.64.0.2:4444/dns-query"),)
    assert made.routes == (
        ("a.example.", (Resolver("192.0.2.2", use_with_exit_node=True),)),
        ("ours.example.", ()),
    )
    flagged = {**SETTINGS, "Resolvers": [*SETTINGS["Resolvers"], {"Addr": "192.0.2.54", "UseWithExitNode": True}]}
    made = dns(flagged, prefs=PREFS, peers=[EXIT])
    assert made.default_resolvers == (Resolver("192.0.2.54", use_with_exit_node=True),)


@pytest.mark.parametrize(
    ("addresses", "services", "url"),
    [
        ([V4, V6], [("peerapi6", 6666)], "http://[fd7a:115c:a1e0::2]:6666/dns-query"),
        ([V6], [("peerapi4", 4444), ("peerapi6", 6666)], "http://[fd7a:115c:a1e0::2]:6666/dns-query"),
        ([V4], [("peerapi4", 4444)], "http://100.64.0.2:4444/dns-query"),
        ([V4], [("peerapi6", 6666)], None),
        ([V4], [], None),
    ],
)
def test_the_exit_node_is_asked_by_a_family_that_both_have(addresses, services, url):
    exit_node = {**EXIT, "Hostinfo": {"Services": [{"Proto": name, "Port": port} for name, port in services]}}
    made = dns(SETTINGS, prefs=PREFS, peers=[exit_node], myself={"Addresses": addresses})
    assert made.default_resolvers == (Resolver(url or "192.0.2.53"),)


def test_an_exit_node_that_answers_no_dns_changes_only_the_fallback():
    old = {**EXIT, "Cap": 25}
    assert dns(SETTINGS, prefs=PREFS, peers=[old]) == dns(SETTINGS, peers=[old])
    bare = {"FallbackResolvers": SETTINGS["FallbackResolvers"]}
    assert dns(bare, prefs=PREFS, peers=[old]).default_resolvers == (Resolver("192.0.2.99"),)
    assert dns(bare, prefs=PREFS).default_resolvers == (Resolver("192.0.2.99"),), "a missing exit node, too"
    assert dns(bare, peers=[old]).default_resolvers == ()


def test_a_plain_wireguard_exit_node_may_bring_servers():
    plain = {**EXIT, "Cap": 0, "IsWireGuardOnly": True, "ExitNodeDNSResolvers": [{"Addr": "10.64.0.1"}]}
    bare = {"FallbackResolvers": SETTINGS["FallbackResolvers"]}
    assert dns(bare, prefs=PREFS, peers=[plain]).default_resolvers == (Resolver("10.64.0.1"),)
    assert dns(SETTINGS, prefs=PREFS, peers=[plain]).default_resolvers == (Resolver("192.0.2.53"),)
    assert dns(bare, peers=[plain]).default_resolvers == ()
