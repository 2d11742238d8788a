"""The engine: it joins the device in Rust, the interface, the resolver and the events.

One thread per engine makes the calls that may block, one after the other; the event loop only ever waits. Nothing here
touches a packet.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar

from wgengine._native import Device, DeviceState, PeerPlan, Plan
from wgengine.config import Config, Peer
from wgengine.errors import ClosedError, ConfigError, Error, PrivilegeError, ReconfigError, StateError
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
from wgengine.forks import Owner
from wgengine.knobs import Knobs
from wgengine.link import LINK_STEPS, BringUp, Link, Refusal, in_order, open_link, refused, still_owed
from wgengine.outside import Tunnel
from wgengine.reconfig import AddPeer, ChangePeer, Changes, DevicePlan, LinkStep, Step, device_plan, diff
from wgengine.resolve import Resolver, lookup
from wgengine.status import EngineStatus, PeerStatus

if TYPE_CHECKING:
    from wgengine.keys import PublicKey

__all__ = ["Engine", "Mode"]

log = logging.getLogger("wgengine.engine")

Mode: TypeAlias = Literal["auto", "tun", "memory"]
T = TypeVar("T")

_SENT_FRESH_S = 1.0


class Engine:
    """A WireGuard engine: `async with Engine(config) as engine:`.

    `mode` is "tun" (a kernel interface, set up by the engine), "memory" (no interface: packets go through `memory_fd`)
    or "auto" (tun). `name` names the interface, or `tun_fd` lends one that is open already. `listen_port` serves where
    the configuration leaves the port open. With `uapi` the tools `wg` and `wg-quick` work on a tun engine.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        mode: Mode = "auto",
        name: str | None = None,
        tun_fd: int | None = None,
        listen_port: int = 0,
        uapi: bool = True,
        knobs: Knobs = Knobs(),  # noqa: B008 (frozen)
    ) -> None:
        _check_arguments(config, mode, name, tun_fd, listen_port)
        self._config = config
        self._mode: Literal["tun", "memory"] = "memory" if mode == "memory" else "tun"
        self._name = name
        self._tun_fd = tun_fd
        self._listen_port = listen_port
        self._uapi = uapi and mode != "memory"
        self._knobs = knobs
        self._owner = Owner()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._device: Device | None = None
        self._link: Link | None = None
        self._resolver: Resolver | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed_event = asyncio.Event()
        self._applying = asyncio.Lock()
        self._broadcaster = Broadcaster(knobs.event_queue)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="wgengine")
        # what was applied: the configuration, what of it the interface refused, and whether others changed the device
        self._applied: Config | None = None
        self._owed: tuple[LinkStep | BringUp, ...] = (BringUp(),)
        self._changed_outside = False
        self._failure: str | None = None
        self._sent: tuple[float, dict[PublicKey, int]] = (float("-inf"), {})

    # -- What it is.

    @property
    def name(self) -> str | None:
        """The interface's name: the one asked for, and once the engine runs the one it has."""
        return self._device.name if self._device is not None else self._name

    @property
    def mode(self) -> str:
        """How packets are carried: "tun" or "memory"."""
        return self._mode

    @property
    def knobs(self) -> Knobs:
        """The knobs it was made with."""
        return self._knobs

    @property
    def tun_fd(self) -> int | None:
        """The descriptor of its TUN, not to be closed; before the engine runs, the one that is lent to it."""
        return self._device.tun_fd if self._device is not None and self._mode == "tun" else self._tun_fd

    @property
    def memory_fd(self) -> int | None:
        """In mode memory the far end of the device: each message is a 10-byte virtio-net header and an IP packet."""
        return self._device.memory_fd if self._device is not None else None

    @property
    def closed(self) -> bool:
        return self._closed

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

    async def apply(self, config: Config) -> Changes:
        """Make the engine be as `config` says, by the differences only; sessions of unchanged peers go on.

        A device error, such as a port in use, is raised as it is, and nothing was changed. What the interface refuses
        comes joined in a `ReconfigError`, after everything else was done; the next `apply` tries it again.
        """
        self._running()
        _check_config(config)
        # shielded: a caller who is cancelled must not leave us ignorant of what was applied
        return await asyncio.shield(self._task(self._apply(config), "wgengine-apply"))

    def plan(self, config: Config) -> Changes:
        """What `apply` would do, not done."""
        self._owner.check()
        _check_config(config)
        observed = self._device.state() if self._device is not None and self._changed_outside else None
        return self._changes(self._effective(config), observed)

    async def status(self) -> EngineStatus:
        """What the engine and its peers are doing."""
        return await self._call(self._status, self._running(failed_too=True))

    def events(self) -> Subscription:
        """What happens from now on, in a bounded queue of the caller's own: `async for event in engine.events()`."""
        self._owner.check()
        return self._broadcaster.subscribe()

    # -- Starting and ending.

    async def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._device = device = await self._call(self._open)
        # at the latest when the interpreter exits, and never in a forked child, whose threads do not exist
        self._finalizer = weakref.finalize(self, _close_here, device, self._owner)
        if self._mode == "tun":
            self._link = open_link(device.name, device.ifindex)
        self._resolver = Resolver(place=self._place, sent=self._sent_to, publish=self._publish, lookup=self._look_up)
        loop.add_reader(device.event_fd, self._pump)
        log.info("%s: started in mode %s", device.name, self._mode)
        if self._config is not None:
            await self.apply(self._config)

    def _open(self) -> Device:
        """Make the device. Blocks."""
        try:
            return self._make(uapi=self._uapi)
        except PrivilegeError:
            raise
        except OSError as error:
            if not self._uapi or error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
                raise
            reason = error
        # Root of a user namespace may make a TUN, but not write to /var/run: the tunnel is what matters.
        device = self._make(uapi=False)
        log.warning("%s: `wg` will not see it: %s", device.name, reason)
        return device

    def _make(self, *, uapi: bool) -> Device:
        mtu = self._config.mtu if self._config is not None else None
        return Device(
            name=self._name,
            tun_fd=self._tun_fd,
            memory=self._mode == "memory",
            mtu=mtu or 0,
            shards=self._knobs.shards or 0,
            uapi=uapi,
            tun_offload=self._knobs.tun_offload,
            udp_gso=self._knobs.udp_gso,
            udp_gro=self._knobs.udp_gro,
        )

    async def _close(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()
        async with self._applying:  # an `apply` under way ends first
            if self._device is not None:
                asyncio.get_running_loop().remove_reader(self._device.event_fd)
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

    def _effective(self, config: Config) -> Config:
        return config.replace(listen_port=self._listen_port) if self._listen_port and not config.listen_port else config

    def _changes(self, desired: Config, observed: DeviceState | None) -> Changes:
        """What is to be done: the difference, and what was refused before and is still wanted."""
        changes = diff(self._applied, desired, observed=observed)
        if self._mode == "memory":  # there is no interface
            return Changes(tuple(step for step in changes.steps if not isinstance(step, LINK_STEPS)))
        link = [step for step in changes.steps if isinstance(step, LINK_STEPS)]
        others = [step for step in changes.steps if not isinstance(step, LINK_STEPS)]
        return replace(changes, steps=(*others, *in_order([*link, *still_owed(self._owed, link, desired)])))

    async def _apply(self, config: Config) -> Changes:
        async with self._applying:
            device = self._running()
            desired = self._effective(config)
            outside, self._changed_outside = self._changed_outside, False
            try:
                changes = self._changes(desired, await self._call(device.state) if outside else None)
                plan = device_plan(changes.steps)
                if plan:
                    await self._call(device.commit, to_native(plan))
            except BaseException:
                self._changed_outside |= outside
                raise
            self._applied = desired
            self._follow_names(desired, changes.steps)
            refusals = await self._set_up(changes.steps)
            if refusals:
                undone = {step for step, _ in refusals}
                done = replace(changes, steps=tuple(step for step in changes.steps if step not in undone))
                error = refused(device.name, refusals)
                raise ReconfigError("the interface is not as configured", [error], done)
            for line in changes:
                log.debug("%s: %s", device.name, line)
            return changes

    async def _set_up(self, steps: tuple[Step, ...]) -> tuple[Refusal, ...]:
        """Carry out what concerns the interface; what it refuses is owed."""
        if self._link is None:
            return ()
        wanted: list[LinkStep | BringUp] = [step for step in steps if isinstance(step, LINK_STEPS)]
        if BringUp() in self._owed:
            wanted = in_order([*wanted, BringUp()])
        self._owed = tuple(wanted)
        refusals = await self._call(self._link.perform, wanted) if wanted else ()
        self._owed = tuple(step for step, _ in refusals)
        return refusals

    # -- Names.

    def _follow_names(self, desired: Config, steps: tuple[Step, ...]) -> None:
        resolver = self._resolver
        assert resolver is not None
        resolver.keep(lambda key: peer.endpoint if (peer := desired.peer(key)) is not None else None)
        for step in steps:
            match step:
                case AddPeer(peer=peer):
                    endpoint = peer.endpoint
                case ChangePeer(peer=peer):
                    endpoint = step.endpoint
                case _:
                    continue
            if endpoint is not None and not endpoint.is_literal:
                resolver.follow(peer.public_key, endpoint)

    async def _look_up(self, host: str, port: int) -> tuple[str, ...]:
        """Look a name up outside of the tunnel."""
        device, config = self._running(), self._applied
        ours = Tunnel(ifindex=device.ifindex, config=config) if self._link is not None and config is not None else None
        return await lookup(host, port, ours)

    async def _place(self, peer: PublicKey, endpoint: str) -> None:
        """Tell the device where a peer is. One that is gone meanwhile stays gone."""
        async with self._applying:  # an `apply` may name another endpoint just now
            device = self._running()
            await self._call(device.commit, Plan(peers=[PeerPlan(peer, update_only=True, endpoint=endpoint)]))

    def _sent_to(self, peer: PublicKey) -> int:
        """Bytes sent to a peer, at most a second old: a thousand names are not a thousand snapshots."""
        taken, sent = self._sent
        if time.monotonic() - taken > _SENT_FRESH_S:
            sent = {each.public_key: each.tx_bytes for each in self._running().state().peers}
            self._sent = (time.monotonic(), sent)
        return sent.get(peer, 0)

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
                self._changed_outside = True
            case Failed(reason=reason):
                self._failure = reason
            case TunLost():
                self._failure = f"the interface {self.name} is gone"
        self._log(event)
        if self._resolver is not None:
            self._resolver.feed(event)
        self._broadcaster.publish(event)

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
        return self._applied.peer(public_key) if self._applied is not None else None

    def _status(self, device: Device) -> EngineStatus:
        """Take the snapshot. Ten thousand peers take a while, so not on the event loop."""
        state = device.state()
        return EngineStatus(
            name=device.name,
            mode=self._mode,
            state="running" if self._failure is None else "failed",
            reason=self._failure,
            time=time.time(),
            public_key=state.public_key,
            listen_port=state.listen_port,
            fwmark=state.fwmark,
            mtu=device.mtu,
            peers=tuple(PeerStatus.of(peer, self._configured(peer.public_key)) for peer in state.peers),
            counters=device.counters(),
            drops=device.drops(),
            offloads=device.offloads(),
        )


def _check_arguments(config: Config | None, mode: str, name: str | None, tun_fd: int | None, listen_port: int) -> None:
    if mode == "userspace":
        raise ConfigError("this comes with a later version; write tun, or memory for tests", field="mode")
    if mode not in ("auto", "tun", "memory"):
        raise ConfigError(f"{mode!r} is no mode; write auto, tun or memory", field="mode")
    if tun_fd is not None and (name is not None or mode == "memory"):
        raise ConfigError("a lent TUN has its own name and is a tun; leave name and mode out", field="tun_fd")
    if not 0 <= listen_port <= 65535:
        raise ConfigError(f"{listen_port!r} is not a port; write a number from 0 to 65535", field="listen_port")
    if config is not None:
        _check_config(config)


def _check_config(config: object) -> None:
    if not isinstance(config, Config):
        raise TypeError(f"a Config is wanted, not {type(config).__name__}; Config.from_file(path) reads one")


def _close_here(device: Device, owner: Owner) -> None:
    if owner.is_here:
        device.close()


def to_native(plan: DevicePlan) -> Plan:
    """The plan as Rust takes it. Endpoints by name are left out: the resolver places them."""
    peers = [
        PeerPlan(
            peer.public_key,
            remove=peer.remove,
            update_only=peer.update_only,
            preshared_key=peer.preshared_key,
            clear_preshared_key=peer.clear_preshared_key,
            endpoint=str(peer.endpoint) if peer.endpoint is not None and peer.endpoint.is_literal else None,
            persistent_keepalive=peer.persistent_keepalive,
            replace_allowed_ips=peer.replace_allowed_ips,
            allowed_ips=peer.allowed_ips,
        )
        for peer in plan.peers
    ]
    return Plan(private_key=plan.private_key, listen_port=plan.listen_port, fwmark=plan.fwmark, peers=peers)
