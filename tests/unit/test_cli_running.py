"""Which engine a verb means, and what it says when there is none, or more than one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Serving, installed, open_folder, serving
from wgengine.cli import main, running
from wgengine.cli.outcome import NotRunningError, UsageError


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    with installed(tmp_path, monkeypatch) as running:
        yield running


def test_only_one_needs_no_name(served: Serving) -> None:
    with running.reach(None) as client:
        assert client.interface == "wg0"


def test_of_several_one_must_be_named(served: Serving) -> None:
    with serving(served.path.replace("wg0", "wg1"), "wg1"):
        with pytest.raises(UsageError, match=r"2 engines are running \(wg0, wg1\); say which by --interface wg0"):
            running.reach(None)
        with running.reach("wg1") as client:
            assert client.interface == "wg1"


def test_one_that_is_not_there_is_named(served: Serving) -> None:
    with pytest.raises(NotRunningError, match="no engine of wgengine serves wg7; start it with `wgengine up`"):
        running.reach("wg7")


def test_socket_that_a_crash_left_is_no_engine(served: Serving) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(served.path.replace("wg0", "wg1"))
    with running.reach(None) as client:
        assert client.interface == "wg0"
    with pytest.raises(NotRunningError, match="serves wg1"):
        running.reach("wg1")


@pytest.mark.parametrize("name", ["../x", "a/b", ""])
def test_name_that_is_no_interface_is_refused(served: Serving, name: str) -> None:
    with pytest.raises(UsageError, match="no interface name"):
        running.reach(name)


@pytest.mark.parametrize(
    "arguments", [["ping", "100.64.0.2"], ["whois", "100.64.0.2"], ["metrics"], ["events"], ["status"]]
)
def test_no_engine_is_exit_4_and_says_how_to_start_one(
    served: Serving, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    served.close()
    assert main.main(arguments) == 4
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "start one with `wgengine up`" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_socket_of_another_user_is_exit_3_and_says_what_helps() -> None:
    code = (
        "import os, sys; import wgengine.control.client; from wgengine.cli import main, metrics, interface;"
        "from wgengine.control import place; place.RUN = sys.argv[1];"
        "os.setgid(65534); os.setuid(65534); sys.exit(main.main(['metrics']))"
    )
    with open_folder() as folder, serving(str(folder / "wg0.sock")) as served:
        done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, timeout=30)
    assert done.returncode == 3, done.stderr
    assert done.stderr == f"wgengine: {served.path} is closed to this user; run this as root (sudo)\n"
