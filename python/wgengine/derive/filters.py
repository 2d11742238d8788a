"""From a netmap and preferences to what the packet filters are to let through."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from wgengine.derive.router import DEFAULT_ROUTES, Surroundings, service_addresses
from wgengine.document import NOTHING, data_of
from wgengine.errors import ConfigError
from wgengine.filter_config import FilterConfig
from wgengine.ipset import AddressSet
from wgengine.ranges import CGNAT, CHROME_OS_VMS, ULA

if TYPE_CHECKING:
    from wgengine.netmap import NetMap
    from wgengine.node import Node
    from wgengine.prefs import Prefs

__all__ = ["filter_configs_of"]

log = logging.getLogger("wgengine.derive")

LOGGED = AddressSet.of((CGNAT, ULA)) - AddressSet.of((CHROME_OS_VMS,))
# What an exit node carries for nobody: networks that are private, or mean something else to each host.
NEVER_BY_DEFAULT = AddressSet.of(
    (
        "192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", CGNAT,
        "fe80::/10", "ff00::/8", ULA,
    )
)  # fmt: skip
EVERYTHING = AddressSet.of(DEFAULT_ROUTES)


def filter_configs_of(
    netmap: NetMap, prefs: Prefs, around: Surroundings, unsigned: Iterable[Node]
) -> tuple[FilterConfig, FilterConfig]:
    """The filter for ordinary peers, and the one for jailed ones. `unsigned` are the peers that may not reach us."""
    local = AddressSet.of((*map(_alone, netmap.addresses), *service_addresses(netmap.self_node)))
    logged = LOGGED
    for route in prefs.advertise_routes:
        if route in DEFAULT_ROUTES:
            local |= _internet(route, around)
        else:
            local |= AddressSet.of((route,))
            logged |= AddressSet.of((route,))
    shielded = FilterConfig(shields_up=True, local_nets=local.prefixes(), log_nets=logged.prefixes())
    if prefs.shields_up:
        return shielded, shielded
    rules = netmap.packet_filter
    if _lets_in(rules and data_of(rules), unsigned):
        log.warning("the netmap's filter lets in a node that nobody has signed: its rules are not used")
        rules = NOTHING
    return replace(shielded, shields_up=False, rules=rules), shielded


def _alone(address: str) -> str:
    return address.partition("/")[0]


def _internet(default: str, around: Surroundings) -> AddressSet:
    """What an exit node serves: everything but the networks that its own host is attached to."""
    attached = [each for each in (*around.internal, *around.external) if (":" in each) == (":" in default)]
    subnets = AddressSet.of(each for each in attached if not each.endswith("/128" if ":" in each else "/32"))
    return ((AddressSet.of((default,)) - subnets) | AddressSet.of(map(_alone, attached))) - NEVER_BY_DEFAULT


def _lets_in(rules: Any, unsigned: Iterable[Node]) -> bool:
    """Whether a rule that leads anywhere has one of these nodes among its sources."""
    theirs = AddressSet.of(ip for node in unsigned for ip in node.allowed_ips)
    if not theirs:
        return False
    return any(theirs.overlaps(source) for rule in rules or () for source in _sources(rule))


def _sources(rule: dict[str, Any]) -> Iterator[AddressSet]:
    if not rule.get("DstPorts"):
        return
    for text in rule.get("SrcIPs") or ():
        if text == "*":
            yield EVERYTHING
        elif not text.startswith("cap:"):
            first, hyphen, last = text.partition("-")
            try:
                yield AddressSet.between(ip_address(first), ip_address(last)) if hyphen else AddressSet.of((text,))
            except (ConfigError, ValueError):
                yield EVERYTHING  # the filter may read it otherwise than we
