"""Pings through the tunnel: each has exactly one result, whatever becomes of it.

The device sends, measures and matches; here is who waits for which answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from wgengine.errors import Error, TimedOutError
from wgengine.events import Event, PingExpired, Pong

if TYPE_CHECKING:
    from wgengine.keys import PublicKey

__all__ = ["KINDS", "PingKind", "PingResult", "Pings"]

PingKind: TypeAlias = Literal["auto", "tsmp", "icmp", "disco", "peerapi"]
KINDS: tuple[PingKind, ...] = ("auto", "tsmp", "icmp", "disco", "peerapi")
TIMED_OUT = "no answer in time"


@dataclass(frozen=True, slots=True, kw_only=True)
class PingResult:
    """What came of a ping: a latency, or an error."""

    ip: str  # that was asked for
    kind: str
    error: str | None = None
    latency: float | None = None  # seconds, from just before it was sent; a handshake included if one was needed
    node_ip: str | None = None  # of the node that answers for it
    node_name: str | None = None
    peer: PublicKey | None = None
    endpoint: str | None = None  # where its packets go just now
    peer_api_port: int | None = None
    is_local_ip: bool = False

    @property
    def ok(self) -> bool:
        return self.error is None

    def raise_for_error(self) -> PingResult:
        """Itself if it was answered; else `TimedOutError` or `Error`."""
        if self.error is None:
            return self
        raise (TimedOutError if self.error == TIMED_OUT else Error)(f"ping {self.ip}: {self.error}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `json.dumps`."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return values | {"peer": self.peer.to_base64() if self.peer is not None else None}


class Pings:
    """Who waits for which answer."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[Pong | None]] = {}

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._waiting)

    def sent(self, token: int) -> asyncio.Future[Pong | None]:
        """The answer to come; None: there was none."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting[token] = answer
        return answer

    def feed(self, event: Event) -> None:
        """The device has news."""
        if isinstance(event, Pong | PingExpired):
            answer = self._waiting.pop(event.token, None)
            if answer is not None and not answer.done():
                answer.set_result(event if isinstance(event, Pong) else None)

    def forget(self, token: int) -> None:
        """Nobody waits for this one any more."""
        self._waiting.pop(token, None)

    def close(self) -> None:
        """End every wait without an answer."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(None)
        self._waiting.clear()
