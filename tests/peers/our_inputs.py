"""The plain data of generated sequences as our own types."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from wgengine.config import Config, Peer
from wgengine.dns_config import DNSConfig
from wgengine.keys import PrivateKey, PublicKey
from wgengine.netmap import NetMap as OurNetMap
from wgengine.router_config import RouterConfig

from peers.twin_sequences import Names, NetMap, Reconfig, Routes, SomePeer, netmap_json


@lru_cache(maxsize=100_000)
def public(key: str) -> PublicKey:
    return PublicKey.from_hex(key)


@lru_cache(maxsize=100_000)
def our_peer(some: SomePeer) -> Peer:
    return Peer(
        public_key=public(some.key),
        disco_key=public(some.disco) if some.disco else None,
        allowed_ips=some.allowed_ips,
    )


def our_config(step: Reconfig, *, listen_port: int = 0) -> Config:
    return Config(
        private_key=PrivateKey.from_hex(step.private_key),
        listen_port=listen_port,
        addresses=step.addresses,
        peers=[our_peer(some) for some in step.peers],
    )


def our_router(routes: Routes) -> RouterConfig:
    return RouterConfig(local_addrs=routes.local_addrs, routes=routes.routes, local_routes=routes.local_routes)


def our_dns(names: Names) -> DNSConfig:
    return DNSConfig(default_resolvers=names.resolvers, routes=dict(names.routes), search_domains=names.search)


def our_netmap(step: NetMap) -> OurNetMap:
    return OurNetMap.from_dict(netmap_json(step))


def router_by_go(config: RouterConfig) -> dict[str, Any]:
    """Our router configuration by the names that the twin has for it."""
    return {
        "LocalAddrs": list(config.local_addrs),
        "Routes": list(config.routes),
        "LocalRoutes": list(config.local_routes),
    }
