"""Who owns an address: the peer of a netmap, and what is said about it. The same answer as the device's own table.

Two inputs, each replaced by itself: the netmap and the configuration. A new one costs what differs; a look-up costs a
hash for each prefix length in use. Prefixes are not stored again: the configuration knows the owner of each.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import chain
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from wgengine.address import ip_address
from wgengine.ranges import is_tailscale_host

if TYPE_CHECKING:
    from wgengine.config import Config, Peer
    from wgengine.keys import PublicKey
    from wgengine.netmap import NetMap
    from wgengine.node import Node

__all__ = ["NatEntry", "PeerForIP", "PeerIndex", "Route", "same_ends"]

IP: TypeAlias = str | IPv4Address | IPv6Address

_DEFAULT_ROUTES = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerForIP:
    """Who answers for an address."""

    node: Node
    is_self: bool
    route: str  # the prefix that holds the address


class Route(NamedTuple):
    """The longest allowed IP that holds an address, and whose it is."""

    prefix: str
    key: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class NatEntry:
    """How packets to and from a peer are treated: the addresses that it knows us by, and whether it is jailed."""

    addr4: str | None
    addr6: str | None
    jailed: bool


class PeerIndex:
    """Look-ups over the current netmap and the current full configuration, trimmed peers included."""

    def __init__(self) -> None:
        self._netmap: NetMap | None = None
        self._nodes: dict[PublicKey, Node] = {}
        self._hosts: dict[str, Node] = {}  # by the Tailscale addresses of peers, as prefixes
        self._own: dict[str, Node] = {}  # and by our own
        self._config: Config | None = None
        self._lengths: Counter[tuple[bool, int]] = Counter()  # prefixes by family (IPv6?) and length
        self._native: tuple[str | None, str | None] = (None, None)
        self._masquerade_all = False

    # -- Inputs.

    def set_netmap(self, netmap: NetMap | None) -> None:
        """Answer by this netmap from now on."""
        before = self._netmap.peers if self._netmap is not None else ()
        after = netmap.peers if netmap is not None else ()
        start, end = same_ends(before, after)
        gone, come = before[start : len(before) - end], after[start : len(after) - end]
        if len(gone) == len(come) and all(map(_is_the_same_node, gone, come)):
            for node in come:  # as when a netmap is read anew: what was known of their addresses still holds
                self._nodes[node.key] = node
                for address in node.addresses:
                    if address in self._hosts:
                        self._hosts[address] = node
        else:
            self._replace(gone, come)
        own = netmap.self_node if netmap is not None else None
        self._own = {} if own is None else dict.fromkeys(filter(is_tailscale_host, own.addresses), own)
        self._netmap = netmap

    def _replace(self, gone: Iterable[Node], come: Iterable[Node]) -> None:
        for node in gone:
            del self._nodes[node.key]
            for address in node.addresses:
                self._hosts.pop(address, None)
        for node in come:
            self._nodes[node.key] = node
            self._hosts.update(dict.fromkeys(filter(is_tailscale_host, node.addresses), node))

    def set_config(self, config: Config | None) -> None:
        """Answer by this full configuration from now on."""
        before = self._config.peers if self._config is not None else ()
        after = config.peers if config is not None else ()
        start, end = same_ends(before, after)
        self._lengths.subtract(_lengths(before[start : len(before) - end]))
        self._lengths.update(_lengths(after[start : len(after) - end]))
        self._lengths = +self._lengths
        self._config = config
        addresses = config.addresses if config is not None else ()
        self._native = (_first_tailscale(addresses, 4), _first_tailscale(addresses, 6))
        self._masquerade_all = config is not None and _exit_node_masquerades(config)

    # -- Look-ups.

    def peer_for_ip(self, ip: IP) -> PeerForIP | None:
        """The node that answers for this address: ours, or the peer that the device would send to.

        A peer that the configuration leaves out is still found by its own addresses.
        """
        address = _address(ip)
        host = _host(str(address))
        own = self._own.get(host)
        if own is not None:
            return PeerForIP(node=own, is_self=True, route=host)
        route = self._longest(address)
        node = self._nodes.get(route.key) if route is not None else None
        if route is not None and node is not None and route.prefix == host:
            return PeerForIP(node=node, is_self=False, route=host)
        by_address = self._hosts.get(host)
        if by_address is not None:
            return PeerForIP(node=by_address, is_self=False, route=host)
        if route is None or node is None:
            return None
        return PeerForIP(node=node, is_self=False, route=route.prefix)

    def by_key(self, key: PublicKey) -> Node | None:
        """The netmap's peer with this key."""
        return self._nodes.get(key)

    def route(self, ip: IP) -> Route | None:
        """The longest allowed IP that holds this address."""
        return self._longest(_address(ip))

    def owner(self, ip: IP) -> PublicKey | None:
        """The peer that packets to this address go to, and that alone packets from it may come from."""
        route = self.route(ip)
        return None if route is None else route.key

    def nat_entry(self, ip: IP) -> NatEntry | None:
        """How packets to or from this address are treated, which is a matter of its owner; None: like any other.

        Only an address of ours that is Tailscale's is ever translated, but a jailed peer is jailed without one too.
        """
        owner = self.owner(ip)
        peer = self._config.peer(owner) if owner is not None and self._config is not None else None
        if peer is None:
            return None
        native = self._native if self._masquerade_all else (None, None)
        masquerade = any(self._native)
        addr4 = (peer.v4_masq_addr or native[0]) if masquerade else None
        addr6 = (peer.v6_masq_addr or native[1]) if masquerade else None
        if addr4 is None and addr6 is None and not peer.jailed:
            return None
        return NatEntry(addr4=addr4, addr6=addr6, jailed=peer.jailed)

    def native_address(self, family: Literal[4, 6]) -> str | None:
        """The first Tailscale address of the interface: the one that is translated."""
        return self._native[0 if family == 4 else 1]

    def self_address(self, family: Literal[4, 6]) -> str | None:
        """The first address of our own node: where our pings come from."""
        own = self._netmap.self_node if self._netmap is not None else None
        for prefix in own.addresses if own is not None else ():
            address, _, length = prefix.partition("/")
            if (family == 6) == (":" in address) and length == ("128" if family == 6 else "32"):
                return address
        return None

    def _longest(self, address: IPv4Address | IPv6Address) -> Route | None:
        if self._config is None:
            return None
        number, bits, six = int(address), address.max_prefixlen, address.version == 6
        family = IPv6Address if six else IPv4Address
        for length in sorted((length for of_six, length in self._lengths if of_six == six), reverse=True):
            prefix = f"{family(number >> bits - length << bits - length)}/{length}"
            key = self._config.owner(prefix)
            if key is not None:
                return Route(prefix, key)
        return None


def _is_the_same_node(one: Node, other: Node) -> bool:
    return one.key == other.key and one.addresses == other.addresses


def _address(ip: IP) -> IPv4Address | IPv6Address:
    text = ip_address(str(ip))
    if ":" not in text:
        return IPv4Address(text)
    address = IPv6Address(text)
    return address.ipv4_mapped or address


def _first_tailscale(addresses: Iterable[str], family: Literal[4, 6]) -> str | None:
    for each in addresses:
        address = each.partition("/")[0]
        if (":" in address) == (family == 6) and is_tailscale_host(_host(address)):
            return address
    return None


def _host(address: str) -> str:
    """The prefix that holds this address alone."""
    return f"{address}/{128 if ':' in address else 32}"


def _exit_node_masquerades(config: Config) -> bool:
    """Whether the first peer with a default route knows us by another address than our own. Then those that know us
    by our own say so too, lest the default route's entry be taken for theirs."""
    keys = {config.owner(prefix) for prefix in _DEFAULT_ROUTES} - {None}
    if not keys:
        return False
    first = next(peer for peer in config.peers if peer.public_key in keys)
    return first.v4_masq_addr is not None or first.v6_masq_addr is not None


def _lengths(peers: Iterable[Peer]) -> Counter[tuple[bool, int]]:
    prefixes = chain.from_iterable(peer.allowed_ips for peer in peers)
    tails = Counter((":" in prefix, prefix[prefix.index("/") :]) for prefix in prefixes)
    return Counter({(six, int(tail[1:])): count for (six, tail), count in tails.items()})


def same_ends(one: Sequence[object], other: Sequence[object]) -> tuple[int, int]:
    """How many objects at the front and at the back are the same; what lies between is what may differ."""
    if one is other:
        return len(one), 0
    start = _same(one, other)
    return start, min(_same(reversed(one), reversed(other)), len(one) - start, len(other) - start)


def _same(one: Iterable[object], other: Iterable[object]) -> int:
    count = 0
    for same in map(operator.is_, one, other):
        if not same:
            break
        count += 1
    return count
