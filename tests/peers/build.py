"""Pins the real peers and builds them once, into a cache outside the tree that is keyed by version.

    python tests/peers/build.py            all that the tests use
    python tests/peers/build.py --where    where they are

The cache is $WGENGINE_PEERS, else $XDG_CACHE_HOME/wgengine/peers, else ~/.cache/wgengine/peers. Each peer has a link
there under its plain name, which points to the version that is pinned below.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One peer: what builds it, from where, which version, and what the built file is called."""

    tool: str  # go or cargo
    source: str
    version: str
    binary: str
    why: str

    @property
    def key(self) -> str:
        """What the built file is good for."""
        return self.version

    @property
    def folder(self) -> Path | None:
        """Where the build runs."""
        return None

    def command(self, root: Path) -> list[str]:
        if self.tool == "go":
            return ["go", "install", "-v", f"{self.source}@{self.version}"]
        return ["cargo", "install", "--locked", self.source, "--version", self.version, "--root", str(root)]

    def environment(self, root: Path) -> dict[str, str]:
        return os.environ | ({"GOBIN": str(root / "bin"), "CGO_ENABLED": "0"} if self.tool == "go" else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Around(Pin):
    """A Go program of ours, in a folder beside this file, around a library; its go.mod has the library's version."""

    @property
    def key(self) -> str:
        said = hashlib.sha256(" ".join(self.command(Path())).encode())
        for file in sorted(self.folder.iterdir()):
            said.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
        return f"{self.version}-{said.hexdigest()[:12]}"

    @property
    def folder(self) -> Path:
        return Path(__file__).with_name(self.source)

    def command(self, root: Path) -> list[str]:
        # without what would ask a cloud for our address or a router for a port; and the linker would refuse what
        # reaches for the inside of a library
        tags = "-tags=ts_omit_cloud,ts_omit_portmapper"
        flags = ["-trimpath", "-buildvcs=false", "-mod=readonly", tags, "-ldflags=-checklinkname=0"]
        return ["go", "build", *flags, "-o", str(root / "bin" / self.binary), "."]


PINS = {
    "wireguard-go": Pin(
        tool="go",
        source="golang.zx2c4.com/wireguard",
        version="v0.0.0-20260522210424-ecfc5a8d5446",
        binary="wireguard",
        why="upstream's userspace implementation",
    ),
    "tailscale-wireguard-go": Pin(
        tool="go",
        source="github.com/tailscale/wireguard-go",
        version="v0.0.0-20260622165914-65d8d42c9a5a",
        binary="wireguard-go",
        why="the fork inside tailscaled, our anchor of speed",
    ),
    "boringtun-cli": Pin(
        tool="cargo",
        source="boringtun-cli",
        version="0.7.1",
        binary="boringtun-cli",
        why="the device that belongs to the crate we build on",
    ),
    "twin": Around(
        tool="go",
        source="twin",
        version="v1.96.5",
        binary="twin",
        why="Tailscale's engine of the seed's version, with its clock in our hand",
    ),
    "tsengine": Around(
        tool="go",
        source="tsengine",
        version="v1.98.10",
        binary="tsengine",
        why="the engine inside tailscaled, as a live peer without a control server",
    ),
}


def cache() -> Path:
    if chosen := os.environ.get("WGENGINE_PEERS"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "wgengine" / "peers"


def path(name: str) -> Path:
    """Where the pinned version of a peer is, built or not."""
    return cache() / f"{name}-{PINS[name].key}"


def build(name: str) -> Path:
    """Builds one peer unless it is there. What fails leaves the cache as it was."""
    pin, target = PINS[name], path(name)
    if not target.exists():
        if shutil.which(pin.tool) is None:
            raise SystemExit(f"peers: {name} needs `{pin.tool}`, which is not in PATH")
        begun = time.monotonic()
        print(f"peers: building {name} {pin.version} ({pin.why}) …", flush=True)
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache(), prefix=f".{name}-") as folder:
            root = Path(folder)
            (root / "bin").mkdir()
            done = subprocess.run(
                pin.command(root), cwd=pin.folder, env=pin.environment(root), stdin=subprocess.DEVNULL
            )
            if done.returncode:
                raise SystemExit(f"peers: {name}: `{' '.join(pin.command(root))}` ended with {done.returncode}")
            (root / "bin" / pin.binary).replace(target)
        print(f"peers: {name} built in {time.monotonic() - begun:.0f} s", flush=True)
    link = cache() / name
    if not link.is_symlink() or os.readlink(link) != target.name:
        link.unlink(missing_ok=True)
        link.symlink_to(target.name)
    return target


def main() -> None:
    usage = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usage.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(PINS)}")
    usage.add_argument("--where", action="store_true", help="print the path of each peer and build nothing")
    asked = usage.parse_args()
    if unknown := set(asked.names) - set(PINS):
        usage.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PINS)}")
    for name in asked.names or PINS:
        print(path(name) if asked.where else f"peers: {name} is {build(name)}")


if __name__ == "__main__":
    main()
