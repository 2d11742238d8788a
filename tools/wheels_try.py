"""Runs the wheels in dist/ where only Python is: no compiler, no Rust, nothing of this checkout.

python tools/wheels_try.py [TREE...]
Each Python 3.11 or later of this machine gets a fresh environment and the manylinux wheel. As root, Debian's next
release is made in a cache, for its later Python, and once more for another processor where an emulator is installed.
A TREE is the root folder of another system with Python in it; musl's loader in it asks for the musllinux wheel.
What is run: the demo as root and as an ordinary user, and tests/smoke.py.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from places import DIST, NOBODY, Place, TryError, fresh, installed_in, interpreters, next_debian, run


def attempts(place: Place) -> Iterator[str]:
    """What was tried and what came of it, a line each."""
    demo = ["-m", "wgengine", "demo", "--seconds", "0.5"]
    root = os.geteuid() == 0
    if place.demo:
        said = run([*place.python, *demo], place.env)
        yield f"demo as {'root' if root else 'an ordinary user'}: {told(said)}"
    if place.demo and root:
        said = run([*place.as_user, *demo], place.env, None if place.drops else NOBODY)
        yield f"demo as an ordinary user: {told(said)}"
    yield run([*place.python, place.smoke], place.env).splitlines()[-1]


def told(demo: str) -> str:
    """On which devices the demo ran, why not on better ones, and what went through."""
    devices, bulk = (re.search(rf"^ *{label} +(.*)$", demo, re.MULTILINE) for label in ("devices", "bulk"))
    if devices is None or bulk is None:
        raise TryError(f"the demo did not tell its story:\n{demo[-2000:]}")
    notes = re.findall(r"^ +(\(.*\))$", demo, re.MULTILINE)
    return f"{' '.join([devices[1], *notes])}; {bulk[1]}"


def attempt(title: str, make: Callable[[], Place]) -> Path | None:
    """The wheel that works there; None where something did not."""
    print(f"{title}:", flush=True)
    try:
        place = make()
        print(f"  in {place.name}", flush=True)
        for said in attempts(place):
            print(f"  ✓ {said}", flush=True)
    except TryError as error:
        print(f"  ✗ {error}", flush=True)
        return None
    return place.wheel


def main(arguments: Sequence[str]) -> int:
    outcomes = []
    for version, python in interpreters().items():
        with tempfile.TemporaryDirectory(prefix="wgengine-try-") as name:
            folder = Path(name)
            folder.chmod(0o755)
            outcomes.append(attempt(f"Python {version}", partial(fresh, python, folder)))
    not_run = ["free-threaded Python"]
    for machine in dict.fromkeys((platform.machine(), "aarch64")):
        try:
            tree = next_debian(machine)
        except TryError as error:
            not_run.append(f"the next Debian for {machine} ({error})")
        else:
            outcomes.append(attempt(f"Debian's next release, {machine}", partial(installed_in, tree)))
    for name in arguments:
        outcomes.append(attempt(name, partial(installed_in, Path(name))))
    not_run += sorted(file.name for file in DIST.glob("*.whl") if file not in outcomes)
    failed = outcomes.count(None)
    print(f"{len(outcomes) - failed} of {len(outcomes)} places work. Not run: {'; '.join(not_run)}.")
    return 1 if failed or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
