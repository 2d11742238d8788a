"""`ping`: its lines, its summary, when it stops and how it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Serving, installed
from wgengine.cli import main
from wgengine.cli.ping import Tally, line
from wgengine.errors import StateError

PONG = {"latency": 0.0123, "endpoint": "192.0.2.1:7", "node_name": "alice.example.net."}
TIMED_OUT = {"error": "timed out"}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    with installed(tmp_path, monkeypatch) as running:
        yield running


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, which take no time here."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (PONG, "pong from alice.example.net (100.64.0.2) via 192.0.2.1:7 in 12.3ms"),
        (
            {"kind": "tsmp", "latency": 1.5, "peer_api_port": 80},
            "pong from bob (100.64.0.2, port 80) via TSMP in 1.50s",
        ),
        ({"kind": "icmp", "latency": 0.001}, "pong from bob (100.64.0.2) via ICMP in 1.0ms"),
        (TIMED_OUT, 'ping "100.64.0.2" timed out'),
        ({"error": "no peer has it"}, 'ping "100.64.0.2" failed: no peer has it'),
        ({"is_local": True}, "bob (100.64.0.2) is local: this node"),
        ({**PONG, "node_name": "\x1b[2J\u202e"}, r"pong from \x1b[2J\u202e (100.64.0.2) via 192.0.2.1:7 in 12.3ms"),
    ],
)
def test_line_says_who_by_which_path_and_how_far(result: dict[str, object], text: str) -> None:
    assert line({"ip": "100.64.0.2", **result}, "bob") == text


def test_without_a_count_it_ends_with_the_first_that_returns(
    served: Serving, slept: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    served.fake.pongs = [TIMED_OUT, PONG]
    assert main.main(["ping", "alice", "--tsmp", "--timeout", "2"]) == 0
    assert served.fake.asked == [("ping", "100.64.0.2", "tsmp", 0, 2.0)] * 2
    assert capsys.readouterr().out == (
        'ping "100.64.0.2" timed out\n'
        "pong from alice.example.net (100.64.0.2) via 192.0.2.1:7 in 12.3ms\n"
        "alice: 2 sent, 1 received, 50% loss\n"
        "min/avg/max = 12.3ms/12.3ms/12.3ms\n"
    )
    assert len(slept) == 1


def test_without_a_count_it_gives_up_after_ten(
    served: Serving, slept: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    served.fake.pongs = [TIMED_OUT]
    assert main.main(["ping", "100.64.0.2"]) == 1
    assert len(served.fake.asked) == 10
    assert capsys.readouterr().out.splitlines()[-1] == "100.64.0.2: 10 sent, 0 received, 100% loss; no reply"


def test_with_a_count_it_is_that_many_a_second_apart(served: Serving, slept: list[float]) -> None:
    served.fake.pongs = [PONG]
    assert main.main(["ping", "100.64.0.2", "--icmp", "--count", "3"]) == 0
    assert [asked[2] for asked in served.fake.asked] == ["icmp"] * 3
    assert len(slept) == 2
    assert all(0 <= pause <= 1 for pause in slept)


def test_some_loss_is_no_failure(served: Serving, slept: list[float]) -> None:
    served.fake.pongs = [PONG, TIMED_OUT]
    assert main.main(["ping", "100.64.0.2", "--count", "4"]) == 0


def test_own_address_is_local_and_a_success_though_none_was_sent(
    served: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    served.fake.pongs = [{"is_local": True, "error": "100.64.0.1 is this node's own"}]
    assert main.main(["ping", "here", "--count", "3"]) == 0
    assert capsys.readouterr().out == "here (100.64.0.1) is local: this node\n"


def test_interrupted_without_end_it_still_sums_up(
    served: Serving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    served.fake.pongs = [PONG]
    assert main.main(["ping", "100.64.0.2", "--count", "0"]) == 0
    assert "1 sent, 1 received, 0% loss" in capsys.readouterr().out


def test_json_is_an_object_a_line_and_one_for_all(
    served: Serving, slept: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    served.fake.pongs = [PONG, TIMED_OUT]
    assert main.main(["ping", "alice", "--count", "2", "--json"]) == 0
    first, second, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"ip": "100.64.0.2", "kind": "auto", "error": None, **PONG}
    assert second["error"] == "timed out"
    assert last == {"summary": {"sent": 2, "received": 1, "loss": 0.5, "min": 0.0123, "avg": 0.0123, "max": 0.0123}}


def test_what_the_engine_refuses_is_one_line(served: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    served.fake.pongs = [StateError("no netmap yet; apply one")]
    assert main.main(["ping", "100.64.0.2"]) == 1
    assert capsys.readouterr().err == "wgengine: no netmap yet; apply one\n"
    assert main.main(["ping", "bob"]) == 1
    assert 'write which: "bob.example.net", "bob.other.net"' in capsys.readouterr().err


def test_tally_of_nothing_has_no_latency() -> None:
    assert Tally().as_dict() == {"sent": 0, "received": 0, "loss": 0.0, "min": None, "avg": None, "max": None}
