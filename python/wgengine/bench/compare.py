"""How the figures of many rounds become one: medians, ratios of each round's own, and how sure they are.

Pure. A machine's speed drifts by a fifth within an hour, so a median of one implementation says little beside the
median of another. Each round therefore gives a ratio of its own, and the median of those ratios is what counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import comb, inf
from statistics import median

from wgengine.bench.rows import BASELINE, OURS, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one implementation did in one round."""

    round: int
    implementation: str
    values: Mapping[str, float]
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A peer's median, and the median of the rounds' own ratios (ours divided by the peer's)."""

    peer: float | None
    ratio: float | None
    interval: tuple[float, float] | None = None
    """Where the true median ratio lies, at 95 %; None where there were too few rounds to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One row over all rounds."""

    row: Row
    ours: float | None
    peers: Mapping[str, Comparison] = field(default_factory=dict)
    rounds: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """Raw values by implementation, one per round; None where the round gave none."""

    @property
    def met(self) -> bool | None:
        """Whether the target is kept; None without a target or without a figure to hold against it."""
        figure = self.ours if self.row.alone else self.baseline.ratio
        return None if figure is None else self.row.meets(figure)

    @property
    def interval(self) -> tuple[float, float] | None:
        """At 95 %, of the figure that the target is for."""
        own = [value for value in self.rounds.get(OURS, ()) if value is not None]
        return interval_of_median(own) if self.row.alone else self.baseline.interval

    @property
    def baseline(self) -> Comparison:
        """The comparison that counts; empty when that peer was not here or the row stands alone."""
        none = Comparison(peer=None, ratio=None)
        return none if self.row.alone else self.peers.get(BASELINE, none)

    def to_json(self) -> dict[str, object]:
        """One object of bench.json."""
        others = {name: {"peer": c.peer, "ratio": c.ratio} for name, c in self.peers.items() if name != BASELINE}
        return {
            "name": self.row.name,
            "unit": self.row.unit,
            "ours": self.ours,
            "peer": self.baseline.peer,
            "against": None if self.row.alone else BASELINE,
            "ratio": self.baseline.ratio,
            "interval": self.interval,
            "target": self.row.target,
            "better": "higher" if self.row.higher_is_better else "lower",
            "others": {} if self.row.alone else others,
            "rounds": {name: list(values) for name, values in self.rounds.items()},
        }


def summarise(rows: Iterable[Row], measured: Sequence[Measured], peers: Sequence[str]) -> list[Summary]:
    """Returns one summary per row."""
    count = 1 + max((m.round for m in measured), default=-1)
    by_place = {(m.implementation, m.round): m.values for m in measured}

    def series(implementation: str, name: str) -> list[float | None]:
        return [by_place.get((implementation, r), {}).get(name) for r in range(count)]

    def values(implementation: str, row: Row) -> list[float | None]:
        # By medians: the worst of each round would be the unluckiest of each round.
        return min((series(implementation, name) for name in row.worst_of or (row.name,)), key=_last_if_unknown)

    summaries = []
    for row in rows:
        ours = values(OURS, row)
        theirs = {peer: values(peer, row) for peer in peers}
        summaries.append(
            Summary(
                row=row,
                ours=_median(ours),
                peers={peer: _compare(row, ours, series) for peer, series in theirs.items()},
                rounds={OURS: ours, **theirs},
            )
        )
    return summaries


def _compare(row: Row, ours: Sequence[float | None], theirs: Sequence[float | None]) -> Comparison:
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True) if mine is not None and other]
    if row.alone:
        return Comparison(peer=_median(theirs), ratio=None)
    return Comparison(peer=_median(theirs), ratio=_median(ratios), interval=interval_of_median(ratios))


def interval_of_median(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % confidence interval of the median, by order statistics; None for fewer than six values.

    Each value lies under the true median with probability one half, whatever their distribution is: so the k-th lowest
    lies above it as seldom as a fair coin shows heads fewer than k times.
    """
    ordered, n = sorted(values), len(values)
    missed, rank = 0.0, 0
    while missed + comb(n, rank) / 2**n <= 0.025:
        missed += comb(n, rank) / 2**n
        rank += 1
    return (ordered[rank - 1], ordered[n - rank]) if rank else None


def _last_if_unknown(values: Iterable[float | None]) -> float:
    found = _median(values)
    return inf if found is None else found


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
