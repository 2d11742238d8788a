"""Borders that no compiler watches: what the pure core may name, where `unsafe` and boringtun live, who calls Rust.

python tools/check_borders.py
Crate boundaries and import-linter watch the rest. Comments and string literals are not looked at.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from progress import ROOT

RUST = ROOT / "rust"
PACKAGE = ROOT / "python" / "wgengine"

# What the core must not take from the standard library: `now`, addresses and bytes come in as arguments.
IMPURE_STD = re.compile(
    r"\b(fs|thread|process|env|os|Instant|SystemTime|UdpSocket|TcpStream|TcpListener|ToSocketAddrs|stdin|stdout)\b"
)
STD_PATH = re.compile(r"\bstd\s*::\s*(\{[^;]*?\}\s*;|[\w:\s]*(?:\{[^;]*?\}\s*;)?)")
UNSAFE = re.compile(r"\bunsafe\b")
BORINGTUN = re.compile(r"\bboringtun\b")
# Data threads live in rust/io, which has no interpreter; rust/py is only ever called by a thread that has one.
PYTHON_NAMED = re.compile(r"\bpyo3\b")
THREAD_OR_ATTACH = re.compile(r"\b(?:thread\s*::|Python\s*::\s*(?:attach|with_gil|try_attach)\b)")
MAY_BE_UNSAFE = ("io", "py", "load")
MAY_NAME_BORINGTUN = ("noise",)

# `_native` is compiled, so the import graph of import-linter does not hold it.
MAY_CALL_RUST = ("__init__", "keys", "engine", "native_plan", "open_device", "cli.device", "cli.secrecy")

_RUST_NOISE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(?P<hashes>\#*)".*?"(?P=hashes)|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^'\\])'""",
    re.DOTALL,
)


def blank(source: str) -> str:
    """`source` without comments and literals, line numbers kept."""
    return _RUST_NOISE.sub(lambda found: "\n" * found[0].count("\n"), source)


def line_of(source: str, at: int) -> int:
    return source.count("\n", 0, at) + 1


def rust_violations(crate: str, path: Path, source: str) -> Iterator[str]:
    code = blank(source)
    where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    if crate == "core" and not path.stem.endswith("tests"):  # a test may take the time
        for found in STD_PATH.finditer(code):
            for name in IMPURE_STD.finditer(found[1]):
                yield f"{where}:{line_of(code, found.start())}: the core names std's {name[1]}; take it as an argument"
    if crate not in MAY_BE_UNSAFE:
        for found in UNSAFE.finditer(code):
            yield f"{where}:{line_of(code, found.start())}: `unsafe` outside rust/io, rust/py and rust/load"
    if crate not in MAY_NAME_BORINGTUN:
        for found in BORINGTUN.finditer(code):
            yield f"{where}:{line_of(code, found.start())}: boringtun is named outside rust/noise"
    held_back = THREAD_OR_ATTACH if crate == "py" else PYTHON_NAMED
    for found in held_back.finditer(code):
        yield f"{where}:{line_of(code, found.start())}: {found[0]}: no thread of ours may wait for an interpreter"


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def native_imports(source: str) -> Iterator[int]:
    """Lines that import wgengine._native at run time; imports for types only are free."""
    typing_only: set[ast.AST] = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            typing_only.update(inner for child in node.body for inner in ast.walk(child))
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        match node:
            case ast.Import(names=names) if any(name.name == "wgengine._native" for name in names):
                yield node.lineno
            case ast.ImportFrom(module="wgengine._native" | "_native"):
                yield node.lineno
            case ast.ImportFrom(module="wgengine" | None, names=names) if any(n.name == "_native" for n in names):
                yield node.lineno


def violations() -> Iterator[str]:
    for crate in sorted(RUST.iterdir()):
        for path in sorted((crate / "src").rglob("*.rs")):
            yield from rust_violations(crate.name, path, path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py")):
        module = module_of(path)
        if module in MAY_CALL_RUST:
            continue
        for line in native_imports(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}:{line}: imports _native, which only {', '.join(MAY_CALL_RUST)} may"


def main(arguments: Sequence[str]) -> int:
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    found = list(violations())
    for text in found:
        print(text, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
