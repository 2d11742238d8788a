"""Streams over the control socket, and readers that are slow."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from served import KEY, Raw, Serving, serving
from wgengine.control import server
from wgengine.control.client import Client
from wgengine.errors import (
    Error,
)
from wgengine.events import EventsLost, HandshakeFailed, SessionUp
from wgengine.keys import PrivateKey


def test_events_come_typed_until_the_engine_ends(served: Serving, client: Client) -> None:
    events = client.events()
    happened = threading.Thread(
        target=lambda: (served.publish(SessionUp(time=1.5, peer=KEY, initiator=True)), served.end_events())
    )
    happened.start()
    assert list(events) == [{"event": "SessionUp", "time": 1.5, "peer": str(KEY), "initiator": True}]
    happened.join()
    assert client.whois("192.0.2.1") is None


def test_server_that_is_closed_ends_its_streams_in_order(served: Serving, client: Client) -> None:
    events = client.events()
    ending = threading.Thread(target=lambda: (served.publish(EventsLost(time=2.0, count=1)), served.close()))
    ending.start()
    assert [event["event"] for event in events] == ["EventsLost"]
    ending.join()


def test_server_that_is_closed_does_not_wait_long_for_who_does_not_read(
    served: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_FAREWELL_S", 0.02)
    with Raw(served.path) as lazy:
        lazy.read()
        lazy.socket.sendall(b'{"id": 1, "verb": "events"}\n')
        for number in range(200):
            served.publish(*(SessionUp(time=float(number), peer=KEY, initiator="x" * 10_000) for _ in range(8)))  # type: ignore[arg-type]
        served.close()
        assert not served.server._clients


def test_uvloop_serves_as_well(folder: Path) -> None:
    uvloop = pytest.importorskip("uvloop")
    with serving(str(folder / "wg0.sock"), new_loop=uvloop.new_event_loop) as served, Client(served.path) as client:
        assert client.status() == {}
        events = client.events()
        happened = threading.Thread(target=lambda: (served.publish(EventsLost(time=2.0, count=1)), served.end_events()))
        happened.start()
        assert [event["event"] for event in events] == ["EventsLost"]
        happened.join()


def test_stream_ends_with_the_next_request(served: Serving, raw: Raw) -> None:
    raw.socket.sendall(b'{"id": 1, "verb": "events"}\n')
    served.publish(HandshakeFailed(time=1.0, peer=KEY))
    assert raw.read()["event"]["event"] == "HandshakeFailed"
    assert raw.ask(b'{"id": 2, "verb": "metrics"}\n') == {"id": 1, "result": None}
    assert raw.read()["id"] == 2


def test_client_that_leaves_a_stream_leaves_no_listener(served: Serving) -> None:
    with Raw(served.path) as raw:
        raw.read()
        raw.socket.sendall(b'{"id": 1, "verb": "events"}\n')
        served.publish(HandshakeFailed(time=1.0, peer=KEY))
        raw.read()
        (subscription,) = served.fake.broadcaster._subscriptions
    while not subscription.closed:
        threading.Event().wait(0.001)


def test_reader_that_does_not_read_loses_events_and_holds_nobody_up(served: Serving, client: Client) -> None:
    with Raw(served.path) as lazy:
        lazy.read()
        lazy.socket.sendall(b'{"id": 1, "verb": "events"}\n')
        large = "x" * 10_000
        for number in range(200):  # far more than the socket and the subscription hold
            served.publish(*(SessionUp(time=float(number), peer=KEY, initiator=large) for _ in range(8)))  # type: ignore[arg-type]
        assert client.metrics_text()  # others are answered meanwhile
        served.end_events()
        told = []
        while "result" not in (line := lazy.read()):
            told.append(line["event"])
    lost = sum(each["count"] for each in told if each["event"] == EventsLost.__name__)
    assert lost > 0
    assert lost + sum(each["event"] == "SessionUp" for each in told) == 1600


def test_reader_that_does_not_take_its_answer_is_given_up(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE_S", 0.05)
    served.fake.status_told = {"x": "x" * 5_000_000}
    with Raw(served.path) as lazy:
        lazy.read()
        lazy.socket.sendall(b'{"id": 1, "verb": "status"}\n')
        while served.server._clients:
            threading.Event().wait(0.001)
        assert len(lazy.lines.read()) < 5_000_000


def test_event_that_cannot_be_told_ends_the_stream_with_an_error(served: Serving, client: Client) -> None:
    events = client.events()
    happened = threading.Thread(
        target=lambda: served.publish(SessionUp(time=1.5, peer=PrivateKey.generate(), initiator=True))  # type: ignore[arg-type]
    )
    happened.start()
    with pytest.raises(Error, match="a fault of wgengine"):
        next(events)
    happened.join()
