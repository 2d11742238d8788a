"""Where control sockets are, and what may be in their place."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from pathlib import Path

import pytest
from wgengine.control import place
from wgengine.errors import (
    ConfigError,
    PrivilegeError,
    StateError,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir(mode=0o700)
    return tmp_path / "run"


def test_socket_of_a_stuck_process_with_a_full_backlog_is_alive(folder: Path) -> None:
    path = str(folder / "wg0.sock")
    with socket.socket(socket.AF_UNIX) as stuck, socket.socket(socket.AF_UNIX) as waiting:
        stuck.bind(path)
        stuck.listen(0)
        waiting.connect(path)
        with pytest.raises(StateError, match="served by another engine"):
            place.listen(path)


def test_file_in_its_place_is_kept_and_told(folder: Path) -> None:
    (folder / "wg0.sock").write_text("mine")
    with pytest.raises(ConfigError, match="no socket; move it"):
        place.listen(str(folder / "wg0.sock"))
    assert (folder / "wg0.sock").read_text() == "mine"


@pytest.mark.parametrize("bits", [0o777, 0o720])
def test_folder_that_others_may_write_to_is_refused(folder: Path, bits: int) -> None:
    folder.chmod(bits)
    with pytest.raises(ConfigError, match="nobody else writes to"):
        place.listen(str(folder / "wg0.sock"))


def test_folder_that_is_a_symbolic_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ConfigError, match="must be a directory"):
        place.listen(str(tmp_path / "link" / "wg0.sock"))


def test_path_that_is_too_long_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="set a shorter XDG_RUNTIME_DIR"):
        place.listen(str(folder / ("x" * 100) / "wg0.sock"))


def test_one_that_finds_another_starting_waits_and_then_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_LOCK_S", 0.02)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StateError, match="another engine starts in"):
            place.listen(str(folder / "wg0.sock"))
    place.listen(str(folder / "wg0.sock")).close()


def test_two_that_start_at_once_do_not_replace_each_other(folder: Path) -> None:
    path = str(folder / "wg0.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    got: list[object] = []

    def start() -> None:
        try:
            got.append(place.listen(path))
        except StateError as error:
            got.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listeners = [each for each in got if isinstance(each, socket.socket)]
    assert len(listeners) == 1
    assert len(got) == 8
    listeners[0].close()


@pytest.fixture
def places(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The system's place and the user's."""
    monkeypatch.setattr(place, "RUN", str(folder))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "user"))
    (tmp_path / "user" / "wgengine").mkdir(parents=True)
    return folder, tmp_path / "user" / "wgengine"


def test_both_places_are_listed_and_the_systems_comes_first(places: tuple[Path, Path]) -> None:
    run, own = places
    for file in (run / "wg0.sock", own / "wg0.sock", own / "wg1.sock", run / ".lock", own / "x.txt"):
        file.touch()
    assert place.listing() == {"wg0": str(run / "wg0.sock"), "wg1": str(own / "wg1.sock")}


def test_home_is_where_this_user_may_write(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run, own = places
    assert place.socket_path("wg0") == str(run / "wg0.sock")
    monkeypatch.setattr(os, "access", lambda where, how: str(where).startswith(str(own.parent)))
    assert place.socket_path("wg0") == str(own / "wg0.sock")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(PrivilegeError, match="set XDG_RUNTIME_DIR"):
        place.home()


def test_kernel_tells_who_is_at_the_other_end() -> None:
    one, two = socket.socketpair()
    with one, two:
        assert place.peer_uid(one) == os.geteuid()
