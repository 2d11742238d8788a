"""A WireGuard engine inside a Python process: boringtun and a Rust packet loop move the packets, Python decides.

    async with wgengine.Engine(wgengine.Config.from_file("wg0.conf")) as engine:
        async for event in engine.events():
            print(event)

Names are loaded when first used: importing the package costs little, starts no thread and opens no file.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wgengine._native import version as __version__
    from wgengine.config import Config, Endpoint, NetworkLogging, Peer
    from wgengine.dns_config import DNSConfig, Resolver
    from wgengine.engine import Engine
    from wgengine.errors import (
        ClosedError,
        ConfigError,
        DamagedError,
        Error,
        ForkedError,
        PrivilegeError,
        ReconfigError,
        StateError,
        TimedOutError,
    )
    from wgengine.events import (
        ConfigChanged,
        DiscoKeyAdvertised,
        EndpointChanged,
        Event,
        EventsLost,
        Failed,
        HandshakeFailed,
        HandshakeUnanswered,
        HealthChanged,
        LinkChanged,
        OffloadOff,
        PathTooSmall,
        PeerWoke,
        PingExpired,
        Pong,
        Resolved,
        ResolveFailed,
        SessionUp,
        Subscription,
        TunLost,
        UapiRefused,
        UapiRemoved,
    )
    from wgengine.keys import PresharedKey, PrivateKey, PublicKey
    from wgengine.knobs import Knobs
    from wgengine.netmap import Hostinfo, NetMap, Node, UserProfile
    from wgengine.peers import PeerForIP
    from wgengine.ping import PingResult
    from wgengine.prefs import Prefs
    from wgengine.reconfig import Changes
    from wgengine.router_config import RouterConfig
    from wgengine.status import EngineStatus, PeerStatus
    from wgengine.whois import Whois

__all__ = [
    "Changes",
    "ClosedError",
    "Config",
    "ConfigChanged",
    "ConfigError",
    "DNSConfig",
    "DamagedError",
    "DiscoKeyAdvertised",
    "Endpoint",
    "EndpointChanged",
    "Engine",
    "EngineStatus",
    "Error",
    "Event",
    "EventsLost",
    "Failed",
    "ForkedError",
    "HandshakeFailed",
    "HandshakeUnanswered",
    "HealthChanged",
    "Hostinfo",
    "Knobs",
    "LinkChanged",
    "NetMap",
    "NetworkLogging",
    "Node",
    "OffloadOff",
    "PathTooSmall",
    "Peer",
    "PeerForIP",
    "PeerStatus",
    "PeerWoke",
    "PingExpired",
    "PingResult",
    "Pong",
    "Prefs",
    "PresharedKey",
    "PrivateKey",
    "PrivilegeError",
    "PublicKey",
    "ReconfigError",
    "ResolveFailed",
    "Resolved",
    "Resolver",
    "RouterConfig",
    "SessionUp",
    "StateError",
    "Subscription",
    "TimedOutError",
    "TunLost",
    "UapiRefused",
    "UapiRemoved",
    "UserProfile",
    "Whois",
    "__version__",
]

# Who uses a library decides where its log goes (PEP 282's "NullHandler" advice); never the root logger.
logging.getLogger("wgengine").addHandler(logging.NullHandler())

_ROOMS = {
    "config": ("Config", "Endpoint", "NetworkLogging", "Peer"),
    "dns_config": ("DNSConfig", "Resolver"),
    "engine": ("Engine",),
    "errors": (
        "ClosedError",
        "ConfigError",
        "DamagedError",
        "Error",
        "ForkedError",
        "PrivilegeError",
        "ReconfigError",
        "StateError",
        "TimedOutError",
    ),
    "events": (
        "ConfigChanged",
        "DiscoKeyAdvertised",
        "EndpointChanged",
        "Event",
        "EventsLost",
        "Failed",
        "HandshakeFailed",
        "HandshakeUnanswered",
        "HealthChanged",
        "LinkChanged",
        "OffloadOff",
        "PathTooSmall",
        "PeerWoke",
        "PingExpired",
        "Pong",
        "ResolveFailed",
        "Resolved",
        "SessionUp",
        "Subscription",
        "TunLost",
        "UapiRefused",
        "UapiRemoved",
    ),
    "keys": ("PresharedKey", "PrivateKey", "PublicKey"),
    "knobs": ("Knobs",),
    "netmap": ("Hostinfo", "NetMap", "Node", "UserProfile"),
    "peers": ("PeerForIP",),
    "ping": ("PingResult",),
    "prefs": ("Prefs",),
    "reconfig": ("Changes",),
    "router_config": ("RouterConfig",),
    "status": ("EngineStatus", "PeerStatus"),
    "whois": ("Whois",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "__version__":
        value = import_module("wgengine._native").version
    elif name in _ROOM_OF:
        value = getattr(import_module(f"wgengine.{_ROOM_OF[name]}"), name)
    else:
        raise AttributeError(f"module 'wgengine' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
