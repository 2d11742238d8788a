"""Compiles for systems that are not here: macOS, and words of 32 bits. macOS is linked too; nothing of it is run.

python tools/cross.py apple|word32
What cannot be fetched for it (zig, a target's standard library) is said, and is no failure: the code is not to blame.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import toolchains
from progress import ROOT

BIN = Path(sys.executable).parent
OURS = ("wgengine-core", "wgengine-noise", "wgengine-io")
CRATES = [word for crate in OURS for word in ("-p", crate)]
# Python's own functions are found when the module is loaded.
LATE = 'target.x86_64-apple-darwin.rustflags=["-Clink-arg=-undefined", "-Clink-arg=dynamic_lookup"]'

# For each name the targets, and the words after `cargo-zigbuild` for each.
BUILDS: dict[str, list[tuple[str, list[str]]]] = {
    "apple": [
        ("aarch64-apple-darwin", ["clippy", *CRATES, "-p", "wgengine-py", "--tests"]),
        ("x86_64-apple-darwin", ["zigbuild", *CRATES, "--tests"]),
        ("x86_64-apple-darwin", ["zigbuild", "-p", "wgengine-py", "--config", LATE]),
    ],
    "word32": [("i686-unknown-linux-gnu", ["clippy", *CRATES, "--tests"])],
}


def build(triple: str, words: Sequence[str]) -> int:
    verb, *rest = words
    command = [str(BIN / "cargo-zigbuild"), verb, "--quiet", "--profile", "cross", "--target", triple, *rest]
    if verb == "clippy":
        command += ["--", "-D", "warnings"]
    env = {
        **os.environ,
        "PATH": os.pathsep.join([str(BIN), os.environ.get("PATH", "")]),
        "PYO3_BUILD_EXTENSION_MODULE": "1",  # links no libpython, as in maturin's builds
    }
    return subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, check=False).returncode


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in BUILDS:
        print(__doc__, file=sys.stderr)
        return 2
    missing = toolchains.zig()
    for triple, words in BUILDS[arguments[0]]:
        missing = missing or toolchains.target(triple)
        if missing is not None:
            print(f"! Not compiled for {triple}: {missing}")
        elif status := build(triple, words):
            print(f"✗ {triple}: {words[0]} ended with {status}")
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
