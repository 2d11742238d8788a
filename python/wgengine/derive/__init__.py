"""From a netmap and preferences to all that an engine is configured with.

The same netmap with little changed costs little: nodes that are the same objects as last time are passed over, and what
comes out the same is the same object again, so that whoever compares it later sees that at a glance. What comes out is
what the netmap alone would give, whatever was there before.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wgengine.config import Config
from wgengine.derive.dns import dns_config_of
from wgengine.derive.filters import filter_configs_of
from wgengine.derive.nodes import Nodes
from wgengine.derive.router import Surroundings, router_config_of
from wgengine.derive.routes import Routes
from wgengine.derive.wireguard import exit_node_of, network_logging_of
from wgengine.errors import ConfigError
from wgengine.peers import same_ends
from wgengine.prefs import Prefs

if TYPE_CHECKING:
    from wgengine.dns_config import DNSConfig
    from wgengine.filter_config import FilterConfig
    from wgengine.netmap import NetMap
    from wgengine.router_config import RouterConfig

__all__ = ["Derived", "Surroundings", "derive"]

log = logging.getLogger("wgengine.derive")

DEFAULT_PREFS = Prefs()
NOWHERE = Surroundings()
# so many prefixes are sorted in one by one; more of them with all the others
FEW_PREFIXES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """What it was made from, so that the next one need only look at what is new."""

    nodes: Nodes
    routes: Routes
    header: dict[str, Any]  # all fields of the Config but its peers
    inputs: dict[str, tuple[Any, ...]]  # of each of the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What a netmap comes to. Given to `derive` as `previous`, it makes the next one cheap."""

    wg: Config
    router: RouterConfig
    dns: DNSConfig
    filter: FilterConfig
    jailed_filter: FilterConfig
    summaries: tuple[str, ...]  # what was left out, for people
    _memory: _Memory = field(compare=False, repr=False)


def derive(
    netmap: NetMap,
    prefs: Prefs = DEFAULT_PREFS,
    *,
    listen_port: int = 0,
    mtu: int | None = None,
    fwmark: int = 0,
    one_cgnat: bool | None = None,
    around: Surroundings = NOWHERE,
    previous: Derived | None = None,
) -> Derived:
    """The configurations for this netmap. `previous` is what an earlier one came to."""
    if netmap.private_key is None:
        raise ConfigError(
            "the netmap has no private key; write privkey: and 64 hex digits, or give it by `with_private_key`",
            field="PrivateKey",
        )
    memory = previous._memory if previous is not None else None
    exit_node = exit_node_of(netmap, prefs.exit_node, memory.nodes.exit_node if memory is not None else None)
    if memory is not None:
        nodes = memory.nodes.changed(netmap.peers, exit_node, prefs.accept_routes)
    else:
        nodes = Nodes.of(netmap.peers, exit_node, prefs.accept_routes)
    header = {
        "private_key": netmap.private_key,
        "addresses": netmap.addresses,
        "network_logging": network_logging_of(netmap),
        "listen_port": listen_port,
        "mtu": mtu,
        "fwmark": fwmark,
    }
    wg = _config(header, nodes, previous)
    routes = _routes(wg, previous)
    node = netmap.self_node
    proxy = netmap.peers[exit_node] if exit_node is not None else None
    unsigned = nodes.unsigned()
    inputs: dict[str, tuple[Any, ...]] = {
        "router": (prefs, one_cgnat, around, node, routes),
        "dns": (prefs, netmap.dns, node, proxy),
        "filters": (prefs, around, node, unsigned, netmap.packet_filter),
    }
    same = {name for name, value in inputs.items() if memory is not None and memory.inputs[name] == value}
    if previous is not None and "router" in same:
        router = previous.router
    else:
        router = router_config_of(netmap, prefs, routes, around, one_cgnat=one_cgnat)
    dns = previous.dns if previous is not None and "dns" in same else dns_config_of(netmap, prefs, proxy)
    if previous is not None and "filters" in same:
        filters = previous.filter, previous.jailed_filter
    else:
        filters = filter_configs_of(netmap, prefs, around, unsigned)
    for summary in nodes.summaries:
        if previous is None or summary not in previous.summaries:
            log.info("%s", summary)
    return Derived(
        wg=wg,
        router=router,
        dns=dns,
        filter=filters[0],
        jailed_filter=filters[1],
        summaries=nodes.summaries,
        _memory=_Memory(nodes=nodes, routes=routes, header=header, inputs=inputs),
    )


def _config(header: dict[str, Any], nodes: Nodes, previous: Derived | None) -> Config:
    peers = tuple([peer for peer in nodes.peers if peer is not None])
    if previous is not None and previous._memory.header == header:
        return previous.wg.with_peers(peers)
    return Config(**header, peers=peers)


def _routes(wg: Config, previous: Derived | None) -> Routes:
    """What the peers own, in order."""
    if previous is not None:
        before = previous.wg
        start, end = same_ends(before.peers, wg.peers)
        touched = {
            ip
            for peers in (before.peers[start : len(before.peers) - end], wg.peers[start : len(wg.peers) - end])
            for peer in peers
            for ip in peer.allowed_ips
        }
        gone = [ip for ip in touched if before.owner(ip) is not None and wg.owner(ip) is None]
        come = [ip for ip in touched if before.owner(ip) is None and wg.owner(ip) is not None]
        if not gone and not come:
            return previous._memory.routes
        if len(gone) + len(come) <= FEW_PREFIXES:
            return previous._memory.routes.changed(gone=gone, come=come)
    return Routes(ip for peer in wg.peers for ip in peer.allowed_ips)
