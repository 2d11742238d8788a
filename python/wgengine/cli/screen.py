"""The terminal: colours and live progress on one, plain text of any length everywhere else."""

import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

_UNBOUNDED: Final = 4096  # columns in a pipe, where nothing is cut or wrapped
_TITLES: Final = {"interface": "green", "peer": "yellow"}


def printable(text: str) -> str:
    """A text on one line, without what a terminal would obey: names come from others."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def console() -> "Console":
    """A console on standard output. rich itself obeys NO_COLOR and TERM=dumb."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=_UNBOUNDED, force_terminal=False, color_system=None)


def is_live(screen: "Console") -> bool:
    """Whether something may be drawn over: a terminal that can move its cursor."""
    return screen.is_terminal and os.environ.get("TERM") != "dumb"


def show_status(text: str, screen: "Console | None" = None) -> None:
    """Prints the text of `EngineStatus.render`, in the colours of `wg show` where there are any."""
    if screen is None:
        if not sys.stdout.isatty():
            print(text)  # rich, and the time it takes to load, are for people
            return
        screen = console()
    from rich.text import Text

    for line in text.splitlines():
        label, colon, value = line.partition(":")
        colour = _TITLES.get(label, "")
        screen.print(Text.assemble((label + colon, f"bold {colour}"), (value, colour)), soft_wrap=True)
