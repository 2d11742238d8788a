"""The saying: machine and versions, the table for a terminal and for Markdown, and bench.json."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Self

from wgengine.bench.compare import Comparison, Summary
from wgengine.bench.implementation import Implementation
from wgengine.bench.rows import BASELINE
from wgengine.bench.testbed import OUTER_MTU, TUNNEL_MTU

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where and how the figures were taken: without it they mean nothing."""

    day: date
    machine: str
    kernel: str
    rounds: int
    seconds: float
    versions: tuple[tuple[str, str], ...]

    @classmethod
    def here(cls, implementations: Sequence[Implementation], *, rounds: int, seconds: float) -> Self:
        """Reads it from this machine."""
        return cls(
            day=date.today(),
            machine=_machine(Path("/proc/cpuinfo").read_text(), len(os.sched_getaffinity(0))),
            kernel=f"{platform.system()} {platform.release()}",
            rounds=rounds,
            seconds=seconds,
            versions=tuple((i.name, i.version) for i in implementations),
        )

    def lines(self) -> list[str]:
        """The same in words."""
        return [
            f"{self.day.isoformat()}; {self.machine}; {self.kernel}",
            f"two network namespaces joined by veth, MTU {OUTER_MTU} outside and {TUNNEL_MTU} inside; "
            "both tunnel ends, iperf3, ping and what floods share the cores",
            f"interleaved rounds: {self.rounds}, {self.seconds:g} s per load; medians, and of ratios the median of the "
            "rounds' own",
            "; ".join(f"{name} {version}" for name, version in self.versions),
        ]


def _machine(cpuinfo: str, cores: int) -> str:
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())}
    model = facts.get("model name") or platform.machine()
    virtual = "virtual, " if "hypervisor" in facts.get("flags", "").split() else ""
    return f"{model} ({virtual}{cores} core{'s' if cores != 1 else ''}, {platform.machine()})"


def figure(value: float | None) -> str:
    """Three significant digits, and no exponent."""
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    digits = 2 if abs(value) >= 1 else 3
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.{digits}f}"


def _ratio(comparison: Comparison) -> str:
    return "–" if comparison.ratio is None else f"{comparison.ratio:.2f}"


def _interval(summary: Summary) -> str:
    """Of the figure that the target is for; six rounds or more are needed."""
    if summary.interval is None:
        return ""
    low, high = (figure(end) if summary.row.alone else f"{end:.2f}" for end in summary.interval)
    return f"{low} to {high}"


def _beside(comparison: Comparison) -> str:
    value = figure(comparison.peer)
    return value if comparison.ratio is None else f"{value} ({_ratio(comparison)})"


def _cells(summary: Summary, others: Sequence[str]) -> list[str]:
    """One line of either table."""
    row = summary.row
    beside = summary.peers.get(BASELINE)
    return [
        row.name,
        row.unit,
        figure(summary.ours),
        figure(beside.peer if beside else None),
        _ratio(summary.baseline),
        _interval(summary),
        row.wanted,
        {True: "yes", False: "no", None: ""}[summary.met],
        *(_beside(summary.peers[other]) for other in others),
    ]


def _heads(others: Sequence[str]) -> list[str]:
    beside = [f"{other} (ratio)" for other in others]
    return ["row", "unit", "wgengine", BASELINE, "ratio", "95 %", "wanted", "met", *beside]


def _others(summaries: Sequence[Summary]) -> list[str]:
    return [name for name in (summaries[0].peers if summaries else ()) if name != BASELINE]


def table(summaries: Sequence[Summary]) -> "Table":
    """The table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    others = _others(summaries)
    shown = Table(title="ratio: ours divided by theirs", title_justify="left", title_style="dim")
    for number, head in enumerate(_heads(others)):
        shown.add_column(head, justify="left" if number < 2 else "right", no_wrap=number < 2, overflow="fold")
    style = {"yes": "green", "no": "bold red"}
    for summary in summaries:
        cells = _cells(summary, others)
        met = cells[7]
        shown.add_row(*(Text(c, style=style.get(met, "") if n in (4, 7) else "") for n, c in enumerate(cells)))
    return shown


def markdown(summaries: Sequence[Summary], setting: Setting) -> str:
    """The dated table for docs/benchmarks.md."""
    others = _others(summaries)
    heads = _heads(others)
    lines = [
        f"### {setting.day.isoformat()}, {setting.machine}, {setting.kernel}",
        "",
        *(f"- {line}" for line in setting.lines()[1:]),
        "",
        _line(heads),
        _line(["---"] * 2 + ["---:"] * (len(heads) - 2)),
        *(_line(_cells(summary, others)) for summary in summaries),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def to_json(summaries: Sequence[Summary]) -> str:
    """bench.json: a list with one object per row."""
    return json.dumps([summary.to_json() for summary in summaries], indent=2, ensure_ascii=False) + "\n"
