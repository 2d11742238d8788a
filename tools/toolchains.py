"""Says whether Rust and Go are here and new enough, and what to type when they are not; fetches what builds for others.

python tools/toolchains.py rust [rustfmt] [clippy] [go]
A missing Go stops nothing but the interop tests, so it is an error in CI only.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence

import progress

RUST = (1, 91)
GO = (1, 26, 5)


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def version_of(command: Sequence[str]) -> tuple[int, ...] | None:
    """The first dotted number that `command` prints, or None where it does not run."""
    if shutil.which(command[0]) is None:
        return None
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"(\d+(?:\.\d+)+)", answer.stdout)
    return tuple(map(int, found[1].split("."))) if answer.returncode == 0 and found else None


def rust() -> str | None:
    have = version_of(["rustc", "--version"])
    if have is None or version_of(["cargo", "--version"]) is None:
        return f"Rust is missing. Install Rust {dotted(RUST)} or later with rustup, then run this again."
    if have < RUST:
        return f"Rust {dotted(have)} is too old; {dotted(RUST)} or later is needed. Type: rustup update stable"
    return None


def component(name: str) -> str | None:
    """rustfmt and clippy are parts of a toolchain that minimal installations leave out."""
    command = {"rustfmt": "cargo-fmt", "clippy": "cargo-clippy"}[name]
    if version_of([command, "--version"]) is not None:
        return None
    if shutil.which("rustup") is None:
        return f"{name} is missing and there is no rustup to add it. Install the {name} of your Rust toolchain."
    try:
        progress.run(f"Adding {name}", ["rustup", "component", "add", name])
    except progress.StepError:
        return f"{name} is missing and could not be added. Type: rustup component add {name}"
    return None


def go() -> str | None:
    have = version_of(["go", "version"])
    if have is None:
        wrong = f"Go is missing and the real peers need it. Install Go {dotted(GO)} or later for the interop tests."
    elif have < GO:
        wrong = f"Go {dotted(have)} is too old to build the real peers; the interop tests need {dotted(GO)} or later."
    else:
        return None
    if os.environ.get("CI"):
        return wrong
    print(f"! {wrong}")
    return None


def installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def group(name: str, *distributions: str) -> str | None:
    """A group of pyproject.toml, in the environment that runs this; fetched where one of its packages is missing."""
    if all(map(installed, distributions)):
        return None
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    try:
        progress.run(f"Installing the tools of group {name}", [*pip, "--group", name])
    except progress.StepError:
        return f"the tools of group {name} could not be had. Type: {sys.executable} -m pip install --group {name}"
    return None


def zig() -> str | None:
    """A C compiler and linker for every system, so that a module for macOS can be linked on Linux."""
    return group("cross", "ziglang", "cargo-zigbuild")


def target(triple: str) -> str | None:
    """The standard library for another system."""
    if shutil.which("rustup") is None:
        return f"there is no rustup to fetch the standard library of {triple}"
    have = subprocess.run(["rustup", "target", "list", "--installed"], capture_output=True, text=True, check=False)
    if triple in have.stdout.split():
        return None
    try:
        progress.run(f"Fetching Rust's standard library for {triple}", ["rustup", "target", "add", triple])
    except progress.StepError:
        return f"the standard library of {triple} could not be fetched. Type: rustup target add {triple}"
    return None


def main(wanted: Sequence[str]) -> int:
    checks = {
        "rust": rust,
        "rustfmt": lambda: component("rustfmt"),
        "clippy": lambda: component("clippy"),
        "go": go,
    }
    unknown = [name for name in wanted if name not in checks]
    if unknown or not wanted:
        print(__doc__, file=sys.stderr)
        return 2
    wrong = [text for name in wanted if (text := checks[name]()) is not None]
    for text in wrong:
        print(f"✗ {text}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
