"""How a command ends: exit codes, and the one line on standard error that says why.

Everything here is standard library, because `wgengine device` uses it and must stay small.
"""

import os
import sys
from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
PRIVILEGE: Final = 3
NOT_RUNNING: Final = 4
INTERRUPTED: Final = 130  # as shells count SIGINT


class UsageError(Exception):
    """The command line or an environment variable is wrong; the text says what to write instead."""


class NotRunningError(Exception):
    """The interface that the command asks about is served by nobody."""


class InUseError(Exception):
    """The name of an interface is taken."""


def complain(problem: object) -> None:
    """Writes `wgengine: PROBLEM` to standard error, always as one line."""
    tell("wgengine: " + " ".join(str(problem).split()))


def tell(line: str) -> None:
    """Writes a line to standard error. That nobody listens there any more ends nothing."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        pass


def code_for(error: BaseException) -> int:
    """The exit code that stands for an error."""
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, NotRunningError):
        return NOT_RUNNING
    if isinstance(error, PermissionError):  # PrivilegeError is one too
        return PRIVILEGE
    return FAILED


def describe(error: BaseException) -> str:
    """The text of an error without the `[Errno 2]` that Python puts before it."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(describe, error.exceptions))
    if isinstance(error, OSError) and error.errno and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return f"{where}{error.strerror}"
    return str(error) or type(error).__name__


def is_foreseen(error: BaseException) -> bool:
    """Whether an error is the user's or the machine's, told in one line; a fault of ours is not hidden."""
    if isinstance(error, UsageError | NotRunningError | InUseError | OSError):
        return True
    from wgengine.errors import Error

    return isinstance(error, Error)
