"""Packets before programs: which threads of our daemons have a better priority, and that nothing else has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import is_wgengine, until
from peers.up import up

if TYPE_CHECKING:
    from lab import Lab

PRIVATE = "8HVbNOh8bpKUGeXo08E97c2GohkHFQ6hfSQA5pvs4nY="

pytestmark = pytest.mark.skipif(not is_wgengine(), reason="the priority is wgengine's")


def nice_of_threads(pid: int) -> dict[str, set[int]]:
    """The nice values that a process's threads have, by name."""
    found: dict[str, set[int]] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        found.setdefault(name, set()).add(os.getpriority(os.PRIO_PROCESS, int(task.name)))
    return found


@pytest.mark.parametrize(("asked", "nice"), [({}, -5), ({"WGENGINE_NICE": "0"}, 0), ({"WGENGINE_NICE": "3"}, 3)])
def test_data_threads_come_first_and_nothing_else_does(lab: Lab, asked: dict[str, str], nice: int) -> None:
    device = lab.wgengine(lab.host(), env={"WGENGINE_SHARDS": "2", **asked})
    assert_data_threads_have(nice, device.pid)


def test_those_of_up_too(lab: Lab) -> None:
    tunnel = up(lab, lab.host(), f"[Interface]\nPrivateKey = {PRIVATE}\n")
    tunnel.start()
    assert_data_threads_have(-5, tunnel.device.pid)


def assert_data_threads_have(nice: int, pid: int) -> None:
    def data_threads() -> dict[str, set[int]]:
        return {name: values for name, values in nice_of_threads(pid).items() if name.startswith("wg-io-")}

    ordinary = os.getpriority(os.PRIO_PROCESS, 0)
    nice = nice or ordinary
    # a thread names itself, and chooses its priority, once it runs
    until(lambda: set().union(*data_threads().values()) == {nice}, f"data threads have {nice}", timeout_s=5)
    threads = nice_of_threads(pid)
    others = set().union(*(threads[name] for name in threads.keys() - data_threads().keys()))
    assert "wg-ctl" in threads
    assert others == {ordinary}, threads
