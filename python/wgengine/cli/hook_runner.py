"""Runs the hooks of a configuration, one after the other, and ends the one that runs when nobody shall wait for it.

At a terminal a hook stays in our process group: it may ask for a password, and Ctrl-C reaches it too. Elsewhere it has
a group of its own, so that its children end with it.
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Sequence

from wgengine.cli import outcome
from wgengine.hooks import ENVIRONMENT, Hook, HookError, shell

_PATIENCE_S = 0.5  # from SIGTERM to SIGKILL
_STDERR = 2


class HookRunner:
    """With `to_stderr` what hooks print goes to standard error, because standard output is a program's to read."""

    def __init__(self, *, to_stderr: bool) -> None:
        self._stdout = _STDERR if to_stderr else None
        self._own_group = not os.isatty(0)
        self._running: Process | None = None
        self._interrupted = False

    async def run(self, hooks: Sequence[Hook]) -> bool:
        """Run them all; `HookError` at the first that fails, false when `interrupt` cut them short."""
        self._interrupted = False
        for hook in hooks:
            code = await self._one(hook)
            if self._interrupted:
                return False
            if code:
                raise hook.failure(code)
        return True

    async def run_regardless(self, hooks: Sequence[Hook]) -> bool:
        """Run them all, whatever becomes of each; whether all of them went well."""
        well = True
        for hook in hooks:
            try:
                well &= await self.run([hook])
            except HookError as error:
                outcome.complain(error)
                well = False
        return well

    def interrupt(self) -> None:
        """End the hook that runs now, if one does."""
        self._interrupted = True
        if self._running is not None:
            self._signal(self._running, signal.SIGTERM)
            asyncio.get_running_loop().call_later(_PATIENCE_S, self._signal, self._running, signal.SIGKILL)

    async def _one(self, hook: Hook) -> int:
        outcome.tell(f"[#] {hook.shown}")
        reading, writing = os.pipe()
        try:
            self._running = process = await asyncio.create_subprocess_exec(
                *shell(reading),
                stdout=self._stdout,
                env=os.environ | ENVIRONMENT,
                process_group=0 if self._own_group else None,
                pass_fds=(reading,),
            )
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        try:
            await asyncio.to_thread(_hand_over, writing, hook.command.encode())
            if self._interrupted:  # while it was being made
                self.interrupt()
            return await process.wait()
        finally:
            self._running = None

    def _signal(self, process: Process, number: signal.Signals) -> None:
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self._own_group:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)


def _hand_over(writing: int, command: bytes) -> None:
    """A shell that is ended already reads nothing."""
    with contextlib.suppress(BrokenPipeError), open(writing, "wb") as pipe:
        pipe.write(command)
