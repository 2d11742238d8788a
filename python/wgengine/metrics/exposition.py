"""Metrics as text, in Prometheus's format 0.0.4."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wgengine.metrics.family import Family, Labels, Sample

__all__ = ["CONTENT_TYPE", "render"]

CONTENT_TYPE = "text/plain;version=0.0.4;charset=utf-8"

# Three characters are escaped, and no others: everything else stands for itself, whatever the alphabet.
_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})
_IN_LABEL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def render(families: Iterable[Family]) -> str:
    """Families in the order given, each with its children by their labels."""
    return "".join(line + "\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    yield f"# TYPE {family.name} {family.kind}"
    yield f"# HELP {family.name} {_utf8(family.help).translate(_IN_HELP)}"
    # stable: a histogram's buckets stay in their order
    for sample in sorted(family.samples, key=_child):
        yield f"{family.name}{sample.suffix}{_braced(sample.labels)} {_number(sample.value)}"


def _child(sample: Sample) -> str:
    return _braced(tuple(pair for pair in sample.labels if pair[0] != "le"))


def _braced(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_utf8(value).translate(_IN_LABEL)}"' for name, value in labels) + "}"


def _utf8(text: str) -> str:
    """Half a surrogate pair, as JSON may smuggle it in, cannot be written as UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)  # the shortest that reads back as the same
