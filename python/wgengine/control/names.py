"""Nodes by the names that people use: whole, or just the first label."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Protocol

from wgengine.errors import ConfigError, quoted

__all__ = ["Named", "find_address", "literal"]

_SHOWN = 5


class Named(Protocol):
    """A node, as far as its name goes. Names may end in a dot, addresses in a prefix length."""

    @property
    def name(self) -> str: ...
    @property
    def addresses(self) -> Sequence[str]: ...


def literal(host: str) -> str | None:
    """The address that `host` is, if it is one. An IPv4 address in IPv6 clothes is an IPv4 address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def find_address(host: str, nodes: Iterable[Named]) -> str | None:
    """The first address of the node that is called `host`: by its whole name, else by a first label that is unique."""
    wanted = host.rstrip(".").lower()
    short: list[Named] = []
    for node in nodes:
        name = node.name.rstrip(".").lower()
        if name == wanted:
            return _first(node)
        if name.partition(".")[0] == wanted:
            short.append(node)
    if len(short) > 1:
        names = ", ".join(quoted(node.name.rstrip(".")) for node in short[:_SHOWN]) + (
            ", …" if len(short) > _SHOWN else ""
        )
        raise ConfigError(f"{quoted(host)} is the name of {len(short)} nodes; write which: {names}", field="args.host")
    return _first(short[0]) if short else None


def _first(node: Named) -> str:
    if not node.addresses:
        raise ConfigError(f"{quoted(node.name)} has no address", field="args.host")
    return node.addresses[0].partition("/")[0]
