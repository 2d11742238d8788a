"""Tells of calls that hang: into the log, with every thread's stack. It ends nothing and nobody.

A thread of its own watches, so that it can tell of a blocked event loop too. It exists only while something is watched.
"""

from __future__ import annotations

import faulthandler
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

__all__ = ["InFlight", "Overdue", "Watchdog"]

log = logging.getLogger("wgengine.watchdog")


@dataclass(frozen=True, slots=True)
class Overdue:
    """A call that takes too long, and all calls under way with their ages in seconds, the oldest first."""

    op: str
    age: float
    in_flight: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        others = ", ".join(f"{op} ({age:.1f} s)" for op, age in self.in_flight)
        return f"{self.op} has not ended for {self.age:.0f} s; under way: {others}"


class InFlight:
    """Calls under way. `now` is any clock that does not go back. Each is told of once, when it has taken `limit`."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._calls: dict[int, tuple[str, float]] = {}  # in the order in which they began
        self._waiting: dict[int, None] = {}  # those of them that have not been told of
        self._numbers = count()

    def begin(self, op: str, now: float) -> int:
        number = next(self._numbers)
        self._calls[number] = (op, now)
        self._waiting[number] = None
        return number

    def end(self, number: int) -> None:
        del self._calls[number]
        self._waiting.pop(number, None)

    def due(self) -> float | None:
        """When the next call has taken too long."""
        first = next(iter(self._waiting), None)
        return self._calls[first][1] + self._limit if first is not None else None

    def overdue(self, now: float) -> list[Overdue]:
        """Those that have taken too long since this was asked last."""
        found = []
        while (due := self.due()) is not None and due <= now:
            number = next(iter(self._waiting))
            del self._waiting[number]
            op, began = self._calls[number]
            ages = tuple((other, now - since) for other, since in self._calls.values())
            found.append(Overdue(op, now - began, ages))
        return found

    def __len__(self) -> int:
        return len(self._calls)


class Watchdog:
    """`with watchdog.guard("reconfig"): …`, around an `await` too. `report` is called in the watchdog's thread."""

    def __init__(
        self,
        limit: float = 45.0,
        *,
        report: Callable[[Overdue], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._in_flight = InFlight(limit)
        self._report = report
        self._clock = clock
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._timeouts: dict[str, int] = {}

    @property
    def timeouts(self) -> Mapping[str, int]:
        """How often each call hung."""
        with self._changed:
            return dict(self._timeouts)

    @contextmanager
    def guard(self, op: str) -> Iterator[None]:
        """Watch what is done inside."""
        with self._changed:
            number = self._in_flight.begin(op, self._clock())
            self._start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._in_flight.end(number)
                self._changed.notify()

    def close(self) -> None:
        """Watch nothing any more. Guards that are open go on unwatched."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)  # it may be inside a handler that waits for us

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._watch, name="wgengine-watchdog", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        while (found := self._wait()) is not None:
            stacks = _stacks()  # once for all of them, and soon: they may end by themselves
            for overdue in found:
                self._tell(overdue, stacks)

    def _wait(self) -> list[Overdue] | None:
        """Until a call hangs. None: there is nothing to watch, and the thread ends."""
        with self._changed:
            while not self._closed and self._in_flight:
                now = self._clock()
                found = self._in_flight.overdue(now)
                if found:
                    for overdue in found:
                        self._timeouts[overdue.op] = self._timeouts.get(overdue.op, 0) + 1
                    return found
                due = self._in_flight.due()
                self._changed.wait(None if due is None else max(0.0, due - now))
            self._thread = None
            return None

    def _tell(self, overdue: Overdue, stacks: str) -> None:
        log.error("%s\n%s", overdue, stacks)
        if self._report is not None:
            try:
                self._report(overdue)
            except Exception:
                log.exception("the handler of hanging calls failed")


def _stacks() -> str:
    """Every thread's stack. faulthandler needs no lock of the interpreter's, but a real file."""
    try:
        with tempfile.TemporaryFile() as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            return file.read().decode("utf-8", "replace")
    except OSError as error:
        return f"(no stacks: {error})"
