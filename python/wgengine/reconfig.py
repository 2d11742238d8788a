"""From one configuration to the next: what is to change, in which order, and what nobody here may change.

Pure: nothing is done here. The cost follows the change, not the configuration: peers that are the same objects in the
same places are passed over, so that one changed peer among ten thousand costs well under a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, Protocol

from wgengine.address import Endpoint, Prefix, prefix
from wgengine.changes import (
    AddAddress,
    AddPeer,
    AddRoute,
    ChangePeer,
    Changes,
    DeviceStep,
    LinkStep,
    RemoveAddress,
    RemovePeer,
    RemoveRoute,
    ResetSession,
    SetDNS,
    SetFwmark,
    SetListenPort,
    SetMTU,
    SetPrivateKey,
    Skipped,
    Step,
)
from wgengine.dns_config import DNSConfig
from wgengine.peers import same_ends

if TYPE_CHECKING:
    from wgengine.config import Config, Peer, Table
    from wgengine.keys import PresharedKey, PublicKey
    from wgengine.router_config import RouterConfig

__all__ = [
    "MAIN_TABLE",
    "AddAddress",
    "AddPeer",
    "AddRoute",
    "ChangePeer",
    "Changes",
    "DeviceStep",
    "LinkConfig",
    "LinkStep",
    "ObservedDevice",
    "ObservedPeer",
    "PeerMoves",
    "RemoveAddress",
    "RemovePeer",
    "RemoveRoute",
    "RouterLink",
    "SetDNS",
    "SetFwmark",
    "SetListenPort",
    "SetMTU",
    "SetPrivateKey",
    "Skipped",
    "Step",
    "device_steps",
    "diff",
    "dns_steps",
    "link_steps",
    "observed_device_steps",
    "skipped_of",
    "skipped_of_router",
]

BY_WG_QUICK = "wg-quick over `wgengine device`"
BY_ROUTER = "a `router` object, given to Engine"
BY_HOOK_RUNNERS = f"`wgengine up`, or {BY_WG_QUICK}"
DEFAULT_ROUTES = ("0.0.0.0/0", "::/0")
MAIN_TABLE = 254


# -- From two configurations to steps.


class ObservedPeer(Protocol):
    """What a device says of one peer."""

    @property
    def public_key(self) -> PublicKey: ...
    @property
    def preshared_key(self) -> PresharedKey | None: ...
    @property
    def endpoint(self) -> str | None: ...
    @property
    def persistent_keepalive(self) -> int: ...
    @property
    def allowed_ips(self) -> Sequence[str]: ...


class ObservedDevice(Protocol):
    """What a device says of itself, when something else than we may have changed it."""

    @property
    def public_key(self) -> PublicKey | None: ...
    @property
    def listen_port(self) -> int: ...
    @property
    def fwmark(self) -> int: ...
    @property
    def peers(self) -> Sequence[ObservedPeer]: ...


def diff(
    applied: Config | None,
    desired: Config,
    *,
    observed: ObservedDevice | None = None,
    can_route_default: bool = False,
    can_dns: bool = False,
    can_run_hooks: bool = False,
) -> Changes:
    """What turns `applied` (None: a fresh interface) into `desired`.

    With `observed` the device's real state counts instead of what was applied to it.
    """
    steps: list[Step] = []
    moves = _peer_moves(applied, desired)
    if observed is None:
        steps += device_steps(applied, desired, moves)
    else:
        steps += observed_device_steps(observed, applied, desired)
    steps += link_steps(applied, desired, moves, can_route_default=can_route_default)
    if can_dns:
        steps += dns_steps(applied, desired)
    skipped = skipped_of(desired, can_route_default=can_route_default, can_dns=can_dns, can_run_hooks=can_run_hooks)
    return Changes(tuple(steps), tuple(skipped))


class PeerMoves(NamedTuple):
    """Which peers differ between two configurations."""

    changed: list[tuple[Peer | None, Peer]]  # as it was (None: it is new), as it shall be; in order
    removed: list[Peer]


def device_steps(applied: Config | None, desired: Config, moves: PeerMoves | None = None) -> Iterator[DeviceStep]:
    """Key, port and mark; new and changed peers in order; then those that go."""
    if applied is None or applied.private_key != desired.private_key:
        yield SetPrivateKey(desired.private_key)
    port = applied.listen_port if applied is not None else 0
    if port != desired.listen_port:
        yield SetListenPort(port, desired.listen_port)
    fwmark = applied.fwmark if applied is not None else 0
    if fwmark != desired.fwmark:
        yield SetFwmark(fwmark, desired.fwmark)
    if moves is None:
        moves = _peer_moves(applied, desired)
    for before, peer in moves.changed:
        if before is None:
            yield AddPeer(peer)
        else:
            # an endpoint cannot be taken back from a device: the peer is heard from somewhere anyhow
            step = ChangePeer(
                peer=peer,
                preshared_key=before.preshared_key != peer.preshared_key,
                endpoint=peer.endpoint if before.endpoint != peer.endpoint else None,
                added=_without(peer.allowed_ips, before.allowed_ips),
                removed=_without(before.allowed_ips, peer.allowed_ips),
                persistent_keepalive=_if_other(before.persistent_keepalive, peer.persistent_keepalive),
            )
            if _says_something(step):
                yield step
            if _restarted(before, peer):
                yield ResetSession(peer.public_key)
    for peer in moves.removed:
        yield RemovePeer(peer.public_key)


def observed_device_steps(observed: ObservedDevice, applied: Config | None, desired: Config) -> Iterator[DeviceStep]:
    """The same from a device's real state."""
    if observed.public_key != desired.private_key.public_key:
        yield SetPrivateKey(desired.private_key)
    # port 0 means any: the one that the device chose is right, unless a fixed one was asked for before
    any_is_right = desired.listen_port == 0 and (applied is None or applied.listen_port == 0)
    if observed.listen_port != desired.listen_port and not any_is_right:
        yield SetListenPort(observed.listen_port, desired.listen_port)
    if observed.fwmark != desired.fwmark:
        yield SetFwmark(observed.fwmark, desired.fwmark)
    rest = {peer.public_key: peer for peer in observed.peers}
    for peer in desired.peers:
        seen = rest.pop(peer.public_key, None)
        if seen is None:
            yield AddPeer(peer)
            continue
        before = applied.peer(peer.public_key) if applied is not None else None
        allowed_ips = tuple(prefix(ip)[0] for ip in seen.allowed_ips)
        psk = None if seen.preshared_key is None or seen.preshared_key.is_zero() else seen.preshared_key
        step = ChangePeer(
            peer=peer,
            preshared_key=psk != peer.preshared_key,
            endpoint=_endpoint_to_set(seen.endpoint, before, peer),
            added=_without(peer.allowed_ips, allowed_ips),
            removed=_without(allowed_ips, peer.allowed_ips),
            persistent_keepalive=_if_other(seen.persistent_keepalive, peer.persistent_keepalive),
        )
        if _says_something(step):
            yield step
        if before is not None and _restarted(before, peer):
            yield ResetSession(peer.public_key)
    for public_key in rest:
        yield RemovePeer(public_key)


def _endpoint_to_set(seen: str | None, before: Peer | None, peer: Peer) -> Endpoint | None:
    # a device's endpoint wanders with its peer (whitepaper 2.1): only ours tells whether another one is wanted
    if peer.endpoint is None or (before is not None and before.endpoint == peer.endpoint and seen is not None):
        return None
    return None if seen == str(peer.endpoint) else peer.endpoint


def _says_something(step: ChangePeer) -> bool:
    return bool(
        step.preshared_key
        or step.endpoint is not None
        or step.added
        or step.removed
        or step.persistent_keepalive is not None
    )


def _restarted(before: Peer, now: Peer) -> bool:
    """Whether a peer has lost its sessions since: a disco key lives as long as a process."""
    return before.disco_key is not None and now.disco_key is not None and before.disco_key != now.disco_key


def _without(these: Iterable[str], those: Iterable[str]) -> tuple[str, ...]:
    gone = set(those)
    return tuple(each for each in these if each not in gone)


def _if_other(before: int, after: int) -> int | None:
    return after if before != after else None


def _peer_moves(applied: Config | None, desired: Config) -> PeerMoves:
    if applied is None:
        return PeerMoves([(None, peer) for peer in desired.peers], [])
    old, new = applied.peers, desired.peers
    # the same objects at both ends are passed over; a key in the middle then is in neither end
    start, end = same_ends(old, new)
    changed: list[tuple[Peer | None, Peer]] = []
    for peer in new[start : len(new) - end]:
        before = applied.peer(peer.public_key)
        if before != peer:
            changed.append((before, peer))
    removed = [peer for peer in old[start : len(old) - end] if desired.peer(peer.public_key) is None]
    return PeerMoves(changed, removed)


# -- The interface: addresses, MTU, routes.


class LinkConfig(Protocol):
    """What is asked of our own interface, as far as it goes: by a Config, or by a `RouterLink`."""

    @property
    def addresses(self) -> tuple[str, ...]: ...
    @property
    def mtu(self) -> int | None: ...
    @property
    def table(self) -> Table: ...
    @property
    def peers(self) -> Sequence[Routed]: ...
    def owner(self, allowed_ip: str, /) -> object | None: ...


class Routed(Protocol):
    """Who has prefixes that lead into the interface."""

    @property
    def allowed_ips(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class RouterLink:
    """What a RouterConfig asks of our own interface, where nothing but the interface is ours to change."""

    addresses: tuple[str, ...]
    mtu: int | None
    allowed_ips: tuple[str, ...]
    own: frozenset[str]

    @classmethod
    def of(cls, router: RouterConfig, mtu: int | None) -> RouterLink:
        return cls(router.local_addrs, router.new_mtu or mtu, router.routes, frozenset(router.routes))

    @property
    def table(self) -> Table:
        return "auto"

    @property
    def peers(self) -> tuple[RouterLink]:
        return (self,)

    def owner(self, allowed_ip: str, /) -> RouterLink | None:
        return self if allowed_ip in self.own else None


def link_steps(
    applied: LinkConfig | None, desired: LinkConfig, moves: PeerMoves | None = None, *, can_route_default: bool = False
) -> Iterator[LinkStep]:
    """Routes and addresses that go; addresses, MTU and routes that come."""
    before = applied.addresses if applied is not None else ()
    gone = _without(before, desired.addresses)
    kept = _without(before, gone)
    # Linux takes an IPv4 address' whole subnet along (unless promote_secondaries is set), and with the last address
    # every IPv4 route
    emptied = {Prefix.parse(ip) for ip in gone if _is_v4(ip)}
    dragged = {ip for ip in kept if _is_v4(ip) and Prefix.parse(ip) in emptied}
    flushed = bool(emptied) and not any(_is_v4(ip) and ip not in dragged for ip in kept)
    removed, added = _route_steps(applied, desired, moves, flushed, can_route_default)
    yield from removed
    yield from map(RemoveAddress, reversed(gone))  # the first of a subnet last, as it takes the others along
    yield from (AddAddress(ip) for ip in desired.addresses if ip not in kept or ip in dragged)
    mtu = applied.mtu if applied is not None else None
    if mtu != desired.mtu:
        yield SetMTU(mtu, desired.mtu)
    yield from added


def _is_v4(ip: str) -> bool:
    return ":" not in ip


def _route_steps(
    applied: LinkConfig | None,
    desired: LinkConfig,
    moves: PeerMoves | None,
    flushed: bool,
    can_route_default: bool,
) -> tuple[list[RemoveRoute], list[AddRoute]]:
    """What the allowed IPs ask of the routing table: only the peers that changed are looked at, where that will do."""
    routed_before = _routed(applied, can_route_default)
    routed_now = _routed(desired, can_route_default)
    if applied is None:
        old, new = {}, _prefixes(desired.peers)
    elif applied.table != desired.table or applied.addresses != desired.addresses:
        old, new = _prefixes(applied.peers), _prefixes(desired.peers)
    else:
        touched = _touched(applied, desired, moves)
        old = {ip: None for ip in touched if applied.owner(ip) is not None}
        new = {ip: None for ip in touched if desired.owner(ip) is not None}
    table_before = _table(applied)
    table_now = _table(desired)
    was = {ip for ip in old if routed_before(ip)}
    now = [ip for ip in new if routed_now(ip)]
    moved = table_before != table_now
    shall = set(now)
    return (
        [RemoveRoute(ip, table_before) for ip in old if ip in was and (moved or ip not in shall)],
        [AddRoute(ip, table_now) for ip in now if moved or ip not in was or (flushed and _is_v4(ip))],
    )


def _touched(applied: LinkConfig, desired: LinkConfig, moves: PeerMoves | None) -> dict[str, None]:
    """Prefixes that may have come or gone."""
    if moves is not None:
        return _prefixes((*moves.removed, *chain.from_iterable(moves.changed)))
    if isinstance(applied, RouterLink) and isinstance(desired, RouterLink):
        gone, come = applied.own - desired.own, desired.own - applied.own
        return dict.fromkeys((*sorted(gone), *(ip for ip in desired.allowed_ips if ip in come))) if gone or come else {}
    start, end = same_ends(applied.peers, desired.peers)
    before, after = applied.peers[start : len(applied.peers) - end], desired.peers[start : len(desired.peers) - end]
    return _prefixes((*before, *after))


def _prefixes(peers: Iterable[Routed | None]) -> dict[str, None]:
    return dict.fromkeys(ip for peer in peers if peer is not None for ip in peer.allowed_ips)


def _table(config: LinkConfig | None) -> int | None:
    return config.table if config is not None and isinstance(config.table, int) else None


def _routed(config: LinkConfig | None, can_route_default: bool) -> Callable[[str], bool]:
    """Whether a prefix gets a route of its own: as with wg-quick, not where an address' subnet leads there already."""
    if config is None or config.table == "off":
        return lambda ip: False
    defaults = can_route_default or not _takes_the_default(config.table)
    own = config.addresses if config.table == "auto" else ()
    subnets = {v4: [Prefix.parse(ip) for ip in own if _is_v4(ip) == v4] for v4 in (True, False)}

    def routed(ip: str) -> bool:
        if ip in DEFAULT_ROUTES:
            return defaults
        nearby = subnets[_is_v4(ip)]
        if not nearby:
            return True
        target = Prefix.parse(ip)
        return not any(subnet.covers(target) for subnet in nearby)

    return routed


def _takes_the_default(table: Table) -> bool:
    """Whether a default route there would take the whole host's traffic."""
    return table in ("auto", MAIN_TABLE)


# -- DNS, and what nobody here may do.


def dns_steps(applied: Config | None, desired: Config) -> Iterator[SetDNS]:
    before = (applied.dns, applied.dns_search) if applied is not None else ((), ())
    if before != (desired.dns, desired.dns_search):
        yield SetDNS(desired.dns, desired.dns_search)


def skipped_of(
    desired: Config, *, can_route_default: bool = False, can_dns: bool = False, can_run_hooks: bool = False
) -> Iterator[Skipped]:
    """What a configuration asks for, and nobody here carries out."""
    if not can_route_default and _takes_the_default(desired.table):
        for ip in DEFAULT_ROUTES:
            if desired.owner(ip) is not None:
                yield Skipped(f"route {ip}", f"{BY_WG_QUICK}, or Table = off and a route of your own")
    if not can_dns and (desired.dns or desired.dns_search):
        yield Skipped(f"dns {' '.join((*desired.dns, *desired.dns_search))}", BY_WG_QUICK)
    for name in ("pre_up", "post_up", "pre_down", "post_down"):
        if not can_run_hooks and getattr(desired, name):
            # a library runs no command that a file names
            yield Skipped(name.replace("_", " "), BY_HOOK_RUNNERS)
    if desired.save_config:
        yield Skipped("save config", "Config.to_text() and a file of your own")


def skipped_of_router(router: RouterConfig, dns: DNSConfig, *, has_router: bool, has_dns: bool) -> Iterator[Skipped]:
    """The same of a netmap's configurations."""
    if not has_router:
        for ip in DEFAULT_ROUTES:
            if ip in router.routes:
                yield Skipped(f"route {ip}", BY_ROUTER)
        for name in ("local_routes", "subnet_routes"):
            if getattr(router, name):
                yield Skipped(name.replace("_", " "), BY_ROUTER)
    if not has_dns and dns != DNSConfig():
        yield Skipped("dns", "a `dns` object, given to Engine")
