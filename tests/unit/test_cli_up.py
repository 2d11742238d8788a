"""`wgengine up` as far as it needs no interface: which file, dry runs, refusals, words and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from wgengine.cli import outcome, up
from wgengine.keys import PrivateKey

SECRET = "8HVbNOh8bpKUGeXo08E97c2GohkHFQ6hfSQA5pvs4nY="
PUBLIC = "nxr4xDJF6xdur1OqnndnQlgwwl2Y6TpNA3tzkNdOd2U="
TEXT = f"[Interface]\nPrivateKey = {SECRET}\nAddress = 10.9.0.1/24\n[Peer]\nPublicKey = {PUBLIC}\n"


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wgengine", "up", *map(str, arguments)]
    environment = os.environ | (env or {})
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "wgx7.conf"
    path.touch(mode=0o600)
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    ("conf", "name", "file", "interface"),
    [
        ("wg0", None, "/etc/wireguard/wg0.conf", "wg0"),
        ("wg0", "wg1", "/etc/wireguard/wg0.conf", "wg1"),
        ("/x/wg0.conf", None, "/x/wg0.conf", "wg0"),
        ("/x/any thing", "wg1", "/x/any thing", "wg1"),
        ("/dev/fd/63", "wg1", "/dev/fd/63", "wg1"),
        ("wg0.conf", None, f"{os.getcwd()}/wg0.conf", "wg0"),
        ("wg0.json", None, f"{os.getcwd()}/wg0.json", "wg0"),
        ("/x/net.json", "wg1", "/x/net.json", "wg1"),
        ("./a=b_c.d-e+.conf", None, f"{os.getcwd()}/a=b_c.d-e+.conf", "a=b_c.d-e+"),
    ],
)
def test_the_file_and_the_name(conf: str, name: str | None, file: str, interface: str) -> None:
    assert up.place(conf, name) == (file, interface)


@pytest.mark.parametrize(
    ("conf", "name", "word"),
    [
        ("/x/wg0.txt", None, "--name"),
        ("/dev/fd/63", None, "--name"),
        ("/x/sixteen-letters-.conf", None, "--name"),
        ("/x/a name.conf", None, "--name"),
        ("/x/.conf", None, "--name"),
        ("/x/.json", None, "--name"),
        ("a name", None, "letters or digits"),
        ("", None, "letters or digits"),
        ("wg0", "a/b", "letters or digits"),
    ],
)
def test_a_name_that_none_can_have(conf: str, name: str | None, word: str) -> None:
    with pytest.raises(outcome.UsageError, match=word):
        up.place(conf, name)


def test_a_dry_run_prints_every_step_and_changes_nothing(conf: Path) -> None:
    mark = conf.with_name("mark")
    conf.write_text(TEXT.replace("[Peer]", f"PreUp = touch {mark}\nPostDown = touch {mark}\n[Peer]"))
    done = run("--dry-run", conf)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[:3] == ["wgx7 up:", f"$ PreUp touch {mark}", "+ interface wgx7"]
    assert lines[-3:] == ["wgx7 down:", "- interface wgx7, its addresses and its routes", f"$ PostDown touch {mark}"]
    assert SECRET not in done.stdout
    assert not mark.exists()


def test_a_dry_run_as_json(conf: Path) -> None:
    conf.write_text(TEXT + "AllowedIPs = 10.8.0.1/24\n")
    shown = json.loads(run("--dry-run", "--json", "--name", "other", conf).stdout)
    assert (shown["interface"], shown["file"]) == ("other", str(conf))
    assert shown["up"][0] == "+ interface other"
    assert shown["up"][-2:] == ["~ link up", "+ route 10.8.0.0/24"]
    assert shown["down"] == ["- interface other, its addresses and its routes"]
    (warning,) = shown["warnings"]
    assert warning.startswith(f"{conf}:6: AllowedIPs: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TEXT + "AlowedIPs = 10.0.0.0/8\n", ["wgx7.conf:6:", "AllowedIPs"]),
        (TEXT + "AllowedIPs = 10.0.0.0/33\n", ["wgx7.conf:6:", "AllowedIPs", '"10.0.0.0/33"']),
        (TEXT.replace("PrivateKey", "PublicKey", 1), ["wgx7.conf:2:", "PublicKey"]),
        (TEXT.replace(SECRET, SECRET[:-2]), ["wgx7.conf:2:", "PrivateKey"]),
        ("", ["wgx7.conf:", "[Interface]"]),
        ("\0", ["wgx7.conf:1:", "NUL"]),
        (TEXT.replace("[Peer]", "DNS = 198.51.100.53\n[Peer]"), ["wgx7.conf:", "198.51.100.53", "wg-quick"]),
        (TEXT.replace("[Peer]", "SaveConfig = true\n[Peer]"), ["wgx7.conf:", "save config", "wg-quick"]),
        (TEXT + "AllowedIPs = ::/0\n", ["wgx7.conf:", "::/0", "wg-quick", "Table"]),
    ],
)
@pytest.mark.parametrize("flag", ["--dry-run", "--json"])
def test_a_bad_file_is_one_line_that_names_its_place(conf: Path, text: str, words: list[str], flag: str) -> None:
    conf.write_text(text)
    done = run(conf, flag)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("wgengine: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert SECRET[:-2] not in done.stderr


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "wgx7.conf", "No such file"), (tmp_path, "directory")):
        done = run(path, "--name", "wgx7")
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert str(path) in done.stderr
        assert why in done.stderr


def test_a_name_without_a_file_says_where_it_looked() -> None:
    done = run("wgx-none")
    assert done.returncode == 1
    assert "/etc/wireguard/wgx-none.conf: No such file" in done.stderr


def test_a_file_that_others_can_read_is_warned_of(conf: Path) -> None:
    conf.chmod(0o644)
    conf.parent.chmod(0o755)
    done = run("--dry-run", conf)
    assert done.returncode == 0
    assert done.stderr.startswith(f"wgengine: warning: {conf} holds the private key")
    assert done.stderr.count("\n") == 1
    assert run("--dry-run", conf, env={"LOG_LEVEL": "silent"}).stderr == ""


def test_hooks_want_a_bash(conf: Path) -> None:
    conf.write_text(TEXT.replace("[Peer]", "PostUp = true\n[Peer]"))
    done = run("--dry-run", conf, env={"PATH": str(conf.parent)})
    assert done.returncode == 1
    assert "install bash" in done.stderr


def test_a_log_level_that_is_none(conf: Path) -> None:
    done = run("--dry-run", conf, env={"LOG_LEVEL": "loud"})
    assert done.returncode == 2
    assert "LOG_LEVEL=loud" in done.stderr


OWN = PrivateKey.from_hex("01" * 32).public_key.to_hex()
NETMAP = {
    "PrivateKey": f"privkey:{'01' * 32}",
    "SelfNode": {"Name": "here.example.net.", "Key": f"nodekey:{OWN}", "Addresses": ["100.64.0.1/32"]},
    "Peers": [
        {
            "Name": "far.example.net.",
            "Key": f"nodekey:{'03' * 32}",
            "Addresses": ["100.64.0.2/32"],
            "AllowedIPs": ["100.64.0.2/32", "10.9.0.0/16"],
            "PrimaryRoutes": ["10.9.0.0/16"],
            "Endpoints": ["192.0.2.1:51820"],
            "IsWireGuardOnly": True,
        }
    ],
}


@pytest.fixture
def netmap(tmp_path: Path) -> Path:
    path = tmp_path / "wgx7.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(NETMAP))
    return path


def test_a_dry_run_of_a_netmap_prints_every_step_and_changes_nothing(netmap: Path) -> None:
    done = run("--dry-run", netmap)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first == "wgx7 up:"
    assert "  + address 100.64.0.1/32" in lines
    assert "01" * 32 not in done.stdout + done.stderr
    as_json = json.loads(run("--dry-run", "--json", netmap).stdout)
    assert set(as_json) == {"interface", "file", "up", "skipped", "warnings"}
    assert "+ address 100.64.0.1/32" in as_json["up"]


def test_preferences_say_what_of_a_netmap_is_wanted(netmap: Path, tmp_path: Path) -> None:
    prefs = tmp_path / "prefs.json"
    prefs.write_text('{"accept_routes": true}')
    assert "10.9.0.0/16" not in run("--dry-run", netmap).stdout
    assert "10.9.0.0/16" in run("--dry-run", "--prefs", prefs, netmap).stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [("[]", "write an object"), ("{", "this is no JSON"), ('{"accept_routes": 1}', "accept_routes"), ('{"x": 1}', "x")],
)
def test_preferences_that_are_none_name_their_file_and_field(
    netmap: Path, tmp_path: Path, text: str, words: str
) -> None:
    prefs = tmp_path / "prefs.json"
    prefs.write_text(text)
    done = run("--dry-run", "--prefs", prefs, netmap)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"wgengine: {prefs}: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_preferences_are_a_netmaps_only(conf: Path, tmp_path: Path) -> None:
    prefs = tmp_path / "prefs.json"
    prefs.write_text("{}")
    done = run("--dry-run", "--prefs", prefs, conf)
    assert done.returncode == 2
    assert "only a netmap has preferences" in done.stderr


def test_a_netmap_that_is_wrong_names_its_field(netmap: Path) -> None:
    netmap.write_text(json.dumps({**NETMAP, "Peers": [{"Key": f"nodekey:{'03' * 32}", "Addresses": [7]}]}))
    done = run("--dry-run", netmap)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Peers[0].Addresses[0]" in done.stderr
