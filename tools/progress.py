"""One long step at a time: a line that moves while it works, the whole output only when it fails.

As a command: python tools/progress.py "Title of the step" -- COMMAND [ARGUMENT...]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "target" / "logs"
TAIL_LINES = 60
# Without a terminal a sign of life this often keeps watchers (and CI) from taking a long build for a dead one.
HEARTBEAT_SECONDS = 15.0

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class StepError(Exception):
    """A step's command ended with a status other than 0."""

    def __init__(self, title: str, status: int) -> None:
        super().__init__(f"{title}: exit status {status}")
        self.status = status


class _Line:
    """The moving line: rewritten on a terminal, repeated now and then elsewhere."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.terminal = sys.stdout.isatty()
        self.started = time.monotonic()
        self.last = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._move, daemon=True)

    def __enter__(self) -> Self:
        if not self.terminal:
            print(f"· {self.title} …", flush=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def end(self, mark: str) -> None:
        start = "\r\x1b[2K" if self.terminal else ""
        print(f"{start}{mark} {self.title} ({self.seconds:.0f} s)", flush=True)

    def _move(self) -> None:
        while not self._stop.wait(0.2 if self.terminal else HEARTBEAT_SECONDS):
            if self.terminal:
                width = os.get_terminal_size(sys.stdout.fileno()).columns
                text = f"· {self.title} … {self.seconds:.0f} s  {self.last}"
                sys.stdout.write("\r\x1b[2K" + text[: max(width - 1, 20)])
                sys.stdout.flush()
            else:
                print(f"  {self.title}: {self.seconds:.0f} s  {self.last[:100]}", flush=True)


def run(title: str, command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> None:
    """Run `command` under a moving line. Its output is kept in target/logs; a failure shows the end of it."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / (re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + ".log")
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with _Line(title) as line:
        with log.open("w", encoding="utf-8") as kept:
            try:
                process = subprocess.Popen(
                    list(command),
                    cwd=cwd,
                    env=dict(env) if env is not None else None,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                )
            except OSError as error:
                line.end("✗")
                print(f"  {command[0]}: {error.strerror}", file=sys.stderr)
                raise StepError(title, 127) from None
            assert process.stdout is not None
            for raw in process.stdout:
                kept.write(raw)
                text = _ESCAPES.sub("", raw).rstrip()
                tail.append(text)
                line.last = text.strip() or line.last
            status = process.wait()
        line.end("✓" if status == 0 else "✗")
    if status != 0:
        print("\n".join(tail), file=sys.stderr)
        print(f"\n{title} failed (exit status {status}). Whole output: {log.relative_to(ROOT)}", file=sys.stderr)
        raise StepError(title, status)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) < 3 or arguments[1] != "--":
        print(__doc__, file=sys.stderr)
        return 2
    try:
        run(arguments[0], arguments[2:])
    except StepError as error:
        return error.status
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
