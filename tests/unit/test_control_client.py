"""What the client makes of who answers, or does not."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from wgengine.control.client import Client
from wgengine.errors import (
    Error,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir(mode=0o700)
    return tmp_path / "run"


def answering(path: str, *lines: bytes) -> threading.Thread:
    """A server that says these lines, whatever it is asked."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.sendall(lines[0])
            for line in lines[1:]:
                connection.recv(1000)
                connection.sendall(line)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("greeting", "message"),
    [
        (b'{"wgengine": 2}\n', "speaks version 2 of its protocol"),
        (b"{}\n", "no wgengine"),
        (b"SSH-2.0-x\n", "not its protocol"),
        (b"errno=0", "broke off"),
    ],
)
def test_greeting_of_something_else_is_refused(folder: Path, greeting: bytes, message: str) -> None:
    thread = answering(str(folder / "x.sock"), greeting)
    with pytest.raises((Error, ConnectionError), match=message):
        Client(str(folder / "x.sock"))
    thread.join()


@pytest.mark.parametrize("answer", [b"{}\n", b"null\n", b'{"id": 7, "result": 1}\n', b'{"id": 1}\n'])
def test_answer_of_something_else_is_refused(folder: Path, answer: bytes) -> None:
    thread = answering(str(folder / "x.sock"), b'{"wgengine": 1, "interface": "x"}\n', answer)
    with Client(str(folder / "x.sock")) as client, pytest.raises(Error, match="not its protocol"):
        client.status()
    thread.join()


def test_engine_that_does_not_answer_is_told(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(folder / "x.sock"))
        mute.listen()
        with pytest.raises(ConnectionError, match="does not answer"):
            Client(str(folder / "x.sock"), patience=0.05)


def test_nobody_there_is_told_as_the_system_tells_it(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Client(str(folder / "x.sock"))
