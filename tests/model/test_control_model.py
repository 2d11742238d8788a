"""The control protocol against the obvious: any bytes, any division of them, any names."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from wgengine.control import server, wire
from wgengine.control.names import find_address
from wgengine.control.values import error_of, plain_error
from wgengine.control.wire import Refused, Request
from wgengine.errors import ConfigError, Error, StateError, TimedOutError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
requests = st.builds(
    Request,
    id=st.integers() | st.text(),
    verb=st.text(),
    args=st.dictionaries(st.text(), values, max_size=3),
)


@given(requests)
def test_request_that_is_written_is_read_as_it_was(request: Request) -> None:
    line = wire.request_line(request)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert wire.read_request(line) == request


@given(st.binary() | values.map(lambda value: json.dumps(value).encode()))
@example(b'{"id":1,"verb":"x","args":{"a":' + b"9" * 5000 + b"}}")
@example(b"[" * 100_000)
@example(rb'{"id":"\ud800","verb":"\udfff"}')
@example(rb'{"id":1,"verb":"x","\ud800":1}')
def test_any_line_is_a_request_or_refused(line: bytes) -> None:
    try:
        request = wire.read_request(line)
    except Refused as refused:
        told = wire.error_line(refused.number, refused.error)
    else:
        told = wire.answer_line(request.id, request.verb)
        assert wire.read_request(wire.request_line(request)) == request
    assert told.count(b"\n") == 1
    assert told.decode()


@given(values, st.integers() | st.text())
def test_answer_that_is_written_is_read_as_it_was(value: Any, number: int | str) -> None:
    assert wire.read_answer(wire.answer_line(number, value), number) == (True, value)
    assert wire.read_answer(wire.event_line(number, value), number) == (False, value)


errors = st.builds(StateError, st.text()) | st.builds(TimedOutError, st.text()) | st.builds(Error, st.text())
config_errors = st.builds(
    ConfigError, st.text(), file=st.none() | st.text(), line=st.none() | st.integers(0), field=st.none() | st.text()
)


@given(errors | config_errors)
def test_error_comes_back_as_it_was(error: Exception) -> None:
    back = error_of(json.loads(json.dumps(plain_error(error))))
    assert type(back) is type(error)
    assert str(back) == str(error)


@given(
    st.lists(st.tuples(requests, st.none() | st.binary(min_size=1, max_size=40)), max_size=5),
    st.lists(st.integers(1, 50), min_size=1),
)
def test_division_of_the_bytes_makes_no_difference(sent: list[tuple[Request, bytes | None]], sizes: list[int]) -> None:
    """However the kernel cuts what a client writes, the same requests and bodies come of it."""
    stream, expected = b"", []
    for request, body in sent:
        verb, length = ("reconfigure", len(body)) if body is not None else (request.verb, 0)
        asked = Request(id=request.id, verb=verb, args=request.args, body=length)
        expected.append((asked, body or b""))
        stream += wire.request_line(asked) + (body or b"")

    async def read() -> list[tuple[Request, bytes]]:
        reader, got, at = asyncio.StreamReader(limit=wire.LONGEST_LINE), [], 0

        async def feed() -> None:
            nonlocal at
            turn = 0
            while at < len(stream):
                size = sizes[turn % len(sizes)]
                reader.feed_data(stream[at : at + size])
                at, turn = at + size, turn + 1
                await asyncio.sleep(0)
            reader.feed_eof()

        feeding = asyncio.ensure_future(feed())
        while (request := await server._next(reader)) is not None:
            got.append((request, await server._read_body(reader, request)))
        await feeding
        return got

    assert asyncio.run(read()) == expected


@dataclass(frozen=True)
class Node:
    name: str
    addresses: tuple[str, ...] = ("100.64.0.1/32",)


labels = st.sampled_from(["a", "b", "A", "ab"])
names = st.builds(".".join, st.lists(labels, min_size=1, max_size=3)).flatmap(lambda n: st.sampled_from([n, n + "."]))


@given(names, st.lists(names, max_size=6))
def test_name_is_the_whole_one_else_the_only_first_label(host: str, called: list[str]) -> None:
    nodes = [Node(name, (f"100.64.0.{number}/32",)) for number, name in enumerate(called)]

    def folded(name: str) -> list[str]:
        return name.lower().rstrip(".").split(".")

    whole = [node for node in nodes if folded(node.name) == folded(host)]
    short = [node for node in nodes if folded(node.name)[0] == ".".join(folded(host))]
    try:
        found = find_address(host, nodes)
    except ConfigError:
        assert not whole
        assert len(short) > 1
    else:
        wanted = whole[:1] or short
        assert found == (wanted[0].addresses[0].removesuffix("/32") if wanted else None)
        assert len(wanted) <= 1
