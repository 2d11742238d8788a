"""What is wrong now, and since when: a table of warnings that knows no clock and tells nobody by itself.

Whoever owns it says what broke or healed, asks `due` when the passing of time alone will show something, and fetches
with `poll` what a watcher has to be told. A warning is shown once it has lasted its `time_to_visible`, unless something
that it depends on is wrong as well. What `poll` gave, put together, is always what `current` shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from wgengine.errors import Error
from wgengine.health.warnable import WARMING_UP, WARNABLES, Warnable

__all__ = ["Change", "Tracker", "Unhealthy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhealthy:
    """One warning as it is shown."""

    warnable: Warnable
    broken_since: float  # Unix time
    args: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def code(self) -> str:
        return self.warnable.code

    @property
    def text(self) -> str:
        return self.warnable.describe(self.args)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, by the names that Tailscale's front ends know; what is empty is left out, as they expect."""
        warnable = self.warnable
        # A front end hides everything while the engine starts, so that is a dependency of all; here it masks nothing.
        depends_on = [*(w.code for w in warnable.depends_on), WARMING_UP.code]
        plain: dict[str, Any] = {
            "WarnableCode": warnable.code,
            "Severity": str(warnable.severity),
            "Title": warnable.title,
            "Text": self.text,
            "BrokenSince": _rfc3339(self.broken_since),
            "Args": {name.replace("_", "-"): value for name, value in sorted(self.args.items())},
            "DependsOn": depends_on if warnable is not WARMING_UP else [],
            "ImpactsConnectivity": warnable.impacts_connectivity,
        }
        plain = {name: value for name, value in plain.items() if value}
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return plain | {"ETag": hashlib.sha256(text.encode()).hexdigest()}


@dataclass(frozen=True, slots=True)
class Change:
    """A warning appeared or reads differently; with `state` None it is gone."""

    warnable: Warnable
    state: Unhealthy | None


@dataclass(slots=True)
class _Broken:
    since: float
    since_unix: float
    args: dict[str, str]


class Tracker:
    """Warnings of one engine. `now` is a monotonic time; with `unix_offset` it is the Unix time that is shown."""

    def __init__(self, warnables: Iterable[Warnable] = WARNABLES, *, unix_offset: float = 0.0) -> None:
        self.unix_offset = unix_offset
        self._warnables: dict[str, Warnable] = {}
        # Only what is wrong now has an entry, so a warning that comes and goes for ever costs nothing.
        self._broken: dict[str, _Broken] = {}
        self._told: dict[str, Unhealthy] = {}
        self._polled = float("-inf")
        for warnable in warnables:
            self.register(warnable)

    def register(self, warnable: Warnable) -> None:
        """Make one more thing known that can be wrong. What it depends on must be known before it."""
        if warnable.code in self._warnables:
            raise ValueError(f"{warnable.code} is registered already; choose another code")
        for needed in warnable.depends_on:
            self._check(needed)
        self._warnables[warnable.code] = warnable

    @property
    def warnables(self) -> tuple[Warnable, ...]:
        return tuple(self._warnables.values())

    def set_unhealthy(self, warnable: Warnable, now: float, **args: str) -> None:
        """It is wrong, in these words. Said again, it is wrong since the first time and in the newest words."""
        self.report(warnable, now, args)

    def report(self, warnable: Warnable, now: float, args: Mapping[str, str], *, since: float | None = None) -> None:
        """The same, for what was wrong before it was noticed."""
        self._check(warnable)
        if args.keys() != warnable.arguments:
            raise ValueError(f"{warnable.code} wants {sorted(warnable.arguments)}, not {sorted(args)}")
        broken = self._broken.get(warnable.code)
        if broken is None:
            since = now if since is None else min(since, now)
            self._broken[warnable.code] = _Broken(since, since + self.unix_offset, dict(args))
        else:
            broken.args = dict(args)

    def set_healthy(self, warnable: Warnable) -> None:
        """It is not wrong, or not any more."""
        self._check(warnable)
        self._broken.pop(warnable.code, None)

    def is_unhealthy(self, warnable: Warnable) -> bool:
        """Whether it is wrong, shown or not."""
        self._check(warnable)
        return warnable.code in self._broken

    def due(self) -> float | None:
        """When the next warning has lasted long enough to be shown."""
        return min((at for at in map(self._visible_at, self._broken) if at > self._polled), default=None)

    def poll(self, now: float) -> tuple[Change, ...]:
        """What a watcher is to be told: first what is gone, then what there is, the worst first."""
        self._polled = now
        shown = self.current(now)
        gone = [Change(state.warnable, None) for code, state in self._told.items() if code not in shown]
        come = [Change(state.warnable, state) for code, state in shown.items() if self._told.get(code) != state]
        self._told = shown
        return (*gone, *come)

    def current(self, now: float) -> dict[str, Unhealthy]:
        """All that is shown, by code, the worst first."""
        shown = [
            Unhealthy(warnable=self._warnables[code], broken_since=broken.since_unix, args=broken.args)
            for code, broken in self._broken.items()
            if self._visible_at(code) <= now and not self._is_masked(self._warnables[code])
        ]
        shown.sort(key=lambda state: (state.warnable.severity.rank, state.code))
        return {state.code: state for state in shown}

    def lasting(self, now: float, codes: Iterable[str] | None = None) -> list[str]:
        """The codes, of these or of all, that are wrong for long enough to be shown, masked or not."""
        wanted = self._warnables.keys() if codes is None else set(codes)
        if unknown := sorted(wanted - self._warnables.keys()):
            raise ValueError(f"no warning has the code {', '.join(unknown)}")
        return sorted(code for code in self._broken if code in wanted and self._visible_at(code) <= now)

    def strings(self, now: float) -> list[str]:
        """The texts of what is shown, the worst first, then by code."""
        return [state.text for state in self.current(now).values()]

    def overall_error(self, now: float) -> Error | None:
        """All texts as one error."""
        strings = self.strings(now)
        return Error(" ".join(strings)) if strings else None

    def debug_flags(self) -> list[str]:
        """What a control server is told about what is wrong, sorted."""
        return sorted(flag for code in self._broken if (flag := self._warnables[code].debug_flag))

    def _check(self, warnable: Warnable) -> None:
        if self._warnables.get(warnable.code) is not warnable:
            raise ValueError(f"{warnable.code} is not registered with this tracker")

    def _visible_at(self, code: str) -> float:
        return self._broken[code].since + self._warnables[code].time_to_visible

    def _is_masked(self, warnable: Warnable) -> bool:
        """Whether something that it depends on is wrong, and not itself the consequence of something else."""
        return any(w.code in self._broken and not self._is_masked(w) for w in warnable.depends_on)

    def __iter__(self) -> Iterator[Warnable]:
        """All that is wrong, shown or not."""
        return (self._warnables[code] for code in self._broken)


def _rfc3339(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat().replace("+00:00", "Z")
