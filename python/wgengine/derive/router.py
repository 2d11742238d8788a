"""From peers and preferences to the host's routing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wgengine.address import interface_address
from wgengine.errors import ConfigError
from wgengine.ipset import AddressSet
from wgengine.ranges import SERVICE_V4, SERVICE_V6, is_tailscale_host
from wgengine.router_config import NetfilterKind, RouterConfig

if TYPE_CHECKING:
    from wgengine.derive.routes import Routes
    from wgengine.netmap import NetMap
    from wgengine.node import Node
    from wgengine.prefs import Prefs

__all__ = ["Surroundings", "one_cgnat_route", "router_config_of", "service_addresses"]

DEFAULT_ROUTES = ("0.0.0.0/0", "::/0")
# Where local traffic can be kept out of a tunnel that takes all the rest.
KEEPS_LOCAL = frozenset({"linux", "windows", "darwin", "ios", "android", "openbsd"})

ONE_CGNAT = {"one-cgnat?v=true": True, "one-cgnat?v=false": False}
NETFILTER_KINDS: dict[str, NetfilterKind] = {
    "linux-netfilter?v=iptables": "iptables",
    "linux-netfilter?v=nftables": "nftables",
}
SERVICE_HOST = "service-host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What our own host is attached to: addresses of its interfaces, each with the length of its subnet."""

    internal: tuple[str, ...] = ()  # of the loopback, and of networks of virtual machines within this host
    external: tuple[str, ...] = ()  # of all others but ours
    system: str = "linux"

    def __post_init__(self) -> None:
        for name in ("internal", "external"):
            try:
                object.__setattr__(self, name, tuple(map(interface_address, getattr(self, name))))
            except ConfigError as error:
                raise error.at(field=name) from None


def one_cgnat_route(node: Node | None, asked: bool | None) -> bool:
    """Whether all nodes' IPv4 addresses are one route; what is asked for wins over what the netmap says."""
    if asked is not None or node is None:
        return bool(asked)
    return next((on for cap, on in ONE_CGNAT.items() if node.has_cap(cap)), False)


def service_addresses(node: Node | None) -> tuple[str, ...]:
    """The addresses of services that we serve together with other nodes, in canonical text; others are passed over."""
    if node is None:
        return ()
    return tuple(dict.fromkeys(_service_addresses(node)))


def _service_addresses(node: Node) -> Iterator[str]:
    for services in node.cap_values(SERVICE_HOST):
        for addresses in services.values() if isinstance(services, dict) else ():
            for address in addresses if isinstance(addresses, list) else ():
                if isinstance(address, str) and "/" not in address:
                    try:
                        yield interface_address(address)
                    except ConfigError:
                        continue


def router_config_of(
    netmap: NetMap, prefs: Prefs, routes: Routes, around: Surroundings, *, one_cgnat: bool | None
) -> RouterConfig:
    """The host's routing for this netmap; `routes` is what the peers own."""
    node = netmap.self_node
    made = [*routes.prefixes(one_cgnat=one_cgnat_route(node, one_cgnat))]
    local: tuple[str, ...] = ()
    if prefs.exit_node is not None:
        # also where no peer serves them: traffic that was to go through an exit node is lost rather than leaked
        made += [default for default in DEFAULT_ROUTES if default not in made]
        if around.system in KEEPS_LOCAL:
            own = frozenset(netmap.addresses)
            local = _subnets(around.internal, own)
            external = _subnets(around.external, own)
            if prefs.allow_lan:
                local += external
            else:
                made += external
    v4 = any(":" not in ip for ip in netmap.addresses)
    v6 = any(":" in ip for ip in netmap.addresses)
    made += [service for service, ours in ((SERVICE_V4, v4), (SERVICE_V6, v6)) if ours]
    made += [address for address in service_addresses(node) if (v6 if ":" in address else v4)]
    return RouterConfig(
        local_addrs=netmap.addresses,
        local_routes=local,
        subnet_routes=prefs.advertise_routes,
        snat_subnet_routes=prefs.snat,
        stateful_filtering=prefs.stateful_filtering,
        netfilter_mode="on",
        netfilter_kind=_netfilter_kind(node),
    ).with_canonical_routes(made)


def _subnets(addresses: Iterable[str], own: frozenset[str]) -> tuple[str, ...]:
    """The subnets behind these addresses. Single addresses, and those of a tunnel, have none."""
    return AddressSet.of(
        each
        for each in addresses
        if not each.endswith("/128" if ":" in each else "/32")
        and each not in own
        and not is_tailscale_host(f"{each.partition('/')[0]}/{128 if ':' in each else 32}")
    ).prefixes()


def _netfilter_kind(node: Node | None) -> NetfilterKind:
    if node is None:
        return ""
    return next((kind for cap, kind in NETFILTER_KINDS.items() if node.has_cap(cap)), "")
