"""Serves an engine's control socket, on the engine's event loop.

Every client has a task and nobody waits for a client but its own: what it is slow to take waits with the kernel and in
a bounded buffer, and a stream's events in the subscription's own bounded queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from types import TracebackType
from typing import Any, Final, Self

import wgengine
from wgengine.control import place, wire
from wgengine.control.verbs import Served, Stream, perform, takes_body
from wgengine.control.wire import Refused, Request
from wgengine.errors import ConfigError, Error, PrivilegeError, StateError

__all__ = ["ControlServer"]

log = logging.getLogger("wgengine.control")

_CLIENTS: Final = 16
_PATIENCE_S: Final = 10.0  # with one that began a request and does not go on, or does not take its answer
_FAREWELL_S: Final = 1.0  # for the last lines of streams, when the engine ends
_PIECE: Final = 1 << 16


class ControlServer:
    """`async with ControlServer(served, "wg0"):` serves until the end of the block."""

    def __init__(self, served: Served, name: str, *, path: str | None = None) -> None:
        self.path: Final = place.socket_path(name) if path is None else path
        self._served = served
        self._name = name
        self._server: asyncio.Server | None = None
        self._inode: tuple[int, int] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._streams: dict[Stream, asyncio.Task[Any]] = {}  # and whose they are
        self._one_body = asyncio.Lock()  # a netmap may be large: one at a time

    async def start(self) -> None:
        """Serve. `StateError` when the socket is another engine's, an `OSError` when there can be none."""
        listener = await asyncio.to_thread(place.listen, self.path)
        about = os.lstat(self.path)
        self._inode = (about.st_dev, about.st_ino)
        listener.setblocking(False)
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=wire.LONGEST_LINE)
        log.info("%s: %s is served", self._name, self.path)

    async def close(self) -> None:
        """End every stream and connection, and remove the socket, if it is still ours. Again: does nothing."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        with contextlib.suppress(FileNotFoundError):
            about = os.lstat(self.path)
            if (about.st_dev, about.st_ino) == self._inode:
                os.unlink(self.path)
        streaming = list(self._streams.values())
        for stream in self._streams:
            stream.items.close()
        if streaming:
            await asyncio.wait(streaming, timeout=_FAREWELL_S)
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="wgengine-control")
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, to its end."""
        try:
            refused = self._refusal(writer)
            if refused is not None:
                await _send(writer, wire.error_line(None, refused))
            else:
                await _send(writer, wire.greeting_line(self._name, wgengine.__version__))
                await self._talk(reader, writer)
            async with asyncio.timeout(_PATIENCE_S):
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):  # it is gone, or as good as that
            log.debug("%s: a client of the control socket left", self._name)
        finally:
            writer.transport.abort()

    def _refusal(self, writer: asyncio.StreamWriter) -> Error | None:
        """Why this one is not served. The socket's mode says who may connect; that is asked again here."""
        connection: socket.socket = writer.get_extra_info("socket")
        if place.peer_uid(connection) not in (0, os.geteuid()):
            return PrivilegeError("this engine answers its own user and root; run this as one of them")
        if len(self._clients) > _CLIENTS:
            return StateError(f"{_CLIENTS} clients are connected, and no more can be; end one of them")
        return None

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asking = asyncio.ensure_future(_next(reader))
        try:
            while (request := await asking) is not None:
                result = await self._answer(request, reader, writer)
                asking = asyncio.ensure_future(_next(reader))
                if isinstance(result, Stream):
                    await self._stream(result, request, writer, until=asking)
                if self._server is None:  # closed
                    return
        except Refused as refused:
            await _send(writer, wire.error_line(refused.number, refused.error))
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Stream | None:
        """Carry a request out and send what comes of it; a stream is for the caller to send."""
        try:
            if request.body:
                async with self._one_body:
                    result = await perform(self._served, request, await _read_body(reader, request))
            else:
                result = await perform(self._served, request)
            if isinstance(result, Stream):
                return result
            line = await asyncio.to_thread(wire.answer_line, request.id, result)  # ten thousand peers take a while
        except Refused:
            raise
        except Exception as error:
            line = self._failure(error, request)
        await _send(writer, line)
        return None

    async def _stream(
        self, stream: Stream, request: Request, writer: asyncio.StreamWriter, *, until: asyncio.Future[Request | None]
    ) -> None:
        """Send what comes, until nothing more will, or the client says something else or leaves."""
        client = asyncio.current_task()
        assert client is not None
        self._streams[stream] = client
        sending = asyncio.ensure_future(_send_all(stream, request, writer))
        try:
            await asyncio.wait((sending, until), return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._streams[stream]
            sending.cancel()
            stream.items.close()
            (ended,) = await asyncio.gather(sending, return_exceptions=True)
        line = self._failure(ended, request) if isinstance(ended, Exception) else wire.answer_line(request.id, None)
        await _send(writer, line)

    def _failure(self, error: BaseException, request: Request) -> bytes:
        if not isinstance(error, Error | OSError):
            log.error("%s: %s was not answered", self._name, request.verb, exc_info=error)
        return wire.error_line(request.id, error)


async def _next(reader: asyncio.StreamReader) -> Request | None:
    """The next request; None when no more will come."""
    try:
        first = await reader.read(1)
        if not first:
            return None
        async with asyncio.timeout(_PATIENCE_S):
            line = first if first == b"\n" else first + await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        problem = f"a line may have {wire.LONGEST_LINE} bytes; what is longer comes as a body"
    except asyncio.IncompleteReadError:
        problem = "the request ends in the middle; end it with a newline"
    except TimeoutError:
        problem = f"the request did not end within {_PATIENCE_S:.0f} s"
    else:
        request = wire.read_request(line)
        if request.body and not takes_body(request.verb):
            raise Refused(ConfigError("this verb takes none; leave it out", field="body"), request.id)
        return request
    raise Refused(ConfigError(problem))


async def _read_body(reader: asyncio.StreamReader, request: Request) -> bytes:
    body = bytearray()
    while len(body) < request.body:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                piece = await reader.read(min(_PIECE, request.body - len(body)))
        except TimeoutError:
            piece = b""
        if not piece:
            problem = f"{request.body} bytes were announced, {len(body)} came"
            raise Refused(ConfigError(problem, field="body"), request.id)
        body += piece
    return bytes(body)


async def _send(writer: asyncio.StreamWriter, line: bytes) -> None:
    """All of it, as fast as the client takes it; one that takes nothing for a while is given up by `TimeoutError`."""
    for start in range(0, len(line), _PIECE):
        writer.write(line[start : start + _PIECE])
        async with asyncio.timeout(_PATIENCE_S):
            await writer.drain()


async def _send_all(stream: Stream, request: Request, writer: asyncio.StreamWriter) -> None:
    """A stream may be left unread for as long as its reader likes: it loses events, and is told how many."""
    async for event in stream.items:
        writer.write(wire.event_line(request.id, event))
        await writer.drain()
