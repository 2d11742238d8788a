"""Whose an engine is: a fork's child has a copy of it, but none of its threads and no right to the rest."""

from __future__ import annotations

import os

from wgengine.errors import ForkedError

__all__ = ["Owner"]

_forks = 0  # between the first process and this one


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)


class Owner:
    """The process that it is made in. The number alone would not do: a PID namespace counts from 1 again."""

    __slots__ = ("_made_in",)

    def __init__(self) -> None:
        self._made_in = (os.getpid(), _forks)

    @property
    def is_here(self) -> bool:
        """False in a fork's child."""
        return self._made_in == (os.getpid(), _forks)

    def check(self) -> None:
        """Raise `ForkedError` in a fork's child."""
        if not self.is_here:
            raise ForkedError("this engine belongs to the parent process; make one of your own after the fork")
