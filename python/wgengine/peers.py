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
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from wgengine.address import ip_address

if TYPE_CHECKING:
    from wgengine.config import Config, Peer
    from wgengine.keys import PublicKey

__all__ = ["PeerForIP", "PeerIndex", "Route", "same_ends"]

IP: TypeAlias = str | IPv4Address | IPv6Address


class NodeLike(Protocol):
    """What is asked of a node."""

    @property
    def key(self) -> PublicKey: ...
    @property
    def addresses(self) -> Sequence[str]: ...


class NetMapLike(Protocol):
    """What is asked of a netmap: no key and no address twice."""

    @property
    def self_node(self) -> NodeLike | None: ...
    @property
    def peers(self) -> Sequence[NodeLike]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerForIP:
    """Who answers for an address."""

    node: NodeLike
    is_self: bool
    route: str  # the prefix that holds the address


class Route(NamedTuple):
    """The longest allowed IP that holds an address, and whose it is."""

    prefix: str
    key: PublicKey


class PeerIndex:
    """Look-ups over the current netmap and the current full configuration, trimmed peers included."""

    def __init__(self) -> None:
        self._netmap: NetMapLike | None = None
        self._nodes: dict[PublicKey, NodeLike] = {}
        self._hosts: dict[str, NodeLike] = {}  # by the Tailscale addresses of peers, as prefixes
        self._own: dict[str, NodeLike] = {}  # and by our own
        self._config: Config | None = None
        self._lengths: Counter[tuple[bool, int]] = Counter()  # prefixes by family (IPv6?) and length
        self._native: tuple[str | None, str | None] = (None, None)

    # -- Inputs.

    def set_netmap(self, netmap: NetMapLike | None) -> None:
        """Answer by this netmap from now on."""
        before = self._netmap.peers if self._netmap is not None else ()
        after = netmap.peers if netmap is not None else ()
        start, end = same_ends(before, after)
        for node in before[start : len(before) - end]:
            del self._nodes[node.key]
            for address in node.addresses:
                self._hosts.pop(address, None)
        for node in after[start : len(after) - end]:
            self._nodes[node.key] = node
            self._hosts.update(dict.fromkeys(filter(_is_tailscale_host, node.addresses), node))
        own = netmap.self_node if netmap is not None else None
        self._own = {} if own is None else dict.fromkeys(filter(_is_tailscale_host, own.addresses), own)
        self._netmap = netmap

    def set_config(self, config: Config | None) -> None:
        """Answer by this full configuration from now on."""
        before = self._config.peers if self._config is not None else ()
        after = config.peers if config is not None else ()
        start, end = same_ends(before, after)
        self._lengths.subtract(_lengths(before[start : len(before) - end]))
        self._lengths.update(_lengths(after[start : len(after) - end]))
        self._lengths = +self._lengths
        self._config = config
        addresses = () if config is None else tuple(ip.partition("/")[0] for ip in config.addresses)
        self._native = (_first_tailscale(addresses, 4), _first_tailscale(addresses, 6))

    # -- Look-ups.

    def peer_for_ip(self, ip: IP) -> PeerForIP | None:
        """The node that answers for this address: ours, or the peer that the device would send to.

        A peer that the configuration leaves out is still found by its own addresses.
        """
        if self._netmap is None:
            return None
        address = _address(ip)
        host = f"{address}/{address.max_prefixlen}"
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

    def by_key(self, key: PublicKey) -> NodeLike | None:
        """The netmap's peer with this key."""
        return self._nodes.get(key)

    def route(self, ip: IP) -> Route | None:
        """The longest allowed IP that holds this address."""
        return self._longest(_address(ip))

    def owner(self, ip: IP) -> PublicKey | None:
        """The peer that packets to this address go to, and that alone packets from it may come from."""
        route = self.route(ip)
        return None if route is None else route.key

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


def _address(ip: IP) -> IPv4Address | IPv6Address:
    text = ip_address(str(ip))
    if ":" not in text:
        return IPv4Address(text)
    address = IPv6Address(text)
    return address.ipv4_mapped or address


def _is_tailscale_host(prefix: str) -> bool:
    address, _, length = prefix.partition("/")
    return length == ("128" if ":" in address else "32") and _is_tailscale(address)


def _is_tailscale(address: str) -> bool:
    """Within 100.64.0.0/10 but not ChromeOS' 100.115.92.0/23, or within fd7a:115c:a1e0::/48."""
    if ":" in address:
        return address.startswith("fd7a:115c:a1e0:")
    first, second, third, _ = address.split(".")
    return first == "100" and 64 <= int(second) <= 127 and not (second == "115" and third in ("92", "93"))


def _first_tailscale(addresses: Iterable[str], family: Literal[4, 6]) -> str | None:
    return next((ip for ip in addresses if (":" in ip) == (family == 6) and _is_tailscale(ip)), None)


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
