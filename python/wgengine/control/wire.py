"""The lines of the protocol: what is read, what is written. Bytes in, bytes out.

← {"wgengine": 1, "interface": "wg0", "version": "0.3.0"}
→ {"id": 1, "verb": "whois", "args": {"ip": "100.64.0.2"}}
← {"id": 1, "result": {…}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from wgengine.control.values import error_of, plain, plain_error
from wgengine.errors import ConfigError, Error, quoted

__all__ = [
    "LONGEST_BODY",
    "LONGEST_LINE",
    "PROTOCOL",
    "Id",
    "Refused",
    "Request",
    "answer_line",
    "error_line",
    "event_line",
    "greeting_line",
    "read_answer",
    "read_greeting",
    "read_request",
    "request_line",
]

PROTOCOL: Final = 1
LONGEST_LINE: Final = 1 << 20  # of a request; what is longer comes as its body
LONGEST_BODY: Final = 256 << 20  # a netmap of 100,000 nodes and as much again

Id: TypeAlias = int | str | None


class Refused(Exception):
    """A line that is no request. What follows it on that connection has no meaning either."""

    def __init__(self, error: ConfigError, number: Id = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.number = number


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks; `body` bytes follow its line."""

    id: int | str
    verb: str
    args: Mapping[str, Any] = field(default_factory=dict)
    body: int = 0


def read_request(line: bytes) -> Request:
    """The request of a line; `Refused` tells what is wrong with it."""
    try:
        said = json.loads(line, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ConfigError) else "this is no JSON"
        raise Refused(ConfigError(f'{reason}; write one object a line, as {{"id": 1, "verb": "status"}}')) from None
    if not isinstance(said, dict):
        raise Refused(ConfigError('write an object, as {"id": 1, "verb": "status"}'))
    number = said.pop("id", None)
    if type(number) is not int and not isinstance(number, str):
        raise Refused(ConfigError("a number or a string is wanted, by which the answer is known", field="id"))
    verb, args, body = said.pop("verb", None), said.pop("args", {}), said.pop("body", 0)
    problem = None
    if not isinstance(verb, str):
        problem = ConfigError("the name of a verb is wanted, such as status", field="verb")
    elif not isinstance(args, dict):
        problem = ConfigError("an object is wanted", field="args")
    elif type(body) is not int or not 0 <= body <= LONGEST_BODY:
        problem = ConfigError(f"a number of bytes from 0 to {LONGEST_BODY} is wanted", field="body")
    elif said:
        problem = ConfigError("no request has this; id, verb, args, body are what there is", field=min(said))
    if problem is not None:
        raise Refused(problem, number)
    return Request(id=number, verb=verb, args=args, body=body)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{quoted(twice)} is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ConfigError(f"{name} is no JSON")


def greeting_line(interface: str, version: str) -> bytes:
    """What a server says first."""
    return _line({"wgengine": PROTOCOL, "interface": interface, "version": version})


def answer_line(number: Id, result: object) -> bytes:
    """The end of a request that went well."""
    return _line({"id": number, "result": plain(result)})


def event_line(number: Id, event: object) -> bytes:
    """One item of a stream; more may follow."""
    return _line({"id": number, "event": plain(event)})


def error_line(number: Id, error: BaseException) -> bytes:
    """The end of a request that did not. Without an id, it is the connection that ends."""
    return _line({"id": number, "error": plain_error(error)})


def request_line(request: Request) -> bytes:
    """A request, as a client writes it."""
    said: dict[str, Any] = {"id": request.id, "verb": request.verb, "args": plain(request.args)}
    return _line({**said, "body": request.body} if request.body else said)


def _line(value: Mapping[str, Any]) -> bytes:
    return _encoded(value, depth=3).encode() + b"\n"  # so deep are the peers of a status


def _encoded(value: Any, depth: int) -> str:
    """As `json.dumps`, in pieces: that one holds the interpreter until it is done, and a status may have 100,000 peers.

    In ASCII: half a surrogate pair, which JSON can spell, is no UTF-8.
    """
    if depth and isinstance(value, dict):
        pairs = (f"{json.dumps(name)}:{_encoded(each, depth - 1)}" for name, each in value.items())
        return "{" + ",".join(pairs) + "}"
    if depth and isinstance(value, list):
        return "[" + ",".join([_encoded(each, 0) for each in value]) + "]"
    return json.dumps(value, separators=(",", ":"))


def read_greeting(line: bytes) -> str:
    """The interface that a server serves."""
    said = _said(line)
    if "error" in said:
        raise error_of(said["error"])
    if "wgengine" not in said:
        raise Error("what answers there is no wgengine")
    if said["wgengine"] != PROTOCOL:
        raise Error(
            f"the engine speaks version {said['wgengine']} of its protocol, and this wgengine {PROTOCOL}; "
            "use the wgengine that started it"
        )
    return str(said.get("interface"))


def read_answer(line: bytes, number: Id) -> tuple[bool, Any]:
    """Whether a request ends with this line, and what the line brings; the error that it tells of is raised."""
    said = _said(line)
    if "error" in said:
        raise error_of(said["error"])
    if said.get("id") != number or not ("result" in said or "event" in said):
        raise Error("the engine gives an answer that is not its protocol")
    return ("result" in said), said.get("result", said.get("event"))


def _said(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Error("the engine gives an answer that is not its protocol")
    return said
