"""Who owns an address: against scans of every peer and prefix, and against the table of a real device."""

import ipaddress
from dataclasses import dataclass
from types import SimpleNamespace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wgengine import _native
from wgengine.config import Config, Peer
from wgengine.device_plan import device_plan
from wgengine.keys import PrivateKey, PublicKey
from wgengine.peers import PeerIndex
from wgengine.reconfig import device_steps

OWN = PrivateKey.from_hex("08" * 32)
KEYS = [PublicKey.from_bytes(bytes([n]) * 32) for n in range(21, 27)]
HOSTS = [f"100.64.0.{n}/32" for n in range(1, 9)] + [f"fd7a:115c:a1e0::{n}/128" for n in range(1, 5)]
PREFIXES = [
    *HOSTS, "0.0.0.0/0", "::/0", "100.64.0.0/10", "100.64.0.0/29", "100.64.0.4/30", "192.0.2.0/24", "192.0.2.128/25",
    "fd7a:115c:a1e0::/48", "fd7a:115c:a1e0::/126", "fd00::/8",
]  # fmt: skip
IPS = [prefix.split("/")[0] for prefix in HOSTS] + [
    "100.64.0.5", "100.64.1.1", "192.0.2.1", "192.0.2.200", "198.51.100.1",
    "fd7a:115c:a1e0::3", "fd00::1", "2001:db8::1",
]  # fmt: skip

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Node:
    key: PublicKey
    addresses: tuple[str, ...]


@st.composite
def netmaps(draw):
    """No key and no address twice."""
    left = list(HOSTS)
    nodes = []
    for key in draw(st.lists(st.sampled_from([OWN.public_key, *KEYS]), unique=True)):
        mine = draw(st.lists(st.sampled_from(left), max_size=2, unique=True)) if left else []
        left = [host for host in left if host not in mine]
        nodes.append(Node(key, tuple(mine)))
    own = next((node for node in nodes if node.key == OWN.public_key), None)
    return SimpleNamespace(self_node=own, peers=tuple(node for node in nodes if node is not own))


@st.composite
def configs(draw):
    return Config(
        private_key=OWN,
        addresses=draw(st.sampled_from([[], ["100.64.0.100/32"], ["192.0.2.1/24", "fd7a:115c:a1e0::64/128"]])),
        peers=[
            Peer(
                public_key=key,
                allowed_ips=draw(st.lists(st.sampled_from(PREFIXES), max_size=5)),
                v4_masq_addr=draw(st.sampled_from([None, None, "100.64.9.9"])),
                v6_masq_addr=draw(st.sampled_from([None, None, "fd7a:115c:a1e0::99"])),
                jailed=draw(st.booleans()),
            )
            for key in draw(st.lists(st.sampled_from(KEYS), unique=True))
        ],
    )


def longest(prefixes, ip):
    """The longest of (prefix, whose) that holds the address; of equals the last."""
    address = ipaddress.ip_address(ip)
    best = None
    for prefix, whose in prefixes:
        network = ipaddress.ip_network(prefix)
        if address in network and (best is None or network.prefixlen >= ipaddress.ip_network(best[0]).prefixlen):
            best = prefix, whose
    return best


def scan(netmap, config, ip):
    """The rules of `peer_for_ip`, one after the other."""
    host = f"{ip}/{128 if ':' in ip else 32}"
    if netmap is None:
        return None
    if netmap.self_node is not None and host in netmap.self_node.addresses:
        return netmap.self_node, host, True
    claims = [(prefix, peer.public_key) for peer in (config.peers if config else ()) for prefix in peer.allowed_ips]
    route = longest(claims, ip)
    owner = next((node for node in netmap.peers if route and node.key == route[1]), None)
    if owner is not None and route[0] == host:
        return owner, host, False
    for node in netmap.peers:
        if host in node.addresses:
            return node, host, False
    return owner and (owner, route[0], False)


@relaxed
@given(st.lists(st.one_of(st.none(), netmaps(), configs(), st.integers(0, 9)), min_size=1, max_size=8))
def test_an_index_that_saw_many_inputs_answers_as_a_scan_of_the_last_ones(inputs):
    index, netmap, config = PeerIndex(), None, None
    for given_ in inputs:
        if isinstance(given_, Config) or given_ is None:
            config = given_
            index.set_config(config)
        elif isinstance(given_, int):  # the same peers but for one
            if config is None or not config.peers:
                continue
            peer = config.peers[given_ % len(config.peers)]
            config = config.with_peer(peer.replace(allowed_ips=[PREFIXES[given_], "10.0.0.0/9"]))
            index.set_config(config)
        else:
            netmap = given_
            index.set_netmap(netmap)
        for ip in IPS:
            answer = index.peer_for_ip(ip)
            assert (answer and (answer.node, answer.route, answer.is_self)) == scan(netmap, config, ip)
            mapped = "::ffff:" + ip if "." in ip else ip
            assert index.peer_for_ip(mapped) == answer
        for key in KEYS:
            known = [node for node in (netmap.peers if netmap else ()) if node.key == key]
            assert index.by_key(key) is (known[0] if known else None)


@relaxed
@given(st.lists(configs(), min_size=1, max_size=3))
def test_property_3_an_address_has_the_same_owner_here_and_in_the_device(wanted):
    """Also where prefixes moved between peers on the way, and for what is said about the owner."""
    device = _native.Device(memory=True, name="peers")
    index, before = PeerIndex(), None
    try:
        for config in wanted:
            commit(device, before, config)
            index.set_config(config)
            before = config
            for ip in IPS:
                owner = device.owner(ip)
                assert index.owner(ip) == owner
                check_entry(index, config, ip, None if owner is None else config.peer(owner))
    finally:
        device.close()


def commit(device, before, config):
    plan = device_plan(device_steps(before, config))
    device.commit(
        _native.Plan(
            private_key=plan.private_key,
            peers=[
                _native.PeerPlan(
                    delta.public_key,
                    remove=delta.remove,
                    update_only=delta.update_only,
                    replace_allowed_ips=delta.replace_allowed_ips,
                    allowed_ips=delta.allowed_ips,
                )
                for delta in plan.peers
            ],
        )
    )


def check_entry(index, config, ip, owner):
    entry = index.nat_entry(ip)
    native = [next((a for a in config.addresses if a.startswith(start)), None) for start in ("100.64.", "fd7a:")]
    native4, native6 = (text and text.split("/")[0] for text in native)
    exits = [peer for peer in config.peers if {"0.0.0.0/0", "::/0"} & set(peer.allowed_ips)]
    if owner is None:
        assert entry is None
        return
    masq4, masq6 = owner.v4_masq_addr, owner.v6_masq_addr
    if exits and (exits[0].v4_masq_addr or exits[0].v6_masq_addr):
        masq4, masq6 = masq4 or native4, masq6 or native6
    if not (native4 or native6):
        masq4 = masq6 = None
    if masq4 or masq6 or owner.jailed:
        assert (entry.addr4, entry.addr6, entry.jailed) == (masq4, masq6, owner.jailed)
    else:
        assert entry is None
