"""Runs the fuzz targets, one after the other, and tells what came of each.

python tools/fuzz.py [--runs N] [--sanitizer none|address] [TARGET...]   (default all, a million executions each)
Exits with 1 when a target crashed; the input lies in fuzz/artifacts/TARGET and is run again by
`cargo fuzz run TARGET FILE`. What is found on the way is kept for the run only: the corpus is what was chosen for it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from progress import ROOT, StepError
from progress import run as step

FUZZ = ROOT / "fuzz"
CARGO_FUZZ = str(Path(sys.executable).parent / "cargo-fuzz")
RUNS = 1_000_000
TAIL_LINES = 40
HEARTBEAT_SECONDS = 15.0

_DONE = re.compile(r"^#(\d+)\s")
_TOTAL = re.compile(r"^stat::number_of_executed_units:\s*(\d+)")


def targets() -> list[str]:
    return sorted(path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one target."""

    name: str
    executions: int
    seconds: float
    crashed: bool


class Progress:
    """How far a target is: a line that moves on a terminal, now and then a line elsewhere."""

    def __init__(self, name: str, runs: int) -> None:
        self.name = name
        self.runs = runs
        self.terminal = sys.stdout.isatty()
        self.started = self.said = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def show(self, done: int) -> None:
        if not self.terminal and time.monotonic() - self.said < HEARTBEAT_SECONDS:
            return
        self.said = time.monotonic()
        rate = done / max(self.seconds, 0.001)
        text = f"· {self.name}: {done:,} of {self.runs:,} ({rate:,.0f} a second)"
        print(f"\r\x1b[2K{text}" if self.terminal else text, end="" if self.terminal else "\n", flush=True)

    def end(self, outcome: Outcome) -> None:
        start = "\r\x1b[2K" if self.terminal else ""
        mark = "✗" if outcome.crashed else "✓"
        print(f"{start}{mark} {self.name}: {outcome.executions:,} ({outcome.seconds:.0f} s)", flush=True)


def environment(sanitizer: str) -> dict[str, str]:
    # The address sanitizer is a flag of nightly compilers; the stable one has it, and takes it when told so.
    return {**os.environ, **({"RUSTC_BOOTSTRAP": "1"} if sanitizer != "none" else {})}


def fuzz(name: str, runs: int, sanitizer: str) -> Outcome:
    progress = Progress(name, runs)
    executions = 0
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with tempfile.TemporaryDirectory(prefix="wgengine-fuzz-") as found:
        command = [
            CARGO_FUZZ, "run", "--sanitizer", sanitizer, name, found, str(FUZZ / "corpus" / name),
            "--", f"-runs={runs}", "-print_final_stats=1", "-timeout=10",
        ]  # fmt: skip
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(sanitizer), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line)
            if seen := _DONE.match(line):
                progress.show(int(seen[1]))
            elif seen := _TOTAL.match(line):
                executions = int(seen[1])
        status = process.wait()
    # Fewer than asked for, without a word, is no success either.
    outcome = Outcome(
        name=name, executions=executions, seconds=progress.seconds, crashed=status != 0 or executions < runs
    )
    progress.end(outcome)
    if outcome.crashed:
        print("".join(tail), flush=True)
    return outcome


def table(outcomes: Sequence[Outcome]) -> str:
    total = Outcome(
        name="all",
        executions=sum(one.executions for one in outcomes),
        seconds=sum(one.seconds for one in outcomes),
        crashed=any(one.crashed for one in outcomes),
    )
    rows = [f"{'target':<16}{'executions':>14}{'seconds':>9}  crashes"]
    for one in (*outcomes, total):
        crashes = sum(each.crashed for each in outcomes) if one is total else int(one.crashed)
        rows.append(f"{one.name:<16}{one.executions:>14,}{one.seconds:>9.0f}{crashes:>9}")
    return "\n".join(rows)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/fuzz.py", description="Runs the fuzz targets.")
    parser.add_argument("--runs", type=int, default=RUNS, help="executions a target (default %(default)s)")
    parser.add_argument("--sanitizer", choices=("none", "address"), default="none")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(targets())}; default all")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.targets) - set(targets()):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(targets())}")
    if chosen.runs < 1:
        parser.error("--runs is a number from 1 up")
    build = [CARGO_FUZZ, "build", "--sanitizer", chosen.sanitizer]
    try:
        step("Building the fuzz targets", build, env=environment(chosen.sanitizer))
    except StepError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    outcomes = [fuzz(name, chosen.runs, chosen.sanitizer) for name in chosen.targets or targets()]
    print(f"\n{table(outcomes)}", flush=True)
    return 1 if any(one.crashed for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
