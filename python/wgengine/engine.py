"""The engine: it joins the device in Rust, the interface, the resolver, the events and whatever parts it is given.

One thread per engine makes the calls that may block, one after the other; the event loop only ever waits. Nothing here
touches a packet.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar

from wgengine._native import version
from wgengine.address import ip_address
from wgengine.arguments import check_arguments, check_config, check_type
from wgengine.changes import Changes, RemovePeer
from wgengine.conductor import Conductor, Parts
from wgengine.config import Config, Peer
from wgengine.configurator import Configurator, Wish
from wgengine.dns_config import DNSConfig
from wgengine.endpoint_names import EndpointNames
from wgengine.errors import ClosedError, Error, ReconfigError, StateError
from wgengine.events import (
    Broadcaster,
    ConfigChanged,
    Event,
    EventsLost,
    Failed,
    ResolveFailed,
    Subscription,
    TunLost,
    from_native,
)
from wgengine.fakes import FakeDialer, FakeDNSManager, FakeNetMonitor, FakeNetworkLogger, FakeRouter
from wgengine.forks import Owner
from wgengine.intent import Intent
from wgengine.knobs import Knobs
from wgengine.lazy import LazyPeers
from wgengine.link import Link, open_link
from wgengine.link_changes import LinkChanges
from wgengine.native_plan import to_native
from wgengine.observers import Observers
from wgengine.open_device import open_device
from wgengine.outside import Tunnel
from wgengine.ping import Kind, PingResult, Pings, ask
from wgengine.prefs import Prefs
from wgengine.router_config import RouterConfig
from wgengine.status import EngineStatus, status_of
from wgengine.status_requests import StatusCallback, StatusRequests
from wgengine.trim import Trimmer
from wgengine.whois import Whois, whois
from wgengine.wishes import Wishes

if TYPE_CHECKING:
    from wgengine._native import Device, PeerState
    from wgengine.device_plan import DevicePlan
    from wgengine.health import Health
    from wgengine.keys import PublicKey
    from wgengine.netmap import NetMap
    from wgengine.peers import PeerForIP
    from wgengine.subsystem import BirdClient, Dialer, DNSManager, LinkChange, NetMonitor, NetworkLogger, Router
    from wgengine.trim import Decision

__all__ = ["Engine", "Mode"]

log = logging.getLogger("wgengine.engine")

Mode: TypeAlias = Literal["auto", "tun", "memory", "fake"]
T = TypeVar("T")

_LINK_CHANGE_PATIENCE_S = 5.0


class Engine:
    """A WireGuard engine: `async with Engine(config) as engine:`.

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
        check_arguments(config, mode, name, tun_fd, listen_port)
        self._config = config
        self._mode: Literal["tun", "memory", "fake"] = "tun" if mode in ("auto", "tun") else mode  # type: ignore[assignment]
        self._name = name
        self._tun_fd = tun_fd
        self._uapi = uapi and self._mode == "tun"
        self._respond_to_ping = respond_to_ping
        self._subsystems = subsystems
        self._owner = Owner()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._device: Device | None = None
        self._link: Link | None = None
        self._names: EndpointNames | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed_event = asyncio.Event()
        self._applying = asyncio.Lock()
        self._broadcaster = Broadcaster(knobs.event_queue)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="wgengine")
        self._parts = Parts(
            router=router or FakeRouter(),
            dns=dns or FakeDNSManager(),
            dialer=dialer or FakeDialer(),
            flow_log=flow_log or FakeNetworkLogger(),
            netmon=netmon or FakeNetMonitor(),
            owns_netmon=netmon is None,
            bird=bird,
            reconfigure_vpn=reconfigure_vpn,
        )
        wishes = Wishes(
            listen_port=listen_port,
            has_interface=self._mode == "tun" and router is None,
            has_router=router is not None,
            has_dns=dns is not None,
            has_dialer=dialer is not None,
            has_bird=bird is not None,
            has_vpn=reconfigure_vpn is not None,
        )
        self._intent = Intent(wishes, knobs)
        trimmer = Trimmer(trim_subnet_peers=knobs.trim_subnet_peers, sweeps=knobs.trim_sweep)
        self._observers = Observers(knobs, self._intent.name, health)
        self._conductor = Conductor(self._parts, self._call, self._observers.told)
        self._configurator = Configurator(self._conductor, trimmer, self._call)
        self._lazy = LazyPeers(
            trimmer,
            activity=lambda: self._running(failed_too=True).activity(),
            carry_out=self._trim,
            status_due=self.request_status,
        )
        self._link_changes = LinkChanges(
            self._conductor, desired_dns=lambda: self._intent.dns, seen=self._observers.link_changed
        )
        self._status_requests = StatusRequests(self.status)
        self._pings = Pings()
        self._unsubscribe: Callable[[], None] = lambda: None
        self._failure: str | None = None

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

    # -- What it is.

    @property
    def name(self) -> str | None:
        """The interface's name: the one asked for, and once the engine runs the one it has."""
        return self._device.name if self._device is not None else self._name

    @property
    def mode(self) -> str:
        """How packets are carried: "tun", "memory" or "fake"."""
        return self._mode

    @property
    def knobs(self) -> Knobs:
        """The knobs as they are set; a netmap's node attributes override them."""
        return self._intent.knobs

    def set_knobs(self, knobs: Knobs) -> None:
        """Turn knobs. What concerns peers, ports and parts takes effect at the next reconfiguration."""
        self._owner.check()
        self._intent.knobs = knobs

    @property
    def tun_fd(self) -> int | None:
        """The descriptor of its TUN, not to be closed; before the engine runs, the one that is lent to it."""
        return self._device.tun_fd if self._device is not None and self._mode == "tun" else self._tun_fd

    @property
    def memory_fd(self) -> int | None:
        """Without an interface, the device's far end: a message is a 10-byte virtio-net header and an IP packet."""
        return self._device.memory_fd if self._device is not None else None

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def health(self) -> Health:
        """What is wrong with it, since when, and what to do about it."""
        return self._observers.health

    @property
    def netmap(self) -> NetMap | None:
        """The netmap in use."""
        return self._intent.netmap

    # -- Its life.

    async def __aenter__(self) -> Self:
        self._owner.check()
        if self._loop is not None or self._closed:
            raise StateError("an engine is started once; make another Engine")
        self._loop = asyncio.get_running_loop()
        try:
            await self._start(self._loop)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owner.is_here:  # a forked child that leaves this block leaves the parent's engine alone
            await self.close()

    async def close(self) -> None:
        """Stop and take everything down: the interface, its addresses and routes. Again: waits for the same end."""
        self._owner.check()
        if self._loop is None or self._loop.is_closed():  # never started, or its loop ended before it
            await self._stop_device()
            return
        self._check_loop()
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(), name="wgengine-close")
        await asyncio.shield(self._closing)

    async def wait_closed(self) -> None:
        """Wait until the engine is closed."""
        self._owner.check()
        await self._closed_event.wait()

    # -- What it does.

    async def apply(self, config: Config | NetMap, *, prefs: Prefs | None = None) -> Changes:
        """Make the engine be as a configuration or a netmap says, by the differences only; sessions of unchanged peers
        go on. `prefs` are what the user of this node wants of a netmap.

        A device error, such as a port in use, is raised as it is, and the parts after it are not told. What they and
        the interface refuse comes joined in a `ReconfigError`, after everything else was done; the next call tries it
        again.
        """
        self._running()
        check_config(config)
        # shielded: a caller who is cancelled must not leave us ignorant of what was applied
        return await asyncio.shield(self._task(self._apply(config, prefs or Prefs()), "wgengine-apply"))

    async def reconfig(self, wg: Config, router: RouterConfig, dns: DNSConfig) -> Changes:
        """The same by the three configurations themselves: peers without traffic are trimmed, as for a netmap."""
        self._running()
        check_type(wg, Config)
        check_type(router, RouterConfig)
        check_type(dns, DNSConfig)
        return await asyncio.shield(self._task(self._reconfig(wg, router, dns), "wgengine-reconfig"))

    def plan(self, config: Config | NetMap, *, prefs: Prefs | None = None) -> Changes:
        """What `apply` would do, not done."""
        self._owner.check()
        check_config(config)
        return self._planned(self._intent.wish(config, prefs or Prefs()))

    def plan_reconfig(self, wg: Config, router: RouterConfig, dns: DNSConfig) -> Changes:
        """What `reconfig` would do, not done."""
        self._owner.check()
        return self._planned(self._intent.wish_of_configs(wg, router, dns))

    def set_netmap(self, netmap: NetMap | None) -> None:
        """Answer by this netmap from now on: who owns an address, where pings come from. Reconfigures nothing."""
        self._owner.check()
        self._intent.set_netmap(netmap)

    async def reset_and_stop(self, *, timeout: float = 10.0) -> EngineStatus:
        """Take every peer, route and name server away, and wait until none is left. `TimedOutError` when that takes
        longer (seconds).
        """
        device = self._running()
        key = self._configurator.applied.private_key if self._configurator.applied is not None else None
        if key is not None:
            async with asyncio.timeout(timeout):
                await self.reconfig(Config(private_key=key), RouterConfig(), DNSConfig())
        return await self._call(self._status, device)

    async def status(self, full: bool = False) -> EngineStatus:
        """What the engine and its peers are doing; `full` with what the netmap says of each."""
        status = await self._call(self._status, self._running(failed_too=True))
        status = replace(status, health=tuple(self.health.strings()))
        return status.with_nodes(self._intent.node) if full else status

    def on_status(self, callback: StatusCallback) -> Callable[[], None]:
        """Call `callback(status, None)` or `callback(None, error)` whenever a status was requested, on the engine's
        loop, one call at a time. The result ends it.
        """
        self._owner.check()
        return self._status_requests.listen(callback)

    def request_status(self) -> None:
        """Have the status told to whoever listens by `on_status`, soon."""
        self._running(failed_too=True)
        self._status_requests.request()

    async def metrics_text(self) -> str:
        """What it counts, as Prometheus reads it: text format 0.0.4."""
        status = await self.status()
        return await self._call(self._observers.text, status, self._intent.netmap, version)

    def events(self) -> Subscription:
        """What happens from now on, in a bounded queue of the caller's own: `async for event in engine.events()`."""
        self._owner.check()
        return self._broadcaster.subscribe()

    async def ping(self, ip: str, *, kind: Kind = "auto", size: int = 0, timeout: float = 10.0) -> PingResult:
        """Ping an address through the tunnel: by "tsmp" (the peer's engine answers) or "icmp" (its system does), which
        "auto" is too. Always one result within `timeout` seconds. Raises for bad arguments and a closed engine only.
        """
        device, applied = self._running(), self._configurator.applied
        own = applied.addresses if applied is not None else ()
        asked = ask(ip, kind=kind, size=size, timeout=timeout, index=self._intent.index, own=own)
        if isinstance(asked, PingResult):
            return asked
        result = await self._pings.send(asked, device.ping)
        peer = device.owner(asked.destination) if not device.closed else None
        if peer is not None:
            self._observers.metrics.pinged(result.kind, peer, result.latency)
        state = device.peer_state(peer) if peer is not None else None
        return replace(result, endpoint=state.endpoint) if state is not None else result

    def peer_for_ip(self, ip: str) -> PeerForIP | None:
        """The node of the netmap that packets to this address go to; ours among them."""
        self._owner.check()
        return self._intent.index.peer_for_ip(ip)

    def whois(self, ip: str) -> Whois | None:
        """Whose an address is: node, user and capabilities, as the netmap has them."""
        self._owner.check()
        return whois(ip_address(ip), self._intent.netmap, self._intent.index)

    def peer_by_key(self, key: PublicKey) -> PeerState | None:
        """The device's peer with this key, as it is now; looking wakes nobody."""
        return self._running(failed_too=True).peer_state(key)

    # -- Starting and ending.

    async def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        await self._conductor.begin()
        self._device = device = await self._call(self._open)
        # at the latest when the interpreter exits, and never in a forked child, whose threads do not exist
        self._finalizer = weakref.finalize(self, _close_here, device, self._owner)
        if self._mode == "tun":
            self._link = open_link(device.name, device.ifindex)
        self._names = EndpointNames(
            device=self._running, commit=self._commit, tunnel=self._tunnel, publish=self._publish
        )
        loop.add_reader(device.event_fd, self._pump)
        self._unsubscribe = self._parts.netmon.subscribe(self._network_changed)
        await self._conductor.begin_with(device.name)
        self._observers.start(self._publish, any_interface_up=self._parts.netmon.state().any_interface_up)
        log.info("%s: started in mode %s", device.name, self._mode)
        for part in (device, self._parts.dns, self._parts.router, self._parts.dialer, self._parts.netmon):
            if self._subsystems is not None:
                self._subsystems(part)
        if self._config is not None:
            await self.apply(self._config)

    def _network_changed(self, change: LinkChange) -> None:
        """Called from whichever thread the monitor has."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._link_changes.put, change)

    def _open(self) -> Device:
        mtu = self._config.mtu if isinstance(self._config, Config) else None
        return open_device(
            name=self._name,
            tun_fd=self._tun_fd,
            memory=self._mode != "tun",
            mtu=mtu or 0,
            uapi=self._uapi,
            respond_to_ping=self._respond_to_ping,
            knobs=self._intent.knobs,
        )

    async def _close(self) -> None:
        self._unsubscribe()
        await self._link_changes.close(_LINK_CHANGE_PATIENCE_S)
        if self._names is not None:
            await self._names.close()
        await self._status_requests.close()
        await self._lazy.close()
        self._pings.close()
        self._observers.close()
        async with self._applying:  # an `apply` under way ends first
            if self._device is not None:
                asyncio.get_running_loop().remove_reader(self._device.event_fd)
            await self._conductor.end()
            await self._stop_device()

    async def _stop_device(self) -> None:
        try:
            if self._device is not None:
                await self._call(self._device.close)
                self._finalizer.detach()
                self._name, self._device = self._device.name, None  # its descriptors go with it
                log.info("%s: closed", self._name)
        finally:
            self._end()

    def _end(self) -> None:
        self._closed = True
        self._worker.shutdown(wait=False)
        self._broadcaster.close()
        self._closed_event.set()

    # -- Applying.

    def _planned(self, wish: Wish) -> Changes:
        outside = self._device is not None and self._configurator.changed_outside
        return self._configurator.changes(wish, self._device.state() if outside and self._device is not None else None)

    async def _apply(self, config: Config | NetMap, prefs: Prefs) -> Changes:
        async with self._applying:
            return await self._carry_out(self._intent.take(config, prefs))

    async def _reconfig(self, wg: Config, router: RouterConfig, dns: DNSConfig) -> Changes:
        async with self._applying:
            return await self._carry_out(self._intent.take_configs(wg, router, dns))

    async def _carry_out(self, wish: Wish) -> Changes:
        device, began, result, changes = self._running(), time.monotonic(), "error", Changes()
        try:
            changes = await self._configurator.apply(wish, device, self._link, self._intent.netmap)
            result = "changed" if changes else "nothing"
        except ReconfigError as refused:
            changes = refused.changes
            raise
        finally:
            self._observers.reconfigured(time.monotonic() - began, result, device)
            if self._configurator.applied is wish.wg:
                self._follow(wish.wg, changes, device)
        return changes

    def _follow(self, applied: Config, changes: Changes, device: Device) -> None:
        """The device is so now: whoever looks things up in the configuration shall know."""
        assert self._names is not None
        self._intent.index.set_config(applied)
        device.set_own_addresses([ip.partition("/")[0] for ip in applied.addresses])
        self._names.follow(applied, changes.steps)
        self._observers.forget(step.public_key for step in changes.steps if isinstance(step, RemovePeer))
        self._lazy.schedule()

    async def _commit(self, plan: DevicePlan) -> None:
        async with self._applying:  # an `apply` may say something else just now
            device = self._running()
            await self._call(device.commit, to_native(plan))

    def _tunnel(self) -> Tunnel | None:
        config = self._configurator.applied
        if self._link is None or self._device is None or config is None:
            return None
        return Tunnel(ifindex=self._device.ifindex, config=config)

    async def _trim(self, decision: Decision) -> None:
        async with self._applying:
            await self._configurator.trim(decision, self._running())

    # -- Events.

    def _pump(self) -> None:
        """The device has news. What is left after one batch makes the descriptor readable again."""
        assert self._device is not None
        for kind, when, values in self._device.drain():
            try:
                event = from_native(kind, when, values)
            except Error as error:
                log.error("%s: %s", self.name, error)
            else:
                self._publish(event)

    def _publish(self, event: Event) -> None:
        match event:
            case ConfigChanged() | EventsLost():  # a lost event may have been a change
                self._configurator.changed_outside = True
            case Failed(reason=reason):
                self._failure = reason
            case TunLost():
                self._failure = f"the interface {self.name} is gone"
        self._log(event)
        if self._names is not None:
            self._names.feed(event)
        self._pings.feed(event)
        self._lazy.feed(event)
        self._broadcaster.publish(event)
        self._observers.feed(event)  # what follows from it is told after it

    def _log(self, event: Event) -> None:
        match event:
            case Failed() | TunLost():
                log.error("%s: %s", self.name, self._failure)
            case ResolveFailed(host=host, error=error, retry_in=seconds):
                log.warning("%s: %s: %s; asked again in %.0f s", self.name, host, error, seconds)
            case _:
                log.info("%s: %s", self.name, event)

    # -- Guards and threads.

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise StateError("the engine runs on another event loop; call it there, or use wgengine.sync.Engine")

    def _running(self, *, failed_too: bool = False) -> Device:
        """The device, if the engine is in a state to use it."""
        self._owner.check()
        if self._closed or self._closing is not None:
            raise ClosedError("the engine is closed; make another Engine")
        if self._device is None:
            raise StateError("the engine is not started; write: async with Engine(...) as engine")
        self._check_loop()
        if self._failure is not None and not failed_too:
            raise StateError(f"the engine failed ({self._failure}); close it and make another one")
        return self._device

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        """Call what may block, in the engine's own thread: it was made here, so it is in our network namespace."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *args)

    def _task(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)  # the loop itself does not hold on to it
        task.add_done_callback(self._tasks.discard)
        return task

    def _configured(self, public_key: PublicKey) -> Peer | None:
        applied = self._configurator.applied
        return applied.peer(public_key) if applied is not None else None

    def _status(self, device: Device) -> EngineStatus:
        """Take the snapshot. Ten thousand peers take a while, so not on the event loop."""
        trimmer = self._configurator.trimmer

        def is_trimmed(key: PublicKey) -> bool:
            return trimmer.is_tracked(key) and not trimmer.is_live(key)

        return status_of(
            device, mode=self._mode, failure=self._failure, configured=self._configured, is_trimmed=is_trimmed
        )


def _close_here(device: Device, owner: Owner) -> None:
    if owner.is_here:
        device.close()
