"""`demo`: two engines, a tunnel between them, and how fast it is. No configuration, nothing left behind."""

import json
import math
import time
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from wgengine.cli import demo_lab as lab
from wgengine.cli import outcome
from wgengine.cli.screen import console, is_live, show_status
from wgengine.status import size

_PINGS = 50


class Bulk(NamedTuple):
    """A bulk transfer through the tunnel."""

    bytes: int
    seconds: float
    lost: int  # datagrams
    carrier: str

    @property
    def bits_per_second(self) -> float:
        return self.bytes * 8 / self.seconds if self.seconds else 0.0

    def words(self) -> str:
        lost = f", {self.lost} datagrams lost" if self.lost else ""
        return f"{size(self.bytes)} in {self.seconds:.1f} s{lost}"


class _Pings(NamedTuple):
    """Round trips through the tunnel, in milliseconds; `None` where nothing came back."""

    sent: int
    received: int
    min: float | None
    median: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, seconds: Sequence[float | None]) -> "_Pings":
        times = sorted(round(value * 1e3, 4) for value in seconds if value is not None)
        if not times:
            return cls(len(seconds), 0, None, None, None, None)
        return cls(
            len(seconds), len(times), times[0], median(times), times[math.ceil(len(times) * 0.99) - 1], times[-1]
        )

    def table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
        table.add_column(f"  {'ping':<9}")
        for name in ("sent", "back", "min", "median", "p99", "max"):
            table.add_column(name, justify="right", header_style="dim")
        times = ("-" if value is None else f"{value:.3f} ms" for value in self[2:])
        table.add_row("", str(self.sent), str(self.received), *times)
        return table


@click.command()
@click.option("--memory", is_flag=True, help="In-memory devices even where real TUN devices are allowed.")
@click.option(
    "--seconds", type=click.FloatRange(0.5, 60), default=4.0, show_default=True, help="Length of the transfer."
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object at the end, and nothing else.")
def demo(memory: bool, seconds: float, as_json: bool) -> int:
    """Start two engines, join them with a tunnel, and show what it does.

    Uses real TUN devices in private network namespaces where the kernel allows it, as root or as an ordinary user;
    else in-memory devices with real UDP over loopback. Nothing outside those namespaces is touched.
    """
    screen = Console(quiet=True) if as_json else console()
    began = time.monotonic()
    try:
        with lab.build(memory=memory) as ends:
            story = _run(screen, ends, seconds)
    except lab.EndError as error:
        outcome.complain(f"the demo failed: {error}")
        return outcome.FAILED
    story["seconds"] = round(time.monotonic() - began, 3)
    if as_json:
        click.echo(json.dumps(story, indent=2))
    screen.print(f"\nBoth engines are closed, nothing is left behind. {story['seconds']:.1f} s in all.", style="dim")
    return outcome.OK


def _run(screen: Console, ends: lab.Lab, seconds: float) -> dict[str, Any]:
    screen.print("[bold]wgengine demo[/]: two engines, one tunnel\n")
    _row(screen, "devices", ends.kind)
    for note in ends.notes:
        _row(screen, "", f"({note})")

    handshake = float(ends.near.ask("handshake")["seconds"])
    _row(screen, "handshake", f"{handshake * 1e3:.2f} ms")

    pings = _Pings.of(ends.near.ask("ping", count=_PINGS)["round_trips"])
    screen.print(pings.table())

    bulk = _transfer(screen, ends, seconds)
    _row(screen, "bulk", f"[bold]{bulk.bits_per_second / 1e9:.2f} Gbit/s[/] {bulk.carrier}: {bulk.words()}")

    states = [ends.near.ask("status"), ends.far.ask("status")]
    for state in states:
        screen.print()
        show_status(state["text"], screen)
    return {
        "devices": ends.mode,
        "kind": ends.kind,
        "notes": list(ends.notes),
        "handshake_seconds": handshake,
        "ping": pings._asdict(),
        "bulk": bulk._asdict() | {"bits_per_second": round(bulk.bits_per_second)},
        "engines": [state["values"] for state in states],
    }


def _row(screen: Console, label: str, text: str) -> None:
    screen.print(f"  {label:<11}{text}", soft_wrap=True)


def _transfer(screen: Console, ends: lab.Lab, seconds: float) -> Bulk:
    """Sends from the near end to the far one and draws what the far one receives."""
    columns = (
        TextColumn("  {task.description:<10}"),
        BarColumn(bar_width=40),
        TextColumn("{task.fields[speed]}", style="bold"),
        TimeRemainingColumn(compact=True),
    )
    # it refreshes with each note, so no thread is needed
    with Progress(
        *columns, console=screen, transient=True, auto_refresh=False, disable=not is_live(screen)
    ) as progress:
        task = progress.add_task("bulk", total=seconds, speed="")

        def note(so_far: dict[str, Any]) -> None:
            speed = f"{so_far['received'] * 8 / so_far['seconds'] / 1e9:.2f} Gbit/s"
            progress.update(task, completed=so_far["seconds"], speed=speed, refresh=True)

        ends.far.tell("receive")
        ends.near.tell("send", seconds=seconds)
        received = ends.far.answer(note)
        ends.near.answer()
    carrier = "TCP" if ends.mode == "tun" else "UDP"
    return Bulk(int(received["received"]), float(received["seconds"]), int(received["lost"]), carrier)
