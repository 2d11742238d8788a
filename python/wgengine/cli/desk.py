"""The engine of `wgengine up`, as its control socket shows it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from wgengine import Changes, Config, ConfigError, Engine, Error, Subscription
from wgengine.cli import outcome
from wgengine.control.server import ControlServer
from wgengine.course import refusal
from wgengine.netmap import NetMap
from wgengine.prefs import Prefs

if TYPE_CHECKING:
    from wgengine.node import Node

__all__ = ["Desk", "Wanted", "served"]

Wanted: TypeAlias = Config | NetMap
Apply: TypeAlias = Callable[[Wanted, Prefs], Awaitable[Changes]]


class Desk:
    """`apply` is how a document that came by the socket takes effect."""

    def __init__(self, engine: Engine, apply: Apply) -> None:
        self._engine = engine
        self._apply = apply
        self.ping = engine.ping
        self.whois = engine.whois
        self.metrics_text = engine.metrics_text
        self.events: Callable[[], Subscription] = engine.events

    async def status(self) -> object:
        return await self._engine.status(full=True)

    def nodes(self) -> tuple[Node, ...]:
        netmap = self._engine.netmap
        if netmap is None:
            return ()
        return netmap.peers if netmap.self_node is None else (netmap.self_node, *netmap.peers)

    async def reconfigure(self, text: str, *, document: str, prefs: Mapping[str, Any] | None, dry_run: bool) -> Changes:
        """Refused is what `up` would refuse in a file. A netmap without a private key goes on with ours."""
        wanted = await asyncio.to_thread(_read, text, document)
        if isinstance(wanted, NetMap):
            netmap = self._engine.netmap
            if wanted.private_key is None and netmap is not None and netmap.private_key is not None:
                wanted = wanted.with_private_key(netmap.private_key)
        elif prefs is not None:
            raise ConfigError("only a netmap has preferences; leave them out", field="args.prefs")
        wishes = Prefs.from_dict(prefs or {})
        if dry_run:
            return self._engine.plan(wanted, prefs=wishes)
        return await self._apply(wanted, wishes)


def _read(text: str, document: str) -> Wanted:
    if document == "netmap":
        return NetMap.from_json(text)
    config = Config.from_text(text)
    refused = refusal(config, "FILE")
    if refused is not None:
        raise refused
    return config


@contextlib.asynccontextmanager
async def served(engine: Engine, name: str, apply: Apply) -> AsyncIterator[str | None]:
    """Serve the control socket until the end of the block; its path. A tunnel without one is still a tunnel."""
    try:
        server = ControlServer(Desk(engine, apply), name)
        await server.start()
    except (Error, OSError) as error:
        outcome.complain(f"{name}: the other verbs will not see it: {outcome.describe(error)}")
        yield None
        return
    try:
        yield server.path
    finally:
        await server.close()
