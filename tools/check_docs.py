"""Keeps the documents true: rooms, paths, tests and examples that they name exist, and every room has its line.

python tools/check_docs.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from progress import ROOT

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md")
# Folders whose entries are rooms: ARCHITECTURE.md has a section for each, with a line for each entry.
BUILDINGS = (
    "rust/core/src",
    "rust/noise/src",
    "rust/io/src",
    "rust/py/src",
    "rust/load/src",
    "rust/fuzz/src",
    "python/wgengine",
    "python/wgengine/cli",
    "tests",
    "tools",
)
NO_ROOMS = frozenset({"lib.rs", "mod.rs", "__init__.py", "__main__.py", "__pycache__", "py.typed"})
TREES = ("rust", "fuzz", "python", "tests", "tools", "docs", ".ci")

_SECTION = re.compile(r"^#+ `(?P<folder>[\w./-]+)/`.*?\n(?P<body>.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| (?P<names>`[^|]*`) \|", re.MULTILINE)  # a table's row that begins with names
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
# a prefix like test_n01_ names many, and is let be
_TEST = re.compile(r"\b((?:test|c3|case|n\d+)_\w*[^\W_])\b(?!\.py|/)")
_EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    return [ROOT / name for name in DOCUMENTS] + sorted((ROOT / "docs").glob("*.md"))


def rooms_of(folder: Path) -> set[str]:
    """Files by their stem, folders by their name: a room that outgrows one file keeps its name."""
    return {
        entry.name if entry.is_dir() else entry.name.split(".")[0]
        for entry in folder.iterdir()
        if entry.name not in NO_ROOMS
        and not entry.name.startswith(".")
        and (entry.is_dir() or entry.suffix in (".rs", ".py"))
        and (entry.is_file() or any(entry.rglob("*.rs")) or any(entry.rglob("*.py")))
    }


def room_violations() -> Iterator[str]:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = {
        found["folder"]: {
            name.strip("/") for row in _ROW.finditer(found["body"]) for name in _CODE.findall(row["names"])
        }
        for found in _SECTION.finditer(text)
    }
    for building in BUILDINGS:
        if building not in named:
            yield f"ARCHITECTURE.md: no section `{building}/`"
            continue
        have = rooms_of(ROOT / building)
        for name in sorted(have - named[building]):
            yield f"ARCHITECTURE.md: no line for {building}/{name}"
        for name in sorted(named[building] - have):
            yield f"ARCHITECTURE.md: {building}/{name} has a line but is not there"


def name_violations(test_names: set[str]) -> Iterator[str]:
    for document in documents():
        name, text = document.relative_to(ROOT), document.read_text(encoding="utf-8")
        for link in _LINK.findall(text):
            if not (document.parent / link).exists():
                yield f"{name}: link to {link}, which is not there"
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for code in _CODE.findall(prose):
            if code.split("/")[0] in TREES and re.fullmatch(r"[\w./-]+", code) and not (ROOT / code).exists():
                yield f"{name}: names {code}, which is not there"
            for test in _TEST.findall(code):
                if test not in test_names:
                    yield f"{name}: names the test {test}, which is not there"


def word_violations() -> Iterator[str]:
    """docs/observing.md has every word that an engine says: reasons of drops, and events."""
    text = (ROOT / "docs" / "observing.md").read_text(encoding="utf-8")
    told = {name for row in _ROW.finditer(text) for name in _CODE.findall(row["names"])}
    drops = (ROOT / "rust" / "core" / "src" / "observe" / "drop.rs").read_text(encoding="utf-8")
    events = (ROOT / "python" / "wgengine" / "events.py").read_text(encoding="utf-8")
    said = {*re.findall(r'^    \w+ = "(\w+)",$', drops, re.MULTILINE)}
    said |= {*re.findall(r"^class (\w+)\(Event\):$", events, re.MULTILINE)}
    for word in sorted(said - told):
        yield f"docs/observing.md: no line for {word}"
    for word in sorted(told - said):
        yield f"docs/observing.md: {word} has a line but is never said"


def tests_there() -> set[str]:
    """Every function that could be a test, in Python and in Rust."""
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        names.update(re.findall(r"\bdef (test_\w+)", path.read_text(encoding="utf-8")))
    for path in (ROOT / "rust").rglob("*.rs"):
        names.update(re.findall(r"\bfn (\w+)", path.read_text(encoding="utf-8")))
    return names


def example_violations() -> Iterator[str]:
    """The Python examples pass the type checker as a user's own file would."""
    folder = ROOT / "target" / "examples"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for document in documents():
        for number, example in enumerate(_EXAMPLE.findall(document.read_text(encoding="utf-8")), 1):
            file = folder / f"{document.stem.lower()}_{number}.py"
            file.write_text(example, encoding="utf-8")
            files.append(str(file))
    if not files:
        return
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", ".mypy_cache", *files]
    environment = {**os.environ, "MYPYPATH": "python"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        yield f"examples: {done.stdout.strip()}{done.stderr.strip()}"


def main(arguments: Sequence[str]) -> int:
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    found = [*room_violations(), *name_violations(tests_there()), *word_violations(), *example_violations()]
    for text in found:
        print(text, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
