"""The engine for code without an event loop: `with Engine(config) as engine:`. A thread of its own serves it.

Written by tools/gen_sync.py from engine.py; change that one and run `python tools/gen_sync.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from wgengine.bridge import Listener, LoopThread
from wgengine.engine import Engine as _Engine
from wgengine.knobs import Knobs

if TYPE_CHECKING:
    from wgengine._native import PeerState
    from wgengine.changes import Changes
    from wgengine.config import Config
    from wgengine.dns_config import DNSConfig
    from wgengine.engine import Mode
    from wgengine.events import Event
    from wgengine.health import Health
    from wgengine.keys import PublicKey
    from wgengine.netmap import NetMap
    from wgengine.peers import PeerForIP
    from wgengine.ping import Kind, PingResult
    from wgengine.prefs import Prefs
    from wgengine.router_config import RouterConfig
    from wgengine.status import EngineStatus
    from wgengine.status_requests import StatusCallback
    from wgengine.subsystem import BirdClient, Dialer, DNSManager, NetMonitor, NetworkLogger, Router
    from wgengine.whois import Whois

__all__ = ["Engine"]


class Engine:
    """A WireGuard engine: `with Engine(config) as engine:`.

    `config` is a Config or a NetMap. `mode` is "tun" (a kernel interface, set up by the engine), "memory" (no
    interface: packets go through `memory_fd`), "fake" (the same, for tests) or "auto" (tun). `name` names the
    interface, or `tun_fd` lends one that is open already. `listen_port` serves where the configuration leaves the port
    open. With `uapi` the tools `wg` and `wg-quick` work on a tun engine.

    `router`, `dns`, `dialer`, `netmon`, `flow_log` and `bird` are the parts of `wgengine.subsystem`; without a router
    the engine sets up its own interface and nothing else of the host, without the others those parts do nothing.
    `reconfigure_vpn` is called after routes and DNS where a platform takes all at once. `respond_to_ping` answers pings
    inside the engine. `subsystems` is called with each part once the engine has started.
    """

    def __init__(
        self,
        config: Config | NetMap | None = None,
        *,
        mode: Mode = "auto",
        name: str | None = None,
        tun_fd: int | None = None,
        listen_port: int = 0,
        uapi: bool = True,
        router: Router | None = None,
        dns: DNSManager | None = None,
        dialer: Dialer | None = None,
        netmon: NetMonitor | None = None,
        flow_log: NetworkLogger | None = None,
        bird: BirdClient | None = None,
        health: Health | None = None,
        reconfigure_vpn: Callable[[], Any] | None = None,
        respond_to_ping: bool = False,
        subsystems: Callable[[object], None] | None = None,
        knobs: Knobs = Knobs(),  # noqa: B008 (frozen)
    ) -> None:
        self._engine = _Engine(
            config,
            mode=mode,
            name=name,
            tun_fd=tun_fd,
            listen_port=listen_port,
            uapi=uapi,
            router=router,
            dns=dns,
            dialer=dialer,
            netmon=netmon,
            flow_log=flow_log,
            bird=bird,
            health=health,
            reconfigure_vpn=reconfigure_vpn,
            respond_to_ping=respond_to_ping,
            subsystems=subsystems,
            knobs=knobs,
        )
        self._thread = LoopThread()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._thread.run(self._engine.__aenter__())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_ours:
            self.close()

    @classmethod
    def fake(
        cls,
        *,
        listen_port: int = 0,
        respond_to_ping: bool = True,
        subsystems: Callable[[object], None] | None = None,
        knobs: Knobs = Knobs(),  # noqa: B008 (frozen)
    ) -> Self:
        """An engine for tests: it touches nothing of the host but a UDP port, and answers pings by itself."""
        return cls(
            mode="fake",
            listen_port=listen_port,
            respond_to_ping=respond_to_ping,
            subsystems=subsystems,
            knobs=knobs,
        )

    @property
    def name(self) -> str | None:
        """The interface's name: the one asked for, and once the engine runs the one it has."""
        return self._engine.name

    @property
    def mode(self) -> str:
        """How packets are carried: "tun", "memory" or "fake"."""
        return self._engine.mode

    @property
    def knobs(self) -> Knobs:
        """The knobs as they are set; a netmap's node attributes override them."""
        return self._engine.knobs

    def set_knobs(self, knobs: Knobs) -> None:
        """Turn knobs. What concerns peers, ports and parts takes effect at the next reconfiguration."""
        return self._engine.set_knobs(knobs)

    @property
    def tun_fd(self) -> int | None:
        """The descriptor of its TUN, not to be closed; before the engine runs, the one that is lent to it."""
        return self._engine.tun_fd

    @property
    def memory_fd(self) -> int | None:
        """Without an interface, the device's far end: a message is a 10-byte virtio-net header and an IP packet."""
        return self._engine.memory_fd

    @property
    def closed(self) -> bool:
        return self._engine.closed

    @property
    def health(self) -> Health:
        """What is wrong with it, since when, and what to do about it."""
        return self._engine.health

    @property
    def netmap(self) -> NetMap | None:
        """The netmap in use."""
        return self._engine.netmap

    def close(self) -> None:
        """Stop and take everything down: the interface, its addresses and routes. Again: waits for the same end."""
        self._thread.finish(self._engine.close)

    def wait_closed(self) -> None:
        """Wait until the engine is closed."""
        self._thread.outlast(self._engine.wait_closed)

    def apply(self, config: Config | NetMap, *, prefs: Prefs | None = None) -> Changes:
        """Make the engine be as a configuration or a netmap says, by the differences only; sessions of unchanged peers
        go on. `prefs` are what the user of this node wants of a netmap.

        A device error, such as a port in use, is raised as it is, and the parts after it are not told. What they and
        the interface refuse comes joined in a `ReconfigError`, after everything else was done; the next call tries it
        again.
        """
        return self._thread.run(self._engine.apply(config, prefs=prefs))

    def reconfig(self, wg: Config, router: RouterConfig, dns: DNSConfig) -> Changes:
        """The same by the three configurations themselves: peers without traffic are trimmed, as for a netmap."""
        return self._thread.run(self._engine.reconfig(wg, router, dns))

    def plan(self, config: Config | NetMap, *, prefs: Prefs | None = None) -> Changes:
        """What `apply` would do, not done."""
        return self._engine.plan(config, prefs=prefs)

    def plan_reconfig(self, wg: Config, router: RouterConfig, dns: DNSConfig) -> Changes:
        """What `reconfig` would do, not done."""
        return self._engine.plan_reconfig(wg, router, dns)

    def set_netmap(self, netmap: NetMap | None) -> None:
        """Answer by this netmap from now on: who owns an address, where pings come from. Reconfigures nothing."""
        return self._thread.call(lambda: self._engine.set_netmap(netmap))

    def reset_and_stop(self, *, timeout: float = 10.0) -> EngineStatus:
        """Take every peer, route and name server away, and wait until none is left. `TimedOutError` when that takes
        longer (seconds).
        """
        return self._thread.run(self._engine.reset_and_stop(timeout=timeout))

    def status(self, full: bool = False) -> EngineStatus:
        """What the engine and its peers are doing; `full` with what the netmap says of each."""
        return self._thread.run(self._engine.status(full))

    def on_status(self, callback: StatusCallback) -> Callable[[], None]:
        """Call `callback(status, None)` or `callback(None, error)` whenever a status was requested, on the engine's
        loop, one call at a time. The result ends it.
        """
        return self._engine.on_status(callback)

    def request_status(self) -> None:
        """Have the status told to whoever listens by `on_status`, soon."""
        return self._thread.call(lambda: self._engine.request_status())

    def metrics_text(self) -> str:
        """What it counts, as Prometheus reads it: text format 0.0.4."""
        return self._thread.run(self._engine.metrics_text())

    def events(self) -> Listener[Event]:
        """What happens from now on, in a bounded queue of the caller's own: `for event in engine.events()`."""
        subscription = self._thread.call(lambda: self._engine.events())
        return Listener(self._thread, subscription, subscription.close)

    def ping(self, ip: str, *, kind: Kind = "auto", size: int = 0, timeout: float = 10.0) -> PingResult:
        """Ping an address through the tunnel: by "tsmp" (the peer's engine answers) or "icmp" (its system does), which
        "auto" is too. Always one result within `timeout` seconds. Raises for bad arguments and a closed engine only.
        """
        return self._thread.run(self._engine.ping(ip, kind=kind, size=size, timeout=timeout))

    def peer_for_ip(self, ip: str) -> PeerForIP | None:
        """The node of the netmap that packets to this address go to; ours among them."""
        return self._engine.peer_for_ip(ip)

    def whois(self, ip: str) -> Whois | None:
        """Whose an address is: node, user and capabilities, as the netmap has them."""
        return self._engine.whois(ip)

    def peer_by_key(self, key: PublicKey) -> PeerState | None:
        """The device's peer with this key, as it is now; looking wakes nobody."""
        return self._thread.call(lambda: self._engine.peer_by_key(key))
