"""Fixtures of the tests of the control socket: a server with a made-up engine behind it, and who talks to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Raw, Serving, serving
from wgengine.control.client import Client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir(mode=0o700)
    return tmp_path / "run"


@pytest.fixture
def served(folder: Path) -> Iterator[Serving]:
    with serving(str(folder / "wg0.sock")) as running:
        yield running


@pytest.fixture
def client(served: Serving) -> Iterator[Client]:
    with Client(served.path) as client:
        yield client


@pytest.fixture
def raw(served: Serving) -> Iterator[Raw]:
    with Raw(served.path) as client:
        assert client.read()["wgengine"] == 1
        yield client
