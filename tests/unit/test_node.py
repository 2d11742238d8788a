"""One node of a netmap: which JSON names are read, what they may hold, and what is made of them."""

import copy
import dataclasses
import pickle
import sys

import pytest
from wgengine.dns_config import Resolver
from wgengine.document import data_of
from wgengine.errors import ConfigError
from wgengine.keys import PublicKey
from wgengine.node import Node

KEY = PublicKey.from_bytes(bytes([11]) * 32)
DISCO = PublicKey.from_bytes(bytes([12]) * 32)

WHOLE = {
    "ID": 7,
    "StableID": "n7CNTRL",
    "Name": "seven.tail.example.",
    "ComputedName": "seven",
    "ComputedNameWithHost": "seven (host)",
    "User": 1001,
    "Sharer": 1002,
    "Key": f"nodekey:{KEY.to_hex()}",
    "KeyExpiry": "2027-01-02T03:04:05Z",
    "Machine": f"mkey:{'ab' * 32}",
    "DiscoKey": f"discokey:{DISCO.to_hex()}",
    "Addresses": ["100.64.0.7/32", "fd7a:115c:a1e0::7/128"],
    "AllowedIPs": ["100.64.0.7/32", "fd7a:115c:a1e0::7/128", "10.7.0.0/16"],
    "Endpoints": ["192.0.2.7:41641", "[2001:db8::7]:41641"],
    "HomeDERP": 3,
    "Hostinfo": {
        "OS": "linux",
        "Hostname": "host",
        "RoutableIPs": ["10.7.0.0/16"],
        "Services": [{"Proto": "peerapi4", "Port": 4444}, {"Proto": "peerapi6", "Port": 6666}],
        "Distro": "debian",
    },
    "Created": "2024-01-02T03:04:05.123456789Z",
    "Cap": 106,
    "Tags": ["tag:prod"],
    "PrimaryRoutes": ["10.7.0.0/16"],
    "LastSeen": "2026-01-02T03:04:05Z",
    "Online": False,
    "Capabilities": ["old"],
    "CapMap": {"new": None, "valued": [1, {"a": 2}]},
    "UnsignedPeerAPIOnly": True,
    "DataPlaneAuditLogID": "ab" * 32,
    "Expired": True,
    "SelfNodeV4MasqAddrForThisPeer": "100.64.9.9",
    "SelfNodeV6MasqAddrForThisPeer": "fd7a:115c:a1e0::99",
    "IsWireGuardOnly": True,
    "IsJailed": True,
    "ExitNodeDNSResolvers": [{"Addr": "10.7.0.53"}],
    "FieldOfTomorrow": {"x": [1.5, None]},
}


def node(**fields):
    return Node.from_dict({"Key": WHOLE["Key"], **fields})


def test_every_name_is_read():
    read = Node.from_dict(WHOLE)
    assert read.key == KEY
    assert read.disco_key == DISCO
    assert (read.id, read.stable_id, read.name, read.computed_name) == (7, "n7CNTRL", "seven.tail.example.", "seven")
    assert (read.user, read.sharer, read.home_derp, read.cap, read.online) == (1001, 1002, 3, 106, False)
    assert read.addresses == ("100.64.0.7/32", "fd7a:115c:a1e0::7/128")
    assert read.allowed_ips == (*read.addresses, "10.7.0.0/16")
    assert read.endpoints == ("192.0.2.7:41641", "[2001:db8::7]:41641")
    assert (read.hostinfo.os, read.hostinfo.hostname, read.hostinfo.routable_ips) == ("linux", "host", ("10.7.0.0/16",))
    assert (read.hostinfo.service_port("peerapi4"), read.hostinfo.service_port("peerapi6")) == (4444, 6666)
    assert read.hostinfo.service_port("peerapi-dns-proxy") == 0
    assert (read.created, read.key_expiry, read.last_seen) == (WHOLE["Created"], WHOLE["KeyExpiry"], WHOLE["LastSeen"])
    assert (read.tags, read.primary_routes) == (("tag:prod",), ("10.7.0.0/16",))
    assert [read.has_cap(name) for name in ("old", "new", "valued", "none")] == [True, True, True, False]
    assert read.cap_values("valued") == [1, {"a": 2}]
    assert read.cap_values("new") == read.cap_values("old") == []
    assert read.unsigned_peer_api_only
    assert read.expired
    assert read.is_wireguard_only
    assert read.is_jailed
    assert (read.v4_masq_addr, read.v6_masq_addr) == ("100.64.9.9", "fd7a:115c:a1e0::99")
    assert read.data_plane_audit_log_id == "ab" * 32
    assert read.exit_node_dns_resolvers == (Resolver("10.7.0.53"),)
    kept = ("Machine", "ComputedNameWithHost", "FieldOfTomorrow")
    assert data_of(read.extra) == {name: WHOLE[name] for name in kept}
    assert data_of(read.hostinfo.extra) == {"Distro": "debian"}


def test_what_was_read_is_written_again():
    read = Node.from_dict(WHOLE)
    assert read.to_dict() == {**WHOLE, "CapMap": {"new": [], "valued": [1, {"a": 2}]}}
    assert Node.from_dict(read.to_dict()) == read
    least = node()
    assert least.to_dict() == {"Key": WHOLE["Key"], "AllowedIPs": []}


def test_what_means_nothing_is_nothing():
    zero = "0" * 64
    least = node(
        DiscoKey=f"discokey:{zero}", KeyExpiry="0001-01-01T00:00:00Z", LastSeen=None, Online=None, Tags=None, HomeDERP=0
    )
    assert least == node()
    assert (least.disco_key, least.online, least.key_expiry, least.tags) == (None, None, "", ())


def test_without_allowed_ips_a_node_has_its_addresses_alone():
    assert node(Addresses=["100.64.0.7/32"]).allowed_ips == ("100.64.0.7/32",)
    assert node(Addresses=["100.64.0.7/32"], AllowedIPs=None).allowed_ips == ("100.64.0.7/32",)
    assert node(Addresses=["100.64.0.7/32"], AllowedIPs=[]).allowed_ips == ()
    assert node(Addresses=["10.9.0.2/24", "10.9.0.3"]).allowed_ips == ("10.9.0.2/32", "10.9.0.3/32")
    assert node(Addresses=["10.9.0.2/24"]).addresses == ("10.9.0.2/24",)


def test_the_home_relay_where_it_stood_before():
    assert node(DERP="127.3.3.40:12").home_derp == 12
    assert node(DERP="127.3.3.40:12", HomeDERP=3).home_derp == 3
    with pytest.raises(ConfigError, match="HomeDERP") as caught:
        node(DERP="192.0.2.1:12")
    assert caught.value.field == "DERP"


def test_keys_are_read_as_wireguard_prints_them_too():
    assert Node.from_dict({"Key": KEY.to_base64()}).key == KEY


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"Key": None}, "Key"),
        ({"Key": "nodekey:abc"}, "Key"),
        ({"Key": f"nodekey:{'00' * 32}"}, "Key"),  # a low-order point
        ({"Key": f"discokey:{KEY.to_hex()}"}, "Key"),
        ({"Key": 5}, "Key"),
        ({"ID": "7"}, "ID"),
        ({"ID": -1}, "ID"),
        ({"User": 1.5}, "User"),
        ({"Name": 5}, "Name"),
        ({"DiscoKey": "discokey:zz"}, "DiscoKey"),
        ({"Addresses": "100.64.0.7/32"}, "Addresses"),
        ({"Addresses": ["100.64.0.7/32", "100.64.0.8/33"]}, "Addresses[1]"),
        ({"Addresses": [5]}, "Addresses[0]"),
        ({"AllowedIPs": ["10.0.0.0/8", "x"]}, "AllowedIPs[1]"),
        ({"Endpoints": ["host.example:1"]}, "Endpoints[0]"),
        ({"Endpoints": ["192.0.2.1"]}, "Endpoints[0]"),
        ({"HomeDERP": True}, "HomeDERP"),
        ({"Hostinfo": []}, "Hostinfo"),
        ({"Hostinfo": {"OS": 5}}, "Hostinfo.OS"),
        ({"Hostinfo": {"RoutableIPs": ["x"]}}, "Hostinfo.RoutableIPs[0]"),
        ({"Hostinfo": {"Services": [{"Proto": "peerapi4", "Port": 65536}]}}, "Hostinfo.Services[0].Port"),
        ({"Hostinfo": {"Services": [{"Proto": "tcp", "Port": 1}, {"Proto": 5}]}}, "Hostinfo.Services[1].Proto"),
        ({"Hostinfo": {"Services": [5]}}, "Hostinfo.Services[0]"),
        ({"Created": "soon"}, "Created"),
        ({"Tags": ["tag:a", None]}, "Tags[1]"),
        ({"PrimaryRoutes": [{}]}, "PrimaryRoutes[0]"),
        ({"Online": "yes"}, "Online"),
        ({"Capabilities": {"a": 1}}, "Capabilities"),
        ({"CapMap": ["a"]}, "CapMap"),
        ({"CapMap": {"a": 5}}, "CapMap.a"),
        ({"Expired": 0}, "Expired"),
        ({"SelfNodeV4MasqAddrForThisPeer": "fd00::1"}, "SelfNodeV4MasqAddrForThisPeer"),
        ({"SelfNodeV6MasqAddrForThisPeer": "10.0.0.1"}, "SelfNodeV6MasqAddrForThisPeer"),
        ({"IsWireGuardOnly": "true"}, "IsWireGuardOnly"),
        ({"ExitNodeDNSResolvers": [{"Addr": ""}]}, "ExitNodeDNSResolvers[0].Addr"),
        ({"ExitNodeDNSResolvers": [{"Addr": "no server"}]}, "ExitNodeDNSResolvers[0].Addr"),
        ({"ComputedNameWithHost": 5}, "ComputedNameWithHost"),
    ],
)
def test_what_is_wrong_is_named(fields, where):
    with pytest.raises(ConfigError) as caught:
        node(**fields)
    assert caught.value.field == where


def test_names_to_call_it_by():
    assert Node.from_dict(WHOLE).display_name == "seven"
    assert node(Name="a.b.", StableID="n1").display_name == "a"
    assert node(StableID="n1").display_name == "n1"
    assert node().display_name == str(KEY)[:8]


def test_who_answers_dns():
    services = [{"Proto": "peerapi-dns-proxy", "Port": 1}]
    assert node(Cap=26).answers_dns
    assert not node(Cap=25).answers_dns
    assert node(Hostinfo={"Services": services}).answers_dns
    assert (node(Addresses=["fd00::1", "10.0.0.1/24"]).address(4), node().address(6)) == ("10.0.0.1", None)


def test_a_node_is_a_value():
    read = Node.from_dict(WHOLE)
    assert hash(read) == hash(Node.from_dict(WHOLE))
    assert copy.deepcopy(read) == read
    assert read.replace(online=True) != read
    with pytest.raises(dataclasses.FrozenInstanceError):
        read.online = None
    assert pickle.loads(pickle.dumps(read)) == read


def test_a_node_is_small_and_shares_what_it_can():
    read = node(Addresses=WHOLE["Addresses"], AllowedIPs=[*WHOLE["Addresses"]])
    assert read.addresses is read.allowed_ips
    assert not hasattr(read, "__dict__")
    assert sys.getsizeof(read) <= 320
