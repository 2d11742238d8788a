"""From nodes to WireGuard peers: who becomes one, and which of its prefixes we take."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from wgengine.address import Endpoint
from wgengine.config import Peer
from wgengine.errors import ConfigError
from wgengine.fqdn import fqdn
from wgengine.network_logging import NetworkLogging
from wgengine.ranges import is_tailscale_host

if TYPE_CHECKING:
    from wgengine.netmap import NetMap
    from wgengine.node import Node

__all__ = ["Remark", "exit_node_of", "network_logging_of", "peer_of", "summaries", "view"]

AUDIT_LOGS = "https://tailscale.com/cap/data-plane-audit-logs"
LOG_EXIT_FLOWS = "log-exit-flows"
NAMES_IN_A_SUMMARY = 5

# Everything that decides about a node's peer, its remarks and the filters: nodes that are alike in it need no new look.
view = operator.attrgetter(
    "key", "disco_key", "allowed_ips", "addresses", "stable_id", "endpoints", "home_derp", "is_wireguard_only",
    "expired", "is_jailed", "v4_masq_addr", "v6_masq_addr", "unsigned_peer_api_only",
)  # fmt: skip


class Remark(IntEnum):  # whose bits are joined as plain numbers: IntFlag takes ten times as long, for every node
    """What is to be said of a node besides its peer."""

    UNREACHABLE = 1
    EXPIRED = 2
    EXIT_NODE_NOT_SELECTED = 4
    SUBNETS_NOT_ACCEPTED = 8
    UNSIGNED = 16


# What the summaries say, in order.
TITLES = {
    Remark.UNREACHABLE: "skipped peers without disco key and home relay (is IsWireGuardOnly missing?)",
    Remark.EXIT_NODE_NOT_SELECTED: "skipped unselected exit nodes",
    Remark.SUBNETS_NOT_ACCEPTED: "did not accept subnet routes",
    Remark.EXPIRED: "skipped expired peers",
}


class Made(NamedTuple):
    """What one node comes to."""

    peer: Peer | None  # None: it is skipped
    remarks: int  # Remarks, joined


def peer_of(node: Node, *, is_exit_node: bool, accept_routes: bool) -> Made:
    """The WireGuard peer of a node."""
    remarks = int(Remark.UNSIGNED) if node.unsigned_peer_api_only else 0
    if node.disco_key is None and node.home_derp == 0 and not node.is_wireguard_only:
        return Made(None, remarks | Remark.UNREACHABLE)
    if node.expired:
        # its key was made useless on purpose: no endpoint of it will ever answer
        return Made(None, remarks | Remark.EXPIRED)
    allowed_ips = node.allowed_ips
    if allowed_ips is not node.addresses or not all(map(is_tailscale_host, allowed_ips)):
        kept = []
        for ip in allowed_ips:
            if ip.endswith("/0"):
                taken, remark = is_exit_node, Remark.EXIT_NODE_NOT_SELECTED
            else:
                taken, remark = accept_routes or _is_its_own(ip, node), Remark.SUBNETS_NOT_ACCEPTED
            if taken:
                kept.append(ip)
            else:
                remarks |= remark
        if len(kept) != len(allowed_ips):
            allowed_ips = tuple(kept)
    peer = Peer(
        public_key=node.key,
        # whoever speaks plain WireGuard only is found in no other way
        endpoint=Endpoint.parse(node.endpoints[0]) if node.is_wireguard_only and node.endpoints else None,
        allowed_ips=allowed_ips,
        disco_key=node.disco_key,
        v4_masq_addr=node.v4_masq_addr,
        v6_masq_addr=node.v6_masq_addr,
        jailed=node.is_jailed,
    )
    return Made(peer, remarks)


def _is_its_own(ip: str, node: Node) -> bool:
    """Whether this is an address of the node itself, and no subnet that it carries."""
    address, _, length = ip.partition("/")
    if length != ("128" if ":" in address else "32"):
        return False
    return is_tailscale_host(ip) or any(own.partition("/")[0] == address for own in node.addresses)


def exit_node_of(netmap: NetMap, wanted: str | None, hint: int | None) -> int | None:
    """Where among the peers the exit node is: by StableID, address or name. `hint` is where it was."""
    if wanted is None:
        return None
    peers = netmap.peers
    if hint is not None and hint < len(peers) and peers[hint].stable_id == wanted:
        return hint
    found = [i for i, node in enumerate(peers) if node.stable_id == wanted]
    if not found:
        found = [i for i, node in enumerate(peers) if any(ip.partition("/")[0] == wanted for ip in node.addresses)]
    if not found:
        name = _fqdn(wanted)
        found = [i for i, node in enumerate(peers) if node.computed_name == wanted or _fqdn(node.name) == name]
    if len(found) > 1:
        ids = " or ".join(peers[i].stable_id or str(peers[i].key) for i in found[:2])
        raise ConfigError(f"{len(found)} nodes are called {wanted}; write a StableID ({ids})", field="exit_node")
    return found[0] if found else None


def _fqdn(name: str) -> str | None:
    try:
        return fqdn(name) if name else None
    except ConfigError:
        return None


def network_logging_of(netmap: NetMap) -> NetworkLogging | None:
    """Under which names our traffic is logged: where we may log at all, and both names are good ones."""
    node = netmap.self_node
    if node is None or not node.has_cap(AUDIT_LOGS):
        return None
    try:
        return NetworkLogging(
            node_id=node.data_plane_audit_log_id,
            domain_id=netmap.domain_audit_log_id,
            log_exit_flows=node.has_cap(LOG_EXIT_FLOWS),
        )
    except ConfigError:
        return None


def summaries(peers: Sequence[Node], remarks: Mapping[int, int]) -> tuple[str, ...]:
    """One line for each thing that happened to nodes, with the first few names."""
    places = sorted(remarks)
    made = []
    for remark, title in TITLES.items():
        whose = [at for at in places if remarks[at] & remark]
        if whose:
            first = (peers[at] for at in whose[:NAMES_IN_A_SUMMARY])
            names = ", ".join(f"{node.display_name} ({node.stable_id})" for node in first)
            more = len(whose) - NAMES_IN_A_SUMMARY
            made.append(f"{title} from {len(whose)} nodes: {names}" + (f" ... +{more}" if more > 0 else ""))
    return tuple(made)
