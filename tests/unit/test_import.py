"""What `import wgengine` costs and does: next to nothing."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys

import wgengine

PROBE = """
import json, os, sys, threading
before = set(sys.modules)
descriptors = len(os.listdir("/dev/fd"))
import {module}
print(json.dumps(dict(
    modules=sorted(set(sys.modules) - before),
    threads=threading.active_count(),
    descriptors=len(os.listdir("/dev/fd")) - descriptors,
)))
"""


def probe(module: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module)], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


def test_importing_the_package_loads_no_room_and_no_library() -> None:
    seen = probe("wgengine")
    ours = [name for name in seen["modules"] if name.startswith("wgengine")]
    assert ours == ["wgengine"]
    assert not {"asyncio", "click", "rich", "pyroute2", "dns", "socket"} & {
        m.partition(".")[0] for m in seen["modules"]
    }


def test_importing_starts_no_thread_and_opens_no_file() -> None:
    for module in ("wgengine", "wgengine.engine", "wgengine.sync"):
        seen = probe(module)
        assert seen["threads"] == 1, module
        assert seen["descriptors"] == 0, module


def test_the_engine_loads_libraries_only_when_it_needs_them() -> None:
    seen = probe("wgengine.engine")
    assert "wgengine._native" in seen["modules"]
    assert not {"click", "rich", "pyroute2", "dns"} & {name.partition(".")[0] for name in seen["modules"]}


def test_every_public_name_is_there() -> None:
    for name in wgengine.__all__:
        assert getattr(wgengine, name) is not None
    assert set(wgengine.__all__) <= set(dir(wgengine))


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(inspect.getsource(wgengine))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.asname or alias.name for node in guarded.body for alias in node.names}
    assert typed == set(wgengine.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(wgengine, "nonsense")


def test_the_log_goes_nowhere_by_itself() -> None:
    script = "import logging, wgengine; logging.getLogger('wgengine.engine').error('x'); print(logging.root.handlers)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
