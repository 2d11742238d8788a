"""A program that answers each JSON value on its standard input with one on its standard output."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from peers.process import LabError


class Conversation:
    """The program for as long as the block runs. It ends when its input ends; what it says beside goes to a file."""

    def __init__(self, command: Sequence[str | Path], *, name: str) -> None:
        self.name = name
        self._aside: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the program)
        self._process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._aside
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said on standard error."""
        if self._aside.closed:
            return ""
        self._aside.seek(0)
        return self._aside.read().decode(errors="replace")

    def ask(self, value: Any) -> Any:
        """The answer to one value."""
        sent, said = self._process.stdin, self._process.stdout
        assert sent is not None
        assert said is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: there will be no answer
            sent.write(json.dumps(value, separators=(",", ":")).encode() + b"\n")
            sent.flush()
        line = said.readline()
        if not line:
            raise LabError(f"{self.name} ended with {self._process.wait(10)} instead of an answer: {self.log[-4000:]}")
        return json.loads(line)

    def end(self, timeout_s: float = 10) -> None:
        """Closes its input and waits; kills it if it does not end by itself, which is an error."""
        if self._aside.closed:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        log = self.log
        self._process.stdout.close()
        self._aside.close()
        if code:
            raise LabError(f"{self.name} ended with {code}: {log[-4000:]}")
