"""From a netmap and preferences to the configurations: each rule by itself."""

import logging

import pytest
from wgengine.config import Endpoint, NetworkLogging
from wgengine.derive import Surroundings, derive
from wgengine.derive.routes import MOST_SINGLE_ROUTES, Routes
from wgengine.document import data_of
from wgengine.errors import ConfigError
from wgengine.filter_config import FilterConfig
from wgengine.ipset import AddressSet
from wgengine.keys import PrivateKey, PublicKey
from wgengine.netmap import NetMap
from wgengine.prefs import Prefs

SECRET = PrivateKey.from_hex("08" * 32)
RULES = [{"SrcIPs": ["100.64.0.0/16"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]}]
SERVICES = ("100.100.100.100/32", "fd7a:115c:a1e0::53/128")
ULA = "fd7a:115c:a1e0::/48"


def key(n):
    return PublicKey.from_bytes(n.to_bytes(2, "big") + bytes([21]) * 30)


def node(n, *allowed_ips, **fields):
    own = [f"100.64.{n >> 8}.{n & 255}/32", f"fd7a:115c:a1e0::{n:x}/128"]
    return {
        "ID": n,
        "StableID": f"n{n}",
        "Key": f"nodekey:{key(n).to_hex()}",
        "Name": f"host{n}.tail.example.",
        "Addresses": own,
        "AllowedIPs": [*own, *allowed_ips],
        "HomeDERP": 1,
        **fields,
    }


MYSELF = node(1, Key=f"nodekey:{SECRET.public_key.to_hex()}")


def netmap(*peers, **fields):
    return NetMap.from_dict(
        {"SelfNode": MYSELF, "PrivateKey": f"privkey:{SECRET.to_hex()}", "Peers": list(peers), **fields}
    )


def derived(*peers, prefs=None, **fields):
    return derive(netmap(*peers, **fields), prefs or Prefs())


# -- WireGuard


def test_what_is_copied_as_it_is():
    disco = key(500)
    made = derived(
        node(
            2,
            DiscoKey=f"discokey:{disco.to_hex()}",
            SelfNodeV4MasqAddrForThisPeer="100.64.9.9",
            SelfNodeV6MasqAddrForThisPeer="fd7a:115c:a1e0::99",
            IsJailed=True,
        )
    )
    (peer,) = made.wg.peers
    assert (peer.public_key, peer.disco_key, peer.jailed) == (key(2), disco, True)
    assert (peer.v4_masq_addr, peer.v6_masq_addr) == ("100.64.9.9", "fd7a:115c:a1e0::99")
    assert peer.allowed_ips == ("100.64.0.2/32", "fd7a:115c:a1e0::2/128")
    assert (made.wg.private_key, made.wg.addresses) == (SECRET, tuple(MYSELF["Addresses"]))


def test_arguments_of_the_interface():
    made = derive(netmap(), listen_port=41641, mtu=1280, fwmark=5)
    assert (made.wg.listen_port, made.wg.mtu, made.wg.fwmark) == (41641, 1280, 5)


@pytest.mark.parametrize(
    ("fields", "there"),
    [
        ({"HomeDERP": 1}, True),
        ({"HomeDERP": 0}, False),
        ({"HomeDERP": 0, "DiscoKey": f"discokey:{'ab' * 32}"}, True),
        ({"HomeDERP": 0, "DiscoKey": f"discokey:{'00' * 32}"}, False),
        ({"HomeDERP": 0, "IsWireGuardOnly": True}, True),
        ({"Expired": True}, False),
    ],
)
def test_who_is_skipped(fields, there):
    made = derived(node(2, **fields))
    assert bool(made.wg.peers) == there
    assert bool(made.summaries) != there


def test_a_plain_wireguard_peer_is_at_its_first_endpoint():
    endpoints = ["192.0.2.1:51820", "[2001:db8::1]:51820"]
    made = derived(node(2, IsWireGuardOnly=True, Endpoints=endpoints), node(3, Endpoints=endpoints))
    assert [peer.endpoint for peer in made.wg.peers] == [Endpoint("192.0.2.1", 51820), None]


OWN = ("100.64.0.2/32", "fd7a:115c:a1e0::2/128")


@pytest.mark.parametrize(
    ("allowed_ip", "taken_always"),
    [
        ("10.7.0.0/16", False),
        ("100.64.0.0/16", False),  # a range of Tailscale's, but no single address
        ("100.99.0.1/32", True),  # such a one, of whichever node
        ("100.115.92.7/32", False),  # a Chromebook's own machine
        ("fd7a:115c:a1e0::77/128", True),
        ("192.0.2.7/32", False),
        ("2001:db8::7/128", False),
        ("10.9.0.2/32", True),  # its own address, whatever the range
        ("fd00::2/128", True),
    ],
)
def test_subnets_are_taken_if_they_are_accepted(allowed_ip, taken_always):
    peer = node(2, allowed_ip, Addresses=[*OWN, "10.9.0.2/24", "fd00::2/64"])
    refused = derived(peer)
    assert (allowed_ip in refused.wg.peers[0].allowed_ips) == taken_always
    expected = () if taken_always else ("did not accept subnet routes from 1 nodes: host2 (n2)",)
    assert refused.summaries == expected
    accepted = derived(peer, prefs=Prefs(accept_routes=True))
    assert accepted.wg.peers[0].allowed_ips == (*OWN, allowed_ip)
    assert accepted.summaries == ()


@pytest.mark.parametrize(
    "wanted", ["n3", "100.64.0.3", "fd7a:115c:a1e0::3", "host3.tail.example", "HOST3.tail.example.", "three"]
)
@pytest.mark.parametrize("accept_routes", [False, True])
def test_only_the_chosen_exit_node_has_default_routes(wanted, accept_routes):
    peers = [node(n, "0.0.0.0/0", "::/0") for n in (2, 3)]
    peers[1]["ComputedName"] = "three"
    made = derived(*peers, prefs=Prefs(exit_node=wanted, accept_routes=accept_routes))
    assert [peer.allowed_ips[2:] for peer in made.wg.peers] == [(), ("0.0.0.0/0", "::/0")]
    assert made.summaries == ("skipped unselected exit nodes from 1 nodes: host2 (n2)",)


def test_an_ambiguous_exit_node_is_refused():
    peers = [node(n, "0.0.0.0/0", ComputedName="exit") for n in (2, 3)]
    with pytest.raises(ConfigError, match="n2 or n3") as caught:
        derived(*peers, prefs=Prefs(exit_node="exit"))
    assert caught.value.field == "exit_node"


def test_a_summary_has_five_names(caplog):
    caplog.set_level(logging.INFO, "wgengine.derive")
    made = derived(*(node(n, Expired=True) for n in range(2, 9)))
    names = ", ".join(f"host{n} (n{n})" for n in range(2, 7))
    assert made.summaries == (f"skipped expired peers from 7 nodes: {names} ... +2",)
    assert derived(*(node(n, Expired=True) for n in range(2, 7))).summaries[0].endswith("host6 (n6)")
    assert [record.getMessage() for record in caplog.records if "7 nodes" in record.getMessage()] == [*made.summaries]
    caplog.clear()
    again = derive(netmap(*(node(n, Expired=True) for n in range(2, 9))), previous=made)
    assert again == made
    assert caplog.records == []


AUDIT = {"CapMap": {"https://tailscale.com/cap/data-plane-audit-logs": []}, "DataPlaneAuditLogID": "ab" * 32}


@pytest.mark.parametrize(
    ("fields", "domain", "logged"),
    [
        (AUDIT, "cd" * 32, True),
        ({**AUDIT, "CapMap": {}, "Capabilities": list(AUDIT["CapMap"])}, "cd" * 32, True),
        ({**AUDIT, "CapMap": {}}, "cd" * 32, False),
        ({**AUDIT, "DataPlaneAuditLogID": ""}, "cd" * 32, False),
        ({**AUDIT, "DataPlaneAuditLogID": "x"}, "cd" * 32, False),
        (AUDIT, "", False),
    ],
)
def test_when_traffic_may_be_logged(fields, domain, logged):
    made = derived(SelfNode={**MYSELF, **fields}, DomainAuditLogID=domain)
    assert made.wg.network_logging == (NetworkLogging(node_id="ab" * 32, domain_id="cd" * 32) if logged else None)


def test_whether_exit_flows_are_logged():
    caps = {**AUDIT["CapMap"], "log-exit-flows": []}
    made = derived(SelfNode={**MYSELF, **AUDIT, "CapMap": caps}, DomainAuditLogID="cd" * 32)
    assert made.wg.network_logging.log_exit_flows


def test_a_netmap_without_a_private_key_is_refused():
    with pytest.raises(ConfigError, match="with_private_key") as caught:
        derive(netmap(PrivateKey=None))
    assert caught.value.field == "PrivateKey"


# Whatever decides about a peer: each of it alone is seen when the rest is as it was.
CHANGES = {
    "key": key(77),
    "disco_key": key(78),
    "allowed_ips": ("100.64.0.2/32",),
    "addresses": ("100.64.0.2/32",),
    "stable_id": "other",
    "endpoints": ("192.0.2.9:1",),
    "home_derp": 0,
    "is_wireguard_only": False,
    "expired": True,
    "is_jailed": True,
    "v4_masq_addr": "100.64.9.9",
    "v6_masq_addr": "fd7a:115c:a1e0::99",
    "unsigned_peer_api_only": True,
    "name": "other.tail.example.",
    "computed_name": "other",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_one_field_is_seen(name):
    endpoints = {"IsWireGuardOnly": True, "Endpoints": ["192.0.2.1:1"]}
    before = netmap(node(2, "10.7.0.0/16", "192.0.2.7/32", **endpoints), node(3), PacketFilterRules=RULES)
    after = before.replace(peers=(before.peers[0].replace(**{name: CHANGES[name]}), before.peers[1]))
    assert derive(after, previous=derive(before)) == derive(after)


EXITS = [node(n, "0.0.0.0/0", "::/0", "10.7.0.0/16") for n in (2, 3)]


@pytest.mark.parametrize("after", [None, "n3", "gone"])
@pytest.mark.parametrize("before", [None, "n2"])
@pytest.mark.parametrize("accept_routes", [False, True])
def test_a_change_of_preferences_is_seen(before, after, accept_routes):
    same = netmap(*EXITS)
    made = derive(same, Prefs(exit_node=before))
    prefs = Prefs(exit_node=after, accept_routes=accept_routes)
    assert derive(same, prefs, previous=made) == derive(same, prefs)


def test_an_exit_node_that_moves_within_the_list_is_the_same():
    prefs = Prefs(exit_node="n3")
    made = derive(netmap(*EXITS), prefs)
    assert derive(netmap(EXITS[1], EXITS[0]), prefs, previous=made) == derive(netmap(EXITS[1], EXITS[0]), prefs)


def test_what_comes_out_equal_is_the_same_object():
    before = netmap(node(2), node(3, Expired=True), PacketFilterRules=RULES)
    made = derive(before)
    moved = before.replace(peers=(before.peers[0].replace(endpoints=("192.0.2.1:1",), online=True), before.peers[1]))
    for same in (before, netmap(node(2), node(3, Expired=True), PacketFilterRules=RULES), moved):
        again = derive(same, previous=made)
        assert again.wg is made.wg
        assert again.router is made.router
        assert again.dns is made.dns
        assert again.filter is made.filter


# -- The router


def test_routes_of_single_addresses_are_few():
    made = derived(node(2), node(3))
    assert made.router.routes == ("100.64.0.2/32", "100.64.0.3/32", ULA, *SERVICES)
    assert made.router.local_addrs == tuple(MYSELF["Addresses"])
    one = derive(netmap(node(2), node(3)), one_cgnat=True)
    assert one.router.routes == ("100.64.0.0/10", ULA, *SERVICES)
    assert derive(netmap(node(2)), one_cgnat=True).router.routes == ("100.64.0.2/32", ULA, *SERVICES)


def test_the_netmap_may_want_one_route_and_an_argument_wins():
    wanting = {"SelfNode": {**MYSELF, "CapMap": {"one-cgnat?v=true": []}}}
    assert "100.64.0.0/10" in derived(node(2), node(3), **wanting).router.routes
    assert "100.64.0.0/10" not in derive(netmap(node(2), node(3), **wanting), one_cgnat=False).router.routes
    refusing = {"SelfNode": {**MYSELF, "Capabilities": ["one-cgnat?v=false"]}}
    assert "100.64.0.0/10" not in derived(node(2), node(3), **refusing).router.routes


def test_more_single_addresses_than_the_threshold_are_one_route():
    singles = [f"100.{64 + (n >> 16)}.{n >> 8 & 255}.{n & 255}/32" for n in range(MOST_SINGLE_ROUTES)]
    assert Routes(singles).prefixes() == tuple(singles)
    assert Routes([*singles, "100.127.0.1/32"]).prefixes() == ("100.64.0.0/10",)
    assert Routes([*singles, "100.127.0.1/32", "10.0.0.0/8"]).prefixes() == ("10.0.0.0/8", "100.64.0.0/10")
    # a subnet router may offer the very range
    assert Routes([*singles, "100.127.0.1/32", "100.64.0.0/10"]).prefixes() == ("100.64.0.0/10",)


def test_routes_are_in_order_by_family_length_and_address():
    made = derived(
        node(2, "192.168.0.0/16", "10.0.0.0/8", "2001:db8::/32", "192.0.2.9/32", "9.0.0.0/8", "2001:db8::1/128"),
        prefs=Prefs(accept_routes=True),
    )
    assert made.router.routes == (
        "9.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16", "100.64.0.2/32", "192.0.2.9/32",
        "2001:db8::/32", ULA, "2001:db8::1/128", *SERVICES,
    )  # fmt: skip


LAN = ("192.168.1.7/24", "192.168.1.8/24", "2001:db8:5::7/64")
AROUND = Surroundings(
    internal=("127.0.0.1/8", "::1/128"),
    external=(*LAN, "203.0.113.5/32", "100.64.0.1/10", "fd7a:115c:a1e0::1/48"),
)


@pytest.mark.parametrize(
    ("allow_lan", "system", "routes", "local_routes"),
    [
        (False, "linux", ("192.168.1.0/24", "2001:db8:5::/64"), ("127.0.0.0/8",)),
        (True, "linux", (), ("127.0.0.0/8", "192.168.1.0/24", "2001:db8:5::/64")),
        (True, "freebsd", (), ()),
    ],
)
def test_an_exit_node_takes_everything_and_the_local_network_by_choice(allow_lan, system, routes, local_routes):
    prefs = Prefs(exit_node="n2", allow_lan=allow_lan)
    around = Surroundings(internal=AROUND.internal, external=AROUND.external, system=system)
    made = derive(netmap(node(2, "0.0.0.0/0", "::/0")), prefs, around=around)
    assert made.router.routes == ("0.0.0.0/0", "100.64.0.2/32", "::/0", ULA, *routes, *SERVICES)
    assert made.router.local_routes == local_routes


def test_our_own_interface_is_not_the_local_network():
    around = Surroundings(external=("10.9.0.1/24", "192.168.1.7/24"))
    prefs = Prefs(exit_node="n2")
    made = derive(netmap(SelfNode={**MYSELF, "Addresses": ["10.9.0.1/24"]}), prefs, around=around)
    assert made.router.routes == ("0.0.0.0/0", "::/0", "192.168.1.0/24", SERVICES[0])


def test_traffic_for_an_exit_node_that_is_not_there_goes_nowhere():
    made = derived(node(2, "0.0.0.0/0"), prefs=Prefs(exit_node="gone"))
    assert made.router.routes == ("100.64.0.2/32", ULA, "0.0.0.0/0", "::/0", *SERVICES)
    assert "0.0.0.0/0" not in made.wg.peers[0].allowed_ips


def test_service_addresses_are_of_our_families():
    caps = {"service-host": [{"svc:a": ["100.65.0.1", "fd7a:115c:a1e0::65"], "svc:b": ["bad", 5]}, 5]}
    both = derived(SelfNode={**MYSELF, "CapMap": caps})
    assert both.router.routes == (*SERVICES, "100.65.0.1/32", "fd7a:115c:a1e0::65/128")
    assert {"100.65.0.1/32", "fd7a:115c:a1e0::65/128"} <= set(both.filter.local_nets)
    six = derived(SelfNode={**MYSELF, "Addresses": MYSELF["Addresses"][1:], "CapMap": caps})
    assert six.router.routes == (SERVICES[1], "fd7a:115c:a1e0::65/128")
    assert NetMap.from_dict({}).addresses == ()
    assert derive(netmap(SelfNode=None)).router.routes == ()


def test_preferences_for_the_router():
    prefs = Prefs(advertise_routes=("10.0.0.0/8",), snat=False, stateful_filtering=True)
    router = derived(prefs=prefs).router
    assert (router.subnet_routes, router.snat_subnet_routes, router.stateful_filtering) == (
        ("10.0.0.0/8",),
        False,
        True,
    )
    assert (router.netfilter_mode, router.netfilter_kind) == ("on", "")
    forced = derived(SelfNode={**MYSELF, "CapMap": {"linux-netfilter?v=nftables": []}})
    assert forced.router.netfilter_kind == "nftables"


def test_surroundings_name_what_is_wrong():
    with pytest.raises(ConfigError) as caught:
        Surroundings(external=("x",))
    assert caught.value.field == "external"


# -- Filters


def test_the_filters_of_a_netmap():
    made = derived(PacketFilterRules=RULES, prefs=Prefs(advertise_routes=("10.7.0.0/16",)))
    assert data_of(made.filter.rules) == RULES
    assert made.filter.local_nets == ("10.7.0.0/16", *MYSELF["Addresses"])
    assert not made.filter.shields_up
    logged = made.filter.log_nets
    assert logged[0] == "10.7.0.0/16"
    assert ULA in logged
    assert "100.115.92.0/23" not in logged
    assert "100.64.0.0/11" in logged
    # a jailed peer may begin nothing
    shielded = FilterConfig(local_nets=made.filter.local_nets, log_nets=logged, shields_up=True)
    assert made.jailed_filter == shielded
    up = derived(PacketFilterRules=RULES, prefs=Prefs(advertise_routes=("10.7.0.0/16",), shields_up=True))
    assert up.filter == up.jailed_filter == shielded


def test_an_own_subnet_is_not_ours_alone():
    made = derived(SelfNode={**MYSELF, "Addresses": ["10.9.0.1/24"]})
    assert made.filter.local_nets == ("10.9.0.1/32",)


def test_an_exit_node_serves_the_internet_but_not_its_own_networks():
    around = Surroundings(external=("203.0.113.5/24", "192.168.1.7/24", "2001:db8:5::7/64"))
    made = derive(netmap(), Prefs(advertise_routes=("0.0.0.0/0", "::/0")), around=around)
    nets = set(made.filter.local_nets)
    assert "203.0.113.5/32" in nets, "its own address may be reached"
    for prefix in ("203.0.113.0/24", "10.0.0.0/8", "192.168.0.0/16", "2001:db8:5::/64", "fe80::/10", "0.0.0.0/0"):
        assert prefix not in nets
    served = AddressSet.of(made.filter.local_nets)
    never = ("203.0.113.4", "203.0.113.6", "10.1.2.3", "192.168.1.7", "172.16.0.1", "169.254.1.1", "224.0.0.1")
    for address in (*never, "100.64.0.9", "2001:db8:5::8", "fe80::1", "ff02::1", "fd7a:115c:a1e0::9"):
        assert not served.overlaps(AddressSet.of((address,))), address
    for address in ("8.8.8.8", "203.0.112.255", "203.0.114.0", "2001:db8:5::7", "2001:db8:6::1", "100.64.0.1"):
        assert served.overlaps(AddressSet.of((address,))), address
    assert set(made.filter.log_nets) == set(derived().filter.log_nets), "the internet is not in the log"


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        ("100.64.0.2", True),
        ("100.64.0.0/16", True),
        ("*", True),
        ("100.64.0.1-100.64.0.2", True),
        ("what is this", True),
        ("2001:db8::9-2001:db8::7", False),
        ("100.64.0.3/32", False),
        ("100.64.0.3-100.64.0.4", False),
        ("cap:x", False),
        ("10.7.0.0/17", True),  # what it carries counts as well
    ],
)
def test_a_filter_that_lets_an_unsigned_node_in_is_not_used(source, refused, caplog):
    peer = node(2, "10.7.0.0/16", UnsignedPeerAPIOnly=True)
    rule = {**RULES[0], "SrcIPs": [source]}
    made = derived(peer, PacketFilterRules=[rule])
    assert (made.filter.rules == "") == refused
    assert any(record.levelno == logging.WARNING for record in caplog.records) == refused
    assert derived(node(2, "10.7.0.0/16"), PacketFilterRules=[rule]).filter.rules != ""
    nowhere = {"SrcIPs": [source], "CapGrant": []}
    assert derived(peer, PacketFilterRules=[nowhere]).filter.rules != ""
