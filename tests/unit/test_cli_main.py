"""The dispatcher: what it loads, and how each end of a command looks from outside."""

from __future__ import annotations

import subprocess
import sys

import pytest
from wgengine.cli import main, outcome
from wgengine.errors import ConfigError, Error, PrivilegeError

WGENGINE = [sys.executable, "-m", "wgengine"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*WGENGINE, *arguments], capture_output=True, text=True, timeout=30)


def test_help_lists_every_verb_and_loads_none() -> None:
    code = (
        "import sys; from wgengine.cli.main import main; main(['--help']); "
        "print([m for m in sys.modules if m.startswith(('rich', 'pyroute2', 'asyncio', 'wgengine.cli'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    *text, modules = done.stdout.splitlines()
    for verb in main.VERBS:
        assert any(line.strip().startswith(f"{verb} ") for line in text)
    assert modules == "['wgengine.cli', 'wgengine.cli.outcome', 'wgengine.cli.main']"


@pytest.mark.parametrize("verb", list(main.VERBS))
def test_every_verb_has_help_and_json(verb: str) -> None:
    done = run(verb, "--help")
    assert done.returncode == 0, done.stderr
    assert "--json" in done.stdout


def test_version_is_the_packages() -> None:
    import wgengine

    assert run("--version").stdout == f"wgengine {wgengine.__version__}\n"
    assert run("device", "--version").stdout == f"wgengine {wgengine.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["frobnicate"], "wgengine --help"),
        (["status", "--frobnicate"], "wgengine status --help"),
        (["genkey", "extra"], "wgengine genkey --help"),
        (["demo", "--seconds", "soon"], "wgengine demo --help"),
    ],
)
def test_usage_error_is_one_line_that_names_the_help(arguments: list[str], named: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("wgengine: ")
    assert done.stderr.count("\n") == 1
    assert named in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no"), 1),
        (OSError(98, "Address already in use"), 1),
        (outcome.UsageError("no"), 2),
        (PrivilegeError("no"), 3),
        (PermissionError(1, "Operation not permitted"), 3),
        (outcome.NotRunningError("no"), 4),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert outcome.code_for(error) == code
    assert outcome.is_foreseen(error)


def test_fault_of_ours_is_not_hidden() -> None:
    assert not outcome.is_foreseen(KeyError("x"))
    assert outcome.is_foreseen(Error("x"))


def test_message_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    outcome.complain("first\n  second")
    assert capsys.readouterr().err == "wgengine: first second\n"


def test_system_errors_lose_their_number_and_keep_their_file() -> None:
    assert outcome.describe(FileNotFoundError(2, "No such file or directory", "/x")) == "/x: No such file or directory"
    assert outcome.describe(OSError(98, "Address already in use")) == "Address already in use"


def test_closed_pipe_is_no_traceback() -> None:
    verb = subprocess.Popen([*WGENGINE, "genkey"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert verb.stdout is not None
    assert verb.stderr is not None
    verb.stdout.close()  # before it writes: the interpreter takes longer than that to start
    said = verb.stderr.read()
    verb.stderr.close()
    assert verb.wait(30) == 1
    assert said == b""
