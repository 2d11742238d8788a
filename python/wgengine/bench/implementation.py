"""The programs that take part: how each is found, started and told apart by version."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from wgengine.bench.rows import BASELINE, OURS


@dataclass(frozen=True, slots=True, kw_only=True)
class Implementation:
    """A WireGuard implementation in user space that takes the interface's name as its last argument."""

    name: str
    command: tuple[str, ...]
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)
    changes_peers: bool = True
    """Whether a peer that is known can be changed; else it has to be removed and added again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Peer:
    """How a known peer is started once its binary is found."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    changes_peers: bool = True


PEERS: Mapping[str, _Peer] = {
    BASELINE: _Peer(arguments=("-f",)),
    "wireguard-go": _Peer(arguments=("-f",)),
    # Without these two it wants a login name to drop its privileges to, and ends at once where there is none.
    "boringtun-cli": _Peer(
        arguments=("-f", "--disable-drop-privileges"), environment={"WG_SUDO": "1"}, changes_peers=False
    ),
}


class NotFound(Exception):
    """A program that was asked for is not here; the message says where it was looked for."""


def peers_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns where tests/peers/build.py puts the real peers."""
    if chosen := environment.get("WGENGINE_PEERS"):
        return Path(chosen).expanduser()
    cache = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/root"), ".cache")
    return Path(cache, "wgengine", "peers")


def ours(command: str | None) -> Implementation:
    """Returns our own device, from this Python's environment unless a command is given.

    Raises:
        NotFound: when the command's program does not exist.
    """
    if command is None:
        script = Path(sys.executable).with_name("wgengine")
        found = (str(script),) if script.exists() else (sys.executable, "-m", "wgengine")
        return Implementation(name=OURS, command=(*found, "device", "-f"), version=_our_version())
    words = shlex.split(command)
    program = shutil.which(words[0]) if words else None
    if program is None:
        raise NotFound(f"--ours {command!r}: no such program; give a command that takes the interface as last argument")
    # Absolute, because the program is started from another mount namespace's root directory.
    version = f"(stand-in: {Path(program).name} {_version_in(program)})"
    return Implementation(name=OURS, command=(os.path.abspath(program), *words[1:]), version=version)


def peer(name: str, *, path: str | None = None, directory: Path | None = None) -> Implementation:
    """Returns a known peer, at ``path`` or else in the cache of built peers.

    Raises:
        NotFound: when its binary is not there.
    """
    known = PEERS[name]
    binary = Path(path).absolute() if path else (directory or peers_directory()).absolute() / name
    if not _is_program(binary):
        hint = "" if path else f" (tests/peers/build.py builds it, --peer {name}=PATH names another place)"
        raise NotFound(f"{name}: no executable file {binary}{hint}")
    return Implementation(
        name=name,
        command=(str(binary), *known.arguments),
        version=_version_in(str(binary)),
        environment=known.environment,
        changes_peers=known.changes_peers,
    )


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _our_version() -> str:
    try:
        return metadata.version("wgengine")
    except metadata.PackageNotFoundError:
        return "not installed"


# The module line of the build information that Go puts into each binary.
_GO_MODULE = re.compile(rb"\nmod\t[^\t\n]+\t([^\t\n]+)\t")


def _version_in(program: str) -> str:
    """Returns a program's version: from Go's build information, else from ``--version``.

    Both kinds of wireguard-go say the same fixed version when asked, so what was built is more telling.
    """
    if module := _GO_MODULE.search(Path(program).read_bytes()):
        return module[1].decode("ascii", "replace")
    try:
        said = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
        ).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return next((word for word in said if word[:1].isdigit()), "unknown")
