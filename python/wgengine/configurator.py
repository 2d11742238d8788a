"""Makes the device, the interface and the other parts be as configured, by the differences only.

What is wanted comes as a `Wish`; what was applied is kept here. The decisions are `reconfig`'s, `sequence`'s and
`trim`'s: here they are put together and carried out, one wish at a time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wgengine.changes import Changes, LinkStep, PartStep, SetRouter, Skipped, Step
from wgengine.device_plan import device_plan
from wgengine.errors import ReconfigError
from wgengine.link import LINK_STEPS, BringUp, Link, Refusal, in_order, refused, still_owed
from wgengine.native_plan import to_native
from wgengine.reconfig import device_steps, link_steps, observed_device_steps
from wgengine.sequence import Facts, Wanted, after_device, before_device

if TYPE_CHECKING:
    from wgengine._native import Device, DeviceState
    from wgengine.conductor import Conductor
    from wgengine.config import Config
    from wgengine.dns_config import DNSConfig
    from wgengine.netmap import NetMap
    from wgengine.reconfig import LinkConfig
    from wgengine.router_config import RouterConfig
    from wgengine.trim import Decision, Trimmer

__all__ = ["Configurator", "Wish"]

log = logging.getLogger("wgengine.configurator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """All that one call asks for."""

    wg: Config
    link: LinkConfig | None
    """What our own interface is to be; None: it is left alone."""
    router: RouterConfig
    dns: DNSConfig
    facts: Facts
    skipped: tuple[Skipped, ...] = ()
    lazy: bool = False
    """Whether peers without traffic are trimmed."""


class Configurator:
    """One device and what belongs to it. `call` runs what may block in the engine's own thread."""

    def __init__(
        self,
        conductor: Conductor,
        trimmer: Trimmer,
        call: Callable[..., Awaitable[Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.conductor = conductor
        self._clock = clock
        self.trimmer = trimmer
        self.applied: Config | None = None
        """What the device has taken."""
        self.changed_outside = False
        """Whether somebody else has changed the device since."""
        self._call = call
        self._link_applied: LinkConfig | None = None
        self._owed: tuple[LinkStep | BringUp, ...] = (BringUp(),)

    def changes(self, wish: Wish, observed: DeviceState | None = None) -> Changes:
        """What `apply` would do. `observed` is the device as it is, where somebody else may have changed it."""
        return Changes(tuple(self._steps(wish, observed)), wish.skipped)

    def _steps(self, wish: Wish, observed: DeviceState | None) -> Iterator[Step]:
        accepted, wanted = self._accepted(), Wanted(wg=wish.wg, router=wish.router, dns=wish.dns)
        if self.conductor.parts.sock is not None:
            yield from before_device(accepted, wanted, wish.facts)
        if observed is None:
            yield from device_steps(self.applied, wish.wg)
        else:
            yield from observed_device_steps(observed, self.applied, wish.wg)
        link = list(self._link_steps(wish))
        for step in after_device(accepted, wanted, wish.facts):
            if isinstance(step, SetRouter):
                yield from link  # the interface is the router's first concern
                link = []
            yield step
        yield from link

    def _accepted(self) -> Any:
        return replace(self.conductor.accepted, wg=self.applied)

    def _link_steps(self, wish: Wish) -> Iterable[LinkStep]:
        if wish.link is None:
            return ()
        steps = list(link_steps(self._link_applied, wish.link))
        return in_order([*steps, *still_owed(self._owed, steps, wish.link)])

    # -- Carrying it out.

    async def apply(self, wish: Wish, device: Device, link: Link | None, netmap: NetMap | None) -> Changes:
        """Make it so. A device error is raised as it is, and the parts after it are not told.

        What other parts refuse comes joined in a `ReconfigError`, one member each, after everything else was done; the
        next wish tries it again.
        """
        outside, self.changed_outside = self.changed_outside, False
        try:
            changes = self.changes(wish, await self._call(device.state) if outside else None)
            parts = [step for step in changes.steps if isinstance(step, PartStep)]
            paths, others = _halves(changes.steps, parts)
            refused_parts = await self.conductor.perform(paths, netmap)
            self.trimmer.force_full = not wish.lazy
            # Where nothing is new nobody's idleness is judged: traffic and time do that.
            if changes or wish.wg != self.applied:
                await self._tell_device(wish, changes, device)
        except BaseException:
            self.changed_outside |= outside
            raise
        self.applied = wish.wg
        refusals = await self._set_up(changes.steps, wish, link)
        refused_parts += await self.conductor.perform(others, netmap)
        if refusals or refused_parts:
            undone: set[object] = {step for step, _ in refusals} | {step for step, _ in refused_parts}
            done = replace(changes, steps=tuple(step for step in changes.steps if step not in undone))
            errors = [refused(device.name, refusals)] if refusals else []
            errors += [error for _, error in refused_parts]
            what = "the interface is" if not refused_parts else "some parts are"
            raise ReconfigError(f"{what} not as configured", errors, done)
        for line in changes:
            log.debug("%s: %s", device.name, line)
        return changes

    async def _tell_device(self, wish: Wish, changes: Changes, device: Device) -> None:
        now = self._clock()
        self.trimmer.observed(device.activity(), now)
        decision = self.trimmer.reconfigured(wish.wg.peers, now)
        plan = device_plan(changes.steps, _news(decision, self.applied))
        if plan:
            await self._call(device.commit, to_native(plan))
        self.trimmer.accept(decision)

    async def trim(self, decision: Decision, device: Device) -> None:
        """Trim and wake peers as decided."""
        if decision:
            await self._call(device.commit, to_native(device_plan((), decision.trimmed)))
            log.debug("%s: %d of %d peers are live", device.name, decision.live, decision.total)
        self.trimmer.accept(decision)

    async def _set_up(self, steps: Iterable[Step], wish: Wish, link: Link | None) -> tuple[Refusal, ...]:
        """Carry out what concerns the interface; what it refuses is owed."""
        if link is None or wish.link is None:
            return ()
        wanted: list[LinkStep | BringUp] = [step for step in steps if isinstance(step, LINK_STEPS)]
        if BringUp() in self._owed:
            wanted = in_order([*wanted, BringUp()])
        self._owed, self._link_applied = tuple(wanted), wish.link
        refusals: tuple[Refusal, ...] = await self._call(link.perform, wanted) if wanted else ()
        self._owed = tuple(step for step, _ in refusals)
        return refusals


def _halves(steps: Iterable[Step], parts: list[PartStep]) -> tuple[list[PartStep], list[PartStep]]:
    """The steps of parts before the device's, and those after."""
    before: list[PartStep] = []
    for step in steps:
        if not isinstance(step, PartStep):
            break
        before.append(step)
    return before, parts[len(before) :]


def _news(decision: Decision, applied: Config | None) -> dict[Any, bool]:
    """What the device does not know: a new peer is live unless it is said to be trimmed."""
    return {
        key: trimmed
        for key, trimmed in decision.trimmed.items()
        if trimmed or (applied is not None and applied.peer(key) is not None)
    }
