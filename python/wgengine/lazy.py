"""Watches for peers that fall idle or wake, and has the device follow: the clock and the loop around `trim`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from wgengine.events import ConfigChanged, Event, EventsLost, PeerWoke

if TYPE_CHECKING:
    from wgengine.keys import PublicKey
    from wgengine.trim import Decision, Trimmer

__all__ = ["LazyPeers"]

log = logging.getLogger("wgengine.lazy")

Activity = list[tuple["PublicKey", float | None, float | None]]


class LazyPeers:
    """`carry_out` has the device trim and wake; `activity` is what it has seen of its peers since it began."""

    def __init__(
        self,
        trimmer: Trimmer,
        *,
        activity: Callable[[], Activity],
        carry_out: Callable[[Decision], Awaitable[None]],
        status_due: Callable[[], None],
    ) -> None:
        self._trimmer = trimmer
        self._activity = activity
        self._carry_out = carry_out
        self._status_due = status_due
        self._timer: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._woken: list[PeerWoke] = []
        self._closed = False

    def feed(self, event: Event) -> None:
        """The device has news."""
        if isinstance(event, PeerWoke):
            self._woken.append(event)
            self._sweep_now()
        elif isinstance(event, EventsLost | ConfigChanged):  # a peer may have woken untold
            self._sweep_now()

    def schedule(self) -> None:
        """Be there when the next peer may be idle. To be called when peers have changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = None if self._closed else self._trimmer.next_sweep(time.monotonic())
        if at is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.05, at - time.monotonic()), self._sweep_now)

    def _sweep_now(self) -> None:
        if self._sweeping is None and not self._closed:
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep(), name="wgengine-trim")

    async def _sweep(self) -> None:
        try:
            while True:
                for event in self._take_woken():
                    decision = self._trimmer.woke(event.peer, time.monotonic(), received=event.by == "received")
                    await self._follow(decision)
                await self._follow(self._trimmer.sweep(time.monotonic(), self._activity()))
                if not self._woken:
                    break
        except Exception as error:  # the next sweep comes to it again
            log.warning("idle peers could not be trimmed: %s", error)
        finally:
            self._sweeping = None
            self.schedule()

    def _take_woken(self) -> list[PeerWoke]:
        woken, self._woken = self._woken, []
        return woken

    async def _follow(self, decision: Decision) -> None:
        await self._carry_out(decision)
        if decision.status_due:
            self._status_due()

    async def close(self) -> None:
        """End it, and wait for what is under way."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._sweeping is not None:
            await asyncio.wait({self._sweeping})
