"""One metric with its samples, as Prometheus knows it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["OTHER", "Family", "Kind", "Labels", "Sample", "labels_fit"]

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = tuple[tuple[str, str], ...]

OTHER = "other"  # every label of the sample that stands for those for which there was no room
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Sample:
    """One number. `suffix` is what a histogram's parts have behind the name."""

    value: float
    labels: Labels = ()
    suffix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A metric at one moment."""

    name: str
    kind: Kind
    help: str
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name of a metric; use letters, digits and _")
        if (self.kind == "counter") != self.name.endswith("_total"):
            raise ValueError(f"{self.name}: counters, and they alone, end in _total")


def labels_fit(names: Iterable[str]) -> tuple[str, ...]:
    """Names of labels, checked once."""
    names = tuple(names)
    for name in names:
        if not _LABEL.fullmatch(name) or name == "le":
            raise ValueError(f"{name!r} is no name of a label; use letters, digits and _")
    return names
