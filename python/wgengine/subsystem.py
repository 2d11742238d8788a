"""What the engine asks of the parts that it joins: each interface is as small as the engine's own calls.

A method may be a plain function or a coroutine function. Plain ones are called in the engine's own thread, one after
the other, so they may block; coroutines are awaited on its event loop. What one raises is told (`ReconfigError`,
health, the log), never swallowed, and never ends the engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from wgengine.dns_config import DNSConfig
    from wgengine.keys import PrivateKey, PublicKey
    from wgengine.netmap import NetMap, Node
    from wgengine.network_logging import NetworkLogging
    from wgengine.router_config import RouterConfig

__all__ = [
    "BirdClient",
    "DNSManager",
    "Dialer",
    "LinkChange",
    "LinkState",
    "NetMonitor",
    "NetworkLogger",
    "Router",
    "Sock",
]

Done: TypeAlias = Awaitable[None] | None


class Router(Protocol):
    """Addresses, routes and firewall of the host, as far as they are ours."""

    def up(self) -> Done:
        """Called once, when the interface exists."""

    def set(self, config: RouterConfig | None) -> Done:
        """Make the host be so; None takes everything of ours away. The same configuration twice changes nothing."""

    def close(self) -> Done:
        """Take everything of ours away, and end."""


class DNSManager(Protocol):
    """Name resolution: the host's settings and our own resolver."""

    def set(self, config: DNSConfig) -> Done:
        """Resolve so from now on. Called again with the same configuration when the network changed much: others may
        have overwritten ours.
        """

    def flush_caches(self) -> Done:
        """Forget answers: the network has changed."""

    def down(self) -> Done:
        """Give the host its own settings back, and end."""


class Dialer(Protocol):
    """Opens connections of the engine and of its user."""

    def set_tun_name(self, name: str) -> Done: ...

    def set_routes(self, routes: Iterable[str], local_routes: Iterable[str]) -> Done:
        """Destinations that are dialled through the tunnel, and exceptions from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """The host's interfaces, as far as the engine asks."""

    any_interface_up: bool
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChange:
    """The host's network has changed."""

    any_interface_up: bool
    rebind_likely_required: bool = False
    """A major change: another default interface or address, or time has jumped."""
    description: str = ""


class NetMonitor(Protocol):
    """Watches the host's network."""

    def start(self) -> Done: ...

    def state(self) -> LinkState: ...

    def subscribe(self, changed: Callable[[LinkChange], None]) -> Callable[[], None]:
        """Tell of every change from now on; the result ends it. May be called from any thread."""

    def close(self) -> Done: ...


class Sock(Protocol):
    """The way to peers: UDP, and with time discovery and relays."""

    def set_private_key(self, key: PrivateKey) -> Done: ...

    def update_peers(self, keys: frozenset[PublicKey]) -> Done: ...

    def set_preferred_port(self, port: int) -> Done:
        """0: any. What is bound stays where it serves."""

    def local_port(self) -> int: ...

    def should_pmtud(self) -> bool:
        """Whether path MTUs are to be probed, by knobs and platform."""

    def peer_mtu_enabled(self) -> bool:
        """Whether they are."""

    def update_pmtud(self) -> Done: ...

    def set_network_up(self, up: bool) -> Done: ...

    def rebind(self) -> Done: ...

    def restun(self, why: str) -> Done: ...

    def derps(self) -> int:
        """Open connections to relays."""

    def disco_public_key(self) -> PublicKey | None: ...

    def handle_disco_key_advertisement(self, node: Node, key: PublicKey) -> Done: ...

    def close(self) -> Done: ...


class NetworkLogger(Protocol):
    """Logs flows."""

    def running(self) -> bool: ...

    def startup(self, netmap: NetMap | None, logging: NetworkLogging) -> Done: ...

    def reconfig_network_map(self, netmap: NetMap) -> Done: ...

    def reconfig_routes(self, config: RouterConfig) -> Done: ...

    def shutdown(self, timeout: float) -> Done:
        """Send what is left, for at most so long (seconds)."""


class BirdClient(Protocol):
    """Tells BIRD whether we route subnets."""

    def enable_protocol(self, protocol: str) -> Done: ...

    def disable_protocol(self, protocol: str) -> Done: ...

    def close(self) -> Done: ...
