"""Debian packages that building, the demo and the tests need: installed when we are root, else named in one line.

python tools/packages.py build|demo|test|fuzz
Only what is missing is asked for; what is there by other means than a package counts as there.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

import progress

# Administrators' tools live where an ordinary user's PATH does not look.
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def command(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name, path=SEARCH) is not None


def c_library() -> bool:
    """A compiler alone links nothing: the start file of the C library's development package must be there too."""
    compiler = shutil.which("cc", path=SEARCH)
    if compiler is None:
        return False
    found = subprocess.run([compiler, "-print-file-name=crt1.o"], capture_output=True, text=True, check=False)
    return os.path.isabs(found.stdout.strip())


def venv_module() -> bool:
    return importlib.util.find_spec("ensurepip") is not None


Need = tuple[str, Callable[[], bool]]

BUILD: list[Need] = [
    ("gcc", command("cc")),
    ("libc6-dev", c_library),
    (f"python3.{sys.version_info.minor}-venv", venv_module),
]
DEMO: list[Need] = [
    ("iproute2", command("ip")),
    ("iputils-ping", command("ping")),
    ("util-linux", command("unshare")),
]
TEST: list[Need] = [
    ("wireguard-tools", command("wg-quick")),
    ("iperf3", command("iperf3")),
    ("nftables", command("nft")),
    ("tcpdump", command("tcpdump")),
    ("ethtool", command("ethtool")),
    ("procps", command("sysctl")),
    ("git", command("git")),
]
# libFuzzer is C++, compiled with the targets.
FUZZ: list[Need] = [("g++", command("c++"))]
SETS: dict[str, list[Need]] = {
    "build": BUILD,
    "demo": BUILD + DEMO,
    "test": BUILD + DEMO + TEST,
    "fuzz": BUILD + FUZZ,
}


def missing(needs: Sequence[Need]) -> list[str]:
    return [package for package, present in needs if not present()]


def install(packages: Sequence[str]) -> bool:
    apt = shutil.which("apt-get", path=SEARCH)
    if apt is None or os.geteuid() != 0:
        return False
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        progress.run("Refreshing Debian's package lists", [apt, "update"], env=env)
        progress.run(
            f"Installing {' '.join(packages)}",
            [apt, "install", "-y", "--no-install-recommends", *packages],
            env=env,
        )
    except progress.StepError:
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in SETS:
        print(__doc__, file=sys.stderr)
        return 2
    wanted = missing(SETS[arguments[0]])
    if not wanted or (install(wanted) and not (wanted := missing(SETS[arguments[0]]))):
        return 0
    become = "" if os.geteuid() == 0 else "sudo "
    print(f"! Missing. Type: {become}apt-get install -y {' '.join(wanted)}", file=sys.stderr)
    # Without a compiler nothing can go on. Without the rest the demo does with less and tests skip, saying so.
    needed = missing(BUILD)
    return 1 if needed or os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
