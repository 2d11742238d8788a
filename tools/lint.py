"""Everything that is judged without running a test: form, types, borders, licences, generated files.

python tools/lint.py [NAME...]   (default all)
All checks run even when one fails: one run shows everything there is to mend.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from progress import ROOT

BIN = Path(sys.executable).parent
PYTHON = sys.executable


def tool(name: str) -> str:
    return str(BIN / name)


CHECKS: dict[str, list[str]] = {
    "ruff-format": [tool("ruff"), "format", "--check", "."],
    "ruff": [tool("ruff"), "check", "."],
    "mypy": [tool("mypy")],
    # the stub of the native module, against the module as built
    "stub": [tool("stubtest"), "wgengine._native"],
    "imports": [tool("lint-imports")],
    "borders": [PYTHON, "tools/check_borders.py"],
    "docs": [PYTHON, "tools/check_docs.py"],
    "generated": [PYTHON, "tools/gen_sync.py", "--check"],
    "rustfmt": ["cargo", "fmt", "--all", "--check"],
    "clippy": ["cargo", "clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"],
    "apple": [PYTHON, "tools/cross.py", "apple"],
    "word32": [PYTHON, "tools/cross.py", "word32"],
    "deny": [tool("cargo-deny"), "--all-features", "check", "bans", "licenses", "sources"],
}


def passes(name: str) -> bool:
    started = time.monotonic()
    env = {**os.environ, "PYTHONPATH": "python"}
    done = subprocess.run(
        CHECKS[name], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    mark = "✓" if done.returncode == 0 else "✗"
    print(f"{mark} {name} ({time.monotonic() - started:.0f} s)", flush=True)
    if done.returncode != 0:
        print(done.stdout, flush=True)
    for remark in (line for line in done.stdout.splitlines() if done.returncode == 0 and line.startswith("! ")):
        print(f"  {remark}", flush=True)
    return done.returncode == 0


def main(names: Sequence[str]) -> int:
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"✗ No such check: {' '.join(unknown)}. There are: {' '.join(CHECKS)}", file=sys.stderr)
        return 2
    failed = [name for name in names or CHECKS if not passes(name)]
    if failed:
        print(f"✗ lint: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
