"""What engines say to each other inside the tunnel, and peers that are trimmed, with real interfaces on both sides."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import pytest
from lab import is_wgengine, until
from wgengine import PrivateKey
from wgengine._native import Device, PeerPlan, Plan
from wgengine.events import Event, PeerWoke, PingExpired, Pong, from_native

if TYPE_CHECKING:
    from lab import Host, Lab

pytestmark = pytest.mark.skipif(not is_wgengine(), reason="wgengine's library")

Kind = TypeVar("Kind", bound=Event)


@dataclass(slots=True, kw_only=True)
class Node:
    """A device of this process in a namespace, with an interface that the kernel uses."""

    host: Host
    device: Device
    private: PrivateKey
    addresses: tuple[str, str]
    told: list[Event] = field(default_factory=list)

    def commit(self, *peers: PeerPlan, **what: object) -> None:
        # Sockets belong to the namespace of the thread that makes them.
        self.host.call(lambda: self.device.commit(Plan(peers=peers, **what)))

    @property
    def port(self) -> int:
        return self.device.state().listen_port

    def events(self, kind: type[Kind]) -> list[Kind]:
        self.told += [from_native(word, when, fields) for word, when, fields in self.device.drain()]
        return [event for event in self.told if isinstance(event, kind)]

    def event(self, kind: type[Kind], number: int = 1) -> Kind:
        until(lambda: len(self.events(kind)) >= number, f"{kind.__name__} number {number} is told")
        return self.events(kind)[number - 1]

    def knows(self, other: Node, **what: object) -> None:
        prefixes = [f"{other.addresses[0]}/32", f"{other.addresses[1]}/128"]
        self.commit(PeerPlan(other.private.public_key, allowed_ips=prefixes, **what))

    def trim(self, other: Node) -> None:
        self.commit(PeerPlan(other.private.public_key, trimmed=True, reset_session=True))
        state = self.device.peer_state(other.private.public_key)
        assert state is not None
        assert state.trimmed


@contextmanager
def node(lab: Lab, host: Host, number: int) -> Iterator[Node]:
    private = PrivateKey.generate()
    name = lab.interface()
    device = host.call(lambda: Device(name=name))
    addresses = (f"10.9.0.{number}", f"fd00:9::{number}")
    for address in addresses:
        host.run("ip", "address", "add", f"{address}/{'64' if ':' in address else '24'}", "dev", name)
    host.run("ip", "link", "set", name, "up")
    device.set_own_addresses(addresses)
    made = Node(host=host, device=device, private=private, addresses=addresses)
    made.commit(private_key=private, listen_port=0)
    try:
        yield made
    finally:
        device.close()


@pytest.fixture
def tunnel(lab: Lab) -> Iterator[tuple[Node, Node]]:
    one, two = lab.pair()
    with node(lab, one, 1) as a, node(lab, two, 2) as b:
        a.knows(b, endpoint=f"{two.ipv4}:{b.port}")
        b.knows(a, endpoint=f"{one.ipv4}:{a.port}")
        yield a, b


def udp(node: Node, family: int) -> socket.socket:
    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET6 if family else socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((node.addresses[family], 0))
        made.settimeout(10)
        return made

    return node.host.call(make)


def once(first: Node, second: Node, family: int) -> float:
    """A single datagram, and how long it took to arrive."""
    with udp(first, family) as sender, udp(second, family) as receiver:
        began = time.monotonic()
        sender.sendto(b"the very first", receiver.getsockname()[:2])
        data, source = receiver.recvfrom(100)
        assert (data, source[0]) == (b"the very first", first.addresses[family])
        return time.monotonic() - began


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
def test_pings_take_the_packets_way_and_end_here(tunnel: tuple[Node, Node], family: int) -> None:
    a, b = tunnel
    for side in tunnel:
        rules = "meta l4proto 99 counter name tsmp\n" + "icmp type echo-reply counter name reply\n"
        rules += "icmpv6 type echo-reply counter name reply\n"
        chain = f"chain seen {{ type filter hook prerouting priority -300;\n{rules}}}"
        side.host.nft(f"table inet lab {{\ncounter tsmp {{ }}\ncounter reply {{ }}\n{chain}\n}}\n")
    way = a.addresses[family], b.addresses[family]
    tokens = {a.device.ping(kind, *way, 10): kind for kind in ("tsmp", "icmp")}
    a.event(Pong, 2)
    pongs = a.events(Pong)
    assert {pong.token: pong.kind for pong in pongs} == tokens
    for pong in pongs:
        assert pong.peer == b.private.public_key
        assert 0 < pong.latency < 10
        assert pong.peer_api_port is None
    assert a.device.counters()["tsmp_received"] == b.device.counters()["tsmp_received"] == 1
    assert [side.host.counted("tsmp") for side in tunnel] == [0, 0], "the kernel sees no TSMP"
    assert a.host.counted("reply") == 0, "nor the reply to a request that it did not send"
    # The host's own pings are its own, while one of ours is under way.
    b.device.set_own_addresses([])
    token = a.device.ping("tsmp", *way, 1)
    assert a.host.ping(way[1], "-i", "0.2", count=3) == 3
    assert a.host.counted("reply") == 3
    assert a.event(PingExpired).token == token
    assert len(a.events(Pong)) == 2


def echo_reply(source: str, destination: str, identity: bytes) -> bytes:
    def checksum(data: bytes) -> bytes:
        total = sum(struct.unpack(f">{len(data) // 2}H", data))
        return struct.pack(">H", ~(total % 0xFFFF) & 0xFFFF)

    message = b"\0\0\0\0" + identity
    message = message[:2] + checksum(message) + message[4:]
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0)
    header += socket.inet_aton(source) + socket.inet_aton(destination)
    return header[:10] + checksum(header) + header[12:] + message


def test_row_17_a_reply_of_another_peer_is_dropped(lab: Lab, tunnel: tuple[Node, Node]) -> None:
    a, b = tunnel
    b.host.run("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")

    def listen() -> socket.socket:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        raw.settimeout(10)
        return raw

    with node(lab, b.host, 3) as c, b.host.call(listen) as raw:
        a.knows(c, endpoint=f"{b.host.ipv4}:{c.port}")
        c.knows(a, endpoint=f"{a.host.ipv4}:{a.port}")
        token = a.device.ping("icmp", a.addresses[0], b.addresses[0], 10)
        identity = raw.recv(100)[24:28]
        assert c.device.inject(echo_reply(c.addresses[0], a.addresses[0], identity))
        until(lambda: a.device.drops()["forged_echo_reply"] == 1, "the forged reply is dropped")
        # As if it were the other's: that source is not the sender's.
        assert c.device.inject(echo_reply(b.addresses[0], a.addresses[0], identity))
        until(lambda: a.device.drops()["bad_source"] == 1, "so is a forged source")
        assert a.events(Pong) == []
        assert b.device.inject(echo_reply(b.addresses[0], a.addresses[0], identity))
        pong = a.event(Pong)
        assert (pong.token, pong.peer) == (token, b.private.public_key)


@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("by", ["sent", "received", "received from elsewhere"])
def test_case_35_the_first_packet_of_a_trimmed_peer_arrives(tunnel: tuple[Node, Node], by: str, family: int) -> None:
    a, b = tunnel
    once(a, b, family)
    key = b.private.public_key
    for number in range(1, 4):
        before = a.device.peer_state(key)
        a.trim(b)
        b.commit(PeerPlan(a.private.public_key, reset_session=True))
        if by == "received from elsewhere":
            port = b.port
            b.commit(listen_port=port + 1 if port < 65535 else port - 1)
        if by == "sent":
            once(a, b, family)
        else:
            once(b, a, family)
        woke = a.event(PeerWoke, number)
        assert (woke.peer, woke.by) == (key, by.split()[0])
        after = a.device.peer_state(key)
        assert before is not None
        assert after is not None
        assert not after.trimmed
        assert after.tx_bytes > before.tx_bytes
        assert after.rx_bytes > before.rx_bytes
        assert after.allowed_ips == before.allowed_ips
        assert after.endpoint == f"{b.host.ipv4}:{b.port}"
    assert len(a.events(PeerWoke)) == 3
    # The kernel's own multicast has no peer.
    lost = {why: count for side in tunnel for why, count in side.device.drops().items() if count and why != "no_peer"}
    assert lost == {}


def test_case_35_to_look_at_peers_wakes_none(tunnel: tuple[Node, Node]) -> None:
    a, b = tunnel
    once(a, b, 0)
    a.trim(b)
    before = a.device.counters()
    look: list[Callable[[], object]] = [
        a.device.state,
        a.device.activity,
        lambda: a.device.peer_state(b.private.public_key),
        lambda: a.device.owner(b.addresses[0]),
    ]
    for _ in range(10_000):
        for each in look:
            each()
    assert a.device.state().peers[0].trimmed
    assert a.device.activity() == []
    assert a.device.counters() == before
    assert a.events(PeerWoke) == []


def test_activity_is_on_pythons_clock(tunnel: tuple[Node, Node]) -> None:
    a, b = tunnel
    assert a.device.activity() == []
    began = time.monotonic()
    once(a, b, 0)
    ended = time.monotonic()
    ((key, sent, received),) = a.device.activity()
    assert key == b.private.public_key
    assert sent is not None
    assert received is not None
    assert began - 0.01 <= sent <= ended + 0.01
    assert began - 0.01 <= received <= ended + 0.01
