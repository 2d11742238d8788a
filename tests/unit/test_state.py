"""`StateDir`: what comes back, who may see it, and what a damaged or foreign file does."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from wgengine.errors import ClosedError, ConfigError, DamagedError, StateError
from wgengine.keys import PrivateKey, PublicKey
from wgengine.state import StateDir

KEY, OTHER = PrivateKey.generate().public_key, PrivateKey.generate().public_key


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "state"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nothing_is_kept_at_first(place: Path) -> None:
    with StateDir(place) as state:
        assert state.node_key() is None
        assert state.newest_timestamps() == {}
        assert state.cached_netmap() is None
        assert os.listdir(place) == []


def test_everything_comes_back(place: Path) -> None:
    newest = {KEY: bytes(range(12)), OTHER: b"\xff" * 12}
    with StateDir(place) as state:
        key = state.node_key(create=True)
        state.save_newest_timestamps(newest)
        state.save_cached_netmap('{"Peers": ["ä\n"]}', 7)
    with StateDir(place) as state:
        assert key is not None
        assert state.node_key() == state.node_key(create=True) == key
        assert state.newest_timestamps() == newest
        cached = state.cached_netmap()
        assert cached is not None
        assert (cached.text, cached.revision) == ('{"Peers": ["ä\n"]}', 7)


def test_save_replaces_what_was_there(place: Path) -> None:
    with StateDir(place) as state:
        state.save_newest_timestamps({KEY: bytes(12)})
        state.save_newest_timestamps({OTHER: bytes(12)})
        assert list(state.newest_timestamps()) == [OTHER]


def test_hundred_thousand_timestamps_take_44_bytes_each(place: Path) -> None:
    newest = {PublicKey.from_bytes(number.to_bytes(32, "little")): bytes(12) for number in range(1, 100_001)}
    with StateDir(place) as state:
        state.save_newest_timestamps(newest)
        assert (place / "timestamps").stat().st_size < 100_000 * 44 + 100
        assert state.newest_timestamps() == newest


def test_directory_and_files_are_for_their_user_whatever_the_umask(place: Path) -> None:
    old = os.umask(0)
    try:
        with StateDir(place) as state:
            state.node_key(create=True)
            state.save_cached_netmap("{}", 1)
    finally:
        os.umask(old)
    assert mode(place) == 0o700
    assert {mode(file) for file in place.iterdir()} == {0o600}


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o722])
def test_directory_that_others_may_write_to_is_refused(place: Path, bits: int) -> None:
    place.mkdir()
    place.chmod(bits)
    with pytest.raises(ConfigError, match=r"state_dir: .*chmod 700"):
        StateDir(place)


def test_directory_that_others_may_only_read_is_taken(place: Path) -> None:
    place.mkdir(mode=0o755)
    StateDir(place).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_directory_of_another_user_is_refused(place: Path) -> None:
    place.mkdir(mode=0o700)
    os.chown(place, 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to user 65534; chown"):
        StateDir(place)


def test_symbolic_link_to_a_directory_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    place.symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match="symbolic link; name the directory itself"):
        StateDir(place)


def test_file_in_its_place_is_refused(place: Path) -> None:
    place.write_text("")
    with pytest.raises(ConfigError, match="no directory"):
        StateDir(place)


def test_file_that_is_a_symbolic_link_is_not_followed(place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(PrivateKey.generate().to_base64())
    other.chmod(0o600)
    with StateDir(place) as state:
        (place / "node.key").symlink_to(other)
        with pytest.raises(ConfigError, match="symbolic link"):
            state.node_key()


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620])
def test_file_that_is_open_to_others_is_refused(place: Path, bits: int) -> None:
    with StateDir(place) as state:
        state.node_key(create=True)
        (place / "node.key").chmod(bits)
        with pytest.raises(ConfigError, match=r"node\.key is open to others; chmod 600"):
            state.node_key()


def test_fifo_in_place_of_a_file_holds_nobody_up(place: Path) -> None:
    with StateDir(place) as state:
        os.mkfifo(place / "netmap", 0o600)
        with pytest.raises(ConfigError, match="no file"):
            state.cached_netmap()


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 44, b"A" * 43 + b"\n"])
def test_damaged_key_is_told_kept_and_never_replaced_unasked(place: Path, content: bytes) -> None:
    with StateDir(place) as state:
        (place / "node.key").write_bytes(content)
        (place / "node.key").chmod(0o600)
        with pytest.raises(DamagedError, match=r"node\.key is damaged.*kept as .*node\.key\.corrupt") as caught:
            state.node_key(create=True)
        assert "AAAA" not in str(caught.value)
        assert (place / "node.key.corrupt").read_bytes() == content
        with pytest.raises(DamagedError, match="remove that file to be given a new one"):
            state.node_key(create=True)
        assert state.node_key() is None
        (place / "node.key.corrupt").unlink()
        assert state.node_key(create=True) is not None


@pytest.mark.parametrize("name", ["timestamps", "netmap"])
def test_every_changed_byte_is_found_and_the_rest_goes_on(place: Path, name: str) -> None:
    with StateDir(place) as state:

        def load() -> object:
            return state.newest_timestamps() if name == "timestamps" else state.cached_netmap()

        state.save_newest_timestamps({KEY: bytes(12)})
        state.save_cached_netmap('{"a": 1}', 3)
        whole = (place / name).read_bytes()
        damaged = [whole[:-1], whole + b"x", b"", b"[]\n", b"{}\n{}"]
        damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
        for content in damaged:
            (place / name).write_bytes(content)
            (place / name).chmod(0o600)
            with pytest.raises(DamagedError) as caught:
                load()
            assert caught.value.kept == str(place / f"{name}.corrupt")
            assert (place / f"{name}.corrupt").read_bytes() == content
            assert not load()  # as if it had never been there


def test_second_engine_is_refused_until_the_first_has_left(place: Path) -> None:
    with StateDir(place), pytest.raises(StateError, match="used by another engine"):
        StateDir(place)
    StateDir(place).close()


def test_engine_of_another_process_is_refused_too(place: Path) -> None:
    code = "import sys; from wgengine.state import StateDir; s = StateDir(sys.argv[1]); print(); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StateError, match="used by another engine"):
            StateDir(place)
        other.kill()
    StateDir(place).close()


def test_forked_child_that_closes_leaves_the_lock_to_its_parent(place: Path) -> None:
    code = """
import os, sys
from wgengine.state import StateDir
state = StateDir(sys.argv[1])
if (child := os.fork()) == 0:
    state.close()
    os._exit(0)
os.waitpid(child, 0)
try:
    StateDir(sys.argv[1])
except Exception as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, timeout=30)
    assert done.stdout == "StateError\n", done.stderr


def test_write_that_fails_leaves_the_old_content_and_no_other_file(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StateDir(place) as state:
        state.save_cached_netmap("{}", 1)

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            state.save_cached_netmap('{"a": 1}', 2)
        assert caught.value.filename == str(place / "netmap")
        cached = state.cached_netmap()
        assert cached is not None
        assert cached.revision == 1
        assert os.listdir(place) == ["netmap"]


def test_content_is_synced_before_it_gets_its_name_and_the_name_after(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_rename(*args: object, **kwargs: object) -> None:
        done.append("rename")
        rename(*args, **kwargs)  # type: ignore[arg-type]

    with StateDir(place) as state:
        monkeypatch.setattr(os, "fsync", noted_fsync)
        monkeypatch.setattr(os, "rename", noted_rename)
        state.save_cached_netmap("{}", 1)
    assert done == ["file", "rename", "directory"]


def test_what_a_killed_writer_left_is_no_obstacle(place: Path) -> None:
    with StateDir(place) as state:
        (place / ".netmap.new").write_text("half")
        state.save_cached_netmap("{}", 1)
        assert os.listdir(place) == ["netmap"]


def test_directory_that_was_given_up_is_not_used(place: Path) -> None:
    state = StateDir(place)
    state.close()
    state.close()
    with pytest.raises(ClosedError):
        state.node_key()


def test_netmap_is_in_no_text_of_it(place: Path) -> None:
    with StateDir(place) as state:
        state.save_cached_netmap('{"PrivateKey": "hush"}', 1)
        assert "hush" not in repr(state.cached_netmap())


def test_timestamp_of_another_length_is_refused(place: Path) -> None:
    with StateDir(place) as state, pytest.raises(ValueError, match="12 bytes, not 3"):
        state.save_newest_timestamps({KEY: b"abc"})


def test_document_names_every_file_and_its_program_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "state.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    exec(compile(program.replace("/var/lib/wgengine/wg0", str(place)), "docs/state.md", "exec"), {})
    assert capsys.readouterr().out.endswith("nothing yet\n")
    with StateDir(place) as state:
        state.save_newest_timestamps({})
        state.save_cached_netmap("{}", 1)
    assert sorted(re.findall(r"^\| `([\w.]+)` \|", text, re.M)) == sorted(os.listdir(place))
