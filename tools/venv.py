"""Makes the checkout's virtual environment and fills it with the tools of pyproject.toml's group `dev`.

python tools/venv.py [DIRECTORY]   (default .venv; run it with the Python that the environment is to have)
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import progress

OLDEST = (3, 11)


def works(python: Path) -> bool:
    """An environment outlives its interpreter: one made by a Python since removed must be made anew."""
    if not python.exists():
        return False
    question = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    return subprocess.run([python, "-c", question], capture_output=True, check=False).returncode == 0


def main(arguments: Sequence[str]) -> int:
    if sys.version_info < OLDEST:
        print(f"✗ Python {sys.version.split()[0]} is too old; 3.11 or later is needed.", file=sys.stderr)
        return 1
    where = Path(arguments[0]) if arguments else progress.ROOT / ".venv"
    python = where.absolute() / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    try:
        if not works(python):
            progress.run(
                f"Making a virtual environment with Python {sys.version.split()[0]}",
                [sys.executable, "-m", "venv", "--clear", str(where)],
            )
        # 25.1 is the first pip that reads dependency groups
        progress.run("Bringing pip up to date", [*pip, "--upgrade", "pip>=25.1"])
        progress.run("Installing the development tools", [*pip, "--group", "dev"])
    except progress.StepError as error:
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
