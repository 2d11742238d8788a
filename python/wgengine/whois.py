"""Whose an address is: the node, the person behind it, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wgengine.document import data_of

if TYPE_CHECKING:
    from wgengine.netmap import NetMap, UserProfile
    from wgengine.node import Node
    from wgengine.peers import PeerForIP

__all__ = ["Whois", "whois_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Whois:
    """Who answers for an address."""

    ip: str
    route: str  # the prefix that leads there
    node: Node
    is_self: bool = False
    user: UserProfile | None = None
    capabilities: dict[str, Any] = field(default_factory=dict, hash=False)  # name → list of its values


def whois_of(ip: str, found: PeerForIP, netmap: NetMap) -> Whois:
    """What the netmap says of the node that was found."""
    node = found.node
    capabilities = {name: [] for name in node.capabilities} | (data_of(node.cap_map) or {})
    return Whois(
        ip=ip,
        route=found.route,
        node=node,
        is_self=found.is_self,
        user=netmap.user(node.user),
        capabilities=capabilities,
    )
