"""The rows of the benchmark: what each one measures, and how rounds become medians and ratios.

Pure. A machine's speed drifts by a fifth within an hour, so a median of one implementation says little beside the
median of another. Each round therefore gives a ratio of its own, and the median of those ratios is what counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median

BASELINE = "tailscale-wireguard-go"
"""The implementation that ratios are made against: what tailscaled uses."""

OURS = "wgengine"

NOSEG = "_noseg"
"""Suffix of rows measured with the veth's UDP segmentation off.

Over veth a UDP GSO block is never cut into datagrams, which flatters everyone who sends them; a real NIC cuts them.
"""


class Step(StrEnum):
    """One load, put on a fresh tunnel; a step may fill several rows."""

    PING = "1,000 pings"
    TCP1 = "1 TCP stream"
    TCP1_REVERSE = "1 TCP stream, reverse"
    TCP4 = "4 TCP streams"
    UDP_2G = "UDP, 2 Gbit/s offered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the result."""

    name: str
    unit: str
    about: str
    step: Step
    segmentation: bool = True
    higher_is_better: bool = False
    target: float | None = None
    """Bound of the ratio; of our own value when the row stands alone."""
    alone: bool = False
    """An absolute bound: there is no peer to compare with."""

    def meets(self, value: float) -> bool | None:
        """Whether a ratio (own value, when alone) keeps the target; None without a target."""
        if self.target is None:
            return None
        return value >= self.target if self.higher_is_better else value <= self.target

    @property
    def wanted(self) -> str:
        """The target in words, for tables."""
        if self.target is None:
            return ""
        sign = "≥" if self.higher_is_better else "≤"
        return f"{sign} {self.target:g}{' ' + self.unit if self.alone else ''}"


def _throughput(segmentation: bool) -> tuple[Row, ...]:
    suffix = "" if segmentation else NOSEG

    def row(name: str, about: str, step: Step, target: float | None) -> Row:
        return Row(
            name=name + suffix,
            unit="Gbit/s",
            about=about,
            step=step,
            segmentation=segmentation,
            higher_is_better=True,
            target=target if segmentation else 1.0,
        )

    return (
        row("tcp1", "one TCP stream", Step.TCP1, 1.5),
        row("tcp1_reverse", "one TCP stream, the server sends", Step.TCP1_REVERSE, None),
        row("tcp4", "four TCP streams", Step.TCP4, None),
        row("udp_2g_goodput", "1,300-byte datagrams, 2 Gbit/s offered: what arrives", Step.UDP_2G, 2.0),
        Row(
            name=f"udp_2g_tunnel_loss{suffix}",
            unit="%",
            about="of these datagrams: sent into the TUN and not written out of the other one",
            step=Step.UDP_2G,
            segmentation=segmentation,
        ),
        Row(
            name=f"tcp1_retransmits{suffix}",
            unit="/GB",
            about="segments that TCP sent again in tcp1",
            step=Step.TCP1,
            segmentation=segmentation,
        ),
    )


# The worse-looking half, without segmentation, is quoted first.
ROWS: tuple[Row, ...] = (
    *_throughput(segmentation=False),
    *_throughput(segmentation=True),
    Row(name="ping_idle_p50", unit="ms", about="median of 1,000 pings 2 ms apart, no load", step=Step.PING, target=0.5),
    Row(name="ping_idle_p99", unit="ms", about="99th percentile of the same pings", step=Step.PING),
    Row(
        name="cpu_s_per_gb",
        unit="s/GB",
        about="user and system time of both tunnel processes per 10⁹ bytes received, in tcp1",
        step=Step.TCP1,
        target=0.65,
    ),
    Row(
        name="rss_under_load",
        unit="MB",
        about="peak resident memory (10⁶ bytes) of the receiver's process after all loads",
        step=Step.TCP1,
        target=64.0,
        alone=True,
    ),
)


def select(names: Iterable[str]) -> tuple[Row, ...]:
    """Returns the rows with these names, in the table's order.

    Raises:
        ValueError: for a name that no row has; the message lists the names.
    """
    wanted = set(names)
    unknown = wanted - {row.name for row in ROWS}
    if unknown:
        known = ", ".join(row.name for row in ROWS)
        raise ValueError(f"no row is named {', '.join(sorted(unknown))}; rows are: {known}")
    return tuple(row for row in ROWS if row.name in wanted)


def steps_of(rows: Iterable[Row], *, segmentation: bool) -> tuple[Step, ...]:
    """Returns the loads that these rows need, idle ones first, as no load may stand before a ping."""
    needed = {row.step for row in rows if row.segmentation == segmentation}
    return tuple(step for step in Step if step in needed)


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
            "target": self.row.target,
            "better": "higher" if self.row.higher_is_better else "lower",
            "others": {} if self.row.alone else others,
            "rounds": {name: list(values) for name, values in self.rounds.items()},
        }


def summarise(rows: Iterable[Row], measured: Sequence[Measured], peers: Sequence[str]) -> list[Summary]:
    """Returns one summary per row."""
    count = 1 + max((m.round for m in measured), default=-1)
    by_place = {(m.implementation, m.round): m.values for m in measured}

    def values(implementation: str, row: Row) -> list[float | None]:
        return [by_place.get((implementation, r), {}).get(row.name) for r in range(count)]

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
    return Comparison(peer=_median(theirs), ratio=None if row.alone else _median(ratios))


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
