"""Processes that tests start: each ended by its id, each with everything it said."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class LabError(AssertionError):
    """A command of the lab failed; the text holds what it said."""


def until(condition: Callable[[], T], what: str, timeout_s: float = 10) -> T:
    """The first true answer of `condition`, asked every 10 ms."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise LabError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.01)


def run(args: Sequence[str | Path], *, stdin: str | None = None, timeout_s: float = 60, check: bool = True) -> str:
    """Standard output of a command on this machine."""
    done = subprocess.run([str(arg) for arg in args], input=stdin, capture_output=True, text=True, timeout=timeout_s)
    if check and done.returncode:
        raise LabError(
            f"{' '.join(map(str, args))}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


@dataclass(slots=True, kw_only=True)
class Process:
    """A process that the lab started, by its id, with everything it said."""

    name: str
    popen: subprocess.Popen[bytes]
    log_path: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    @property
    def log(self) -> str:
        """Nothing once the lab is closed."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def rss_bytes(self) -> int:
        return self._memory("VmRSS")

    @property
    def peak_rss_bytes(self) -> int:
        return self._memory("VmHWM")

    def _memory(self, row: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{row}:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024  # type: ignore[index]

    @property
    def cpu_s(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send_signal(self, number: int) -> None:
        if self.running:
            self.popen.send_signal(number)

    def wait(self, timeout_s: float = 30) -> int:
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} still runs after {timeout_s:g} s; it said: {self.log[-2000:]}") from None

    def output(self, timeout_s: float = 30) -> str:
        """All it said, once it ended well."""
        if code := self.wait(timeout_s):
            raise LabError(f"{self.name}: exit {code}: {self.log[-2000:]}")
        return self.log

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 5) -> int:
        """Asks it to end, then makes it; the exit code (negative: the signal that ended it)."""
        self.send_signal(number)
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise LabError(f"{self.name} did not end within {timeout_s:g} s of signal {number}") from None
