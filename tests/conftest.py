"""Fixtures of every tier: a lab, and how long a run may take."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator

import lab as labs
import pytest


def pytest_sessionstart() -> None:
    # A shell that runs us in the background has us ignore SIGINT, and programs under test would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.geteuid() == 0:
        labs.sweep()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A tier is a folder; its marker follows from it. What the interop tier runs needs namespaces as well."""
    for item in items:
        tier = item.path.parent.name
        if tier in ("netns", "interop", "crash"):
            item.add_marker(tier)
        if tier == "interop":
            item.add_marker("netns")


LAB = pytest.StashKey[labs.Lab]()


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether runs of over a minute are to be whole (`make soak`); else they are short, with the same assertions."""
    return os.environ.get("WGENGINE_SOAK", "") not in ("", "0")


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[labs.Lab]:
    """A lab of this test's own."""
    with labs.opened() as opened:
        request.node.stash[LAB] = opened
        yield opened


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its processes said."""
    report = yield
    held = item.stash.get(LAB, None)
    if call.excinfo is not None and held is not None and report.failed:
        for name, said in held.logs:
            report.sections.append((name, said[-4000:]))
    return report


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have measured by the way (`record_property`): rates, retransmits, memory."""
    measured = [
        (report.nodeid.rpartition("::")[2], name, value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if report.when == "call"
    ]
    if measured:
        terminalreporter.section("measured")
        for test, name, value in measured:
            terminalreporter.write_line(f"{test}: {name}: {value}")
