"""`events`: a line for each, until the engine ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import KEY, Serving, installed
from wgengine.cli import main
from wgengine.cli.events import line
from wgengine.events import EventsLost, ResolveFailed, SessionUp


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    with installed(tmp_path, monkeypatch) as running:
        yield running


def follow(served: Serving, *arguments: str) -> int:
    """Run the verb while these things happen."""
    happening = threading.Thread(
        target=lambda: (
            served.publish(SessionUp(time=1.0, peer=KEY, initiator=True), EventsLost(time=2.0, count=3)),
            served.end_events(),
        )
    )
    happening.start()
    code = main.main(["events", *arguments])
    happening.join()
    return code


def test_each_is_a_line_until_the_engine_ends(served: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(served) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.split(" ", 1)[1] == f"SessionUp peer={KEY} initiator=true"
    assert second.split(" ", 1)[1] == "EventsLost count=3"


def test_json_is_an_object_a_line(served: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(served, "--json") == 0
    assert [json.loads(text) for text in capsys.readouterr().out.splitlines()] == [
        {"event": "SessionUp", "time": 1.0, "peer": str(KEY), "initiator": True},
        {"event": "EventsLost", "time": 2.0, "count": 3},
    ]


def test_texts_with_blanks_are_quoted_and_give_no_orders() -> None:
    event = ResolveFailed(time=0.0, peer=KEY, host="a\x1b[2J", error="no such name", retry_in=5.0)
    told = line({"event": "ResolveFailed", "host": event.host, "error": event.error, "retry_in": event.retry_in})
    assert told.split(" ", 1)[1] == 'ResolveFailed host=a\\x1b[2J error="no such name" retry_in=5.0'
