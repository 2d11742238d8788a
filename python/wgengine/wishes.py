"""From what a caller hands in to a wish: what each part of this engine shall be. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wgengine.configurator import Wish
from wgengine.derive import Derived, derive
from wgengine.dns_config import DNSConfig, Resolver
from wgengine.reconfig import RouterLink, skipped_of, skipped_of_router
from wgengine.router_config import RouterConfig
from wgengine.sequence import Facts

if TYPE_CHECKING:
    from wgengine.config import Config
    from wgengine.knobs import Knobs
    from wgengine.netmap import NetMap
    from wgengine.prefs import Prefs

__all__ = ["Wishes"]

NO_ROUTES = RouterConfig()
NO_DNS = DNSConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What this engine can carry out, and how it is set."""

    listen_port: int = 0
    has_interface: bool = True
    """Whether the interface is ours to set up: there is one, and no router who does it."""
    has_router: bool = False
    has_dns: bool = False
    has_dialer: bool = False
    has_bird: bool = False
    has_vpn: bool = False

    def of_config(self, config: Config, knobs: Knobs) -> Wish:
        """For the configuration of a plain interface. Its peers are never trimmed: a keepalive that was asked for
        goes on.
        """
        wg = self._effective(config, knobs)
        skipped = skipped_of(wg, can_route_default=self.has_router, can_dns=self.has_dns)
        return Wish(
            wg=wg,
            link=wg if self.has_interface else None,
            router=_router_of(wg) if self.has_router else NO_ROUTES,
            dns=_dns_of(wg) if self.has_dns else NO_DNS,
            facts=self._facts(wg, knobs, None),
            skipped=tuple(skipped) if self.has_interface or self.has_router else (),
        )

    def of_netmap(self, netmap: NetMap, prefs: Prefs, knobs: Knobs, previous: Derived | None) -> tuple[Wish, Derived]:
        """For a netmap; what it came to makes the next one cheap."""
        one_cgnat = knobs.one_cgnat
        derived = derive(netmap, prefs, listen_port=self.listen_port, one_cgnat=one_cgnat, previous=previous)
        return self.of_configs(derived.wg, derived.router, derived.dns, knobs, netmap), derived

    def of_configs(
        self, config: Config, router: RouterConfig, dns: DNSConfig, knobs: Knobs, netmap: NetMap | None
    ) -> Wish:
        """For the three configurations themselves."""
        wg = self._effective(config, knobs)
        skipped = skipped_of_router(router, dns, has_router=self.has_router, has_dns=self.has_dns)
        return Wish(
            wg=wg,
            link=RouterLink.of(router, wg.mtu) if self.has_interface else None,
            router=router if self.has_router else NO_ROUTES,
            dns=dns if self.has_dns else NO_DNS,
            facts=self._facts(wg, knobs, netmap),
            skipped=tuple(skipped) if self.has_interface or self.has_router else (),
            lazy=knobs.trims,
        )

    def _effective(self, config: Config, knobs: Knobs) -> Config:
        port = 0 if knobs.randomize_client_port else config.listen_port or self.listen_port
        return config if port == config.listen_port else config.replace(listen_port=port)

    def _facts(self, wg: Config, knobs: Knobs, netmap: NetMap | None) -> Facts:
        return Facts(
            port=wg.listen_port,
            may_log_flows=knobs.has_netlog and not knobs.no_logs_no_support,
            dials_by_routes=knobs.user_dial_routes,
            has_router=self.has_router,
            has_dns=self.has_dns,
            has_dialer=self.has_dialer,
            has_vpn=self.has_vpn,
            subnet_router=_is_subnet_router(netmap) if self.has_bird and knobs.has_bird else None,
        )


def _router_of(config: Config) -> RouterConfig:
    """What a plain configuration asks of a router."""
    routes = () if config.table == "off" else (ip for peer in config.peers for ip in peer.allowed_ips)
    return RouterConfig(local_addrs=config.addresses, routes=routes, new_mtu=config.mtu or 0)


def _dns_of(config: Config) -> DNSConfig:
    """What it asks of name resolution."""
    resolvers = tuple(Resolver(addr=ip) for ip in config.dns)
    return DNSConfig(default_resolvers=resolvers, search_domains=config.dns_search)


def _is_subnet_router(netmap: NetMap | None) -> bool:
    """Whether we are the primary router of a subnet that we offer: the very prefix, not one like it."""
    own = netmap.self_node if netmap is not None else None
    return own is not None and not frozenset(own.primary_routes).isdisjoint(own.hostinfo.routable_ips)
