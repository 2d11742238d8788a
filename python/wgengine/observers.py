"""Who watches an engine: its health and its metrics, told of the same things."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from wgengine.changes import SetDNSConfig, SetRouter
from wgengine.events import HealthChanged
from wgengine.health import Health, socket_facts
from wgengine.metrics import EngineMetrics, Snapshot

if TYPE_CHECKING:
    from wgengine._native import Device
    from wgengine.changes import PartStep
    from wgengine.events import Event
    from wgengine.keys import PublicKey
    from wgengine.knobs import Knobs
    from wgengine.netmap import NetMap
    from wgengine.status import EngineStatus
    from wgengine.subsystem import LinkChange

__all__ = ["Observers"]

EXIT_ROUTES = frozenset({"0.0.0.0/0", "::/0"})


class Observers:
    """One engine's. All of it on the engine's event loop."""

    def __init__(self, knobs: Knobs, name: Callable[[PublicKey], str | None], health: Health | None = None) -> None:
        self.health = health or Health()
        self.metrics = EngineMetrics(knobs)
        self._name = name
        self._fake_error = knobs.fake_health_error

    def start(self, publish: Callable[[Event], None], *, any_interface_up: bool) -> None:
        """The engine runs from now on; what its health tells is an event like any other."""

        def tell(event: Event) -> None:
            # that an engine has just started is no news to whoever started it
            if not (isinstance(event, HealthChanged) and event.code == "warming-up"):
                publish(event)

        self.health.start(tell)
        self.health.update(any_interface_up=any_interface_up, fake_error=self._fake_error)

    def feed(self, event: Event) -> None:
        """What happened."""
        self.health.feed(event)
        self.metrics.feed(event)

    def told(self, step: PartStep, error: Exception | None) -> None:
        """A part was told something, and this is what it said."""
        said = "" if error is None else str(error) or type(error).__name__
        match step:
            case SetRouter():
                self.health.update(router_error=said)
            case SetDNSConfig():
                self.health.update(dns_error=said)

    def link_changed(self, change: LinkChange, major: bool) -> None:
        """The host's network has changed, and the engine follows."""
        self.health.update(any_interface_up=change.any_interface_up)
        self.metrics.link_changed(major=major)

    def reconfigured(self, seconds: float, result: str, device: Device) -> None:
        """A reconfiguration ended: `changed`, `nothing` or `error`."""
        self.metrics.reconfigured(seconds, result)
        facts = {} if result == "error" else {"running": True}
        self.health.update(**facts, **socket_facts(device.sockets()))

    def forget(self, peers: Iterable[PublicKey]) -> None:
        """These peers are gone."""
        self.health.forget(peers)

    def text(self, status: EngineStatus, netmap: NetMap | None, version: str) -> str:
        """All metrics, as Prometheus reads them."""
        return self.metrics.text(self._snapshot(status, netmap, version))

    def _snapshot(self, status: EngineStatus, netmap: NetMap | None, version: str) -> Snapshot:
        own = netmap.self_node if netmap is not None else None
        offered = own.hostinfo.routable_ips if own is not None else ()
        approved = own.allowed_ips if own is not None else ()
        return Snapshot(
            version=version,
            mode=status.mode,
            counters=status.counters,
            drops=status.drops,
            offloads=status.offloads,
            peers=[peer for peer in status.peers if not peer.trimmed],
            trimmed=sum(peer.trimmed for peer in status.peers),
            peer_name=self._name,
            advertised_routes=len(set(offered) - EXIT_ROUTES),
            approved_routes=len(set(offered).intersection(approved) - EXIT_ROUTES),
            health=self.health.severities(),
        )

    def close(self) -> None:
        self.health.close()
