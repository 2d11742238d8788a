"""Who is behind an address: the node, whose it is and what it may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wgengine.document import data_of

if TYPE_CHECKING:
    from wgengine.keys import PublicKey
    from wgengine.netmap import NetMap, UserProfile
    from wgengine.node import Node
    from wgengine.peers import PeerIndex

__all__ = ["Whois", "whois"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Whois:
    """Who answers for an address."""

    ip: str
    key: PublicKey
    route: str  # the prefix that holds the address
    is_self: bool = False
    node: Node | None = None  # None: a peer of a configuration, of which no netmap says more
    user: UserProfile | None = None

    @property
    def capabilities(self) -> Mapping[str, list[Any]]:
        """What the node may, with the values that the netmap gives."""
        if self.node is None:
            return {}
        return {**{name: [] for name in self.node.capabilities}, **(data_of(self.node.cap_map) or {})}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `json.dumps`."""
        node, user = self.node, self.user
        told: dict[str, Any] = {"key": self.key.to_base64()}
        if node is not None:
            told |= {
                "id": node.id,
                "stable_id": node.stable_id,
                "name": node.name,
                "hostname": node.hostinfo.hostname,
                "os": node.hostinfo.os,
                "addresses": list(node.addresses),
                "allowed_ips": list(node.allowed_ips),
                "tags": list(node.tags),
                "online": node.online,
                "expired": node.expired,
            }
        return {
            "ip": self.ip,
            "route": self.route,
            "is_self": self.is_self,
            "node": told,
            "user": None
            if user is None
            else {"id": user.id, "login_name": user.login_name, "display_name": user.display_name},
            "capabilities": dict(self.capabilities),
        }


def whois(ip: str, netmap: NetMap | None, index: PeerIndex) -> Whois | None:
    """Who answers for a canonical address; None: nobody."""
    found = index.peer_for_ip(ip)
    if found is None:
        route = index.route(ip)
        return Whois(ip=ip, key=route.key, route=route.prefix) if route is not None else None
    node = found.node
    user = netmap.user(node.user) if netmap is not None else None
    return Whois(ip=ip, key=node.key, route=found.route, is_self=found.is_self, node=node, user=user)
