"""The watchdog: what it tells of hanging calls, and that it ends nobody."""

import logging
import os
import threading

import pytest
from wgengine.watchdog import InFlight, Overdue, Watchdog


def test_a_call_is_told_of_once_when_it_has_taken_too_long():
    calls = InFlight(45.0)
    assert calls.due() is None
    ping = calls.begin("ping", 0.0)
    close = calls.begin("close", 10.0)
    assert (calls.due(), calls.overdue(44.9)) == (45.0, [])
    assert calls.overdue(45.0) == [Overdue("ping", 45.0, (("ping", 45.0), ("close", 35.0)))]
    assert (calls.due(), calls.overdue(50.0)) == (55.0, [])
    calls.end(ping)
    assert calls.overdue(60.0) == [Overdue("close", 50.0, (("close", 50.0),))]
    calls.end(close)
    assert (len(calls), calls.due()) == (0, None)


def test_a_call_that_ends_in_time_is_not_told_of():
    calls = InFlight(45.0)
    calls.end(calls.begin("ping", 0.0))
    assert (calls.due(), calls.overdue(100.0)) == (None, [])


def test_the_same_call_may_be_under_way_many_times():
    calls = InFlight(1.0)
    numbers = [calls.begin("ping", float(at)) for at in range(3)]
    assert [found.age for found in calls.overdue(3.0)] == [3.0, 2.0, 1.0]
    for number in numbers:
        calls.end(number)
    assert len(calls) == 0


def test_the_report_names_all_that_is_under_way():
    overdue = Overdue("ping", 45.2, (("ping", 45.2), ("close", 3.0)))
    assert str(overdue) == "ping has not ended for 45 s; under way: ping (45.2 s), close (3.0 s)"


def hang(watchdog, reported):
    """A thread of ours that hangs inside a guarded call until it was told of."""
    with watchdog.guard("reconfig"):
        reported.wait(20)


@pytest.fixture
def reported():
    return threading.Event()


def test_row_34_a_hanging_call_is_told_with_stacks_counted_and_goes_on(caplog, reported):
    found = []

    def report(overdue):
        found.append(overdue)
        reported.set()

    before = os.getpid()
    watchdog = Watchdog(0.01, report=report)
    hang(watchdog, reported)
    assert reported.is_set()
    watchdog.close()
    assert [overdue.op for overdue in found] == ["reconfig"]
    assert watchdog.timeouts == {"reconfig": 1}
    assert os.getpid() == before
    (record,) = [record for record in caplog.records if record.name == "wgengine.watchdog"]
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("reconfig has not ended for 0 s; under way: reconfig (0.0 s)")
    assert "in hang" in record.getMessage()  # the stack of who hangs


def test_row_34_a_handler_that_fails_is_reported_and_the_next_call_is_watched(caplog, reported):
    def report(overdue):
        reported.set()
        raise RuntimeError("broken handler")

    watchdog = Watchdog(0.01, report=report)
    hang(watchdog, reported)
    reported.clear()
    hang(watchdog, reported)
    watchdog.close()
    assert watchdog.timeouts == {"reconfig": 2}
    assert "broken handler" in caplog.text


def test_a_blocked_event_loop_is_told_of(reported):
    import asyncio

    watchdog = Watchdog(0.01, report=lambda overdue: reported.set())

    async def blocks():
        with watchdog.guard("ping"):
            assert reported.wait(20)

    asyncio.run(blocks())
    watchdog.close()
    assert watchdog.timeouts == {"ping": 1}


def test_a_guard_lets_errors_through_and_forgets_the_call():
    watchdog = Watchdog()
    with pytest.raises(ZeroDivisionError), watchdog.guard("ping"):
        raise ZeroDivisionError
    assert len(watchdog._in_flight) == 0
    watchdog.close()


def test_there_is_a_thread_only_while_something_is_watched():
    def watching():
        return [thread for thread in threading.enumerate() if thread.name == "wgengine-watchdog"]

    watchdog = Watchdog()
    assert watching() == []
    with watchdog.guard("ping"), watchdog.guard("close"):
        (thread,) = watching()
        assert thread.daemon
    thread.join(20)
    assert watching() == []
    watchdog.close()


def test_a_closed_watchdog_watches_nothing():
    watchdog = Watchdog(0.0)
    with watchdog.guard("ping"):
        watchdog.close()
        with watchdog.guard("close"):
            pass
    assert len(watchdog._in_flight) == 0


def test_closing_from_the_handler_does_not_wait_for_itself(reported):
    closed = []

    def report(overdue):
        watchdog.close()
        closed.append(True)
        reported.set()

    watchdog = Watchdog(0.01, report=report)
    hang(watchdog, reported)
    assert closed == [True]
