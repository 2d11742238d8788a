"""The native load generator: where it is, and what it says."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wgengine.bench.host import Host, Process
from wgengine.bench.implementation import NotFound

NAME = "wgengine-load"
# Built beside this package in a checkout; no wheel holds it.
BUILT = Path(__file__).parents[3] / "target" / "release" / NAME
STRANGERS = "198.18.0.0/15"
"""Source addresses of those who have none of their own: set aside for benchmarks (RFC 2544)."""


def find(path: str | None = None) -> Path:
    """Returns the generator's program.

    Raises:
        NotFound: when it is not there; the message says how to get it.
    """
    found = path or shutil.which(NAME) or str(BUILT)
    if not (Path(found).is_file() and os.access(found, os.X_OK)):
        hint = "" if path else " (`make load` builds it in a checkout, --load PATH names another place)"
        raise NotFound(f"{NAME}: no executable file {found}{hint}")
    return Path(found).absolute()


@contextmanager
def running(generator: Path, where: Host, *words: str, seconds: float, **flags: object) -> Iterator[Process]:
    """Runs a load of so many seconds on a host, at most until the block is left."""
    pairs = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    with where.spawn(str(generator), *words, "--seconds", f"{seconds:g}", *pairs) as process:
        yield process


def result(process: Process, *, seconds: float) -> Mapping[str, Any]:
    """What a load of so many seconds came to."""
    said: Mapping[str, Any] = json.loads(process.result(seconds=seconds + 15))
    return said


def identities(generator: Path, where: Host, count: int) -> list[str]:
    """Public keys, as UAPI writes them, of the initiators that the generator can be."""
    keys: list[str] = json.loads(where.run(str(generator), "identities", "--count", str(count)))
    return keys
