"""tools/wheel_check.py and tools/cross.py: what is wrong with a wheel is named, and what cannot be fetched is said."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import cross
import pytest
import toolchains
import wheel_check

PACKAGE = wheel_check.ROOT / "python" / "wgengine"
INFO = "wgengine-0.1.0.dist-info"


def names_of_a_good_wheel() -> set[str]:
    package = {
        f"wgengine/{path.relative_to(PACKAGE)}"
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".pyi") or path.name == "py.typed"
    }
    metadata = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    return package | {wheel_check.MODULE} | {f"{INFO}/{name}" for name in metadata}


def written(folder: Path, names: set[str], module: bytes = b"") -> Path:
    file = folder / "wgengine-0.1.0-cp311-abi3-macosx_11_0_arm64.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        for name in sorted(names):
            wheel.writestr(name, module if name == wheel_check.MODULE else b"")
    return file


def test_a_wheel_with_all_of_the_package_and_nothing_else_is_right(tmp_path: Path) -> None:
    assert list(wheel_check.contents(written(tmp_path, names_of_a_good_wheel()))) == []


@pytest.mark.parametrize(
    "name",
    [
        "wgengine/py.typed",
        "wgengine/_native.pyi",
        "wgengine/cli/main.py",
        wheel_check.MODULE,
        f"{INFO}/licenses/LICENSE",
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    (wrong,) = wheel_check.contents(written(tmp_path, names_of_a_good_wheel() - {name}))
    assert name.removeprefix(f"{INFO}/") in wrong


@pytest.mark.parametrize("name", ["wgengine/test_keys.py", "wgengine/_native.so", "tests/smoke.py", "tools/lint.py"])
def test_what_does_not_belong_in_it_is_found(tmp_path: Path, name: str) -> None:
    (wrong,) = wheel_check.contents(written(tmp_path, names_of_a_good_wheel() | {name}))
    assert name in wrong or wrong == "files lie outside of the package"


def mach_o(*libraries: str, oldest: tuple[int, int] = (11, 0)) -> bytes:
    """A module's header and load commands, as mach-o/loader.h has them."""
    commands = [struct.pack("<IIIIII", 0x32, 24, 1, oldest[0] << 16 | oldest[1] << 8, 0, 0)]
    for library in libraries:
        name = library.encode() + b"\0"
        name += bytes(-len(name) % 8)
        commands.append(struct.pack("<IIIIII", 0xC, 24 + len(name), 24, 0, 0, 0) + name)
    body = b"".join(commands)
    return struct.pack("<IIIIIIII", 0xFEEDFACF, 0, 0, 6, len(commands), len(body), 0, 0) + body


def test_a_mac_needs_only_what_every_mac_has(tmp_path: Path) -> None:
    good = written(tmp_path, names_of_a_good_wheel(), mach_o("/usr/lib/libSystem.B.dylib"))
    assert wheel_check.macos(good) == "macOS 11.0, 1 system libraries (load commands)"


@pytest.mark.parametrize(
    ("module", "word"),
    [
        (mach_o("/usr/lib/libSystem.B.dylib", "/opt/lib/libpython3.11.dylib"), "libpython3.11"),
        (mach_o("/usr/lib/libSystem.B.dylib", oldest=(13, 3)), "13.3"),
        (b"\x7fELF" + bytes(60), "Mach-O"),
    ],
)
def test_a_mac_module_that_not_every_mac_can_load(tmp_path: Path, module: bytes, word: str) -> None:
    with pytest.raises(wheel_check.CheckError, match=word):
        wheel_check.macos(written(tmp_path, names_of_a_good_wheel(), module))


def test_an_older_c_library_is_the_better_one() -> None:
    assert wheel_check.age("manylinux_2_17_x86_64") < wheel_check.age("manylinux_2_28_x86_64")
    with pytest.raises(wheel_check.CheckError, match="linux_x86_64"):
        wheel_check.age("linux_x86_64")


def test_what_is_wrong_stands_under_the_table(tmp_path: Path) -> None:
    verdict = wheel_check.Verdict(file=tmp_path / "a.whl", size=2048, system="s", python="p", wrong=("it is odd",))
    assert wheel_check.table([verdict]).splitlines()[-1] == "✗ a.whl: it is odd"


def test_a_target_that_cannot_be_fetched_is_said_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(toolchains, "zig", lambda: None)
    monkeypatch.setattr(toolchains, "target", lambda triple: f"no {triple} to be had")
    assert cross.main(["apple"]) == 0
    said = capsys.readouterr().out
    assert "! Not compiled for aarch64-apple-darwin: no aarch64-apple-darwin to be had" in said


def test_code_that_does_not_compile_elsewhere_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchains, "zig", lambda: None)
    monkeypatch.setattr(toolchains, "target", lambda triple: None)
    monkeypatch.setattr(cross, "build", lambda triple, words: 101)
    assert cross.main(["word32"]) == 101
