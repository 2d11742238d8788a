"""Write python/wgengine/sync.py from the asynchronous Engine: the same names, signatures and words, blocking.

Run without arguments to write it; with --check to be told whether it is up to date (exit code 1 when not).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "python" / "wgengine"
SOURCE = PACKAGE / "engine.py"
TARGET = PACKAGE / "sync.py"

HEAD = '''"""The engine for code without an event loop: `with Engine(config) as engine:`. A thread of its own serves it.

Written by tools/gen_sync.py from engine.py; change that one and run `python tools/gen_sync.py`.
"""

from __future__ import annotations
'''

# What stands in for the context manager of the asynchronous engine.
LIFE = """
    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._thread.run(self._engine.__aenter__())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_ours:
            self.close()
"""

Function = ast.FunctionDef | ast.AsyncFunctionDef

# What neither waits nor may be called from another thread than the loop's.
ON_LOOP = ("peer_by_key", "request_status", "set_netmap")
WIDTH = 120


class Room:
    """The source file of the asynchronous engine, as text and as a tree."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.tree = ast.parse(text)
        self.engine = next(node for node in self.tree.body if isinstance(node, ast.ClassDef) and node.name == "Engine")

    def between(self, first: int, last: int) -> list[str]:
        """Lines by their numbers, both included."""
        return self.lines[first - 1 : last]

    def functions(self) -> Iterator[Function]:
        """The constructor and the public methods and properties, in order."""
        for node in self.engine.body:
            if isinstance(node, Function) and (node.name == "__init__" or not node.name.startswith("_")):
                yield node

    def header(self, function: Function) -> list[str]:
        """Decorators and signature as they are written, but not asynchronous."""
        first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        lines = self.between(first, function.body[0].lineno - 1)
        return [line.replace("    async def ", "    def ", 1) for line in lines]

    def docstring(self, node: Function | ast.ClassDef) -> list[str]:
        """The docstring as it is written; none is no lines."""
        first = node.body[0]
        if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
            return []
        return [line.replace("async with", "with").replace("async for", "for") for line in self._lines_of(first)]

    def _lines_of(self, node: ast.stmt) -> list[str]:
        return self.between(node.lineno, node.end_lineno or node.lineno)

    def imports(self, names: set[str]) -> Iterator[str]:
        """The import lines that bring these names."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                wanted = sorted((alias.name for alias in node.names if alias.name in names), key=str.lower)
                if wanted:
                    yield f"from {node.module} import {', '.join(wanted)}"


def arguments(function: Function) -> str:
    """The arguments of a call that passes everything on."""
    plain = [argument.arg for argument in function.args.args if argument.arg not in ("self", "cls")]
    return ", ".join([*plain, *(f"{argument.arg}={argument.arg}" for argument in function.args.kwonlyargs)])


def decorated(function: Function, name: str) -> bool:
    return any(isinstance(decorator, ast.Name) and decorator.id == name for decorator in function.decorator_list)


def call_of_many(what: str, given: str) -> list[str]:
    """A call as the formatter writes one that is too long for a line."""
    if len(given) + 12 <= WIDTH:
        return [f"{what}(", f"    {given}", ")"]
    return [f"{what}(", *(f"    {each}," for each in given.split(", ")), ")"]


def body(function: Function, room: Room) -> list[str]:
    """What the blocking twin does."""
    if decorated(function, "classmethod"):  # it makes an engine, of whichever kind
        said = 1 if room.docstring(function) else 0
        first, last = function.body[said], function.body[-1]
        return [line[8:] for line in room.between(first.lineno, last.end_lineno or last.lineno)]
    call = f"self._engine.{function.name}({arguments(function)})"
    if decorated(function, "property"):
        return [f"return self._engine.{function.name}"]
    if function.name == "__init__":
        return [*call_of_many("self._engine = _Engine", arguments(function)), "self._thread = LoopThread()"]
    if function.name == "close":
        return ["self._thread.finish(self._engine.close)"]
    if function.name == "wait_closed":
        return ["self._thread.outlast(self._engine.wait_closed)"]
    if returned(function) == "Subscription":
        return [
            f"subscription = self._thread.call(lambda: {call})",
            "return Listener(self._thread, subscription, subscription.close)",
        ]
    if function.name in ON_LOOP:
        return [f"return self._thread.call(lambda: {call})"]
    if isinstance(function, ast.FunctionDef):
        return [f"return {call}"]  # it neither waits nor needs the loop
    return [f"return self._thread.run({call})"]


def returned(function: Function) -> str:
    return ast.unparse(function.returns) if function.returns is not None else ""


def names(trees: Iterable[ast.AST | None]) -> set[str]:
    """Every name that is used there."""
    return {node.id for tree in trees if tree for node in ast.walk(tree) if isinstance(node, ast.Name)}


def head(room: Room, functions: list[Function]) -> list[str]:
    """The module's head: what is needed when it runs, and what only types need."""
    running = names(default for each in functions for default in (*each.args.defaults, *each.args.kw_defaults))
    typing = names(part for each in functions for part in (each.args, each.returns)) - running
    if "Subscription" in typing:
        typing = typing - {"Subscription"} | {"Event"}
    defined = names(node.target for node in room.tree.body if isinstance(node, ast.AnnAssign))
    own = ["from wgengine.bridge import Listener, LoopThread", "from wgengine.engine import Engine as _Engine"]
    own += room.imports(running)
    known = [*room.imports(typing), *(f"from wgengine.engine import {name}" for name in sorted(typing & defined))]
    typed = [line for line in known if line.startswith("from wgengine.")]
    words = {
        word for line in known if line.startswith("from typing ") for word in line.split(" import ")[1].split(", ")
    }
    standard = [line for line in known if line not in typed and not line.startswith(("from typing ", "from types "))]
    words |= {"TYPE_CHECKING", "Self"}
    return [
        *HEAD.splitlines(),
        "",
        *sorted(standard),
        "from types import TracebackType",
        f"from typing import {', '.join(sorted(words, key=lambda word: (not word.isupper(), word)))}",
        "",
        *sorted(own),
        "",
        "if TYPE_CHECKING:",
        *(f"    {line}" for line in sorted(typed)),
        "",
        '__all__ = ["Engine"]',
    ]


def generate(text: str) -> str:
    """The source of sync.py from that of engine.py."""
    room = Room(text)
    functions = list(room.functions())
    out = [*head(room, functions), "", "", "class Engine:", *room.docstring(room.engine)]
    for function in functions:
        out.append("")
        out += [line.replace("-> Subscription:", "-> Listener[Event]:") for line in room.header(function)]
        out += room.docstring(function)
        out += [f"        {line}".rstrip() for line in body(function, room)]
        if function.name == "__init__":
            out += LIFE.rstrip().splitlines()
    return "\n".join(out) + "\n"


def main(words: list[str]) -> int:
    text = generate(SOURCE.read_text(encoding="utf-8"))
    if words == ["--check"]:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
            return 0
        print(f"{TARGET.name} is out of date: run python tools/gen_sync.py", file=sys.stderr)
        return 1
    if words:
        print("usage: gen_sync.py [--check]", file=sys.stderr)
        return 2
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
