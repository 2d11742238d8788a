"""The metrics of one engine: what it counts itself, beside what is read elsewhere when somebody looks.

There is no registry of the process: two engines count apart, and what an engine counted goes with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, pairwise
from typing import Generic, TypeVar

from wgengine.metrics.exposition import render
from wgengine.metrics.family import OTHER, Family, Kind, Labels, Sample, labels_fit

__all__ = ["Counter", "Gauge", "Histogram", "Registry"]

V = TypeVar("V")


class _Instrument(ABC, Generic[V]):
    """A metric that is written to. Labels come by name; a child that does not fit any more is `other`."""

    kind: Kind

    def __init__(self, name: str, help: str, labels: Sequence[str], limit: int) -> None:
        self.name = name
        self.help = help
        self._labels = labels_fit(labels)
        self._limit = limit
        self._children: dict[tuple[str, ...], V] = {}
        if not self._labels:
            self._children[()] = self._fresh()
        self.family()  # so that a name that cannot be is found here

    @abstractmethod
    def _fresh(self) -> V: ...

    @abstractmethod
    def _samples(self, labels: Labels, child: V) -> Iterable[Sample]: ...

    def declare(self, **labels: str) -> None:
        """A child that is there from the start."""
        self._children.setdefault(self._key(labels), self._fresh())

    def remove(self, **labels: str) -> None:
        """A child that is no more."""
        self._children.pop(self._named(labels), None)

    def family(self) -> Family:
        children = list(self._children.items())  # one step for the interpreter: a scraper may be another thread
        named = ((tuple(zip(self._labels, key, strict=True)), child) for key, child in children)
        samples = chain.from_iterable(self._samples(labels, child) for labels, child in named)
        return Family(name=self.name, kind=self.kind, help=self.help, samples=tuple(samples))

    def _named(self, labels: dict[str, str]) -> tuple[str, ...]:
        if labels.keys() != set(self._labels):
            raise ValueError(f"{self.name} has the labels {list(self._labels)}, not {sorted(labels)}")
        return tuple(labels[name] for name in self._labels)

    def _key(self, labels: dict[str, str]) -> tuple[str, ...]:
        """Where to count: the child itself while there is room."""
        key = self._named(labels)
        if key in self._children or len(self._children) < self._limit:
            return key
        return (OTHER,) * len(self._labels)


class Counter(_Instrument[float]):
    """Goes up."""

    kind = "counter"

    def inc(self, amount: float = 1, **labels: str) -> None:
        if not amount >= 0:
            raise ValueError(f"{self.name} only goes up, not by {amount}")
        key = self._key(labels)
        self._children[key] = self._children.get(key, 0) + amount

    def _fresh(self) -> float:
        return 0

    def _samples(self, labels: Labels, child: float) -> Iterable[Sample]:
        yield Sample(child, labels)


class Gauge(_Instrument[float]):
    """Is what it is set to."""

    kind = "gauge"

    def set(self, value: float, **labels: str) -> None:
        self._children[self._key(labels)] = value

    def _fresh(self) -> float:
        return 0

    def _samples(self, labels: Labels, child: float) -> Iterable[Sample]:
        yield Sample(child, labels)


class Histogram(_Instrument[list[float]]):
    """How many were at most how large. `buckets` are the upper bounds; the last, +Inf, is always there."""

    kind = "histogram"

    def __init__(self, name: str, help: str, labels: Sequence[str], limit: int, buckets: Sequence[float]) -> None:
        self._bounds = (*sorted(set(buckets) - {float("inf")}), float("inf"))
        super().__init__(name, help, labels, limit)

    def observe(self, value: float, **labels: str) -> None:
        if value != value:
            raise ValueError(f"{self.name} counts numbers, and {value} is none")
        child = self._children.setdefault(self._key(labels), self._fresh())
        child[bisect_left(self._bounds, value)] += 1
        child[-1] += value

    def _fresh(self) -> list[float]:
        return [0] * (len(self._bounds) + 1)  # a count for each bound, and the sum

    def _samples(self, labels: Labels, child: list[float]) -> Iterable[Sample]:
        counts = list(accumulate(child[:-1]))
        for bound, count in zip(self._bounds, counts, strict=True):
            yield Sample(count, (*labels, ("le", _bound(bound))), "_bucket")
        yield Sample(child[-1], labels, "_sum")
        yield Sample(counts[-1], labels, "_count")


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else repr(bound)


class Registry:
    """All metrics of one engine. `limit`: how many children one of them may have, not counting `other`."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._instruments: dict[str, _Instrument[float] | _Instrument[list[float]]] = {}

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        made = Counter(name, help, labels, self._limit)
        self._add(made)
        return made

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
        made = Gauge(name, help, labels, self._limit)
        self._add(made)
        return made

    def histogram(self, name: str, help: str, labels: Sequence[str] = (), *, buckets: Sequence[float]) -> Histogram:
        made = Histogram(name, help, labels, self._limit, buckets)
        self._add(made)
        return made

    def _add(self, instrument: _Instrument[float] | _Instrument[list[float]]) -> None:
        if instrument.name in self._instruments:
            raise ValueError(f"there is a metric {instrument.name} already")
        self._instruments[instrument.name] = instrument

    def collect(self, pulled: Iterable[Family] = ()) -> list[Family]:
        """Everything at this moment, by name; `pulled` is what was read elsewhere."""
        families = [instrument.family() for instrument in self._instruments.values()]
        families.extend(pulled)
        families.sort(key=lambda family: family.name)
        for one, two in pairwise(families):
            if one.name == two.name:
                raise ValueError(f"there are two metrics {one.name}")
        return families

    def text(self, pulled: Iterable[Family] = ()) -> str:
        """The same as Prometheus reads it."""
        return render(self.collect(pulled))
