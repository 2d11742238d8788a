"""What pyproject.toml says of the package, against what the package and its build are."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import metadata
from pathlib import Path

import places
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python" / "wgengine"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
CARGO = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]
# Distributions that are imported by another name.
MODULES = {"dnspython": "dns", "prometheus-client": "prometheus_client"}


def oldest() -> tuple[int, int]:
    found = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert found, "requires-python has a lower bound and no upper one, as abi3 has"
    return 3, int(found[1])


def extras() -> dict[str, str]:
    """What an extra asks for: the line of each, by its name."""
    return named(line for lines in PROJECT["optional-dependencies"].values() for line in lines)


def dependencies() -> dict[str, str]:
    """What every installation asks for: the line of each, by its name."""
    return named(PROJECT["dependencies"])


def named(lines: Iterable[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        name = re.match(r"[\w.-]+", line)
        assert name, line
        found[name[0]] = line
    return found


def test_one_oldest_python_everywhere() -> None:
    major, minor = oldest()
    rust = tomllib.loads((ROOT / "rust/py/Cargo.toml").read_text(encoding="utf-8"))
    assert f"abi3-py{major}{minor}" in rust["dependencies"]["pyo3"]["features"]
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{major}{minor}"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == f"{major}.{minor}"
    assert (major, minor) == places.OLDEST


def test_every_python_since_is_named() -> None:
    prefix = "Programming Language :: Python :: 3."
    minors = [int(c.removeprefix(prefix)) for c in PROJECT["classifiers"] if c.startswith(prefix)]
    assert minors == list(range(oldest()[1], max(minors) + 1))
    assert sys.version_info.minor in minors


def test_systems_are_those_that_wheels_are_made_for() -> None:
    import wheels

    systems = {c.rpartition(" :: ")[2] for c in PROJECT["classifiers"] if c.startswith("Operating System")}
    assert systems == {"Linux", "MacOS"}
    assert {"linux" in platform.triple for platform in wheels.PLATFORMS} == {True, False}
    assert "Typing :: Typed" in PROJECT["classifiers"]
    assert (PACKAGE / "py.typed").exists()


def test_one_version_and_one_licence() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    assert PROJECT["license"] == CARGO["license"]
    for name in PROJECT["license-files"]:
        assert (ROOT / name).is_file()


def test_what_is_installed_says_the_same() -> None:
    installed = metadata("wgengine")
    assert installed["Version"] == CARGO["version"]
    assert installed["Requires-Python"] == PROJECT["requires-python"]
    assert installed["License-Expression"] == PROJECT["license"]
    lines = named(installed.get_all("Requires-Dist") or ())
    assert set(lines) == {*dependencies(), *extras()}
    assert {name for name, line in lines.items() if "extra ==" in line} == set(extras())


@pytest.mark.parametrize("name", sorted(PROJECT["scripts"]))
def test_commands_lead_to_functions(name: str) -> None:
    module, _, function = PROJECT["scripts"][name].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def imported() -> dict[str, set[str]]:
    """Modules of other distributions, each with the files that import it."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    modules = [alias.name for alias in names]
                case ast.ImportFrom(module=str(module), level=0):
                    modules = [module]
                case _:
                    continue
            for module in modules:
                top = module.partition(".")[0]
                if top not in sys.stdlib_module_names and top != "wgengine":
                    found.setdefault(top, set()).add(str(path.relative_to(PACKAGE)))
    return found


def test_every_library_that_is_imported_is_required_and_the_other_way_round() -> None:
    assert set(imported()) == {MODULES.get(name, name) for name in (*dependencies(), *extras())}
    assert imported()["prometheus_client"] == {"metrics/prometheus.py"}


def test_what_only_linux_has_is_required_there_only() -> None:
    """Netlink is Linux's: nothing but what runs on Linux only may import its library."""
    assert "sys_platform == 'linux'" in dependencies()["pyroute2"]
    assert imported()["pyroute2"] == {"link/linux.py", "outside.py", "cli/demo_end.py"}
    for name, line in (dependencies() | extras()).items():
        assert re.search(r">=[\d.]+,<\d", line), f"{name} has no bounds"
