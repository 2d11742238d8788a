"""Every error that wgengine raises by itself. An `OSError` of the system passes through with its errno."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from wgengine.changes import Changes

__all__ = [
    "ClosedError",
    "ConfigError",
    "DamagedError",
    "Error",
    "ForkedError",
    "PrivilegeError",
    "ReconfigError",
    "StateError",
    "TimedOutError",
    "quoted",
]


class Error(Exception):
    """The base of all of them."""


class ConfigError(Error, ValueError):
    """A value that cannot be configured. The message says what to write instead; nothing was changed."""

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.field = field

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        if self.file is None and self.line is not None:
            place = f"line {self.line}"
        return ": ".join(part for part in (place, self.field, self.message) if part)

    def at(self, *, file: str | None = None, line: int | None = None, field: str | None = None) -> ConfigError:
        """The same error with its place filled in; what is known already stays."""
        return ConfigError(
            self.message,
            file=self.file if file is None else file,
            line=self.line if line is None else line,
            field=self.field if field is None else field,
        )


class StateError(Error):
    """The call does not fit the state of the engine."""


class ClosedError(StateError):
    """The engine is closed."""


class ForkedError(StateError):
    """The engine belongs to the parent process: threads and sockets do not survive a fork."""


class DamagedError(Error):
    """A file that was kept is not what was written. It lies aside as `kept`, if it could be moved."""

    def __init__(self, message: str, *, path: str | None = None, kept: str | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.kept = kept


class PrivilegeError(Error, PermissionError):
    """The system does not allow it; the message says what would help."""


class TimedOutError(Error, TimeoutError):
    """It took longer than was allowed."""


class ReconfigError(Error, ExceptionGroup[Exception]):
    """Some subsystems could not be configured: one member each. `changes` holds what was applied nevertheless."""

    changes: Changes

    def __new__(cls, message: str, exceptions: Sequence[Exception], changes: Changes) -> Self:
        self = super().__new__(cls, message, exceptions)
        self.changes = changes
        return self

    def __init__(self, message: str, exceptions: Sequence[Exception], changes: Changes) -> None:
        # the group reads its arguments in __new__; `args` holds all three, so that a pickled one comes back whole
        super().__init__(message, exceptions, changes)  # type: ignore[call-arg]

    def derive(self, excs: Sequence[Exception], /) -> ReconfigError:  # type: ignore[override]
        """What `split`, `subgroup` and `except*` make of a part (PEP 654)."""
        return ReconfigError(self.message, excs, self.changes)


# 32 bytes as base64 (whole, or with a character lost) or as hex
_KEY_LIKE = re.compile(r"[A-Za-z0-9+/]{41,}=*|[0-9A-Fa-f]{60,}")
_LONGEST = 60


def quoted(word: str) -> str:
    """A refused word as errors show it: in quotes, cut short, with odd characters escaped, and never a key."""
    shown = _KEY_LIKE.sub("(hidden key)", word)
    if len(shown) > _LONGEST:
        shown = shown[:_LONGEST] + "…"
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown) + '"'
