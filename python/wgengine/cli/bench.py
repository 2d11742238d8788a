"""`wgengine bench`: this engine and other implementations, measured in turn on this machine."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from wgengine.bench import generator, report
from wgengine.bench.compare import Measured, summarise
from wgengine.bench.host import missing_programs
from wgengine.bench.implementation import PEERS, Implementation, NotFound, ours, peer
from wgengine.bench.rows import GENERATED, OURS, ROWS, Row, select
from wgengine.bench.run import rounds, steps_per_round
from wgengine.errors import PrivilegeError


@click.command("bench")
@click.option("--rounds", "count", type=click.IntRange(1, 100), default=5, show_default=True, help="Rounds.")
@click.option("--seconds", type=click.IntRange(1, 600), default=3, show_default=True, help="Length of each load.")
@click.option("--rows", "row_names", metavar="LIST", help="Only these rows, by name and with commas between.")
@click.option("--peers", "peer_names", metavar="LIST", help=f"Only these peers, of {', '.join(PEERS)}; '' for none.")
@click.option("--peer", "paths", metavar="NAME=PATH", multiple=True, help="Where a peer's binary is (repeatable).")
@click.option("--load", "generator_path", metavar="PATH", help="Where wgengine-load is, for handshakes and floods.")
@click.option("--ours", "command", metavar="CMD", help="Measure CMD in place of this engine's `wgengine device -f`.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write bench.json here.")
@click.option("--json", "as_json", is_flag=True, help="Print bench.json in place of the table.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the dated table of docs/benchmarks.md.")
def bench(
    count: int,
    seconds: int,
    row_names: str | None,
    peer_names: str | None,
    paths: tuple[str, ...],
    generator_path: str | None,
    command: str | None,
    output: Path | None,
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Measure tunnels of this engine and of its peers, interleaved, in private network namespaces.

    Peers are looked for in $WGENGINE_PEERS, else in the user's cache, where tests/peers/build.py puts them.
    One that is missing is left out. Needs root. With all rows and peers a round takes about six minutes.
    """
    rows = _rows(row_names)
    names, places = _peer_names(peer_names), _peer_paths(paths)
    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown both want the standard output: give one of them")
    if output is not None and not os.access(output.absolute().parent, os.W_OK):
        raise click.UsageError(f"-o {output}: its directory does not exist or cannot be written to")
    _check_host()
    screen = Console(stderr=True, highlight=False)
    implementations = _implementations(command, names, places, screen)
    program, rows = _generator(generator_path, rows, chosen=row_names is not None, screen=screen)
    setting = report.Setting.here(implementations, rounds=count, seconds=seconds)
    for line in setting.lines():
        screen.print(line, style="dim", soft_wrap=True)
    if (load := os.getloadavg()[0]) > 0.5:
        screen.print(f"this machine is busy (load {load:.1f}): figures will be low, and ratios uneven", style="yellow")

    measured = _measure(rows, implementations, program, count=count, seconds=seconds, screen=screen)
    summaries = summarise(rows, measured, [i.name for i in implementations[1:]])
    if output is not None:
        _write(output, report.to_json(summaries))
    if as_json:
        click.echo(report.to_json(summaries), nl=False)
    elif as_markdown:
        click.echo(report.markdown(summaries, setting), nl=False)
    else:
        width = None if sys.stdout.isatty() else 140  # rich takes 80 for what is no terminal
        Console(highlight=False, width=width).print(report.table(summaries))
    if unmeasured := [summary.row.name for summary in summaries if summary.ours is None]:
        raise click.ClickException(f"not measured for {OURS}: {', '.join(unmeasured)}; the reasons are above")


def _rows(names: str | None) -> tuple[Row, ...]:
    if names is None:
        return ROWS
    try:
        return select(_words(names))
    except ValueError as error:
        raise click.UsageError(f"--rows: {error}") from None


def _peer_names(names: str | None) -> list[str]:
    if names is None:
        return list(PEERS)
    if unknown := sorted(set(_words(names)) - set(PEERS)):
        raise click.UsageError(f"--peers: no peer is named {', '.join(unknown)}; peers are: {', '.join(PEERS)}")
    return [name for name in PEERS if name in _words(names)]


def _peer_paths(pairs: Sequence[str]) -> dict[str, str]:
    places = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or name not in PEERS:
            raise click.UsageError(f"--peer {pair}: write NAME=PATH, where NAME is one of {', '.join(PEERS)}")
        places[name] = path
    return places


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _check_host() -> None:
    if sys.platform != "linux":
        raise click.ClickException("bench needs Linux: it builds its hosts from network namespaces")
    if missing := missing_programs():
        packages = " ".join(sorted(set(missing.values())))
        raise click.ClickException(f"bench needs {', '.join(missing)}: apt-get install {packages}")
    if os.geteuid() != 0:
        raise PrivilegeError("bench needs root, to make network namespaces and TUN devices: run it with sudo")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise PrivilegeError("bench needs /dev/net/tun; in a container: --cap-add NET_ADMIN --device /dev/net/tun")


def _implementations(
    command: str | None, names: Sequence[str], places: dict[str, str], screen: Console
) -> list[Implementation]:
    try:
        found = [ours(command)]
    except NotFound as error:
        raise click.UsageError(str(error)) from None
    for name in names:
        try:
            found.append(peer(name, path=places.get(name)))
        except NotFound as error:
            screen.print(f"without {error}", style="yellow", markup=False, soft_wrap=True)
    return found


def _generator(
    path: str | None, rows: tuple[Row, ...], *, chosen: bool, screen: Console
) -> tuple[Path | None, tuple[Row, ...]]:
    """The load generator, and the rows that can be measured with or without it."""
    if not any(row.step in GENERATED for row in rows):
        return None, rows
    try:
        return generator.find(path), rows
    except NotFound as error:
        if chosen or path:
            raise click.UsageError(str(error)) from None
        screen.print(f"without handshakes and floods: {error}", style="yellow", markup=False, soft_wrap=True)
        return None, tuple(row for row in rows if row.step not in GENERATED)


def _measure(
    rows: Sequence[Row],
    implementations: Sequence[Implementation],
    program: Path | None,
    *,
    count: int,
    seconds: float,
    screen: Console,
) -> list[Measured]:
    """Measures with a progress bar; where no terminal is, with a line for each implementation and round."""
    # By default SIGTERM and SIGHUP would end Python without leaving its `with` blocks.
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    measured = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        # Drawn seldom: the drawing shares the cores with what is measured.
        with Progress(*columns, console=screen, transient=True, refresh_per_second=2) as progress:
            total = count * steps_per_round(rows, implementations)
            task = progress.add_task("starting", total=total, completed=-1)

            def tell(what: str) -> None:
                progress.update(task, description=what, advance=1)

            measuring = rounds(rows, implementations, count=count, seconds=seconds, tell=tell, generator=program)
            for result in measuring:
                measured.append(result)
                if not screen.is_terminal:
                    screen.print(f"round {result.round + 1} of {count}: {result.implementation}")
                for failure in result.failures:
                    place = f"round {result.round + 1}: {result.implementation}"
                    screen.print(f"{place}: {failure}", style="red", markup=False, soft_wrap=True)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return measured


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _write(path: Path, text: str) -> None:
    """Writes the whole file or leaves the old one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
