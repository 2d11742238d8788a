"""Errors over the control socket, and requests that are none."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from served import Raw, Serving
from wgengine.changes import Changes, SetMTU
from wgengine.control import server
from wgengine.errors import (
    ClosedError,
    ConfigError,
    Error,
    PrivilegeError,
    ReconfigError,
    StateError,
    TimedOutError,
)

if TYPE_CHECKING:
    from wgengine.control.client import Client


def test_error_of_a_netmap_names_its_field(client: Client) -> None:
    with pytest.raises(ConfigError) as caught:
        client.reconfigure("[Interface]", document="conf")
    assert (caught.value.field, caught.value.message) == ("Peers[3].Key", "this is no netmap")


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("no", field="x", file="f", line=3),
        StateError("no"),
        ClosedError("no"),
        PrivilegeError("no"),
        TimedOutError("no"),
        Error("no"),
    ],
)
def test_error_arrives_as_the_same_type_and_text(served: Serving, client: Client, error: Exception) -> None:
    served.fake.status_told = error
    with pytest.raises(type(error)) as caught:
        client.status()
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)


def test_system_error_keeps_its_number(served: Serving, client: Client) -> None:
    served.fake.status_told = OSError(98, "Address already in use")
    with pytest.raises(OSError, match="Address already in use") as caught:
        client.status()
    assert caught.value.errno == 98


def test_reconfig_error_arrives_with_its_members_and_what_was_done(served: Serving, client: Client) -> None:
    members = [ConfigError("no such route", field="routes"), OSError(1, "Operation not permitted")]
    served.fake.failure = ReconfigError("router and dns", members, Changes((SetMTU(None, 1280),)))
    with pytest.raises(ReconfigError) as caught:
        client.reconfigure("{}")
    assert [str(each) for each in caught.value.exceptions] == [str(each) for each in members]
    assert list(caught.value.changes) == ["~ mtu default → 1280"]


def test_fault_of_ours_is_named_to_the_client_and_told_to_the_log(
    served: Serving, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    served.fake.status_told = KeyError("s3cret")
    with pytest.raises(Error, match=r"a fault of wgengine \(KeyError\)") as caught:
        client.status()
    assert "s3cret" not in str(caught.value)
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        (b"status\n", None, "this is no JSON"),
        (b"\xff\n", None, "this is no JSON"),
        (b"\n", None, "this is no JSON"),
        (b"[" * 5000 + b"\n", None, "this is no JSON"),
        (b'{"id": 1, "verb": "status", "args": {"x": NaN}}\n', None, "NaN is no JSON"),
        (b'{"id": 1, "id": 2, "verb": "status"}\n', None, '"id" is there twice'),
        (b"[]\n", None, "write an object"),
        (b'{"verb": "status"}\n', "id", "a number or a string"),
        (b'{"id": true, "verb": "status"}\n', "id", "a number or a string"),
        (b'{"id": 1}\n', "verb", "the name of a verb"),
        (b'{"id": 1, "verb": "status", "args": []}\n', "args", "an object is wanted"),
        (b'{"id": 1, "verb": "reconfigure", "body": -1}\n', "body", "a number of bytes"),
        (b'{"id": 1, "verb": "reconfigure", "body": 268435457}\n', "body", "a number of bytes"),
        (b'{"id": 1, "verb": "reconfigure", "body": true}\n', "body", "a number of bytes"),
        (b'{"id": 1, "verb": "status", "body": 5}\n', "body", "takes none"),
        (b'{"id": 1, "verb": "status", "arg": {}}\n', "arg", "no request has this"),
        (b"x" * ((1 << 20) + 10) + b"\n", None, "may have 1048576 bytes"),
    ],
)
def test_line_that_is_no_request_is_told_and_ends_the_connection(
    raw: Raw, line: bytes, field: str | None, message: str
) -> None:
    told = raw.ask(line)
    assert told["error"]["type"] == "ConfigError"
    assert told["error"]["field"] == field
    assert message in told["error"]["message"]
    assert raw.read() is None


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"verb": "frobnicate"}, "verb"),
        ({"verb": "status", "args": {"full": True}}, "args.full"),
        ({"verb": "ping"}, "args.host"),
        ({"verb": "ping", "args": {"host": 3}}, "args.host"),
        ({"verb": "ping", "args": {"host": "100.64.0.2", "kind": "smoke"}}, "args.kind"),
        ({"verb": "ping", "args": {"host": "100.64.0.2", "kind": []}}, "args.kind"),
        ({"verb": "ping", "args": {"host": "100.64.0.2", "timeout": 61}}, "args.timeout"),
        ({"verb": "ping", "args": {"host": "100.64.0.2", "timeout": True}}, "args.timeout"),
        ({"verb": "ping", "args": {"host": "100.64.0.2", "size": 1.5}}, "args.size"),
        ({"verb": "ping", "args": {"host": "100.64.0.2", "size": -1}}, "args.size"),
        ({"verb": "whois", "args": {"ip": "alice"}}, "args.ip"),
        ({"verb": "reconfigure"}, "body"),
        ({"verb": "reconfigure", "args": {"document": "yaml"}}, "args.document"),
        ({"verb": "reconfigure", "args": {"dry_run": 1}}, "args.dry_run"),
        ({"verb": "reconfigure", "args": {"prefs": []}}, "args.prefs"),
    ],
)
def test_wrong_argument_is_named_and_the_connection_goes_on(raw: Raw, request_: dict[str, Any], field: str) -> None:
    told = raw.ask(json.dumps({"id": "a", **request_}).encode() + b"\n")
    assert told["id"] == "a"
    assert (told["error"]["type"], told["error"]["field"]) == ("ConfigError", field)
    assert raw.ask(b'{"id": 2, "verb": "metrics"}\n')["id"] == 2


def test_body_that_is_no_utf8_is_told(raw: Raw) -> None:
    told = raw.ask(b'{"id": 1, "verb": "reconfigure", "body": 3}\n{\xff}')
    assert told["error"]["message"] == "this is no UTF-8, from byte 1 on"


@pytest.mark.parametrize("sent", [b'{"id": 1, ', b'{"id": 1, "verb": "reconfigure", "body": 10}\n{}'])
def test_half_request_is_given_up(served: Serving, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(server, "_PATIENCE_S", 0.05)
    with Raw(served.path) as raw:
        raw.read()
        assert raw.ask(sent)["error"]["type"] == "ConfigError"
        assert raw.read() is None
    assert served.fake.asked == []


def test_request_that_ends_in_the_middle_is_told(raw: Raw) -> None:
    raw.socket.sendall(b'{"id": 1')
    raw.socket.shutdown(socket.SHUT_WR)
    assert "ends in the middle" in raw.read()["error"]["message"]


def test_client_that_ends_its_side_still_gets_its_answers_in_order(raw: Raw) -> None:
    raw.socket.sendall(b'{"id": 1, "verb": "status"}\n{"id": 2, "verb": "metrics"}\n')
    raw.socket.shutdown(socket.SHUT_WR)
    assert [raw.read()["id"], raw.read()["id"], raw.read()] == [1, 2, None]
