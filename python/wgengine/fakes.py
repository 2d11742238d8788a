"""Parts that do nothing, for an engine that was given none: each says once that it is not the real thing.

They are what the engine calls where the host is not to be touched; tests that want to see the calls record them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from wgengine.subsystem import LinkChange, LinkState

if TYPE_CHECKING:
    from wgengine.dns_config import DNSConfig
    from wgengine.netmap import NetMap
    from wgengine.network_logging import NetworkLogging
    from wgengine.router_config import RouterConfig

__all__ = ["FakeDNSManager", "FakeDialer", "FakeNetMonitor", "FakeNetworkLogger", "FakeRouter"]

log = logging.getLogger("wgengine.fakes")


class FakeRouter:
    """Leaves the host's routes as they are."""

    def __init__(self) -> None:
        self._said = False

    def _say(self) -> None:
        if not self._said:
            self._said = True
            log.debug("routes are left as they are: this engine has no router")

    def up(self) -> None:
        self._say()

    def set(self, config: RouterConfig | None) -> None:
        self._say()

    def close(self) -> None:
        self._say()


class FakeDNSManager:
    """Leaves the host's name resolution as it is."""

    def set(self, config: DNSConfig) -> None:
        pass

    def flush_caches(self) -> None:
        pass

    def down(self) -> None:
        pass


class FakeDialer:
    """Dials nothing; remembers what it was told."""

    def __init__(self) -> None:
        self.tun_name = ""
        self.routes: tuple[str, ...] = ()
        self.local_routes: tuple[str, ...] = ()

    def set_tun_name(self, name: str) -> None:
        self.tun_name = name

    def set_routes(self, routes: Iterable[str], local_routes: Iterable[str]) -> None:
        self.routes, self.local_routes = tuple(routes), tuple(local_routes)


class FakeNetMonitor:
    """A network that is up and never changes, unless `inject` says so."""

    def __init__(self, *, any_interface_up: bool = True) -> None:
        self._state = LinkState(any_interface_up=any_interface_up, description="not watched")
        self._listeners: list[Callable[[LinkChange], None]] = []

    def start(self) -> None:
        pass

    def state(self) -> LinkState:
        return self._state

    def subscribe(self, changed: Callable[[LinkChange], None]) -> Callable[[], None]:
        self._listeners.append(changed)

        def end() -> None:
            if changed in self._listeners:
                self._listeners.remove(changed)

        return end

    def inject(self, change: LinkChange) -> None:
        """Tell every listener of a change."""
        self._state = LinkState(any_interface_up=change.any_interface_up, description=change.description)
        for listener in tuple(self._listeners):
            listener(change)

    def close(self) -> None:
        self._listeners.clear()


class FakeNetworkLogger:
    """Logs no flow; knows whether it should."""

    def __init__(self) -> None:
        self._running = False

    def running(self) -> bool:
        return self._running

    def startup(self, netmap: NetMap | None, logging: NetworkLogging) -> None:
        self._running = True

    def reconfig_network_map(self, netmap: NetMap) -> None:
        pass

    def reconfig_routes(self, config: RouterConfig) -> None:
        pass

    def shutdown(self, timeout: float) -> None:
        self._running = False
