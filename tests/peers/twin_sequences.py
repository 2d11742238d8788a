"""Sequences of what a program does to an engine: configurations, netmaps, traffic, time, links. Plain data.

`sequence(seed)` is always the same. It is for any engine: `twin_commands` says it to the seed's twin, and seed_model.py
tells what the seed does. Each peer has a node key, perhaps a disco key, and addresses of its own; some are behind
subnets; sometimes an address moves from one to another, or two have the same prefix.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from peers import twin

if TYPE_CHECKING:
    from peers.twin import Command

IPV4, IPV6 = "100.64.{}.{}", "fd7a:115c:a1e0::{:x}"
SELF_IPV4, SELF_IPV6 = "100.127.0.1", "fd7a:115c:a1e0:ffff::1"
NOBODY = ("100.99.99.99", "192.0.2.9", "8.8.8.8", "fd7a:115c:a1e0::dead", "2001:db8::9")
# Every step of time is longer than the intervals in which the seed takes no note of traffic (10 s), so that what it
# has noted is what was. `fine` sequences have the shorter ones too.
COARSE_S = (11, 20, 59, 60, 61, 120, 240, 299, 300, 301, 600)
FINE_S = (1, 5, 9, 10)


# -- What a sequence is made of.


@dataclass(frozen=True, slots=True, kw_only=True)
class SomePeer:
    """A peer as both a configuration and a netmap have it. Keys are hexadecimal; without disco: plain WireGuard."""

    id: int
    key: str
    disco: str
    allowed_ips: tuple[str, ...]
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """The router's configuration: our addresses, what goes into the tunnel, what must not."""

    local_addrs: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    local_routes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The DNS configuration."""

    resolvers: tuple[str, ...] = ()
    routes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    search: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconfig:
    private_key: str = field(repr=False)
    addresses: tuple[str, ...]
    peers: tuple[SomePeer, ...]
    router: Routes
    dns: Names
    fail: tuple[str, ...] = ()  # of router.set, dns.set


@dataclass(frozen=True, slots=True, kw_only=True)
class NetMap:
    """The peers in the order of the netmap; our own node has SELF_IPV4 and SELF_IPV6."""

    peers: tuple[SomePeer, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet to this address."""

    ip: str


@dataclass(frozen=True, slots=True)
class Received:
    """A datagram of the peer with this key."""

    key: str


@dataclass(frozen=True, slots=True)
class Advance:
    seconds: int


@dataclass(frozen=True, slots=True)
class LinkChange:
    major: bool
    up: bool


@dataclass(frozen=True, slots=True)
class KeepFull:
    """The knob with which no peer is trimmed."""

    on: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """Whose is this address?"""

    ip: str


Step = Reconfig | NetMap | Sent | Received | Advance | LinkChange | KeepFull | Ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    seed: int
    automatic_port: bool
    steps: tuple[Step, ...]


# -- How one is made.


def hexadecimal(*what: object) -> str:
    return hashlib.blake2b(repr(what).encode(), digest_size=32).hexdigest()


class World:
    """What the program around the engine wants at this moment."""

    def __init__(self, seed: int, *, fine: bool) -> None:
        self.seed, self.random = seed, random.Random(seed)
        self.times = COARSE_S + FINE_S if fine else COARSE_S
        self.most = self.random.choice((1, 2, 3, 5, 8, 12, 20, 50))
        self.made = 0
        self.flow = ""  # where the last packet went
        self.shared = self.random.random() < 0.25  # whether two peers may have one prefix
        self.peers: list[SomePeer] = []
        self.router, self.dns = Routes(), Names()
        self.private_key = hexadecimal(seed, "own", 0)

    def steps(self, count: int) -> Iterator[Step]:
        for _ in range(self.random.randint(1, self.most)):
            self.add()
        yield self.netmap()
        yield self.reconfig()
        kinds = {
            self.sent: 26, self.received: 20, self.advance: 22, self.changed: 14,
            self.ask: 10, self.netmap: 3, self.link: 3, self.keep_full: 2,
        }  # fmt: skip
        for _ in range(count - 2):
            yield self.random.choices(list(kinds), weights=tuple(kinds.values()))[0]()

    # -- steps

    def sent(self) -> Step:
        """Often the address of the last time: a flow, with pauses of all lengths in it."""
        if not self.flow or self.random.random() < 0.6:
            self.flow = self.address()
        return Sent(self.flow)

    def received(self) -> Step:
        stranger = self.random.random() < 0.05 or not self.peers
        return Received(hexadecimal(self.seed, "stranger") if stranger else self.random.choice(self.peers).key)

    def advance(self) -> Step:
        return Advance(self.random.choice(self.times))

    def ask(self) -> Step:
        return Ask(self.address())

    def netmap(self) -> Step:
        known = [peer for peer in self.peers if self.random.random() < 0.97]
        return NetMap(peers=tuple(known))

    def link(self) -> Step:
        return LinkChange(self.random.random() < 0.6, self.random.random() < 0.7)

    def keep_full(self) -> Step:
        return KeepFull(self.random.random() < 0.5)

    def changed(self) -> Step:
        """Another configuration: mostly one difference, sometimes none, sometimes many."""
        changes = {
            self.add: 22, self.remove: 16, self.restart: 20, self.rekey: 8,
            self.readdress: 12, self.reorder: 4, self.rename: 9, self.reroute: 9,
        }  # fmt: skip
        for _ in range(self.random.choices((0, 1, 2, 5), weights=(15, 60, 15, 10))[0]):
            self.random.choices(list(changes), weights=tuple(changes.values()))[0]()
        if self.random.random() < 0.02:
            self.private_key = hexadecimal(self.seed, "own", self.random.random())
        return self.reconfig()

    def reconfig(self) -> Reconfig:
        failing = self.random.random() < 0.04
        return Reconfig(
            private_key=self.private_key,
            addresses=(f"{SELF_IPV4}/32", f"{SELF_IPV6}/128"),
            peers=tuple(self.peers),
            router=self.router,
            dns=self.dns,
            fail=(self.random.choice(("router.set", "dns.set")),) if failing else (),
        )

    # -- changes

    def add(self) -> None:
        if len(self.peers) >= self.most:
            return
        self.made += 1
        number, roll = self.made, self.random.random
        own = [f"{IPV4.format(number >> 8, number & 255)}/32"]
        if roll() < 0.5:
            own.append(f"{IPV6.format(number)}/128")
        allowed = list(own)
        if roll() < 0.15:
            allowed.append(
                self.random.choice((f"10.{number & 127}.0.0/16", "10.200.0.0/16", f"2001:db8:{number:x}::/48"))
            )
        if roll() < 0.03:
            allowed += ["0.0.0.0/0", "::/0"]
        self.peers.insert(
            self.random.randint(0, len(self.peers)),
            SomePeer(
                id=number,
                key=hexadecimal(self.seed, "node", number),
                disco=hexadecimal(self.seed, "disco", number, 0) if roll() < 0.9 else "",
                allowed_ips=tuple(allowed),
                addresses=tuple(own),
            ),
        )

    @property
    def taken(self) -> set[str]:
        return {prefix for peer in self.peers for prefix in peer.allowed_ips}

    def free(self, *prefixes: str) -> list[str]:
        """Those that a further peer may have."""
        return [prefix for prefix in prefixes if self.shared or prefix not in self.taken]

    def remove(self) -> None:
        if self.peers:
            self.peers.pop(self.random.randrange(len(self.peers)))

    def restart(self) -> None:
        """A peer's program was started again: it has another disco key."""
        self.alter(disco=hexadecimal(self.seed, "disco", self.random.random()))

    def rekey(self) -> None:
        """A node has another key now: another peer, with the same addresses."""
        self.alter(key=hexadecimal(self.seed, "node", self.random.random()))

    def readdress(self) -> None:
        """A subnet comes or goes, or the address of one that is not there (any more) becomes another's."""
        if not self.peers:
            return
        at = self.random.randrange(len(self.peers))
        own = self.peers[at].addresses
        extra = self.free(*self.random.choice(((), ("10.200.0.0/16",), ("10.0.0.0/8",), (), ("100.64.250.1/32",))))
        other = IPV4.format(0, self.random.randint(1, max(self.made, 1))) + "/32"
        if not extra and other not in self.taken:
            own = (other, *own[1:])
        self.peers[at] = replace(self.peers[at], addresses=own, allowed_ips=(*own, *extra))

    def reorder(self) -> None:
        self.random.shuffle(self.peers)

    def alter(self, **fields: Any) -> None:
        if self.peers:
            at = self.random.randrange(len(self.peers))
            self.peers[at] = replace(self.peers[at], **fields)

    def rename(self) -> None:
        pick = self.random.random
        self.dns = Names(
            resolvers=("9.9.9.9",) if pick() < 0.5 else (),
            routes=(("corp.example.", ("10.200.0.53",)),) if pick() < 0.5 else (),
            search=("tail.example.",) if pick() < 0.7 else (),
        )

    def reroute(self) -> None:
        routes = sorted({prefix for peer in self.peers for prefix in peer.allowed_ips if self.random.random() < 0.8})
        self.router = Routes(
            local_addrs=(f"{SELF_IPV4}/32", f"{SELF_IPV6}/128"),
            routes=tuple(routes),
            local_routes=("192.168.1.0/24",) if self.random.random() < 0.3 else (),
        )

    def address(self) -> str:
        """Mostly a peer's own; sometimes inside a subnet, ours, or nobody's."""
        roll = self.random.random()
        if self.peers and roll < 0.85:
            return self.random.choice(self.random.choice(self.peers).addresses).partition("/")[0]
        if roll < 0.93:
            return self.random.choice(("10.200.7.7", "10.1.2.3", "100.64.250.1", "2001:db8:1::1"))
        return self.random.choice((*NOBODY, SELF_IPV4, SELF_IPV6))


def sequence(seed: int, *, fine: bool = False) -> Generated:
    """The sequence of this seed: 20 to 200 steps over 1 to 50 peers."""
    world = World(seed, fine=fine)
    count = world.random.randint(20, 200)
    automatic = world.random.random() < 0.5
    return Generated(seed=seed, automatic_port=automatic, steps=tuple(world.steps(count)))


# -- How one is said to the twin.


def node_key(key: str) -> str:
    return f"nodekey:{key}"


def twin_commands(steps: Sequence[Step]) -> list[Command]:
    """One command for each step. Parts of a configuration that are as they were are left out."""
    commands: list[Command] = []
    last: dict[str, object] = {}
    for step in steps:
        if not isinstance(step, Reconfig):
            commands.append(_command(step))
            continue
        parts = {
            name: None if last.get(name) == value else value
            for name, value in (("wg", _wireguard(step)), ("router", _router(step.router)), ("dns", _dns(step.dns)))
        }
        last |= {name: part for name, part in parts.items() if part is not None}
        commands.append(twin.reconfig(parts["wg"], parts["router"], parts["dns"], fail=step.fail))
    return commands


def _command(step: Step) -> Command:
    match step:
        case NetMap():
            return {"do": "netmap", "netmap": netmap_json(step)}
        case Sent(ip=ip):
            return {"do": "sent", "ip": ip}
        case Received(key=key):
            return {"do": "received", "key": node_key(key)}
        case Advance(seconds=seconds):
            return {"do": "time", "advance_ms": seconds * 1000}
        case LinkChange(major=major, up=up):
            return {"do": "link_change", "major": major, "up": up}
        case KeepFull(on=on):
            return {"do": "knob", "name": "keep_full_wg_config", "on": on}
        case Ask(ip=ip):
            return {"do": "peer_for_ip", "ip": ip}
        case _:
            raise TypeError(f"no command for {step!r}")


def netmap_json(netmap: NetMap) -> dict[str, object]:
    """A netmap by the names of Tailscale's JSON."""
    return {"SelfNode": _self(), "Peers": [_node(peer) for peer in netmap.peers]}


def _wireguard(step: Reconfig) -> dict[str, object]:
    return {
        "PrivateKey": f"privkey:{step.private_key}",
        "Addresses": step.addresses,
        "Peers": [
            {"PublicKey": node_key(peer.key), "AllowedIPs": peer.allowed_ips}
            | ({"DiscoKey": f"discokey:{peer.disco}"} if peer.disco else {})
            for peer in step.peers
        ],
    }


def _router(routes: Routes) -> dict[str, object]:
    return {"LocalAddrs": routes.local_addrs, "Routes": routes.routes, "LocalRoutes": routes.local_routes}


def _dns(names: Names) -> dict[str, object]:
    return {
        "DefaultResolvers": [{"Addr": addr} for addr in names.resolvers],
        "Routes": {suffix: [{"Addr": addr} for addr in addrs] for suffix, addrs in names.routes},
        "SearchDomains": names.search,
    }


def _self() -> dict[str, object]:
    addresses = [f"{SELF_IPV4}/32", f"{SELF_IPV6}/128"]
    return {"ID": 999_999, "Key": node_key("ee" * 32), "Addresses": addresses, "AllowedIPs": addresses}


def _node(peer: SomePeer) -> dict[str, object]:
    return {
        "ID": peer.id,
        "StableID": f"n{peer.id}",
        "Name": f"p{peer.id}.tail.example.",
        "Key": node_key(peer.key),
        "Addresses": peer.addresses,
        "AllowedIPs": peer.allowed_ips,
        "HomeDERP": 1,
    } | ({"DiscoKey": f"discokey:{peer.disco}"} if peer.disco else {"IsWireGuardOnly": True})
