"""Builds a wheel for every platform and a source distribution into dist/, and checks each.

python tools/wheels.py [NAME...]   (default all; NAME is the beginning of a platform's name, or sdist)
All are tried even when one fails: one run shows everything there is to mend. macOS and other processors are built by
zig and not run here.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import progress
import toolchains
import wheel_check
from progress import ROOT

DIST = ROOT / "dist"
BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    name: str
    triple: str
    words: tuple[str, ...] = ()
    """For maturin."""


def linux(libc: str, version: str, machine: str) -> Platform:
    triple = f"{machine}-unknown-linux-{'gnu' if libc == 'manylinux' else 'musl'}"
    return Platform(name=f"{libc} {machine}", triple=triple, words=("--compatibility", f"{libc}_{version}"))


PLATFORMS = (
    linux("manylinux", "2_28", "x86_64"),
    linux("manylinux", "2_28", "aarch64"),
    linux("musllinux", "1_2", "x86_64"),
    linux("musllinux", "1_2", "aarch64"),
    Platform(name="macos arm64", triple="aarch64-apple-darwin"),
    Platform(name="macos x86_64", triple="x86_64-apple-darwin"),
)


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", "")])}


def build(platform: Platform) -> Path:
    """The platform's wheel; StepError where it does not build."""
    with tempfile.TemporaryDirectory(dir=DIST) as folder:
        command = [str(BIN / "maturin"), "build", "--release", "--zig", "--target", platform.triple, "--out", folder]
        progress.run(f"Wheel {platform.name}", [*command, *platform.words], env=environment())
        (wheel,) = Path(folder).glob("*.whl")
        return wheel.replace(DIST / wheel.name)


def sdist() -> list[str]:
    """A source distribution, and what is wrong with it: it must hold what it needs to build, and build."""
    with tempfile.TemporaryDirectory(dir=DIST) as folder:
        command = [str(BIN / "maturin"), "sdist", "--out", folder]
        progress.run("Source distribution", command, env=environment())
        (made,) = Path(folder).glob("*.tar.gz")
        file = made.replace(DIST / made.name)
        with tarfile.open(file) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        needed = ("Cargo.lock", "LICENSE", "README.md", "PKG-INFO", "pyproject.toml", "python/wgengine/py.typed")
        wrong = [f"{file.name}: {name} is missing" for name in needed if name not in names]
        # Files of an archive are of no age that cargo could go by: nothing that was built before may serve.
        env = {**environment(), "CARGO_TARGET_DIR": str(Path(folder) / "target")}
        command = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-build-isolation", "--wheel-dir", folder, str(file)]
        progress.run(f"A wheel out of {file.name}", command, env=env)
        (wheel,) = Path(folder).glob("*.whl")
        wrong += [f"the wheel out of {file.name}: {text}" for text in wheel_check.contents(wheel)]
    print(f"{file.name}: {file.stat().st_size / 1024:.0f} KiB, {len(names)} files")
    return wrong


def main(arguments: Sequence[str]) -> int:
    wanted = [platform for platform in PLATFORMS if not arguments or platform.name.startswith(tuple(arguments))]
    if not wanted and "sdist" not in arguments:
        print(__doc__, file=sys.stderr)
        return 2
    missing = toolchains.group("wheels", "ziglang", "cargo-zigbuild", "auditwheel", "abi3audit")
    if missing is not None:
        print(f"✗ {missing}", file=sys.stderr)
        return 1
    DIST.mkdir(exist_ok=True)
    started = time.monotonic()
    verdicts, wrong = [], []
    for platform in wanted:
        missing = toolchains.target(platform.triple)
        if missing is not None:
            wrong.append(f"{platform.name}: {missing}")
            continue
        try:
            verdicts.append(wheel_check.check(build(platform)))
        except progress.StepError:
            wrong.append(f"{platform.name}: it did not build")
    if not arguments or "sdist" in arguments:
        try:
            wrong += sdist()
        except progress.StepError as error:
            wrong.append(str(error))
    if verdicts:
        print(wheel_check.table(verdicts))
    for text in wrong:
        print(f"✗ {text}")
    print(f"{len(verdicts)} wheels in {time.monotonic() - started:.0f} s")
    return 1 if wrong or any(verdict.wrong for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
