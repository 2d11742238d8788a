"""Endpoints by name: looked up off the event loop, tried one by one, looked up again when a peer falls silent.

`Name` is what is known about one name and decides; `Resolver` is the thin edge that asks, waits and tells the device.
A failure is an event and a later retry, never an error of the engine.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wgengine import outside
from wgengine.errors import StateError
from wgengine.events import EndpointChanged, Event, HandshakeFailed, Resolved, ResolveFailed, SessionUp

if TYPE_CHECKING:
    from wgengine.config import Endpoint
    from wgengine.keys import PublicKey

__all__ = ["Name", "Resolver", "lookup", "next_resolution", "next_trial", "stalled"]

log = logging.getLogger("wgengine.resolve")

RETRY_FIRST_S = 1.0
RETRY_MOST_S = 60.0
RETRY_JITTER = 0.25  # of the pause, so that many engines do not ask in step after an outage
# A session that is used renews itself within 120 s (whitepaper 6.1); 15 s later it is idle or the address is stale.
STALE_AFTER_S = 135.0
# An address that was sent to gets two initiations, 5 s apart, before its sibling is tried.
TRIAL_S = 10.0
AT_A_TIME = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """One peer's endpoint by name. Times are those of one monotonic clock; every transition makes a new value."""

    endpoint: Endpoint
    addresses: tuple[str, ...] = ()  # as answered, in the system's order of preference (RFC 6724)
    chosen: int = 0
    to_place: bool = False  # the device does not know of the choice yet
    fruitless: int = 0  # addresses in a row that gave no session since the last answer
    rounds: int = 0  # answers in a row of which no address gave a session
    failures: int = 0  # look-ups in a row without an answer
    retry_in: float = 0.0
    asked: float | None = None
    chosen_at: float = 0.0
    sent: int = 0  # the peer's bytes sent when the address was chosen
    session_at: float | None = None
    current: str | None = None  # what the device sends to: the chosen address, or where the peer roamed to

    @property
    def address(self) -> str | None:
        """The address to use now."""
        return self.addresses[self.chosen] if self.addresses else None

    def answered(self, addresses: tuple[str, ...], now: float, sent: int) -> Name:
        """New addresses. One that works, or was not found wanting yet, stays chosen while it is among them."""
        known = replace(self, addresses=addresses, fruitless=0, failures=0, retry_in=0.0, asked=now)
        if self.fruitless == 0 and self.address in addresses:
            kept = replace(known, chosen=addresses.index(self.address))
            return kept if self.address == self.current else kept._choose(kept.chosen, now, sent)
        return known._choose(0, now, sent)

    def unanswered(self, now: float, jitter: float) -> Name:
        """No answer: the pause doubles. `jitter` lies between -1 and 1."""
        failures = self.failures + 1
        pause = min(RETRY_MOST_S, _doubled(failures) * (1 + RETRY_JITTER * jitter))
        return replace(self, failures=failures, retry_in=pause, asked=now)

    def gave_no_session(self, now: float, sent: int) -> Name:
        """The chosen address is fruitless: the next one, and after the last one a new look-up."""
        if not self.addresses:
            return self
        fruitless = self.fruitless + 1
        rounds = self.rounds + (fruitless == len(self.addresses))
        tried = replace(self, fruitless=fruitless, rounds=rounds)
        return tried._choose((self.chosen + 1) % len(self.addresses), now, sent)

    def session_up(self, now: float) -> Name:
        return replace(self, fruitless=0, rounds=0, session_at=now)

    def moved(self, endpoint: str) -> Name:
        """The peer was heard from another address (whitepaper 2.1): that one is right until the peer falls silent."""
        chosen = self.addresses.index(endpoint) if endpoint in self.addresses else self.chosen
        return replace(self, current=endpoint, chosen=chosen, to_place=False)

    def placed(self, endpoint: str) -> Name:
        """The device sends to `endpoint` now."""
        return replace(self, current=endpoint, to_place=endpoint != self.address)

    def _choose(self, chosen: int, now: float, sent: int) -> Name:
        return replace(self, chosen=chosen, chosen_at=now, sent=sent, to_place=True)


def _doubled(times: int) -> float:
    """1 s doubling to 60 s."""
    return min(RETRY_MOST_S, RETRY_FIRST_S * 2.0 ** min(times - 1, 16))


def next_resolution(name: Name, now: float) -> float:
    """Seconds until the name is to be looked up again; 0: now."""
    if name.asked is None:
        return 0.0
    if name.failures:
        due = name.asked + name.retry_in
    elif name.addresses and name.fruitless >= len(name.addresses):
        due = name.asked + _doubled(name.rounds)
    else:
        due = max(name.asked, name.session_at or name.asked) + STALE_AFTER_S
    return max(0.0, due - now)


def next_trial(name: Name, now: float) -> float | None:
    """Seconds until `stalled` is worth asking; None where nothing else can be tried or a session proves the address."""
    if len(name.addresses) < 2 or (name.session_at is not None and name.session_at >= name.chosen_at):
        return None
    age = max(0.0, now - name.chosen_at)
    return TRIAL_S - age % TRIAL_S


def stalled(name: Name, sent: int, now: float) -> bool:
    """Whether the chosen address was sent to for long enough without a session."""
    return next_trial(name, now) is not None and now - name.chosen_at >= TRIAL_S and sent > name.sent


def _addresses(host: str, port: int, tunnel: outside.Tunnel | None) -> tuple[str, ...]:
    """Numeric endpoints for a host, each once, in the order of `getaddrinfo`."""
    found: dict[str, bool] = {}
    hosts = (outside.addresses(host, tunnel) if tunnel is not None else None) or [host]
    answers = [
        answer
        for each in hosts
        for answer in socket.getaddrinfo(each, port, type=socket.SOCK_DGRAM, proto=socket.IPPROTO_UDP)
    ]
    for family, _, _, _, address in answers:
        if family == socket.AF_INET6:
            # a link-local address means nothing without its interface
            literal = str(address[0]).partition("%")[0]
            scope = address[3] if len(address) == 4 else 0
            text = f"[{literal}%{scope}]:{port}" if scope else f"[{literal}]:{port}"
        else:
            text = f"{address[0]}:{port}"
        if text not in found:
            found[text] = _has_route(family, address)
    return tuple(sorted(found, key=found.__getitem__, reverse=True))  # stable: the order within each half stays


def _has_route(family: socket.AddressFamily, address: tuple[str | int, ...] | tuple[int, bytes]) -> bool:
    """Whether a datagram could leave for this address. Connecting one asks for a route and sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
    except OSError:
        return False
    return True


async def lookup(host: str, port: int, tunnel: outside.Tunnel | None = None) -> tuple[str, ...]:
    """Look a host up in a thread of its own, and past `tunnel`.

    The loop's executor is waited for when the loop ends, and a look-up can hang for half a minute; a daemon thread
    holds up nobody.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def give(addresses: tuple[str, ...], error: Exception | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(addresses)
        else:
            answer.set_exception(error)

    def ask() -> None:
        addresses: tuple[str, ...] = ()
        error: Exception | None = None
        try:
            addresses = _addresses(host, port, tunnel)
        except (OSError, UnicodeError) as failure:  # UnicodeError: a label that IDNA cannot write
            error = failure
        try:
            loop.call_soon_threadsafe(give, addresses, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("answer for %s came after the end", host)

    threading.Thread(target=ask, name=f"wgengine-lookup-{host}", daemon=True).start()
    return await answer


class Resolver:
    """Follows the names of an engine's peers, one task each."""

    def __init__(
        self,
        *,
        place: Callable[[PublicKey, str], Awaitable[None]],
        sent: Callable[[PublicKey], int],
        publish: Callable[[Event], None],
        lookup: Callable[[str, int], Awaitable[tuple[str, ...]]] = lookup,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._sent = sent
        self._publish = publish
        self._lookup = lookup
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_A_TIME)
        self._followers: dict[PublicKey, _Follower] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def follow(self, peer: PublicKey, endpoint: Endpoint) -> None:
        """Follow a peer's name. One that is followed already is told to the device again."""
        follower = self._followers.get(peer)
        if follower is None:
            self._followers[peer] = _Follower(self, peer, Name(endpoint=endpoint))
        else:
            follower.tell_again()

    def keep(self, wanted: Callable[[PublicKey], Endpoint | None]) -> None:
        """Forget every name that is not the one wanted for its peer any more."""
        for peer, follower in list(self._followers.items()):
            if wanted(peer) != follower.name.endpoint:
                del self._followers[peer]
                follower.task.cancel()

    def addresses(self, peer: PublicKey) -> tuple[str, ...]:
        """What a peer's name stands for, as far as known."""
        follower = self._followers.get(peer)
        return follower.name.addresses if follower else ()

    def feed(self, event: Event) -> None:
        """Learn from what the device reports."""
        if isinstance(event, SessionUp | HandshakeFailed | EndpointChanged):
            follower = self._followers.get(event.peer)
            if follower is not None:
                follower.feed(event)

    async def close(self) -> None:
        """Stop; look-ups under way are abandoned."""
        self.keep(lambda peer: None)
        if self._ending:
            await asyncio.wait(self._ending)


class _Follower:
    """One name's task: look up, place, wait for news."""

    def __init__(self, resolver: Resolver, peer: PublicKey, name: Name) -> None:
        self.resolver = resolver
        self.peer = peer
        self.name = name
        self.news = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._follow(), name=f"wgengine-resolve-{name.endpoint}")
        resolver._ending.add(self.task)
        self.task.add_done_callback(self._ended)

    def feed(self, event: SessionUp | HandshakeFailed | EndpointChanged) -> None:
        now = self.resolver._clock()
        if isinstance(event, SessionUp):
            self.name = self.name.session_up(now)
        elif isinstance(event, EndpointChanged):
            self.name = self.name.moved(event.endpoint)
        else:
            self.name = self.name.gave_no_session(now, self.sent(self.name.addresses))
        self.news.set()

    def tell_again(self) -> None:
        self.name = replace(self.name, to_place=bool(self.name.addresses))
        self.news.set()

    def sent(self, addresses: tuple[str, ...]) -> int:
        """What was sent to the peer; not asked where there is nothing to choose from."""
        return self.resolver._sent(self.peer) if len(addresses) > 1 else 0

    async def _follow(self) -> None:
        clock = self.resolver._clock
        while True:
            self.news.clear()
            if next_resolution(self.name, clock()) == 0:
                await self._resolve()
            elif next_trial(self.name, clock()) is not None:
                sent = self.sent(self.name.addresses)
                if stalled(self.name, sent, clock()):
                    self.name = self.name.gave_no_session(clock(), sent)
            await self._settle()
            now = clock()
            pause = next_resolution(self.name, now)
            trial = next_trial(self.name, now)
            try:
                async with asyncio.timeout(pause if trial is None else min(pause, trial)):
                    await self.news.wait()
            except TimeoutError:
                continue

    async def _resolve(self) -> None:
        resolver, endpoint = self.resolver, self.name.endpoint
        try:
            async with resolver._slots:
                addresses = await resolver._lookup(endpoint.host, endpoint.port)
            if not addresses:
                raise OSError(f"{endpoint.host} has no address")
        except (OSError, UnicodeError) as error:
            self.name = self.name.unanswered(resolver._clock(), random.uniform(-1, 1))
            log.warning("%s: %s; asked again in %.1f s", endpoint.host, error, self.name.retry_in)
            resolver._publish(
                ResolveFailed(
                    time=time.time(), host=endpoint.host, peer=self.peer, error=str(error), retry_in=self.name.retry_in
                )
            )
            return
        log.debug("%s is %s", endpoint.host, ", ".join(addresses))
        self.name = self.name.answered(addresses, resolver._clock(), self.sent(addresses))

    async def _settle(self) -> None:
        """Make the device send to the chosen address, or to the first of the others that it accepts."""
        for _ in self.name.addresses:
            address = self.name.address
            if address is None or not self.name.to_place:
                return
            try:
                await self.resolver._place(self.peer, address)
            except OSError as error:  # such as EAFNOSUPPORT: no socket of this family
                log.info("%s: %s is not usable: %s", self.name.endpoint.host, address, error)
                self.name = self.name.gave_no_session(self.resolver._clock(), self.sent(self.name.addresses))
            else:
                self.name = self.name.placed(address)
                log.info("peer %s: %s is %s", self.peer, self.name.endpoint.host, address)
                self.resolver._publish(
                    Resolved(time=time.time(), peer=self.peer, host=self.name.endpoint.host, endpoint=address)
                )

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.resolver._ending.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, StateError):  # StateError: the engine ended under us
            log.error("%s is no longer followed", self.name.endpoint, exc_info=error)
