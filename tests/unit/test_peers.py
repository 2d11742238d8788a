"""Who owns an address: the order of the rules, and what is said about the owner."""

from dataclasses import dataclass
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from wgengine.config import Config, Peer
from wgengine.errors import ConfigError
from wgengine.keys import PrivateKey, PublicKey
from wgengine.peers import NatEntry, PeerForIP, PeerIndex, Route, same_ends

OWN = PrivateKey.from_hex("08" * 32)
A, B, C, D = (PublicKey.from_bytes(bytes([n]) * 32) for n in (0xA1, 0xB1, 0xC1, 0xD1))


@dataclass(frozen=True)
class Node:
    key: PublicKey
    addresses: tuple[str, ...]


SELF = Node(OWN.public_key, ("100.64.0.100/32", "fd7a:115c:a1e0::64/128"))
NODE_A = Node(A, ("100.64.0.1/32", "fd7a:115c:a1e0::1/128"))
NODE_B = Node(B, ("100.64.0.2/32",))


def netmap(*peers, self_node=SELF):
    return SimpleNamespace(peers=peers, self_node=self_node)


def config(*peers, addresses=SELF.addresses):
    return Config(private_key=OWN, addresses=addresses, peers=peers)


def peer(key, *allowed_ips, **fields):
    return Peer(public_key=key, allowed_ips=allowed_ips, **fields)


def index(netmap=None, config=None):
    made = PeerIndex()
    made.set_netmap(netmap)
    made.set_config(config)
    return made


def found(node, route, is_self=False):
    return PeerForIP(node=node, is_self=is_self, route=route)


FULL = index(
    netmap(NODE_A, NODE_B),
    config(peer(A, *NODE_A.addresses, "10.0.0.0/8", "0.0.0.0/0"), peer(B, *NODE_B.addresses, "10.1.0.0/16", "::/0")),
)


@pytest.mark.parametrize(
    ("ip", "answer"),
    [
        ("100.64.0.1", found(NODE_A, "100.64.0.1/32")),
        ("fd7a:115c:a1e0::1", found(NODE_A, "fd7a:115c:a1e0::1/128")),
        ("fd7a:115c:a1e0:0:0:0:0:1", found(NODE_A, "fd7a:115c:a1e0::1/128")),
        ("100.64.0.2", found(NODE_B, "100.64.0.2/32")),
        ("100.64.0.100", found(SELF, "100.64.0.100/32", is_self=True)),
        ("10.0.0.1", found(NODE_A, "10.0.0.0/8")),
        ("10.1.0.1", found(NODE_B, "10.1.0.0/16")),
        ("192.0.2.1", found(NODE_A, "0.0.0.0/0")),
        ("2001:db8::1", found(NODE_B, "::/0")),
    ],
)
def test_the_longest_prefix_owns_an_address(ip, answer):
    assert FULL.peer_for_ip(ip) == answer
    assert FULL.peer_for_ip(ip_address(ip)) == answer


@pytest.mark.parametrize("ip", ["", "100.64.0.1/32", "host", "100.64.0", "fe80::1%eth0"])
def test_what_is_no_address_is_an_error(ip):
    with pytest.raises(ConfigError, match="is not an IP address"):
        FULL.peer_for_ip(ip)


def test_without_a_netmap_nobody_is_found():
    made = index(None, config(peer(A, "100.64.0.1/32")))
    assert made.peer_for_ip("100.64.0.1") is None
    assert made.by_key(A) is None
    assert made.self_address(4) is None
    assert made.owner("100.64.0.1") == A  # the device needs no netmap


def test_a_node_that_is_not_configured_is_found_by_its_own_addresses():
    made = index(netmap(NODE_A), None)
    assert made.peer_for_ip("100.64.0.1") == found(NODE_A, "100.64.0.1/32")
    assert made.owner("100.64.0.1") is None


def test_a_node_is_found_by_single_tailscale_addresses_only():
    others = [
        "192.0.2.1",
        "101.64.0.1",
        "100.63.0.1",
        "100.128.0.1",
        "100.115.92.1",
        "100.115.93.1",
        "fd7a:115c:a1e1::1",
    ]
    tailscale = [
        "100.64.0.7",
        "100.127.0.1",
        "100.115.91.1",
        "100.115.94.1",
        "fd7a:115c:a1e0::7",
        "fd7a:115c:a1e0:9::7",
    ]
    prefixes = tuple(f"{ip}/{128 if ':' in ip else 32}" for ip in others + tailscale)
    for made in (index(netmap(Node(A, prefixes))), index(netmap(self_node=Node(OWN.public_key, prefixes)))):
        assert [made.peer_for_ip(ip) for ip in others] == [None] * len(others)
        assert None not in [made.peer_for_ip(ip) for ip in tailscale]
    subnet = index(netmap(Node(A, ("100.64.1.0/24",))))
    assert subnet.peer_for_ip("100.64.1.0") is subnet.peer_for_ip("100.64.1.1") is None


def test_a_configured_peer_that_is_not_in_the_netmap_is_not_found():
    made = index(netmap(NODE_A), config(peer(B, "10.1.0.0/16"), peer(A, "10.0.0.0/8")))
    assert made.peer_for_ip("10.1.0.1") is None
    assert made.peer_for_ip("10.2.0.1") == found(NODE_A, "10.0.0.0/8")


def test_subnet_routes_of_our_own_do_not_lead_to_us():
    made = index(netmap(self_node=Node(OWN.public_key, ("100.64.0.100/32", "100.64.9.0/24"))), config())
    assert made.peer_for_ip("100.64.9.1") is None


def test_nodes_by_key():
    assert FULL.by_key(A) is NODE_A
    assert FULL.by_key(C) is None
    assert FULL.by_key(OWN.public_key) is None  # we are no peer of ours


def test_row_08_an_ipv4_address_in_ipv6_clothes_is_that_address():
    assert FULL.peer_for_ip("::ffff:100.64.0.1") == found(NODE_A, "100.64.0.1/32")
    assert FULL.route("::ffff:10.1.2.3") == Route("10.1.0.0/16", B)


def test_row_08_a_default_route_belongs_to_the_later_claim_as_in_the_device():
    made = index(netmap(NODE_A, NODE_B), config(peer(A, "0.0.0.0/0"), peer(B, "0.0.0.0/0")))
    assert made.peer_for_ip("192.0.2.1") == found(NODE_B, "0.0.0.0/0")
    made.set_config(config(peer(B, "0.0.0.0/0"), peer(A, "0.0.0.0/0")))
    assert made.peer_for_ip("192.0.2.1") == found(NODE_A, "0.0.0.0/0")


def test_row_08_an_address_that_another_peer_was_given_leads_where_its_packets_go():
    made = index(netmap(NODE_A, NODE_B), config(peer(A, *NODE_A.addresses), peer(B, "100.64.0.1/32")))
    assert made.peer_for_ip("100.64.0.1") == found(NODE_B, "100.64.0.1/32")


def test_row_08_a_look_up_is_a_hash_for_each_length_in_use():
    peers = [peer(PublicKey.from_bytes(n.to_bytes(2, "big") * 16), f"100.64.{n}.1/32") for n in range(1, 256)]
    asked = []

    class Asked:
        def __init__(self, config):
            self.addresses, self.peers = config.addresses, config.peers
            self.owner = lambda prefix: asked.append(prefix) or config.owner(prefix)

    made = index(None, Asked(config(*peers, peer(A, "10.0.0.0/8", "fd00::/64"))))
    del asked[:]
    assert made.owner("10.2.3.4") == A
    assert asked == ["10.2.3.4/32", "10.0.0.0/8"]
    del asked[:]
    assert made.owner("fd00:0:0:1::1") is None
    assert asked == ["fd00:0:0:1::/64"]
    made.set_config(Asked(config(peer(A, "fd00::/56"))))
    del asked[:]
    assert made.owner("fd00::1") == A
    assert asked == ["fd00::/56"]


def test_new_inputs_replace_old_ones():
    made = index(netmap(NODE_A, NODE_B), config(peer(A, "10.0.0.0/8"), peer(B, "10.1.0.0/16")))
    other = Node(A, ("100.64.0.3/32",))
    made.set_netmap(netmap(other, NODE_B))
    assert made.peer_for_ip("100.64.0.1") is None
    assert made.peer_for_ip("100.64.0.2").node is made.by_key(B) is NODE_B
    assert made.peer_for_ip("100.64.0.3").node is made.by_key(A) is other
    moved = Node(B, ("100.64.0.1/32",))
    made.set_netmap(netmap(moved))
    assert made.by_key(A) is None
    assert made.peer_for_ip("100.64.0.1") == found(moved, "100.64.0.1/32")
    assert made.peer_for_ip("100.64.0.2") is None
    made.set_config(config(peer(B, "10.2.0.0/16")))
    assert made.owner("10.1.0.1") is None
    assert made.owner("10.2.0.1") == B
    made.set_config(None)
    made.set_netmap(None)
    assert made.owner("10.2.0.1") is None
    assert made.peer_for_ip("100.64.0.1") is None


@pytest.mark.parametrize(
    ("one", "other", "ends"),
    [("", "", (0, 0)), ("ab", "ab", (2, 0)), ("abc", "axc", (1, 1)), ("ab", "abc", (2, 0)), ("bc", "abc", (0, 2))],
)
def test_what_two_sequences_have_at_both_ends(one, other, ends):
    assert same_ends(list(one), list(other)) == ends
    assert same_ends(list(other), list(one)) == ends
    assert same_ends(list("aa"), list("aaa")) == (2, 0)  # an object is counted once


def test_where_our_pings_come_from():
    own = Node(
        OWN.public_key, ("10.0.0.0/8", "fd00::/32", "192.0.2.7/32", "100.64.0.100/32", "fd00::/64", "fd00::7/128")
    )
    made = index(netmap(self_node=own))
    assert made.self_address(4) == "192.0.2.7"  # the first single address, whichever
    assert made.self_address(6) == "fd00::7"
    made.set_netmap(netmap(self_node=Node(OWN.public_key, ("100.64.0.100/32",))))
    assert made.self_address(6) is None
    made.set_netmap(netmap(self_node=None))
    assert made.self_address(4) is None


def test_the_address_that_is_translated_is_the_first_of_tailscale():
    made = index(None, config(addresses=["192.0.2.1/24", "100.64.0.9/10", "100.64.0.8/32", "fd7a:115c:a1e0::9/48"]))
    assert (made.native_address(4), made.native_address(6)) == ("100.64.0.9", "fd7a:115c:a1e0::9")
    made.set_config(config(addresses=["192.0.2.1/24"]))
    assert (made.native_address(4), made.native_address(6)) == (None, None)


def test_an_ordinary_peer_is_treated_like_any_other():
    assert FULL.nat_entry("10.1.0.1") is None
    assert FULL.nat_entry("100.64.0.100") is None  # 0.0.0.0/0: A, ordinary too
    assert index(None, config()).nat_entry("10.0.0.1") is None


def test_the_entry_is_that_of_the_owner():
    made = index(
        None,
        config(
            peer(A, "10.0.0.0/8", jailed=True),
            peer(B, "10.1.0.0/16"),
            peer(C, "10.1.2.0/24", v4_masq_addr="100.64.9.9"),
            peer(D, "10.1.2.3/32", v6_masq_addr="fd7a:115c:a1e0::99", jailed=True),
        ),
    )
    assert made.nat_entry("10.9.0.1") == NatEntry(addr4=None, addr6=None, jailed=True)
    assert made.nat_entry("10.1.9.1") is None  # B's, though A's prefix holds it too
    assert made.nat_entry("10.1.2.9") == NatEntry(addr4="100.64.9.9", addr6=None, jailed=False)
    assert made.nat_entry("10.1.2.3") == NatEntry(addr4=None, addr6="fd7a:115c:a1e0::99", jailed=True)


@pytest.mark.parametrize("default", ["0.0.0.0/0", "::/0"])
def test_behind_an_exit_node_that_knows_us_by_another_address_all_others_say_ours(default):
    exit_node = peer(A, default, v4_masq_addr="100.64.9.9")
    made = index(None, config(peer(B, "10.1.0.0/16", "fd00::/64"), exit_node))
    assert made.nat_entry("192.0.2.1" if "." in default else "2001:db8::1") == NatEntry(
        addr4="100.64.9.9", addr6="fd7a:115c:a1e0::64", jailed=False
    )
    ours = NatEntry(addr4="100.64.0.100", addr6="fd7a:115c:a1e0::64", jailed=False)
    assert made.nat_entry("10.1.0.1") == made.nat_entry("fd00::1") == ours


def test_the_first_peer_with_a_default_route_decides():
    plain, masquerading = peer(A, "0.0.0.0/0"), peer(B, "::/0", v6_masq_addr="fd7a:115c:a1e0::99")
    assert index(None, config(plain, masquerading)).nat_entry("192.0.2.1") is None
    assert index(None, config(masquerading, plain)).nat_entry("192.0.2.1") is not None


def test_without_a_tailscale_address_nothing_is_translated_but_the_jail_holds():
    entries = [peer(A, "10.0.0.0/8", v4_masq_addr="100.64.9.9"), peer(B, "10.1.0.0/16", jailed=True)]
    made = index(None, config(*entries, addresses=["192.0.2.1/24"]))
    assert made.nat_entry("10.0.0.1") is None
    assert made.nat_entry("10.1.0.1") == NatEntry(addr4=None, addr6=None, jailed=True)
