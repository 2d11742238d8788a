"""What must be true of a wheel: its size, what is in it, what it asks of the system and of Python.

python tools/wheel_check.py WHEEL...
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from progress import ROOT

BIN = Path(sys.executable).parent
SIZE_LIMIT = 4 * 2**20
MODULE = "wgengine/_native.abi3.so"
# The only folders of macOS whose libraries every Mac has.
MACOS_LIBRARIES = ("/usr/lib/", "/System/Library/")

# What zig links for the C library of musl.
MUSL_ITSELF = "libc.so"

_METADATA = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


class CheckError(Exception):
    """A file that cannot be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    file: Path
    size: int
    system: str
    python: str
    wrong: tuple[str, ...]


def check(file: Path) -> Verdict:
    wrong = list(contents(file))
    size = file.stat().st_size
    if size > SIZE_LIMIT:
        wrong.append(f"{size / 2**20:.1f} MiB is more than {SIZE_LIMIT >> 20}")
    said = []
    for judge in (macos if "macosx" in file.name else auditwheel, abi3audit):
        try:
            said.append(judge(file))
        except CheckError as error:
            said.append("✗")
            wrong.append(str(error))
    return Verdict(file=file, size=size, system=said[0], python=said[1], wrong=tuple(wrong))


def contents(file: Path) -> Iterator[str]:
    """The package as it is in the tree, its module, its metadata; nothing else."""
    package = ROOT / "python" / "wgengine"
    tree = {
        f"wgengine/{path.relative_to(package)}"
        for path in package.rglob("*")
        if path.suffix in {".py", ".pyi"} or path.name == "py.typed"
    }
    with zipfile.ZipFile(file) as wheel:
        names = set(wheel.namelist())
    metadata = {name.partition("/")[2] for name in names if re.match(r"wgengine-[^/]+\.dist-info/", name)}
    inside = {name for name in names if name.startswith("wgengine/")}
    for name in sorted((tree | {MODULE}) - inside):
        yield f"{name} is missing"
    for name in sorted(inside - tree - {MODULE}):
        yield f"{name} does not belong in it"
    for name in sorted(_METADATA - metadata):
        yield f"{name} is missing in its metadata"
    if len(names) != len(inside) + len(metadata):
        yield "files lie outside of the package"


def auditwheel(file: Path) -> str:
    """The oldest systems that it runs on, which must not be newer than its name promises."""
    with tempfile.TemporaryDirectory() as nowhere:
        # so that no library of this machine is taken for one of the wheel's
        command = [str(BIN / "auditwheel"), "show", "--json", "--ldpaths", nowhere, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)
        tag, external = str(found["overall_tag"]), set(found["external_libs"])
    except (ValueError, KeyError):
        raise CheckError(f"auditwheel: {done.stderr.strip() or done.stdout.strip()}") from None
    own = ""
    if external == {MUSL_ITSELF}:
        # It knows musl by its file's name on Alpine; musl's loader takes this name for itself as well.
        tag, own = str(found["sym_tag"]), f" ({MUSL_ITSELF} is musl itself)"
    if age(tag) > age(file.stem.rpartition("-")[2]):
        raise CheckError(f"auditwheel finds that it needs {tag}")
    return tag + own


def age(tag: str) -> tuple[str, tuple[int, ...]]:
    """A platform tag's C library and its version: later ones run on fewer systems."""
    matched = re.match(r"(manylinux|musllinux)_(\d+)_(\d+)_", tag)
    if matched is None:
        raise CheckError(f"{tag} is not for every Linux")
    return matched[1], (int(matched[2]), int(matched[3]))


def abi3audit(file: Path) -> str:
    """The oldest Python whose stable interface has all that it calls, which must be the one of its name."""
    command = [str(BIN / "abi3audit"), "--strict", "--report", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        (spec,) = json.loads(done.stdout)["specs"].values()
        (module,) = spec["wheel"]
        result = module["result"]
        needs, strange = result["computed"], len(result["non_abi3_symbols"]) + len(result["future_abi3_objects"])
    except (ValueError, KeyError) as error:
        raise CheckError(f"abi3audit: {done.stderr.strip()} ({error!r})") from None
    if done.returncode or strange:
        raise CheckError(f"abi3audit: {strange} functions outside of abi3 {result['baseline']}, needs {needs}")
    return f"abi3 {needs}, 0 violations"


def macos(file: Path) -> str:
    """There is no auditwheel for macOS: the oldest system and the libraries, by the module's own load commands."""
    with zipfile.ZipFile(file) as wheel:
        oldest, libraries = load_commands(wheel.read(MODULE))
    promised = re.search(r"macosx_(\d+)_(\d+)_", file.name)
    if promised is None or oldest > (int(promised[1]), int(promised[2])):
        raise CheckError(f"it needs macOS {oldest[0]}.{oldest[1]}")
    foreign = [library for library in libraries if not library.startswith(MACOS_LIBRARIES)]
    if foreign:
        raise CheckError(f"it needs {', '.join(foreign)}, which not every Mac has")
    return f"macOS {oldest[0]}.{oldest[1]}, {len(libraries)} system libraries (load commands)"


def load_commands(module: bytes) -> tuple[tuple[int, int], list[str]]:
    """The oldest system and the libraries of a 64-bit Mach-O (mach-o/loader.h)."""
    dylibs, version_min, build_version = {0xC, 0x8000_0018, 0x8000_001F}, 0x24, 0x32
    magic, count = struct.unpack_from("<I12xI", module)
    if magic != 0xFEEDFACF:
        raise CheckError("the module is no 64-bit Mach-O")
    oldest, libraries, at = (0, 0), [], 32
    for _ in range(count):
        command, size = struct.unpack_from("<II", module, at)
        if command in dylibs:
            (name,) = struct.unpack_from("<I", module, at + 8)
            libraries.append(module[at + name : at + size].split(b"\0")[0].decode())
        elif command in {version_min, build_version}:
            (packed,) = struct.unpack_from("<I", module, at + (8 if command == version_min else 12))
            oldest = (packed >> 16, packed >> 8 & 0xFF)
        at += size
    return oldest, libraries


def table(verdicts: Sequence[Verdict]) -> str:
    rows = [("wheel", "KiB", "system", "Python", "")]
    rows += [(v.file.name, f"{v.size / 1024:.0f}", v.system, v.python, "✗" if v.wrong else "✓") for v in verdicts]
    widths = [max(len(row[n]) for row in rows) for n in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"✗ {v.file.name}: {wrong}" for v in verdicts for wrong in v.wrong]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    verdicts = [check(Path(name)) for name in arguments]
    print(table(verdicts))
    return 1 if any(verdict.wrong for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
