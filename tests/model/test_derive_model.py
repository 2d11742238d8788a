"""derive with what was before equals derive from nothing; and the routes and filters of many equal those of a loop."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wgengine.derive import Surroundings, derive
from wgengine.keys import PrivateKey, PublicKey
from wgengine.netmap import NetMap, NetMapDNS
from wgengine.netmap_dns import DNSRecord
from wgengine.node import Node
from wgengine.prefs import Prefs

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SECRETS = [PrivateKey.from_hex("08" * 32), PrivateKey.from_hex("10" * 32)]
KEYS = [PublicKey.from_bytes(bytes([n]) * 32) for n in range(21, 29)]
# prefixes that two nodes may both claim
CONTESTED = ["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "::/0", "192.0.2.1/32", "100.64.0.0/10", "fd7a:115c:a1e0::/48"]


@st.composite
def nodes(draw, number):
    own = (f"100.64.0.{number}/32", f"fd7a:115c:a1e0::{number + 1}/128", f"10.9.0.{number}/32")
    addresses = tuple(draw(st.lists(st.sampled_from(own), unique=True)))
    claimed = draw(st.lists(st.sampled_from(CONTESTED), max_size=3, unique=True))
    return Node(
        key=KEYS[number],
        stable_id=f"n{number}",
        name=draw(st.sampled_from(["", f"a{number}.tail.example."])),
        disco_key=draw(st.sampled_from([None, *KEYS[:2]])),
        home_derp=draw(st.sampled_from([0, 1])),
        addresses=addresses,
        allowed_ips=(*addresses, *claimed) if claimed else addresses,
        endpoints=draw(st.sampled_from([(), ("192.0.2.1:1",)])),
        is_wireguard_only=draw(st.booleans()),
        expired=draw(st.sampled_from([False, False, True])),
        is_jailed=draw(st.booleans()),
        unsigned_peer_api_only=draw(st.sampled_from([False, False, True])),
        v4_masq_addr=draw(st.sampled_from([None, "100.64.9.9"])),
    )  # fmt: skip


@st.composite
def netmaps(draw, before):
    """A netmap, now and then the same in part as the one before: the same objects, or equal ones."""
    kept = {node.key: node for node in before.peers} if before is not None else {}
    peers = []
    numbers = [KEYS.index(node.key) for node in before.peers] if before is not None else []
    if before is None or draw(st.booleans()):
        numbers = draw(st.lists(st.integers(0, 7), unique=True))
    for number in numbers:
        node = kept.get(KEYS[number])
        fate = draw(st.sampled_from(["same", "same", "equal", "new"]))
        if node is None or fate == "new":
            node = draw(nodes(number))
        elif fate == "equal":
            node = node.replace()
        peers.append(node)
    if before is not None and draw(st.integers(0, 2)):
        return before.replace(peers=tuple(peers))
    cap_map = draw(st.sampled_from([{}, {"one-cgnat?v=true": []}]))
    me = {"Key": f"nodekey:{SECRETS[0].public_key.to_hex()}", "Addresses": ["100.64.1.1/32"], "CapMap": cap_map}
    return NetMap(
        private_key=draw(st.sampled_from(SECRETS)),
        self_node=draw(st.sampled_from([None, Node.from_dict(me)])),
        peers=tuple(peers),
        dns=NetMapDNS(magic_dns=draw(st.booleans()), extra_records=(DNSRecord("x.y", "", "192.0.2.1"),)),
        packet_filter=draw(st.sampled_from(['[{"DstPorts":[{}],"SrcIPs":["10.0.0.0/8"]}]', ""])),
    )


preferences = st.builds(
    Prefs,
    exit_node=st.sampled_from([None, None, "n1", "n2", "nowhere"]),
    accept_routes=st.booleans(),
    shields_up=st.booleans(),
    advertise_routes=st.sampled_from([(), ("10.0.0.0/8",), ("0.0.0.0/0",)]),
)
arounds = st.sampled_from([Surroundings(), Surroundings(external=("192.168.1.7/24",))])


@relaxed
@given(st.data())
def test_what_was_before_changes_nothing_but_the_cost(data):
    made = netmap = prefs = around = None
    for _ in range(data.draw(st.integers(2, 6))):
        netmap = data.draw(netmaps(netmap))
        if prefs is None or data.draw(st.integers(0, 3)) == 0:
            prefs, around = data.draw(preferences), data.draw(arounds)
        before = made
        made = derive(netmap, prefs, around=around, previous=before)
        alone = derive(netmap, prefs, around=around)
        assert made == alone
        for ip in CONTESTED:
            assert made.wg.owner(ip) == alone.wg.owner(ip)
        # what came out equal, and was nobody's to contest, is the same object
        if before is not None and made.wg == before.wg and not made.wg.warnings:
            assert all(map(lambda one, other: one is other, made.wg.peers, before.wg.peers))


@relaxed
@given(st.data())
def test_every_allowed_ip_has_a_route_and_every_route_an_owner(data):
    made = derive(data.draw(netmaps(None)), data.draw(preferences))
    routes = set(made.router.routes)
    owned = {ip for peer in made.wg.peers for ip in peer.allowed_ips}
    wide = {"100.64.0.0/10", "fd7a:115c:a1e0::/48"}
    for ip in owned:
        assert ip in routes or (routes & wide and ip.startswith(("100.64.", "fd7a:115c:a1e0:")))
    given_besides = {"0.0.0.0/0", "::/0", "100.100.100.100/32", "fd7a:115c:a1e0::53/128", *wide}
    assert routes - given_besides <= owned


@settings(relaxed, max_examples=50)
@given(st.data())
def test_a_netmap_is_written_and_read_again(data):
    netmap = data.draw(netmaps(None))
    assert NetMap.from_json(netmap.to_json(private_key=True)) == netmap
