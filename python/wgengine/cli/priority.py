"""Packets before programs: data threads of our own daemons come before what they carry packets for.

At the same priority a flood would take its time out of a data thread's share, and the honest packets would pay for it.
A library does not decide that for its host; the kernel's own WireGuard comes before every program. Standard library
only, for `wgengine device`.
"""

from collections.abc import Mapping
from typing import Final

from wgengine.cli.outcome import UsageError

NICE: Final = -5
VARIABLE: Final = "WGENGINE_NICE"


def nice(environment: Mapping[str, str]) -> int:
    """The nice value that the environment asks for."""
    text = environment.get(VARIABLE, "")
    if not text:
        return NICE
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 3 and -20 <= int(text) <= 19):
        raise UsageError(f"{VARIABLE}={text}: write a number from -20 to 19")
    return int(text)
