"""`status`: reading UAPI answers, and asking sockets of this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Serving, installed
from wgengine.cli import interface, main, uapi
from wgengine.cli.outcome import NotRunningError, UsageError
from wgengine.control import place
from wgengine.errors import StateError
from wgengine.keys import PrivateKey, PublicKey

OWN = PrivateKey.generate()
PEER, OTHER = PrivateKey.generate().public_key, PrivateKey.generate().public_key
HEX_PEER, HEX_OTHER = bytes(PEER).hex(), bytes(OTHER).hex()
ANSWER = f"""\
private_key={OWN.to_hex()}
listen_port=51820
fwmark=100
public_key={HEX_PEER}
preshared_key={"0" * 63}1
protocol_version=1
endpoint=[2001:db8::1]:7
last_handshake_time_sec=1700000000
last_handshake_time_nsec=500000000
tx_bytes=2048
rx_bytes=1024
persistent_keepalive_interval=25
allowed_ip=10.0.0.0/8
allowed_ip=2001:db8::/32
public_key={HEX_OTHER}
preshared_key={"0" * 64}
last_handshake_time_sec=0
last_handshake_time_nsec=0
a_key_of_tomorrow=1
errno=0

"""


def test_answer_is_read_whole() -> None:
    state = uapi.parse("wg0", ANSWER)
    assert (state.name, state.public_key, state.listen_port, state.fwmark) == ("wg0", OWN.public_key, 51820, 100)
    first, second = state.peers
    assert first.public_key == PEER
    assert first.has_preshared_key
    assert first.endpoint == "[2001:db8::1]:7"
    assert first.last_handshake == 1700000000.5
    assert (first.rx_bytes, first.tx_bytes, first.persistent_keepalive) == (1024, 2048, 25)
    assert first.allowed_ips == ("10.0.0.0/8", "2001:db8::/32")
    assert second.public_key == OTHER
    assert not second.has_preshared_key
    assert second.last_handshake is None


def test_private_key_is_in_no_text_of_it() -> None:
    state = uapi.parse("wg0", ANSWER)
    for text in (repr(state), state.render(), json.dumps(state.as_dict())):
        assert OWN.to_hex() not in text
        assert OWN.to_base64() not in text


def test_device_without_a_key_has_none() -> None:
    assert uapi.parse("wg0", f"private_key={'0' * 64}\nerrno=0\n\n").public_key is None
    assert uapi.parse("wg0", "errno=0\n\n").peers == ()


@pytest.mark.parametrize(
    "answer",
    ["", "HTTP/1.1 400 Bad Request\n\n", "listen_port=many\nerrno=0\n\n", "public_key=zz\nerrno=0\n\n", "fwmark=1\n\n"],
)
def test_answer_that_is_not_uapi_is_refused(answer: str) -> None:
    with pytest.raises(ConnectionError, match="wg0 gives an answer that is not UAPI"):
        uapi.parse("wg0", answer)


def test_errno_of_the_device_is_put_into_words() -> None:
    with pytest.raises(ConnectionError, match="wg0 answers: Invalid argument"):
        uapi.parse("wg0", "errno=-22\n\n")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "sixteen-letters-", "a b", "x\0y"])
def test_name_that_is_no_interface_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no interface name"):
        uapi.ask(name)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(interface, "SOCKETS", str(tmp_path))
    monkeypatch.setattr(place, "RUN", str(tmp_path / "none"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path


@pytest.fixture
def served(directory: Path) -> Iterator[list[bytes]]:
    """`wg0`, served by a socket that answers in small pieces; what it was asked."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "wg0.sock"))
        listener.listen()

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # the test asked nothing
            with connection:
                asked.append(connection.recv(100))
                for start in range(0, len(ANSWER), 7):
                    connection.sendall(ANSWER[start : start + 7].encode())

        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_asks_once_and_takes_an_answer_in_pieces(served: list[bytes]) -> None:
    assert len(uapi.ask("wg0").peers) == 2
    assert served == [b"get=1\n\n"]


def test_shows_what_wg_show_shows(served: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["status", "wg0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "interface: wg0"
    assert f"  public key: {OWN.public_key}" in lines
    assert "  fwmark: 0x64" in lines
    assert f"peer: {PEER}" in lines
    assert "  endpoint: [2001:db8::1]:7" in lines
    assert "  allowed ips: 10.0.0.0/8, 2001:db8::/32" in lines
    assert "  transfer: 1.00 KiB received, 2.00 KiB sent" in lines


def test_json_holds_what_the_socket_told_and_nothing_else(
    served: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["status", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["version"] == 1
    assert set(told) == {"version", "name", "time", "public_key", "listen_port", "fwmark", "peers"}
    assert [peer["public_key"] for peer in told["peers"]] == [str(PEER), str(OTHER)]


def test_nothing_running_is_exit_4(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["status", "wg7"]) == 4
    assert main.main(["status"]) == 4
    assert main.main(["status", "--json"]) == 4
    captured = capsys.readouterr()
    assert "wg7 is not running" in captured.err
    assert captured.out == "[]\n"


def test_socket_left_behind_is_not_running(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "wg0.sock"))
    with pytest.raises(NotRunningError, match="left behind"):
        uapi.ask("wg0")
    assert main.main(["status"]) == 4


def test_one_that_answers_nonsense_hides_no_other(
    served: list[bytes], directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(directory / "wg1.sock"))
        mute.listen()
        closer = threading.Thread(target=lambda: mute.accept()[0].close())
        closer.start()
        assert main.main(["status"]) == 1
        closer.join()
    captured = capsys.readouterr()
    assert "interface: wg0" in captured.out
    assert captured.err.startswith("wgengine: wg1 ")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    """An engine of ours, `wg0`."""
    with installed(tmp_path, monkeypatch) as running:
        running.fake.status_told = {"name": "wg0", "mode": "tun", "peers": [], "health": ["DNS: broken"]}
        yield running


def test_engine_of_ours_is_asked_by_its_control_socket(engine: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["status", "wg0"]) == 0
    assert capsys.readouterr().out == "wg0: running, mode tun\n\n# Health check:\n#     - DNS: broken\n"
    assert main.main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"version": 1, **engine.fake.status_told}]


def test_engine_of_ours_and_one_of_others_are_shown_together(
    engine: Serving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "uapi").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "uapi" / "wg9.sock"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(ANSWER.encode())

        thread = threading.Thread(target=serve)
        thread.start()
        assert main.main(["status"]) == 0
        thread.join()
    shown = capsys.readouterr().out
    assert shown.startswith("wg0: running, mode tun\n")
    assert "\n\ninterface: wg9\n" in shown


def test_engine_that_fails_to_answer_hides_no_other(engine: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    engine.fake.status_told = StateError("it failed")
    assert main.main(["status"]) == 1
    assert capsys.readouterr().err == "wgengine: it failed\n"


def test_watch_shows_it_again_until_interrupted(
    engine: Serving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", pause)
    assert main.main(["status", "--watch", "--interval", "0.5", "--json"]) == 0
    assert pauses == [0.5] * 3
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)[0]["name"] for line in lines] == ["wg0"] * 3


def test_watch_ends_with_the_engine(
    engine: Serving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: engine.close())
    assert main.main(["status", "--watch"]) == 4
    assert "no interface is running" in capsys.readouterr().err


def test_plain_status_loads_no_rich(directory: Path) -> None:
    code = (
        f"import sys; from wgengine.cli import interface; interface.SOCKETS = {str(directory)!r}; "
        f"from wgengine.control import place; place.RUN = {str(directory / 'none')!r}; "
        "from wgengine.cli.main import main; main(['status']); sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30).returncode == 0


def test_keys_come_as_public_key_objects() -> None:
    assert isinstance(uapi.parse("wg0", ANSWER).peers[0].public_key, PublicKey)
