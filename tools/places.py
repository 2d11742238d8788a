"""Places to install a wheel: fresh environments of this machine's Pythons, and trees that hold another system."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import progress
from progress import ROOT

DIST = ROOT / "dist"
SMOKE = ROOT / "tests" / "smoke.py"
TREES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wgengine" / "trees"
NEXT_DEBIAN = "forky"
OLDEST = (3, 11)
NOBODY = 65534
LIMIT_SECONDS = 120.0
# What the demo calls, and nothing else.
PROGRAMS = ("ip", "ping", "unshare", "sh")
# Machine names by the number in an ELF header (elf.h), and what Debian calls them.
MACHINES = {62: "x86_64", 183: "aarch64"}
DEBIAN_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}


class TryError(Exception):
    """What was tried did not work, or could not be tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Somewhere the wheel is installed."""

    name: str
    wheel: Path
    python: tuple[str, ...]
    """What runs Python there, as root."""
    as_user: tuple[str, ...]
    """The same; it becomes an ordinary user by itself where `drops` says so."""
    drops: bool
    smoke: str
    env: Mapping[str, str]
    demo: bool = True


def run(command: Sequence[str], env: Mapping[str, str], user: int | None = None) -> str:
    """What the command says; TryError, with the end of it, where it fails."""
    drop = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
    try:
        done = subprocess.run(
            command, env=dict(env), cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=LIMIT_SECONDS, check=False, **drop,  # type: ignore[call-overload]
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TryError(f"{' '.join(command)}: no end within {LIMIT_SECONDS:.0f} s") from None
    said = str(done.stdout).strip()
    if done.returncode:
        raise TryError(f"{' '.join(command)}: {done.returncode}\n{said[-2000:]}")
    return said


def wheel(libc: str, machine: str) -> Path:
    found = sorted(DIST.glob(f"*{libc}*_{machine}.whl"))
    if not found:
        raise TryError(f"dist has no {libc} wheel for {machine}. Type: make wheels")
    return found[-1]


# ── Pythons of this machine ─────────────────────────────────────────────────────────────────────────────────────────


def interpreters() -> dict[str, Path]:
    """One for each minor version, by its base: an environment's own Python would bring that environment along."""
    names = [shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], 20)]
    names += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))]
    question = "import sys; print(*sys.version_info[:2], sys.base_prefix)"
    found: dict[tuple[int, int], Path] = {}
    for name in filter(None, names):
        done = subprocess.run([name, "-c", question], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            major, minor, prefix = done.stdout.strip().split(" ", 2)
            version = (int(major), int(minor))
            if version >= OLDEST:
                found.setdefault(version, Path(prefix) / "bin" / f"python{major}.{minor}")
    return {f"{major}.{minor}": python for (major, minor), python in sorted(found.items())}


def reachable(path: Path) -> bool:
    """May everybody go there?"""
    return all(folder.stat().st_mode & 0o1 for folder in path.resolve().parents)


def fresh(python: Path, folder: Path) -> Place:
    """A new environment in `folder` with the wheel in it, made and run with no toolchain on PATH."""
    env = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SSL_"))}
    if not reachable(python):
        skip = shutil.ignore_patterns("test", "tests", "idlelib", "__pycache__", "*.a")
        base = shutil.copytree(python.parent.parent, folder / "base", symlinks=True, ignore=skip)
        python = base / "bin" / python.name
        env["LD_LIBRARY_PATH"] = str(base / "lib")
    programs = folder / "programs"
    programs.mkdir()
    for name in PROGRAMS:
        target = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
        if target is not None:
            (programs / name).symlink_to(target)
    env |= {"PATH": str(programs), "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    run([str(python), "-m", "venv", str(folder / "env")], env)
    inside = str(folder / "env" / "bin" / "python")
    file = wheel("manylinux", platform.machine())
    words = ["install", "-q", "--disable-pip-version-check", "--only-binary=:all:", "--no-cache-dir"]
    run([inside, "-m", "pip", *words, str(file)], env)
    smoke = shutil.copy(SMOKE, folder)
    return Place(
        name="a fresh environment",
        wheel=file,
        python=(inside,),
        as_user=(inside,),
        drops=False,
        smoke=str(smoke),
        env=env,
    )


# ── other systems ───────────────────────────────────────────────────────────────────────────────────────────────────


def machine_of(program: Path) -> str:
    with program.open("rb") as file:
        (number,) = struct.unpack_from("<H", file.read(20), 18)
    return MACHINES.get(number, str(number))


def emulator(machine: str) -> Path | None:
    found = shutil.which(f"qemu-{machine}-static")
    return Path(found) if found else None


def installed_in(tree: Path) -> Place:
    """The wheel and what it needs, put into a system's tree from outside: nothing has to work there but Python."""
    tree = tree.resolve()
    pythons = sorted(path for path in tree.glob("**/bin/python3.[1-9][0-9]") if not path.is_symlink())
    if not pythons:
        raise TryError("it holds no Python 3.10 or later")
    python = pythons[-1]
    machine, version = machine_of(python), python.name.removeprefix("python")
    libc, lowest = ("musllinux", "1_2") if any(tree.glob("lib/ld-musl-*")) else ("manylinux", "2_28")
    folder = tree / "wgengine-try"
    shutil.rmtree(folder, ignore_errors=True)
    file = wheel(libc, machine)
    words = ["install", "-q", "--disable-pip-version-check", "--only-binary=:all:", "--python-version", version]
    words += ["--platform", f"{libc}_{lowest}_{machine}", "--target", str(folder)]
    run([sys.executable, "-m", "pip", *words, str(file)], os.environ)
    shutil.copy(SMOKE, folder)
    program = [f"/{python.relative_to(tree)}"]
    foreign = machine != platform.machine()
    if foreign:
        emulates = emulator(machine)
        if emulates is None:
            raise TryError(f"it is for {machine}, and qemu-{machine}-static is not installed")
        shutil.copy(emulates, folder)
        program.insert(0, f"/{folder.name}/{emulates.name}")
    inside = [sys.executable, str(ROOT / "tools" / "inside.py"), str(tree)]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "PYTHONPATH": f"/{folder.name}"}
    return Place(
        name=f"{tree.name}: {libc}, {machine}{', emulated' if foreign else ''}",
        wheel=file,
        python=(*inside, "0", *program),
        as_user=(*inside, str(NOBODY), *program),
        drops=True,
        smoke=f"/{folder.name}/{SMOKE.name}",
        env=env,
        # the demo starts programs of its own, which an emulator of one program does not follow
        demo=not foreign,
    )


def next_debian(machine: str) -> Path:
    """Debian's next release, in a cache: for its own machine installed, for another one only unpacked."""
    tree = TREES / f"{NEXT_DEBIAN}-{machine}"
    if (tree / "complete").exists():
        return tree
    if os.geteuid() != 0:
        raise TryError("only root can make it")
    if machine != platform.machine() and emulator(machine) is None:
        raise TryError(f"qemu-{machine}-static is not installed")
    debootstrap = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    mirrors = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Label: Debian"],
        capture_output=True,
        text=True,
        check=False,
    )
    if debootstrap is None or not mirrors.stdout.strip():
        raise TryError("debootstrap is not installed")
    shutil.rmtree(tree, ignore_errors=True)
    tree.parent.mkdir(parents=True, exist_ok=True)
    native = machine == platform.machine()
    words = [] if native else ["--foreign", f"--arch={DEBIAN_NAMES[machine]}"]
    words += ["--variant=minbase", "--include=python3,iproute2,iputils-ping,util-linux"]
    # every release since is made by the script of the unstable one
    where = [NEXT_DEBIAN, str(tree), mirrors.stdout.split()[0], "/usr/share/debootstrap/scripts/sid"]
    try:
        progress.run(f"Debian {NEXT_DEBIAN} for {machine}", [debootstrap, *words, *where])
        for package in () if native else sorted(tree.glob("var/cache/apt/archives/*.deb")):
            subprocess.run(["dpkg", "-x", str(package), str(tree)], check=True)
    except (progress.StepError, subprocess.CalledProcessError) as error:
        raise TryError(str(error)) from None
    (tree / "complete").touch()
    return tree
