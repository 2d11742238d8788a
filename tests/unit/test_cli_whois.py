"""`whois`: what is known of an address, and how it ends when that is nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Serving, installed
from wgengine.cli import main
from wgengine.cli.whois import render


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    with installed(tmp_path, monkeypatch) as running:
        yield running


def test_text_has_what_is_known(served: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["whois", "100.64.0.2"]) == 0
    assert capsys.readouterr().out == (
        "Address:     100.64.0.2\n"
        "Name:        alice.example.net\n"
        "System:      linux\n"
        "Key:         AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n"
        "Addresses:   100.64.0.2/32, fd7a:115c:a1e0::2/128\n"
        "User:        Alice <alice@example.net>\n"
        'Capability:  cap/ssh ["root"]\n'
    )


def test_routes_are_what_is_no_address_of_its_own() -> None:
    node = {
        "addresses": ["100.64.0.2/32"],
        "allowed_ips": ["100.64.0.2/32", "10.0.0.0/8"],
        "key": "k",
        "tags": ["tag:x"],
    }
    text = render({"ip": "10.1.2.3", "route": "10.0.0.0/8", "node": node, "is_self": True, "capabilities": ["a", "b"]})
    assert text.splitlines() == [
        "Address:     10.1.2.3",
        "Route:       10.0.0.0/8",
        "Node:        this one",
        "Key:         k",
        "Addresses:   100.64.0.2/32",
        "Routes:      10.0.0.0/8",
        "Tags:        tag:x",
        "Capability:  a",
        "Capability:  b",
    ]


def test_names_of_others_give_the_terminal_no_orders() -> None:
    assert "\x1b" not in render({"ip": "1.2.3.4", "user": {"display_name": "\x1b[2J"}})


def test_json_is_the_answer_itself(served: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["whois", "fd7a:115c:a1e0::2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["node"]["name"] == "alice.example.net."
    assert told["capabilities"] == {"cap/ssh": ["root"]}


def test_nobodys_address_is_exit_1(served: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["whois", "192.0.2.1"]) == 1
    assert "192.0.2.1 is nobody's here" in capsys.readouterr().err
    assert main.main(["whois", "192.0.2.1", "--json"]) == 1
    assert capsys.readouterr().out == "null\n"


def test_word_that_is_no_address_is_told(served: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["whois", "alice"]) == 1
    assert 'args.ip: "alice" is no IP address' in capsys.readouterr().err
