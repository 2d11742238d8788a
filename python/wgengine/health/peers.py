"""What is wrong with peers, gathered from the engine's events: each warning speaks of all whom it concerns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from typing import TYPE_CHECKING, TypeAlias

from wgengine.events import (
    EndpointChanged,
    Event,
    HandshakeFailed,
    HandshakeUnanswered,
    LinkChanged,
    PathTooSmall,
    Resolved,
    ResolveFailed,
    SessionUp,
)
from wgengine.health import warnable as w
from wgengine.health.rules import SHOWN, some
from wgengine.keys import PublicKey

if TYPE_CHECKING:
    from wgengine.health.tracker import Tracker

__all__ = ["PeerTroubles", "short_name"]

Name: TypeAlias = Callable[[PublicKey], str]

_UNANSWERED_S = 15.0  # three times REKEY_TIMEOUT: for so long a peer had not answered when that was told first
_ATTEMPT_S = 90.0  # REKEY_ATTEMPT_TIME: and for so long when its attempt ended
_FORGOTTEN_S = 2 * _ATTEMPT_S  # no further attempt has failed since: nothing is sent to that peer any more
_SMALL_PATH_S = 600.0
_FLAPPING_S = 60.0
_RETURNS = 3  # who roams comes back to an old place once or twice a minute, a copied key with every packet
_PLACES = 8


def short_name(peer: PublicKey) -> str:
    """A peer without a name: as much of its key as tells it from others."""
    return peer.to_base64()[:8] + "…"


@dataclass(slots=True)
class _Entry:
    since: float
    last: float
    detail: str


class _Recent:
    """Peers with one trouble, the one heard of last at the end: bounded, forgotten after a while."""

    def __init__(self, lasts: float | None, limit: int) -> None:
        self._lasts = lasts  # None: until it is dropped
        self._limit = limit
        self._entries: dict[PublicKey, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, peer: PublicKey, now: float, detail: str = "", *, since: float | None = None) -> None:
        old = self._entries.pop(peer, None)
        if old is None and len(self._entries) >= self._limit:
            return  # of so many the ones that are known already say enough
        began = old.since if old is not None else now if since is None else since
        self._entries[peer] = _Entry(began, now, detail)

    def drop(self, peer: PublicKey) -> bool:
        return self._entries.pop(peer, None) is not None

    def clear(self) -> bool:
        had = bool(self._entries)
        self._entries.clear()
        return had

    def expire(self, now: float) -> None:
        while (at := self.due()) is not None and at <= now:
            del self._entries[next(iter(self._entries))]

    def due(self) -> float | None:
        first = next(iter(self._entries.values()), None)
        return first.last + self._lasts if first is not None and self._lasts is not None else None

    def earliest(self) -> float:
        return min(entry.since for entry in self._entries.values())

    def say(self, name: Name) -> str:
        """The peers, those with the oldest trouble first: what is said changes as seldom as may be."""
        shown = nsmallest(SHOWN, self._entries.items(), key=lambda item: item[1].since)
        words = (f"{name(peer)} ({entry.detail})" if entry.detail else name(peer) for peer, entry in shown)
        return some(tuple(words), len(self._entries))


class _Places:
    """Where peers were heard lately, to find one that is in two places."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._of: dict[PublicKey, deque[tuple[float, str, bool]]] = {}  # when, where, whether it had been there before

    def moved(self, peer: PublicKey, endpoint: str, now: float) -> bool:
        """Take a move down. True: it goes to and fro too often to be one machine."""
        places = self._of.pop(peer, None) or deque(maxlen=_PLACES)
        while places and places[0][0] <= now - _FLAPPING_S:
            places.popleft()
        places.append((now, endpoint, any(place == endpoint for _, place, _ in places)))
        self._of[peer] = places
        if len(self._of) > self._limit:
            del self._of[next(iter(self._of))]
        return sum(again for _, _, again in places) >= _RETURNS

    def drop(self, peer: PublicKey) -> None:
        self._of.pop(peer, None)


class PeerTroubles:
    """Troubles of peers. It remembers a bounded number of them, so ten thousand dead peers cost no more than a few."""

    def __init__(self, name: Name = short_name, *, limit: int = 1024) -> None:
        self.name = name
        self._silent = _Recent(_FORGOTTEN_S, limit)
        self._unresolved = _Recent(None, limit)
        self._duplicate = _Recent(_FLAPPING_S, limit)
        self._small = _Recent(_SMALL_PATH_S, limit)
        self._places = _Places(limit)
        self._kinds = (
            (w.PEER_HANDSHAKE_FAILING, self._silent),
            (w.PEER_ENDPOINT_UNRESOLVABLE, self._unresolved),
            (w.DUPLICATE_KEY, self._duplicate),
            (w.MTU_BLACKHOLE, self._small),
        )

    def feed(self, event: Event, now: float) -> bool:
        """Take an event in. True: it may have made or mended a trouble."""
        match event:
            case HandshakeUnanswered(peer=peer):
                self._silent.add(peer, now, since=now - _UNANSWERED_S)
            case HandshakeFailed(peer=peer):
                self._silent.add(peer, now, since=now - _ATTEMPT_S)
            case SessionUp(peer=peer):
                return self._silent.drop(peer)
            case ResolveFailed(peer=peer, host=host, error=error):
                self._unresolved.add(peer, now, f"{host}: {error}")
            case Resolved(peer=peer):
                return self._unresolved.drop(peer)
            case EndpointChanged(peer=peer, endpoint=endpoint):
                if not self._places.moved(peer, endpoint, now):
                    return False
                self._duplicate.add(peer, now, endpoint)
            case PathTooSmall(peer=peer, endpoint=endpoint):
                self._small.add(peer, now, endpoint)
            case LinkChanged():
                return self._small.clear()  # another MTU may fit
            case _:
                return False
        return True

    def forget(self, peers: Iterable[PublicKey]) -> bool:
        """These peers are no more. True: one of them had a trouble."""
        had = False
        for peer in peers:
            self._places.drop(peer)
            for _, recent in self._kinds:
                had |= recent.drop(peer)
        return had

    def judge(self, tracker: Tracker, now: float) -> None:
        """Set and clear the warnings about peers."""
        for warnable, recent in self._kinds:
            recent.expire(now)
            if recent:
                tracker.report(warnable, now, {"peers": recent.say(self.name)}, since=recent.earliest())
            else:
                tracker.set_healthy(warnable)

    def due(self) -> float | None:
        """When the first trouble is old enough to be forgotten."""
        return min(self._dues(), default=None)

    def _dues(self) -> Iterator[float]:
        return (at for _, recent in self._kinds if (at := recent.due()) is not None)
