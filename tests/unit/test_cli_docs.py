"""docs/verbs.md: every command in it says what is written there."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import KEY, Serving, installed
from wgengine.cli import main

TEXT = (Path(__file__).parents[2] / "docs" / "verbs.md").read_text(encoding="utf-8")
SESSIONS = "".join(re.findall(r"^```console\n(.*?)^```", TEXT, re.M | re.S))
COMMANDS = re.findall(r"^\$ wgengine (.*)\n((?:(?!\$ ).*\n)*)", SESSIONS, re.M)
NOW = 1_700_000_000.0

PONG = {"latency": 0.0123, "endpoint": "192.0.2.1:51820", "node_name": "alice.example.net."}
ECHOES = [{"latency": 0.0123}, {"latency": 0.0141}]
PONGS = {
    "ping alice": [{"error": "timed out"}, PONG],
    "ping --icmp --count 2 100.64.0.2": ECHOES,
    "ping here": [{"is_local": True, "error": "100.64.0.1 is this node's own"}],
}
STATUS = {
    "name": "wg0",
    "mode": "tun",
    "state": "running",
    "listen_port": 51820,
    "self": {"name": "here.example.net.", "addresses": ["100.64.0.1/32"]},
    "peers": [
        {
            "public_key": KEY,
            "name": "alice.example.net.",
            "addresses": ["100.64.0.2/32"],
            "endpoint": "192.0.2.1:51820",
            "last_handshake": NOW - 12,
            "rx_bytes": 1258291,
            "tx_bytes": 300,
            "latency": 0.0123,
        },
        {
            "public_key": KEY,
            "name": "bob.example.net.",
            "addresses": ["100.64.0.3/32"],
            "endpoint": "192.0.2.7:4500",
            "last_handshake": NOW - 3 * 3600,
            "rx_bytes": 5120,
            "tx_bytes": 2048,
            "exit_node": True,
        },
        {"public_key": KEY, "name": "carol.example.net.", "addresses": ["100.64.0.4/32"], "online": False},
        {
            "public_key": KEY,
            "allowed_ips": ["10.9.0.0/16"],
            "endpoint": "198.51.100.3:7",
            "tx_bytes": 592,
            "state": "unreachable",
        },
    ],
    "drops": {"no_peer": 4, "bad_tag": 0},
    "health": ["198.51.100.3:7 does not answer handshakes: look at its key, its endpoint and the firewall between"],
}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    with installed(tmp_path, monkeypatch) as running:
        running.fake.status_told = STATUS
        running.fake.metrics = "# TYPE wgengine_up gauge\nwgengine_up 1\n"
        yield running


@pytest.mark.parametrize(("command", "shown"), COMMANDS)
def test_every_command_says_what_is_written(
    served: Serving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, shown: str
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    served.fake.pongs = list(PONGS.get(command, [PONG]))
    code = main.main(shlex.split(command))
    said = capsys.readouterr()
    assert said.out + said.err == shown
    assert (code == 0) == (not said.err)


def test_commands_are_there() -> None:
    verbs = [command.split()[0] for command, _ in COMMANDS]
    assert {"status", "ping", "whois", "metrics"} <= set(verbs)
