"""What happens to an engine, as typed events, and how they reach whoever listens.

Everything here runs on the engine's event loop. A subscriber that falls behind loses its oldest events, is told how
many by an `EventsLost`, and slows nobody down.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self
from weakref import WeakSet

from wgengine.errors import Error

if TYPE_CHECKING:
    from wgengine.keys import PublicKey

__all__ = [
    "Broadcaster",
    "ConfigChanged",
    "DiscoKeyAdvertised",
    "EndpointChanged",
    "Event",
    "EventsLost",
    "Failed",
    "HandshakeFailed",
    "HandshakeUnanswered",
    "HealthChanged",
    "LinkChanged",
    "OffloadOff",
    "PathTooSmall",
    "PeerWoke",
    "PingExpired",
    "Pong",
    "ResolveFailed",
    "Resolved",
    "SessionUp",
    "Subscription",
    "TunLost",
    "UapiRefused",
    "UapiRemoved",
    "from_native",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened."""

    time: float  # Unix time, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUp(Event):
    """A handshake was completed: packets can flow."""

    peer: PublicKey
    initiator: bool  # whether we began it


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeUnanswered(Event):
    """A peer did not answer three handshakes in a row, 15 s long; more are tried."""

    peer: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeFailed(Event):
    """A peer did not answer for the whole of REKEY_ATTEMPT_TIME (whitepaper 6.4)."""

    peer: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChanged(Event):
    """A peer was heard from another address, by an authenticated packet: it roamed."""

    peer: PublicKey
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PathTooSmall(Event):
    """Datagrams of our size do not fit the path to a peer: a smaller MTU would."""

    peer: PublicKey
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerWoke(Event):
    """There is traffic for a peer that was trimmed, so it is not, any more. Nothing of that traffic is lost."""

    peer: PublicKey
    by: Literal["sent", "received"]  # which way the first packet went


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong(Event):
    """A ping was answered, by the peer that it went to."""

    token: int  # what `Device.ping` returned
    peer: PublicKey
    kind: Literal["tsmp", "icmp"]
    latency: float  # seconds, a handshake included if one was needed
    peer_api_port: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PingExpired(Event):
    """Nobody answered a ping in its time."""

    token: int  # what `Device.ping` returned


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoKeyAdvertised(Event):
    """A peer tells, from its address `source`, that its disco key is `key` now."""

    peer: PublicKey
    source: str
    key: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadOff(Event):
    """The kernel refused an offload while it was in use; the engine goes on without it."""

    offload: str
    errno: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChanged(Event):
    """Someone changed the device from outside, as with `wg set`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UapiRefused(Event):
    """A request at the control socket was not taken; its sender was told a number only. `text` says what was wrong."""

    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanged(Event):
    """The interface went up or down, or has another MTU."""

    up: bool
    mtu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TunLost(Event):
    """The interface is gone; the engine can carry nothing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UapiRemoved(Event):
    """The control socket's file was removed: the sign to a WireGuard daemon that it shall end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Event):
    """A data thread failed. The interface is closed; the process lives on."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved(Event):
    """The name of an endpoint was looked up, and the peer is now sent to `endpoint`."""

    peer: PublicKey
    host: str
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveFailed(Event):
    """The name of an endpoint could not be looked up; it is tried again."""

    peer: PublicKey
    host: str
    error: str
    retry_in: float  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChanged(Event):
    """A warning about the engine appeared, reads differently, or is over. `text` says what to do about it."""

    code: str
    healthy: bool  # it is over
    severity: str  # high, medium or low
    title: str
    text: str
    impacts_connectivity: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsLost(Event):
    """Here `count` events are missing, because nobody fetched them in time."""

    count: int


_NATIVE: dict[str, type[Event]] = {
    "session_up": SessionUp,
    "handshake_unanswered": HandshakeUnanswered,
    "handshake_failed": HandshakeFailed,
    "endpoint_changed": EndpointChanged,
    "path_too_small": PathTooSmall,
    "peer_woke": PeerWoke,
    "pong": Pong,
    "ping_expired": PingExpired,
    "disco_key_advertised": DiscoKeyAdvertised,
    "offload_off": OffloadOff,
    "config_changed": ConfigChanged,
    "uapi_refused": UapiRefused,
    "link_changed": LinkChanged,
    "tun_lost": TunLost,
    "uapi_removed": UapiRemoved,
    "failed": Failed,
    "lost": EventsLost,
}


def from_native(kind: str, time: float, values: Mapping[str, object]) -> Event:
    """The typed event of what `Device.drain` gives."""
    event = _NATIVE.get(kind)
    if event is None:
        raise Error(f"the native module tells of {kind!r}, which this version does not know; reinstall wgengine")
    wanted = {f.name for f in fields(event) if f.default is MISSING} - {"time"}
    if wanted != values.keys():
        raise Error(f"the native module's {kind!r} has {sorted(values)}, not {sorted(wanted)}; reinstall wgengine")
    return event(time=time, **values)


class Subscription:
    """One listener's own queue: `async for event in subscription`. It ends when it or the engine is closed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Event] = deque()
        self._lost = 0  # events dropped at the front of the queue, not told yet
        self._lost_at = 0.0
        self._closed = False
        self._wake = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Take no more events. What waits can still be fetched."""
        self._closed = True
        self._wake.set()

    def _put(self, event: Event) -> None:
        if self._closed:
            return
        self._waiting.append(event)
        if len(self._waiting) > self._limit:
            dropped = self._waiting.popleft()
            self._lost += dropped.count if isinstance(dropped, EventsLost) else 1
            self._lost_at = dropped.time
        self._wake.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._lost:
                lost, self._lost = self._lost, 0
                return EventsLost(time=self._lost_at, count=lost)
            if self._waiting:
                return self._waiting.popleft()
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Broadcaster:
    """Gives every event to every subscription. One that nobody holds any more is forgotten."""

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self._subscriptions: WeakSet[Subscription] = WeakSet()
        self._closed = False

    def __len__(self) -> int:
        """How many listen."""
        return len(self._subscriptions)

    def subscribe(self) -> Subscription:
        """A subscription to what happens from now on; to a closed broadcaster it ends at once."""
        subscription = Subscription(self._limit)
        if self._closed:
            subscription.close()
        else:
            self._subscriptions.add(subscription)
        return subscription

    def publish(self, event: Event) -> None:
        for subscription in tuple(self._subscriptions):
            if subscription.closed:
                self._subscriptions.discard(subscription)
            else:
                subscription._put(event)

    def close(self) -> None:
        """End every subscription after what waits in it."""
        self._closed = True
        for subscription in tuple(self._subscriptions):
            subscription.close()
        self._subscriptions.clear()
