"""What the seed decides, slow and obvious: the model that its twin is checked against, and the counter of edges.

`SeedModel.step(step)` says what the twin will answer to that step of a sequence. A peer is `trimmed` (its addresses
are tracked, the device has not got it), `live` (tracked, in the device), `kept` (not tracked, always in the device:
it has a subnet, or nothing is to be trimmed) or `absent`. An edge is counted each time that a peer takes it.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass, field

from peers.twin_sequences import (
    SELF_IPV4,
    SELF_IPV6,
    Advance,
    Ask,
    KeepFull,
    LinkChange,
    Names,
    NetMap,
    Received,
    Reconfig,
    Routes,
    Sent,
    SomePeer,
    Step,
)

IDLE_S = 300  # without traffic for as long: trimmed at the next occasion
NOTED_S = 10  # the time of a packet sent to an address is stored no more often than this
LOOKED_S = 60  # a packet to an address after so long: perhaps the peer is trimmed
TOLD_S = 10  # the transport tells of a peer's traffic only after more than this

ABSENT, TRIMMED, LIVE, KEPT = "absent", "trimmed", "live", "kept"

# Those that a run of many sequences has to take often.
EDGES = (
    "absent → trimmed (reconfig)", "absent → live (reconfig)", "absent → kept (reconfig)",
    "trimmed → live (sent)", "trimmed → live (received)", "live → live (sent)", "live → live (received)",
    "live → trimmed (reconfig)", "live → trimmed (sent)", "live → trimmed (received)",
    "trimmed → absent (reconfig)", "live → absent (reconfig)", "kept → absent (reconfig)",
    "restarted (trimmed)", "restarted (live)", "restarted (kept)",
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Expected:
    """What a step leads to."""

    calls: list[str] = field(default_factory=list)
    refused: str = ""  # the seed's error
    owner: tuple[str, bool, str] | None = None  # key, whether it is ourselves, route
    told: bool = False  # whether the engine heard of a datagram
    looked: bool = False  # whether the engine looked who is to be in the device
    rows: frozenset[int] = frozenset()  # known defects of the seed that this step shows


def is_tailnet(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is one that Tailscale gives to nodes."""
    if ip.version == 6:
        return ip in ipaddress.ip_network("fd7a:115c:a1e0::/48")
    return ip in ipaddress.ip_network("100.64.0.0/10") and ip not in ipaddress.ip_network("100.115.92.0/23")


def is_single(prefix: str) -> bool:
    return prefix.endswith("/128") or (prefix.endswith("/32") and ":" not in prefix)


def bare(prefix: str) -> str:
    return prefix.partition("/")[0]


class SeedModel:
    def __init__(self, *, automatic_port: bool) -> None:
        self.automatic_port = automatic_port
        self.now = 0
        self.keep_full = False
        self.full: Reconfig | None = None
        self.netmap: NetMap | None = None
        self.router: Routes | None = None  # as last asked for, whether or not it was applied
        self.dns: Names | None = None
        self.inputs: object = None
        self.received_at: dict[str, int | None] = {}  # by key: tracked
        self.sent_at: dict[str, int | None] = {}  # by address: tracked
        self.told_at: dict[str, int] = {}
        self.trimmed: set[str] = set()
        self.device: dict[str, int] = {}  # the peers in it, each with how often it was put there
        self.lives: Counter[str] = Counter()
        self.edges: Counter[str] = Counter()

    def state(self, key: str) -> str:
        if key not in self.received_at:
            return KEPT if key in self.device else ABSENT
        return TRIMMED if key in self.trimmed else LIVE

    @property
    def peers(self) -> tuple[SomePeer, ...]:
        return self.full.peers if self.full else ()

    def step(self, step: Step) -> Expected:
        before = {peer.key: self.state(peer.key) for peer in self.peers}
        expected = Expected()
        why = type(step).__name__.lower()
        match step:
            case Reconfig():
                self.reconfig(step, expected)
            case NetMap():
                self.netmap = step
            case Sent(ip=ip):
                self.sent(ip, expected)
            case Received(key=key):
                self.received(key, expected)
            case Advance(seconds=seconds):
                self.now += seconds
            case LinkChange(major=major, up=up):
                if major and up and self.dns is not None:
                    expected.calls += ["dns.set", "vpn"]
            case KeepFull(on=on):
                self.keep_full = on
            case Ask(ip=ip):
                self.ask(ip, expected)
        for key in before.keys() | {peer.key for peer in self.peers}:
            was, now = before.get(key, ABSENT), self.state(key)
            if was != now:
                self.edges[f"{was} → {now} ({why})"] += 1
        return expected

    # -- steps

    def reconfig(self, new: Reconfig, expected: Expected) -> None:
        old = self.full
        taken = [prefix for peer in new.peers for prefix in peer.allowed_ips]
        if len(taken) != len(set(taken)):
            expected.rows |= {8}  # the first of two peers has the prefix here, the last one in the device
        asked = (new.private_key, new.addresses, config_of(new.peers))
        same = old is not None and asked == (old.private_key, old.addresses, config_of(old.peers))
        router_changed, dns_changed = new.router != self.router, new.dns != self.dns
        self.router, self.dns = new.router, new.dns
        # the transport hears of the peers in any case, and forgets those that are gone
        kept = {peer.key for peer in new.peers}
        self.told_at = {key: at for key, at in self.told_at.items() if key in kept}
        if same and not router_changed and not dns_changed:
            expected.rows |= {3} if self.automatic_port else set()
            if not self.automatic_port:
                expected.refused = "no changes"
                return
        was = {peer.key: peer.disco for peer in self.peers}
        restarted = {
            peer.key for peer in new.peers if peer.disco and was.get(peer.key, peer.disco) not in ("", peer.disco)
        }
        self.full = new
        self.look(expected, restarted)
        failing = set(new.fail)
        if router_changed:
            failed = "router.set" in failing
            expected.calls.append("router.set!" if failed else "router.set")
            if failed:
                expected.refused, expected.rows = "router.set", expected.rows | {1, 2}
                return
        if router_changed or dns_changed:
            failed = "dns.set" in failing
            expected.calls.append("dns.set!" if failed else "dns.set")
            if failed:
                expected.refused, expected.rows = "dns.set", expected.rows | {1}
                return
            expected.calls.append("vpn")

    def sent(self, ip: str, expected: Expected) -> None:
        if ip not in self.sent_at:
            return
        last = self.sent_at[ip]
        silent_s = None if last is None else self.now - last
        self.count_traffic(ip, "sent")
        if silent_s is None or silent_s >= NOTED_S:
            self.sent_at[ip] = self.now
        if silent_s is None or silent_s >= LOOKED_S:
            self.look(expected)

    def received(self, key: str, expected: Expected) -> None:
        last = self.told_at.get(key)
        if key not in {peer.key for peer in self.peers} or (last is not None and self.now - last <= TOLD_S):
            return
        self.told_at[key] = self.now
        expected.told = True
        if key not in self.received_at:
            return
        self.received_at[key] = self.now
        if key in self.trimmed:
            self.look(expected)
        else:
            self.edges["live → live (received)"] += 1

    def count_traffic(self, ip: str, how: str) -> None:
        for peer in self.peers:
            if any(bare(prefix) == ip for prefix in peer.allowed_ips) and self.state(peer.key) == LIVE:
                self.edges[f"live → live ({how})"] += 1

    # -- who is in the device

    def trimmable(self, peer: SomePeer) -> bool:
        return not self.keep_full and all(is_single(prefix) for prefix in peer.allowed_ips)

    def active(self, peer: SomePeer) -> bool:
        times = [self.received_at.get(peer.key)] + [self.sent_at.get(bare(prefix)) for prefix in peer.allowed_ips]
        return any(at is not None and at > self.now - IDLE_S for at in times)

    def look(self, expected: Expected, restarted: frozenset[str] | set[str] = frozenset()) -> None:
        """Decides for every peer anew; the device is told only if something differs from the last time."""
        assert self.full is not None
        expected.looked = True
        for key in restarted:
            self.edges[f"restarted ({self.state(key)})"] += 1
        tracked = [peer for peer in self.peers if self.trimmable(peer)]
        trimmed = {peer.key for peer in tracked if not self.active(peer)}
        minimal = [peer for peer in self.peers if peer.key not in trimmed]
        ips = [bare(prefix) for peer in tracked for prefix in peer.allowed_ips]
        inputs = (
            self.full.private_key,
            self.full.addresses,
            config_of(minimal),
            trimmed,
            [peer.key for peer in tracked],
            ips,
        )
        self.trimmed = trimmed
        if inputs == self.inputs:
            return
        self.inputs = inputs
        self.received_at = {peer.key: self.received_at.get(peer.key) for peer in tracked}
        self.sent_at = {ip: self.sent_at.get(ip) for ip in ips}
        flushed = [peer for peer in minimal if peer.key in restarted]
        if flushed:
            expected.calls.append("device.flush")
        expected.calls.append("device.set")
        for key in list(self.device):
            if key not in {peer.key for peer in minimal} or key in {peer.key for peer in flushed}:
                del self.device[key]
        for peer in minimal:
            if peer.key not in self.device:
                self.lives[peer.key] += 1
                self.device[peer.key] = self.lives[peer.key]

    # -- whose an address is

    def ask(self, text: str, expected: Expected) -> None:
        if self.netmap is None:
            return
        ip = ipaddress.ip_address(text)
        if is_tailnet(ip):
            for peer in self.netmap.peers:
                for prefix in peer.addresses:
                    if bare(prefix) == text:
                        expected.owner = (peer.key, False, prefix)
                        best = self.longest(ip)
                        if best is not None and best[1] != peer.key:
                            expected.rows = frozenset({8})  # the device sends to another
                        return
            if text in (SELF_IPV4, SELF_IPV6):
                expected.owner = ("ee" * 32, True, f"{text}/{ip.max_prefixlen}")
                return
        best = self.longest(ip)
        if best is not None and best[1] in {peer.key for peer in self.netmap.peers}:
            expected.owner = (best[1], False, best[2])

    def longest(self, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> tuple[int, str, str] | None:
        """The longest prefix that holds an address: its length, its peer, itself. The first of equal ones."""
        best: tuple[int, str, str] | None = None
        for peer in self.peers:
            for prefix in peer.allowed_ips:
                network = ipaddress.ip_network(prefix)
                if network.version == ip.version and ip in network and (best is None or network.prefixlen > best[0]):
                    best = (network.prefixlen, peer.key, prefix)
        return best


def config_of(peers: tuple[SomePeer, ...] | list[SomePeer]) -> list[tuple[str, str, tuple[str, ...]]]:
    """What of these peers is in the engine's configuration."""
    return [(peer.key, peer.disco, peer.allowed_ips) for peer in peers]
