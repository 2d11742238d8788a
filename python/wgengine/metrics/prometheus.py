"""An engine's metrics among those of the program that it is part of: a collector for `prometheus-client`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

if TYPE_CHECKING:
    from wgengine.metrics.family import Family

__all__ = ["Collector"]


class Collector:
    """`REGISTRY.register(Collector(collect))`: `collect` gives the families; the thread that scrapes calls it."""

    def __init__(self, collect: Callable[[], Iterable[Family]]) -> None:
        self._collect = collect

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering does not ask an engine that is not there yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        for family in self._collect():
            # the client keeps a counter's name without the ending that it writes
            metric = Metric(family.name.removesuffix("_total"), family.help, family.kind)
            for sample in family.samples:
                metric.add_sample(family.name + sample.suffix, dict(sample.labels), sample.value)
            yield metric
