"""An engine's health on its event loop: facts and events in, changes out as they happen, nobody has to ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wgengine.errors import ClosedError, Error, TimedOutError
from wgengine.events import Event, Failed, HealthChanged, LinkChanged, TunLost
from wgengine.health import rules
from wgengine.health.peers import Name, PeerTroubles, short_name
from wgengine.health.rules import Facts
from wgengine.health.tracker import Tracker, Unhealthy

if TYPE_CHECKING:
    from wgengine.health.warnable import Warnable
    from wgengine.keys import PublicKey

__all__ = ["Health"]

_AT_ONCE_S = 1.0  # troubles of peers are told at once, and then together: thousands may fail at the same time


class Health:
    """What is wrong with an engine: a `Tracker` with a clock, and a voice.

    All of it runs on the engine's event loop; before `start` it takes everything in and tells nobody. `publish` gets a
    `HealthChanged` for every change. `name` says what a peer is called.
    """

    def __init__(
        self,
        *,
        publish: Callable[[Event], None] | None = None,
        name: Name = short_name,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._publish = publish
        self._clock = clock
        self._wall = wall
        self._tracker = Tracker()
        self._facts = Facts()
        self._peers = PeerTroubles(name)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._version = 0
        self._settled = float("-inf")
        self._later: float | None = None  # when the troubles of peers that came since are told
        self._closed = False

    # -- What is told to it.

    @property
    def facts(self) -> Facts:
        return self._facts

    def start(self, publish: Callable[[Event], None] | None = None) -> None:
        """The engine runs from now on, on the loop that calls this."""
        self._loop = asyncio.get_running_loop()
        self._publish = publish or self._publish
        self.update(started=self._clock())

    def update(self, **facts: Any) -> None:
        """Some facts have changed: `update(router_error="…")`. What follows from them is told at once."""
        self._facts = replace(self._facts, **facts)
        self._settle()

    def feed(self, event: Event) -> None:
        """Something happened to the engine."""
        match event:
            case Failed(reason=reason):
                self.update(failure=reason)
            case TunLost():
                self.update(failure="its interface is gone")
            case LinkChanged(up=up):
                self._peers.feed(event, self._clock())
                self.update(damage=() if up else ("it was set down",))
            case _:
                if self._peers.feed(event, self._clock()):
                    self._settle_soon()

    def forget(self, peers: Iterable[PublicKey]) -> None:
        """These peers were removed."""
        if self._peers.forget(peers):
            self._settle_soon()

    def register(self, *warnables: Warnable) -> None:
        """Things that can be wrong with a subsystem that tells of them by itself."""
        for warnable in warnables:
            self._tracker.register(warnable)

    def set_unhealthy(self, warnable: Warnable, **args: str) -> None:
        """A subsystem says that this is wrong, for what does not follow from facts."""
        self._stamp()
        self._tracker.report(warnable, self._clock(), args)
        self._settle()

    def set_healthy(self, warnable: Warnable) -> None:
        self._tracker.set_healthy(warnable)
        self._settle()

    # -- What it says.

    def current(self) -> dict[str, Unhealthy]:
        """All that is wrong and shown, by code, the worst first."""
        return self._tracker.current(self._clock())

    def snapshot(self) -> dict[str, Any]:
        """The same for JSON, in the shape that Tailscale's front ends know."""
        return {"Warnings": {code: state.as_dict() for code, state in self.current().items()}}

    def strings(self) -> list[str]:
        """The texts, the worst first."""
        return self._tracker.strings(self._clock())

    def overall_error(self) -> Error | None:
        """All texts as one error, if there are any."""
        return self._tracker.overall_error(self._clock())

    def debug_flags(self) -> list[str]:
        return self._tracker.debug_flags()

    def severities(self) -> dict[str, tuple[str, bool]]:
        """For metrics: of every warning its severity, and whether it is shown."""
        shown = self.current()
        return {w.code: (str(w.severity), w.code in shown) for w in self._tracker.warnables}

    async def watch(self) -> AsyncIterator[Mapping[str, Unhealthy]]:
        """What is wrong now, and again after each change, until the engine is closed. Who is slow sees the newest."""
        seen = -1
        while True:
            if seen != self._version:
                seen = self._version
                yield self.current()
            elif self._closed:
                return
            else:
                await self._changed()

    async def wait_until_healthy(self, timeout: float | None = None, codes: Iterable[str] | None = None) -> None:
        """Wait until none of these warnings lasts, or none at all; also those that another one hides."""
        wanted = None if codes is None else frozenset(codes)
        try:
            async with asyncio.timeout(timeout):
                while self._tracker.lasting(self._clock(), wanted):
                    if self._closed:
                        raise ClosedError("the engine was closed before it was healthy")
                    await self._changed()
        except TimeoutError:
            lasting = self._tracker.lasting(self._clock(), wanted)
            raise TimedOutError(f"not healthy within {timeout} s: {', '.join(lasting)}") from None

    def close(self) -> None:
        """Tell nothing more, and let go of all who wait."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    # -- How it keeps up.

    def _stamp(self) -> None:
        self._tracker.unix_offset = self._wall() - self._clock()

    def _settle(self) -> None:
        """Judge afresh, tell what has changed, and come back when time alone will change something."""
        now = self._clock()
        self._settled, self._later = now, None
        self._stamp()
        rules.judge(self._tracker, self._facts, now)
        self._peers.judge(self._tracker, now)
        if self._loop is None or self._closed:
            return
        changes = self._tracker.poll(now)
        if changes:
            self._version += 1
        for change in changes:
            if self._publish is not None:
                self._publish(_event(change.warnable, change.state, self._wall()))
        self._wake()
        self._arm(now)

    def _settle_soon(self) -> None:
        now, at = self._clock(), self._settled + _AT_ONCE_S
        if now >= at:
            self._settle()
        elif self._later is None:
            self._later = at
            self._arm(now)

    def _arm(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        dues = [self._tracker.due(), rules.due(self._facts, now), self._peers.due(), self._later]
        due = min((at for at in dues if at is not None), default=None)
        if due is not None and self._loop is not None and not self._closed:
            self._timer = self._loop.call_later(max(0.0, due - now), self._settle)

    def _changed(self) -> asyncio.Future[None]:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        waiter.add_done_callback(self._waiters.discard)
        return waiter

    def _wake(self) -> None:
        for waiter in tuple(self._waiters):
            if not waiter.done():
                waiter.set_result(None)


def _event(warnable: Warnable, state: Unhealthy | None, unix: float) -> HealthChanged:
    return HealthChanged(
        time=unix,
        code=warnable.code,
        healthy=state is None,
        severity=str(warnable.severity),
        title=warnable.title,
        text=state.text if state is not None else "",
        impacts_connectivity=warnable.impacts_connectivity,
    )
