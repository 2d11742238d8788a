"""docs/control.md: its exchanges go as they are written, against a real socket; so do its programs."""

from __future__ import annotations

import contextlib
import io
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from served import KEY, Fake, Raw, Serving, serving
from wgengine.events import EventsLost, SessionUp
from wgengine.status import EngineStatus, PeerStatus

TEXT = (Path(__file__).parents[2] / "docs" / "control.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"^```control\n(.*?)^```", TEXT, re.M | re.S) for line in block.splitlines()]
PROGRAMS = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
SOCKET = "/run/wgengine/wg0.sock"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    fake = Fake(pongs=[{"latency": 0.0123}], metrics="# TYPE wgengine_up gauge\nwgengine_up 1\n")
    with serving(str(tmp_path / "wg0.sock"), fake=fake) as running:
        yield running


def happen(served: Serving) -> None:
    served.publish(SessionUp(time=1.5, peer=KEY, initiator=True), EventsLost(time=2.0, count=3))


def equal(said: Any, written: Any) -> bool:
    """An ellipsis stands for any text."""
    if isinstance(written, dict):
        return isinstance(said, dict) and set(said) == set(written) and all(equal(said[n], written[n]) for n in said)
    return said == written or (written == "…" and isinstance(said, str))


def test_every_exchange_goes_as_written(served: Serving) -> None:
    """A line that is no request ends the connection, so after that another one is opened."""
    directions = [line[0] for line in LINES]
    assert (directions.count("→"), directions.count("←")) == (8, 10)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(Raw(served.path))
        for line in LINES:
            if line[0] == "→":
                if '"id": 5' in line:
                    assert client.read() is None
                    client = stack.enter_context(Raw(served.path))
                    client.read()
                ends = "" if line.startswith('→ {"Peers"') else "\n"
                client.socket.sendall((line[2:] + ends).encode())
                if '"events"' in line:
                    happen(served)
            else:
                said, written = client.read(), json.loads(line[2:])
                assert equal(said, written), (said, written)


def test_every_field_of_a_status_has_its_row() -> None:
    section = TEXT.partition("## A status\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", section, re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == {each.name for kind in (EngineStatus, PeerStatus) for each in fields(kind)}


def test_every_verb_has_its_row() -> None:
    section = TEXT.partition("## Verbs\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", section, re.M)
    assert rows == ["status", "ping", "whois", "metrics", "events", "reconfigure"]


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_every_program_runs(served: Serving, number: int) -> None:
    assert SOCKET in PROGRAMS[number]
    printed = io.StringIO()
    happening = threading.Thread(target=lambda: (happen(served), served.end_events()))
    if "events()" in PROGRAMS[number]:
        happening.start()
    with contextlib.redirect_stdout(printed):
        exec(compile(PROGRAMS[number].replace(SOCKET, served.path), f"program {number}", "exec"), {})
    if happening.ident is not None:
        happening.join()
    shown = printed.getvalue().splitlines()
    assert shown[0] in ("12.3 ms", "0.0123")
    assert ["SessionUp" in line or "EventsLost" in line for line in shown[1:]] == [True] * (len(shown) - 1)
    assert len(shown) == (3 if "events()" in PROGRAMS[number] else 1)


def test_sockets_that_it_names_are_where_they_are() -> None:
    from wgengine.control import place

    assert place.RUN in TEXT
    assert place.folders()[0] == place.RUN
