"""A control socket with a made-up engine behind it, served by an event loop in another thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from wgengine.changes import Changes, SetListenPort, Skipped
from wgengine.cli import interface
from wgengine.control import place
from wgengine.control.server import ControlServer
from wgengine.document import raw
from wgengine.errors import ConfigError
from wgengine.events import Broadcaster, Event, Subscription
from wgengine.keys import PublicKey
from wgengine.netmap import Hostinfo, NetMap, Node, UserProfile
from wgengine.peers import PeerIndex
from wgengine.whois import whois

if TYPE_CHECKING:
    import pytest

KEY = PublicKey.from_bytes(bytes(range(32)))
OTHER = PublicKey.from_bytes(bytes(range(1, 33)))


def _node(number: int, name: str, **more: Any) -> Node:
    addresses = (f"100.64.0.{number}/32", f"fd7a:115c:a1e0::{number}/128")
    key = PublicKey.from_bytes(bytes([number]) * 32)
    return Node(key=key, name=name, addresses=addresses, allowed_ips=addresses, **more)


NETMAP = NetMap(
    self_node=_node(1, "here.example.net."),
    peers=(
        _node(2, "alice.example.net.", id=7, user=5, hostinfo=Hostinfo(os="linux"), cap_map=raw({"cap/ssh": ["root"]})),
        _node(3, "bob.example.net."),
        _node(4, "bob.other.net."),
    ),
    user_profiles=(UserProfile(id=5, display_name="Alice", login_name="alice@example.net"),),
)
INDEX = PeerIndex()
INDEX.set_netmap(NETMAP)


@dataclass
class Fake:
    """What a `Served` is asked is in `asked`; what it answers can be changed."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)
    broadcaster: Broadcaster = field(default_factory=lambda: Broadcaster(8))
    status_told: Any = field(default_factory=dict)
    pongs: list[Any] = field(default_factory=list)  # results, or errors to raise; the last one stays
    failure: Exception | None = None  # of reconfigure
    metrics: str = '# TYPE wgengine_x_total counter\nwgengine_x_total{reason="a \\"b\\"\\\\"} 3\nwgengine_up 1\n'

    async def status(self) -> object:
        if isinstance(self.status_told, Exception):
            raise self.status_told
        return self.status_told

    async def ping(self, ip: str, *, kind: str, size: int, timeout: float) -> object:
        self.asked.append(("ping", ip, kind, size, timeout))
        pong = self.pongs.pop(0) if len(self.pongs) > 1 else self.pongs[0]
        if isinstance(pong, Exception):
            raise pong
        return {"ip": ip, "kind": kind, "error": None, **pong}

    def whois(self, ip: str) -> object | None:
        return whois(ip, NETMAP, INDEX)

    async def metrics_text(self) -> str:
        return self.metrics

    def events(self) -> Subscription:
        return self.broadcaster.subscribe()

    def nodes(self) -> tuple[Node, ...]:
        assert NETMAP.self_node is not None
        return NETMAP.self_node, *NETMAP.peers

    async def reconfigure(self, text: str, *, document: str, prefs: Mapping[str, Any] | None, dry_run: bool) -> Changes:
        self.asked.append(("reconfigure", text, document, prefs, dry_run))
        if self.failure is not None:
            raise self.failure
        if not text.startswith("{"):
            raise ConfigError("this is no netmap", field="Peers[3].Key")
        return Changes((SetListenPort(0, 51820),), (Skipped("dns", "a dns object"),))


class Raw:
    """A client of no library: it writes what it likes."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lines.close()
        self.socket.close()

    def read(self) -> Any:
        """The next object; None: the server hung up."""
        try:
            line = self.lines.readline()
        except ConnectionResetError:  # it did not read all that we wrote
            return None
        return json.loads(line) if line else None

    def ask(self, line: bytes) -> Any:
        with contextlib.suppress(BrokenPipeError):  # it may have said why
            self.socket.sendall(line)
        return self.read()


class Serving:
    """A server that runs, its fake, and what it takes to reach its loop."""

    def __init__(self, fake: Fake, server: ControlServer, loop: asyncio.AbstractEventLoop) -> None:
        self.fake = fake
        self.server = server
        self.path = server.path
        self._loop = loop

    def publish(self, *events: Event) -> None:
        """Have something happen, once somebody listens."""
        self._do(self._publish(events))

    def end_events(self) -> None:
        """As when the engine is closed."""
        self._do(self._end())

    def close(self) -> None:
        self._do(self.server.close())

    def listeners(self) -> int:
        return len(self.fake.broadcaster)

    async def _publish(self, events: tuple[Event, ...]) -> None:
        while not len(self.fake.broadcaster):
            await asyncio.sleep(0.001)
        for event in events:
            self.fake.broadcaster.publish(event)

    async def _end(self) -> None:
        self.fake.broadcaster.close()

    def _do(self, coroutine: Any) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        future.result(10)


@contextlib.contextmanager
def serving(
    path: str,
    name: str = "wg0",
    fake: Fake | None = None,
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> Iterator[Serving]:
    """Serve a fake at `path` until the end of the block."""
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        server = ControlServer(fake := fake or Fake(), name, path=path)
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        try:
            yield Serving(fake, server, loop)
        finally:
            asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into, unlike pytest's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextlib.contextmanager
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "wg0") -> Iterator[Serving]:
    """The same where the verbs look for it, and nothing else of this machine there."""
    run = folder / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setattr(place, "RUN", str(run))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(interface, "SOCKETS", str(folder / "uapi"))
    with serving(str(run / f"{name}.sock"), name) as running:
        yield running
