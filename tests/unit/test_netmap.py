"""Netmaps: read whole or not at all, by the names of `tailscale debug netmap`."""

import copy
import dataclasses
import gc
import json
import logging
import re
import tracemalloc
from pathlib import Path

import pytest
from wgengine.config import Config
from wgengine.derive import derive
from wgengine.dns_config import Resolver
from wgengine.document import data_of
from wgengine.errors import ConfigError
from wgengine.keys import PrivateKey, PublicKey
from wgengine.netmap import NetMap
from wgengine.netmap_dns import DNSRecord, NetMapDNS
from wgengine.prefs import Prefs

SECRET = PrivateKey.from_hex("08" * 32)


def key(n):
    return PublicKey.from_bytes(n.to_bytes(2, "big") + bytes([21]) * 30)


def node(n, **fields):
    return {
        "ID": n,
        "StableID": f"n{n}",
        "Key": f"nodekey:{key(n).to_hex()}",
        "Addresses": [f"100.64.{n >> 8}.{n & 255}/32"],
        **fields,
    }


MYSELF = node(1, Key=f"nodekey:{SECRET.public_key.to_hex()}", Name="me.tail.example.")
WHOLE = {
    "NodeKey": MYSELF["Key"],
    "PrivateKey": f"privkey:{SECRET.to_hex()}",
    "SelfNode": MYSELF,
    "Peers": [node(2), node(3)],
    "DNS": {
        "Resolvers": [{"Addr": "192.0.2.53", "UseWithExitNode": True}],
        "Routes": {
            "Corp.Example": [{"Addr": "https://dns.example/q", "BootstrapResolution": ["192.0.2.1"]}],
            "a.b.": None,
        },
        "FallbackResolvers": [{"Addr": "192.0.2.54:5353"}],
        "Domains": ["tail.example"],
        "Proxied": True,
        "ExtraRecords": [{"Name": "x.tail.example", "Value": "100.64.0.9"}],
        "CertDomains": ["me.tail.example"],
    },
    "PacketFilterRules": [{"SrcIPs": ["*"], "DstPorts": [{"IP": "*", "Ports": {"First": 0, "Last": 65535}}]}],
    "UserProfiles": {"1001": {"ID": 1001, "LoginName": "a@x.example", "DisplayName": "A", "Roles": []}},
    "Domain": "x.example",
    "DomainAuditLogID": "cd" * 32,
    "DERPMap": {"Regions": {"1": {"RegionID": 1}}},
    "TKAEnabled": False,
    "revision": 5,
}


def netmap(**fields):
    return NetMap.from_dict({**WHOLE, **fields})


def test_every_name_is_read():
    read = netmap()
    assert read.private_key == SECRET
    assert read.public_key == read.node_key == SECRET.public_key
    assert [peer.id for peer in read.peers] == [2, 3]
    assert read.addresses == ("100.64.0.1/32",)
    assert read.magic_dns_suffix == "tail.example"
    assert read.dns == NetMapDNS(
        resolvers=(Resolver("192.0.2.53", use_with_exit_node=True),),
        routes=(("a.b.", ()), ("corp.example.", (Resolver("https://dns.example/q", ("192.0.2.1",)),))),
        fallback_resolvers=(Resolver("192.0.2.54:5353"),),
        domains=("tail.example.",),
        magic_dns=True,
        extra_records=(DNSRecord("x.tail.example", "", "100.64.0.9"),),
        extra=read.dns.extra,
    )
    assert data_of(read.dns.extra) == {"CertDomains": ["me.tail.example"]}
    assert data_of(read.packet_filter) == WHOLE["PacketFilterRules"]
    assert read.user(1001).login_name == "a@x.example"
    assert data_of(read.user(1001).extra) == {"Roles": []}
    assert read.user(5) is None
    assert (read.domain, read.domain_audit_log_id, read.revision) == ("x.example", "cd" * 32, 5)
    assert data_of(read.extra) == {"DERPMap": WHOLE["DERPMap"], "TKAEnabled": False}
    assert read.warnings == ()


def test_a_netmap_as_tailscale_writes_it_is_read():
    """By `json.Marshal` of version 1.96.5's own types, every field of a node set to something."""
    text = (Path(__file__).parent / "tailscale_netmap.json").read_text()
    read = NetMap.from_json(text)
    me = read.self_node
    assert (me.cap_values("b"), me.has_cap("a"), me.has_cap("c")) == ([5, {"x": 1}], True, True)
    assert me.endpoints == ("1.2.3.4:5", "[fe80::1%eth0]:5")
    assert me.created == me.key_expiry == me.last_seen == json.loads(text)["SelfNode"]["Created"]
    assert (me.online, me.v4_masq_addr, me.hostinfo.service_port("peerapi4")) == (True, "100.64.9.9", 5)
    assert read.peers[1].addresses == ()
    assert data_of(read.packet_filter)[0]["CapGrant"] == [{"Dsts": ["1.2.3.4/32"], "CapMap": {"k": [1]}}]
    assert read.user(5).login_name == "l"
    assert read.private_key is None
    known = ("SelfNode", "NodeKey", "Peers", "DNS", "PacketFilter", "PacketFilterRules", "UserProfiles", "Domain")
    left = {name for name in json.loads(text) if name not in (*known, "DomainAuditLogID")}
    assert set(data_of(read.extra)) == left
    assert NetMap.from_dict(read.to_dict()) == read


def test_what_was_read_is_written_again():
    read = netmap()
    assert NetMap.from_dict(read.to_dict(private_key=True)) == read
    assert NetMap.from_json(read.to_json(private_key=True)) == read
    assert NetMap.from_json(read.to_json()) == read.replace(private_key=None)
    assert NetMap.from_dict({}).to_dict() == {}
    assert "DERPMap" in read.to_dict()


def test_a_private_key_is_in_the_document_or_given():
    for none in (None, "", f"privkey:{'0' * 64}"):
        assert netmap(PrivateKey=none).private_key is None
    assert netmap(PrivateKey=None).with_private_key(SECRET) == netmap()
    assert netmap(PrivateKey=SECRET.to_base64()) == netmap()


def test_a_private_key_of_another_node_is_warned_of(caplog):
    other = PrivateKey.from_hex("10" * 32)
    read = netmap().with_private_key(other)
    assert str(SECRET.public_key) in read.warnings[0]
    assert read.replace(domain="y").warnings == read.warnings
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_nothing_shows_the_private_key():
    read = netmap()
    shown = [repr(read), str(read), json.dumps(read.to_dict()), read.to_json()]
    for leak in (dataclasses.asdict, dataclasses.astuple):
        shown.append(repr(leak(read)))
    for wrong in (SECRET.to_hex()[:-2], f"privkey:{SECRET.to_hex()}0", [SECRET.to_hex()], {SECRET.to_hex(): 1}):
        with pytest.raises(ConfigError) as caught:
            netmap(PrivateKey=wrong)
        assert caught.value.field == "PrivateKey"
        shown.append(str(caught.value))
    assert not any(SECRET.to_hex()[:-4] in text or SECRET.to_base64() in text for text in shown)


@pytest.mark.parametrize(
    ("fields", "where", "said"),
    [
        ({"Peers": [node(2), node(3, Key=node(2)["Key"])]}, "Peers[1].Key", "Peers[0] has the key"),
        ({"Peers": [node(2, Key=MYSELF["Key"])]}, "Peers[0].Key", "SelfNode has the key"),
        ({"Peers": [node(2), node(3, Addresses=["100.64.0.3", "100.64.0.2/10"])]}, "Peers[1].Addresses[1]", "Peers[0]"),
        ({"Peers": [node(2, Addresses=["100.64.0.1/32"])]}, "Peers[0].Addresses[0]", "SelfNode has the address"),
        ({"Peers": [node(2), node(3, StableID="n2")]}, "Peers[1].StableID", "Peers[0] has the StableID"),
        ({"Peers": {}}, "Peers", "a list"),
        ({"Peers": [5]}, "Peers[0]", "an object"),
        ({"Peers": [node(2), node(3, Addresses=["100.64.0.3/32", 5])]}, "Peers[1].Addresses[1]", "text"),
        ({"SelfNode": node(1, Online=5)}, "SelfNode.Online", "true or false"),
        ({"NodeKey": "nodekey:5"}, "NodeKey", "64 hex digits"),
        ({"DNS": []}, "DNS", "an object"),
        ({"DNS": {"Resolvers": [{"Addr": 5}]}}, "DNS.Resolvers[0].Addr", "text"),
        ({"DNS": {"Resolvers": [{}]}}, "DNS.Resolvers[0].Addr", "address"),
        ({"DNS": {"Routes": {"a..b": []}}}, 'DNS.Routes["a..b"]', "domain"),
        ({"DNS": {"Routes": {"a.b": [], "A.B.": []}}}, 'DNS.Routes["A.B."]', "twice"),
        ({"DNS": {"Routes": {"a.b": [{"Addr": "x y"}]}}}, 'DNS.Routes["a.b"][0].Addr', "resolver"),
        ({"DNS": {"Domains": ["a..b"]}}, "DNS.Domains[0]", "domain"),
        ({"DNS": {"ExtraRecords": [{"Name": 5}]}}, "DNS.ExtraRecords[0].Name", "text"),
        ({"PacketFilterRules": [{"SrcIPs": "*"}]}, "PacketFilterRules[0].SrcIPs", "a list"),
        (
            {"PacketFilterRules": [{"SrcIPs": [], "DstPorts": [{"IP": 1}]}]},
            "PacketFilterRules[0].DstPorts[0].IP",
            "text",
        ),
        ({"UserProfiles": {"x": {}}}, "UserProfiles.x", "number"),
        ({"UserProfiles": {"5": {"ID": 6}}}, "UserProfiles.5.ID", "profile of 5"),
        ({"UserProfiles": {"5": {"LoginName": 6}}}, "UserProfiles.5.LoginName", "text"),
        ({"Domain": 5}, "Domain", "text"),
        ({"revision": "5"}, "revision", "whole number"),
        ({"revision": -1}, "revision", "whole number"),
    ],
)
def test_what_is_wrong_is_named(fields, where, said):
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        netmap(**fields)
    assert caught.value.field == where
    with pytest.raises(ConfigError) as caught:
        NetMap.from_json(json.dumps({**WHOLE, **fields}), source="n.json")
    assert str(caught.value).startswith(f"n.json: {where}: ")


@pytest.mark.parametrize("text", ["[]", "5", "null", '"x"'])
def test_a_netmap_is_an_object(text):
    with pytest.raises(ConfigError, match="is not an object"):
        NetMap.from_json(text)


def test_a_key_written_twice_is_refused():
    text = json.dumps(WHOLE).replace('"StableID": "n3"', '"StableID": "n3", "StableID": "n4"')
    with pytest.raises(ConfigError) as caught:
        NetMap.from_json(text)
    assert caught.value.field == "Peers[1].StableID"


def test_a_lower_revision_is_an_old_netmap():
    last = netmap(revision=5)
    for revision in (5, 6, None):
        netmap(revision=revision).check_succeeds(last)
    netmap(revision=1).check_succeeds(None)
    netmap(revision=1).check_succeeds(netmap(revision=None))
    with pytest.raises(ConfigError, match="4 is lower than 5") as caught:
        netmap(revision=4).check_succeeds(last)
    assert caught.value.field == "revision"


def test_host_bits_are_cleared_with_a_warning_and_overlaps_are_ordinary(caplog):
    read = netmap(
        Peers=[node(2, AllowedIPs=["10.0.0.1/8", "10.0.0.0/8"]), node(3, AllowedIPs=["10.1.0.0/16", "0.0.0.0/0"])]
    )
    assert read.peers[0].allowed_ips == ("10.0.0.0/8",)
    assert read.peers[1].allowed_ips == ("10.1.0.0/16", "0.0.0.0/0")
    (warning,) = read.warnings
    assert warning == "Peers[0].AllowedIPs[0]: 10.0.0.1/8 has host bits set; it is taken as 10.0.0.0/8"
    assert [record.name for record in caplog.records] == ["wgengine.netmap"]


def test_compiled_matches_are_turned_into_rules():
    match = {
        "IPProto": [6],
        "Srcs": ["100.64.0.0/10"],
        "SrcCaps": ["c"],
        "Dsts": [{"Net": "0.0.0.0/0", "Ports": {"First": 22, "Last": 22}}],
        "Caps": [{"Dst": "100.64.0.1/32", "Cap": "k", "Values": [1]}],
    }
    none = {"IPProto": None, "Srcs": ["::/0"], "Dsts": []}
    read = netmap(PacketFilterRules=None, PacketFilter=[match, none])
    assert data_of(read.packet_filter) == [
        {
            "SrcIPs": ["100.64.0.0/10", "cap:c"],
            "IPProto": [6],
            "DstPorts": [{"IP": "0.0.0.0/0", "Ports": {"First": 22, "Last": 22}}],
            "CapGrant": [{"Dsts": ["100.64.0.1/32"], "CapMap": {"k": [1]}}],
        },
        {"SrcIPs": ["::/0"], "IPProto": [-1]},
    ]
    # the same name has rules in what a control server sends
    assert netmap(PacketFilterRules=None, PacketFilter=WHOLE["PacketFilterRules"]) == netmap()
    assert netmap(PacketFilter=[match]) == netmap(), "rules win"


def test_a_file_that_others_can_read_is_warned_of(tmp_path):
    file = tmp_path / "netmap.json"
    file.write_text(json.dumps(WHOLE))
    file.chmod(0o600)
    assert NetMap.from_file(file) == netmap()
    assert NetMap.from_file(file).warnings == ()
    file.chmod(0o644)
    tmp_path.chmod(0o755)
    assert "chmod 600" in NetMap.from_file(file).warnings[0]
    file.write_text(json.dumps({**WHOLE, "PrivateKey": None}))
    assert NetMap.from_file(file).warnings == ()
    file.write_text("{")
    with pytest.raises(ConfigError) as caught:
        NetMap.from_file(file)
    assert str(caught.value).startswith(f"{file}:1: ")


def test_one_peer_changed_added_or_removed_equals_the_whole():
    read = netmap()
    two, three = read.peers
    moved = two.replace(endpoints=("192.0.2.1:1",))
    assert read.with_peer(moved) == read.replace(peers=(moved, three))
    elsewhere = two.replace(addresses=("100.64.0.9/32",))
    assert read.with_peer(elsewhere) == read.replace(peers=(elsewhere, three))
    four = netmap(Peers=[node(4)]).peers[0]
    assert read.with_peer(four) == netmap(Peers=[node(2), node(3), node(4)])
    assert read.without_peer(two.key) == netmap(Peers=[node(3)])
    for thief in (two.replace(addresses=three.addresses), two.replace(stable_id="n3"), four.replace(stable_id="n1")):
        with pytest.raises(ConfigError):
            read.with_peer(thief)


def test_a_netmap_is_a_value():
    read = netmap()
    assert hash(read) == hash(netmap())
    assert copy.deepcopy(read) == read
    with pytest.raises(dataclasses.FrozenInstanceError):
        read.domain = ""


def test_reading_leaves_the_collector_as_it_was():
    text = json.dumps(WHOLE)
    NetMap.from_json(text)
    assert gc.isenabled()
    gc.disable()
    try:
        NetMap.from_json(text)
        assert not gc.isenabled()
    finally:
        gc.enable()
    with pytest.raises(ConfigError):
        NetMap.from_json("{")
    assert gc.isenabled()


def test_a_node_of_ordinary_content_takes_little_memory():
    def ordinary(n):
        port = 20000 + n
        return node(
            n,
            Name=f"host-{n}.tail1234.example.",
            ComputedName=f"host-{n}",
            ComputedNameWithHost=f"host-{n}",
            User=1000 + n % 7,
            Machine=f"mkey:{n:064x}",
            DiscoKey=f"discokey:{key(n + 5000).to_hex()}",
            Addresses=(own := [f"100.64.{n >> 8}.{n & 255}/32", f"fd7a:115c:a1e0::{n:x}/128"]),
            AllowedIPs=[*own],
            Endpoints=[f"203.0.113.{n & 255}:{port}", f"[2001:db8:1:{n:x}::7]:{port}"],
            HomeDERP=1 + n % 20,
            Hostinfo={"OS": "linux", "Hostname": f"host-{n}", "Services": [{"Proto": "peerapi4", "Port": port}]},
            Created="2024-02-03T04:05:06.123456789Z",
            KeyExpiry="2027-01-02T03:04:05Z",
            Cap=106,
            Tags=["tag:prod"],
            Online=True,
            CapMap={"https://tailscale.com/cap/file-sharing-target": None},
        )

    text = json.dumps({"Peers": [ordinary(n) for n in range(1, 501)]})
    NetMap.from_json(text)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    read = NetMap.from_json(text)
    gc.collect()
    each = (tracemalloc.get_traced_memory()[0] - before) / len(read.peers)
    tracemalloc.stop()
    assert each <= 1536
    one, other = read.peers[:2]
    assert one.cap_map is other.cap_map
    assert one.tags is other.tags
    assert one.hostinfo.os is other.hostinfo.os
    assert one.computed_name is one.hostinfo.hostname


def test_the_document_s_examples_are_good_ones():
    text = (Path(__file__).parents[2] / "docs" / "netmap.md").read_text()
    blocks = dict(re.findall(r"^```(json|ini)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    read = NetMap.from_json(blocks["json"])
    assert read.warnings == ()
    assert read.private_key.public_key == read.self_node.key
    made = derive(read, Prefs(accept_routes=True))
    (peer,) = made.wg.peers
    assert str(peer.endpoint) == "192.0.2.1:51820"
    assert peer.allowed_ips == ("100.64.0.2/32", "10.7.0.0/16")
    config = Config.from_text(f"[Interface]\nPrivateKey = {read.private_key.to_base64()}\n{blocks['ini']}")
    assert config.peers[0].jailed
    assert config.peers[0].v4_masq_addr == "100.64.9.9"
