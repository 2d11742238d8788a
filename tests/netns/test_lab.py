"""The lab itself: it sees what is left behind, and a lab that was killed is swept by the next."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import lab as labs
import pytest
from lab import SOCKETS, Lab, LabError, run, until

if TYPE_CHECKING:
    from lab import Host

LEFTOVERS = {
    "link": ["ip", "link", "add", "left0", "type", "veth", "peer", "name", "left1"],
    "address": ["ip", "address", "add", "10.77.0.1/32", "dev", "lo"],
    "rule": ["ip", "rule", "add", "fwmark", "77", "table", "77"],
    "rule6": ["ip", "-6", "rule", "add", "fwmark", "77", "table", "77"],
    "route": ["ip", "route", "add", "10.77.0.0/16", "dev", "u0", "table", "77"],
    "route6": ["ip", "-6", "route", "add", "2001:db8:77::/48", "dev", "u0"],
    "nft": ["nft", "add", "table", "inet", "left"],
}


@pytest.mark.parametrize("kind", LEFTOVERS)
def test_what_is_left_in_a_host_is_seen(lab: Lab, kind: str) -> None:
    host, _ = lab.pair()
    before = host.snapshot()
    host.assert_clean(before)
    host.run(*LEFTOVERS[kind])
    with pytest.raises(AssertionError, match="left"):
        host.assert_clean(before, patience_s=0.1)


def test_a_socket_file_left_behind_is_seen_and_removed() -> None:
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(labs.opened())
        device = lab.wgengine(lab.host())
        device.kill9()
        device.killed = False  # as if it had been asked to end, and had forgotten its file
        with pytest.raises(AssertionError, match="left behind"):
            stack.close()
    assert not device.socket_path.exists()


def namespaces() -> str:
    return run(["ip", "netns", "list"])


def test_a_killed_lab_is_swept_and_its_processes_end() -> None:
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "import lab\n"
        "with lab.opened() as opened:\n"
        "    device = opened.wgengine(opened.host())\n"
        "    print(device.pid, device.name, device.host.name, opened.scratch, flush=True)\n"
        "    time.sleep(60)\n"
    )
    folder = str(Path(labs.__file__).parent)
    with subprocess.Popen([sys.executable, "-c", script, folder], stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        pid, name, host, scratch = victim.stdout.readline().split()
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    until(lambda: not Path(f"/proc/{pid}").exists(), "the kernel ends the device of a dead lab", timeout_s=5)
    assert host in namespaces()
    assert Path(scratch).exists()
    (SOCKETS / f"{name}.sock").touch()
    labs.sweep()
    assert host not in namespaces()
    assert not Path(scratch).exists()
    assert not (SOCKETS / f"{name}.sock").exists()


def test_a_command_that_fails_says_what_it_said(lab: Lab) -> None:
    host: Host = lab.host()
    with pytest.raises(LabError, match=r"Cannot find device \"nowhere\""):
        host.run("ip", "link", "set", "nowhere", "up")


def test_a_missing_prerequisite_skips_here_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="a thing is missing"):
        labs.need(None, "a thing is missing")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="a thing is missing"):
        labs.need(None, "a thing is missing")
