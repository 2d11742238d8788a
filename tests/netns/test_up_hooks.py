"""Hooks of a wg-quick file: the same file through stock wg-quick and through `wgengine up`, and what the hooks saw."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import dut, is_wgengine, until
from peers.device import Device
from peers.quick import copied, gone
from peers.up import up

if TYPE_CHECKING:
    from lab import Host, Lab

pytestmark = pytest.mark.skipif(not is_wgengine(), reason="a command of wgengine")

KEYS = (
    "PrivateKey = 8HVbNOh8bpKUGeXo08E97c2GohkHFQ6hfSQA5pvs4nY=",
    "PublicKey = nxr4xDJF6xdur1OqnndnQlgwwl2Y6TpNA3tzkNdOd2U=",
)
PHASES = ("PreUp", "PostUp", "PreDown", "PostDown")
# Theirs alone: where wg-quick puts its own folder, what the test tells it, and what bash notes as it goes along.
NOT_COMPARED = ("PATH=", "WG_QUICK_USERSPACE_IMPLEMENTATION=", "_=", "COLUMNS=", "LINES=")


def text(*hooks: str) -> str:
    lines = "\n".join(hooks)
    return (
        f"[Interface]\n{KEYS[0]}\nAddress = 10.9.0.1/24\nTable = 1234\n{lines}\n"
        f"[Peer]\n{KEYS[1]}\nAllowedIPs = 10.20.0.0/16\n"
    )


def notes(log: Path) -> list[str]:
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def both(lab: Lab, host: Host, said: str) -> tuple[list[str], list[str]]:
    """What the hooks noted under wg-quick, and under `up`; each may fail on its way up."""
    log = lab.scratch / "notes"
    tunnel = up(lab, host, said)
    client = Device(program=dut(), host=host, name=tunnel.name)
    quick = copied(lab)
    before = host.snapshot()
    try:
        quick(client, "up", tunnel.file)
        quick(client, "down", tunnel.file)
    except AssertionError:
        pass
    until(lambda: gone(client), "wg-quick's device ends", timeout_s=5)
    theirs = notes(log)
    tunnel.begin()
    process = tunnel.device.process
    assert process is not None
    until(lambda: tunnel.said(f"{tunnel.name} is up") or not process.running, "it is up, or failed")
    tunnel.stop()
    host.assert_clean(before)
    return theirs, notes(log)


def test_hooks_see_what_they_see_under_wg_quick(lab: Lab) -> None:
    """Order, name, shell, environment, folder, and the state of the interface at each phase."""
    log = lab.scratch / "notes"
    seen = (
        "echo {phase} {number} %i $PWD;"
        " ip -brief -4 address show dev %i 2>/dev/null | tr -s ' ' || true;"
        " ip route show table 1234 2>/dev/null | cut -d ' ' -f 1-3 || true;"
        " set -o | grep -w on; shopt -p extglob; env | sort"
    )
    hooks = [
        f"{phase} = {{ {seen.format(phase=phase, number=number)}; }} >> {log}" for number in (1, 2) for phase in PHASES
    ]
    theirs, ours = both(lab, lab.host(), text(*hooks))
    theirs, ours = ([line for line in lines if not line.startswith(NOT_COMPARED)] for lines in (theirs, ours))
    assert [line.split()[:2] for line in theirs if line.startswith(("Pre", "Post"))] == [
        [phase, number] for phase in PHASES for number in "12"
    ]
    assert sum("10.9.0.1/24" in line for line in theirs) == 4, "the interface is there in PostUp and PreDown"
    assert sum(line.startswith("10.20.0.0/16 dev") for line in theirs) == 4
    assert ours == theirs


@pytest.mark.parametrize("broken", ["PreUp", "PostUp"])
@pytest.mark.parametrize("how", ["false; echo not here >> {log}", "echo x | false", "exit 7", "[[ a == b ]]"])
def test_a_hook_that_fails_on_the_way_up_ends_it(lab: Lab, broken: str, how: str) -> None:
    host, log = lab.host(), lab.scratch / "notes"
    hooks = [f"{phase} = echo {phase} {number} >> {log}" for phase in PHASES for number in (1, 2)]
    hooks.insert(1 if broken == "PreUp" else 3, f"{broken} = {how.format(log=log)}")
    theirs, ours = both(lab, host, text(*hooks))
    assert ours == theirs == (["PreUp 1"] if broken == "PreUp" else ["PreUp 1", "PreUp 2", "PostUp 1"])
    again = up(lab, host, text(*hooks)).attempt()
    assert again.returncode == 1
    assert again.stdout == ""
    (said,) = (line for line in again.stderr.splitlines() if line.startswith("wgengine: "))
    assert said.startswith(f"wgengine: {broken} ended with exit code {7 if '7' in how else 1}: ")


def test_a_hook_that_fails_on_the_way_down_is_told_and_stops_nothing(lab: Lab) -> None:
    host, log = lab.host(), lab.scratch / "notes"
    before = host.snapshot()
    tunnel = up(lab, host, text("PreDown = exit 5", *(f"{phase} = echo {phase} >> {log}" for phase in PHASES)))
    tunnel.start()
    assert tunnel.stop() == 1
    assert tunnel.said("PreDown ended with exit code 5: exit 5")
    assert notes(log) == list(PHASES)
    host.assert_clean(before)


@pytest.mark.parametrize("phase", ["PreUp", "PostUp"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_waits_for_no_hook(lab: Lab, phase: str, number: signal.Signals) -> None:
    host, log = lab.host(), lab.scratch / "notes"
    before = host.snapshot()
    hooks = [f"{phase} = echo {phase} >> {log}; sleep 1000; echo not here >> {log}"]
    tunnel = up(lab, host, text(*hooks, f"{phase} = echo nor here >> {log}", f"PostDown = echo PostDown >> {log}"))
    tunnel.begin()
    until(log.exists, "the hook runs")
    begun = time.monotonic()
    assert tunnel.device.process is not None
    assert tunnel.device.process.stop(number) == 0
    assert time.monotonic() - begun < 2
    # what was up goes down in order
    assert notes(log) == [phase, *(["PostDown"] if phase == "PostUp" else [])]
    assert not host.pids(), "what a hook started ended with it"
    host.assert_clean(before)


def test_asked_to_end_while_the_interface_is_made_it_begins_no_hook(lab: Lab) -> None:
    """What is up by then goes down in order. Which moment that is, the machine says: so several are tried."""
    host, log = lab.host(), lab.scratch / "notes"
    before = host.snapshot()
    for delay in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4):
        later = f"PreUp = up=$PPID; (sleep {delay}; kill -TERM $up) >/dev/null 2>&1 &"
        tunnel = up(lab, host, text(later, *(f"{phase} = echo {phase} >> {log}" for phase in PHASES)))
        tunnel.begin()
        assert tunnel.device.process is not None
        assert tunnel.device.process.wait(5) == 0
        host.assert_clean(before)
        if notes(log) == ["PreUp", "PreDown", "PostDown"]:
            return
    pytest.fail("it was never asked in time")


def test_a_hook_that_does_not_listen_is_ended_nevertheless(lab: Lab) -> None:
    host, log = lab.host(), lab.scratch / "notes"
    tunnel = up(lab, host, text(f"PostUp = trap '' TERM; echo here >> {log}; while :; do sleep 0.1; done"))
    tunnel.begin()
    until(log.exists, "the hook runs")
    begun = time.monotonic()
    assert tunnel.stop() == 0
    assert time.monotonic() - begun < 2
    assert not host.pids()


def test_a_second_signal_does_not_wait_for_the_hooks_of_the_way_down(lab: Lab) -> None:
    host, log = lab.host(), lab.scratch / "notes"
    before = host.snapshot()
    tunnel = up(lab, host, text(f"PreDown = echo PreDown >> {log}; sleep 1000", f"PostDown = echo PostDown >> {log}"))
    tunnel.start()
    tunnel.signal(signal.SIGTERM)
    until(log.exists, "the hook runs")
    begun = time.monotonic()
    assert tunnel.stop() == 1
    assert time.monotonic() - begun < 2
    assert notes(log) == ["PreDown", "PostDown"]
    assert not host.pids()
    host.assert_clean(before)


def test_no_key_in_a_hook_is_shown(lab: Lab) -> None:
    host = lab.host()
    secret = "gI6EdUSYvn8ugXOt8QQD6Yc+JyiZxIhp3GInSWRfWGE="
    public = KEYS[1].partition(" = ")[2]
    tunnel = up(lab, host, text(f"PostUp = wg set %i peer {public} preshared-key <(echo {secret})", "PreDown = exit 9"))
    tunnel.start()
    assert tunnel.device.peer(public).preshared == secret
    assert tunnel.stop() == 1
    for said in (tunnel.log, tunnel.attempt("--dry-run").stdout):
        assert "(hidden key)" in said
        assert secret not in said


def test_no_hook_is_seen_in_the_list_of_processes(lab: Lab) -> None:
    """Everyone on the machine reads arguments. Nor has it descriptors that it would not have under wg-quick."""
    host, log = lab.host(), lab.scratch / "notes"
    secret = "gI6EdUSYvn8ugXOt8QQD6Yc+JyiZxIhp3GInSWRfWGE="
    long = "x" * 200_000  # more than a pipe takes at once
    go = f"until test -e {log}.go; do sleep 0.05; done"
    tunnel = up(lab, host, text(f"PreUp = : {secret} {long}; ls /proc/self/fd | xargs > {log}; {go}"))
    tunnel.begin()
    until(lambda: log.exists() and log.read_text(), "the hook runs")
    pids = host.pids()
    assert len(pids) > 1
    for pid in pids:
        for part in ("cmdline", "environ"):
            try:
                assert secret.encode() not in (Path("/proc") / str(pid) / part).read_bytes()
            except FileNotFoundError:  # a `sleep` that has ended
                pass
    (listed,) = notes(log)
    assert listed == "0 1 2 3", "3 is the listing's own"
    Path(f"{log}.go").touch()
    tunnel.wait_for(f"{tunnel.name} is up")
    assert tunnel.stop() == 0
