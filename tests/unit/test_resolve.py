"""Endpoints by name: when they are looked up, which address is tried, and what a failure does."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator

import pytest
from wgengine import resolve
from wgengine.config import Endpoint
from wgengine.errors import ClosedError
from wgengine.events import EndpointChanged, Event, HandshakeFailed, Resolved, ResolveFailed, SessionUp
from wgengine.keys import PrivateKey
from wgengine.resolve import Name, Resolver, next_resolution, next_trial, stalled

V6, V4, OTHER = "[2001:db8::1]:51820", "192.0.2.1:51820", "198.51.100.9:51820"
VPN = Endpoint("vpn.example", 51820)
PEER = PrivateKey.generate().public_key


def known(*addresses: str, now: float = 100.0) -> Name:
    return Name(endpoint=VPN).answered(addresses, now, 0)


class TestName:
    """The pure part."""

    def test_a_new_name_is_looked_up_at_once(self) -> None:
        assert next_resolution(Name(endpoint=VPN), 5.0) == 0

    def test_failures_double_the_pause_to_a_minute(self) -> None:
        name, pauses = Name(endpoint=VPN), []
        for _ in range(9):
            name = name.unanswered(10.0, 0.0)
            pauses.append(next_resolution(name, 10.0))
        assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]

    @pytest.mark.parametrize("jitter", [-1.0, 0.37, 1.0])
    def test_jitter_keeps_within_a_quarter_and_a_minute(self, jitter: float) -> None:
        name = Name(endpoint=VPN)
        for failures in range(1, 40):
            name = name.unanswered(0.0, jitter)
            plain = min(60.0, 2.0 ** (failures - 1))
            assert 0.75 * plain <= name.retry_in <= min(60.0, 1.25 * plain)

    def test_an_answer_ends_the_retries(self) -> None:
        name = Name(endpoint=VPN).unanswered(0.0, 0.0).answered((V4,), 1.0, 0)
        assert (name.failures, name.address, name.to_place) == (0, V4, True)
        assert next_resolution(name, 1.0) == 135

    def test_135_seconds_without_a_handshake(self) -> None:
        name = known(V4, now=100.0)
        assert next_resolution(name, 234.0) == 1
        assert next_resolution(name, 235.0) == 0
        name = name.session_up(200.0)
        assert next_resolution(name, 235.0) == 100
        assert next_resolution(name, 335.0) == 0

    def test_an_address_without_a_session_makes_room_for_the_next(self) -> None:
        name = known(V6, V4).placed(V6)
        name = name.gave_no_session(190.0, 0)
        assert (name.address, name.to_place) == (V4, True)
        assert next_resolution(name, 190.0) == 45

    def test_after_the_last_address_the_name_is_looked_up_again_ever_more_slowly(self) -> None:
        name, now, pauses = known(V6, V4), 100.0, []
        for _ in range(8):
            name = name.gave_no_session(now, 0).gave_no_session(now, 0)
            pauses.append(next_resolution(name, now))
            now += pauses[-1]
            name = name.answered((V6, V4), now, 0)
            assert name.address == V6
        assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]

    def test_a_session_ends_the_slowness(self) -> None:
        name = known(V4).gave_no_session(100.0, 0).session_up(101.0)
        assert (name.fruitless, name.rounds) == (0, 0)

    def test_an_address_that_works_stays_although_the_order_turns(self) -> None:
        name = known(V6, V4).placed(V6).session_up(101.0)
        again = name.answered((V4, V6), 300.0, 0)
        assert (again.address, again.to_place) == (V6, False)

    def test_an_address_that_is_gone_from_the_answer_is_left(self) -> None:
        name = known(V6).placed(V6).session_up(101.0)
        assert name.answered((OTHER, V4), 300.0, 0).address == OTHER

    def test_a_roamed_peer_is_left_where_it_is_until_it_falls_silent(self) -> None:
        name = known(V4).placed(V4).session_up(101.0).moved(OTHER)
        assert (name.current, name.to_place) == (OTHER, False)
        silent = name.answered((V4,), 300.0, 0)
        assert (silent.address, silent.to_place) == (V4, True)

    def test_a_peer_heard_from_its_other_address_has_chosen(self) -> None:
        name = known(V6, V4).placed(V6).moved(V4)
        assert (name.address, name.to_place) == (V4, False)

    def test_a_choice_made_meanwhile_is_not_taken_for_placed(self) -> None:
        name = known(V6, V4).gave_no_session(100.0, 0).placed(V6)
        assert (name.address, name.to_place) == (V4, True)

    def test_a_trial_needs_a_choice_and_traffic_and_time(self) -> None:
        one, two = known(V4), known(V6, V4)
        assert next_trial(one, 100.0) is None
        assert next_trial(two, 100.0) == 10
        assert next_trial(two, 103.0) == 7
        assert not stalled(one, 500, 200.0)
        assert not stalled(two, 500, 109.0)
        assert not stalled(two, 0, 200.0)
        assert stalled(two, 500, 110.0)
        assert not stalled(two.session_up(101.0), 500, 110.0)

    def test_a_session_before_the_choice_proves_nothing_about_it(self) -> None:
        name = known(V6, V4).session_up(101.0).gave_no_session(300.0, 700)
        assert stalled(name, 900, 310.0)


class Edge:
    """A resolver whose look-ups, device and clock are ours."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, ...] | Exception] = []
        self.asked: list[tuple[str, int]] = []
        self.placed: list[str] = []
        self.refuse: dict[str, Exception] = {}
        self.events: list[Event] = []
        self.now = 0.0
        self.sent = 0
        self.resolver = Resolver(
            place=self.place,
            sent=lambda peer: self.sent,
            publish=self.events.append,
            lookup=self.lookup,
            clock=lambda: self.now,
        )

    async def lookup(self, host: str, port: int) -> tuple[str, ...]:
        self.asked.append((host, port))
        answer = self.answers.pop(0) if self.answers else ()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def place(self, peer: object, endpoint: str) -> None:
        if endpoint in self.refuse:
            raise self.refuse[endpoint]
        self.placed.append(endpoint)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    edge = Edge()
    yield edge
    await edge.resolver.close()


async def test_a_name_is_looked_up_placed_and_told(edge: Edge) -> None:
    edge.answers = [(V6, V4)]
    edge.resolver.follow(PEER, VPN)
    await edge.settle()
    assert edge.asked == [("vpn.example", 51820)]
    assert edge.placed == [V6]
    (event,) = edge.events
    assert isinstance(event, Resolved)
    assert (event.peer, event.host, event.endpoint) == (PEER, "vpn.example", V6)
    assert edge.resolver.addresses(PEER) == (V6, V4)


async def test_a_failure_is_an_event_and_a_retry(edge: Edge) -> None:
    edge.answers = [socket.gaierror(socket.EAI_NONAME, "no such name")]
    edge.resolver.follow(PEER, VPN)
    await edge.settle()
    (event,) = edge.events
    assert isinstance(event, ResolveFailed)
    assert "no such name" in event.error
    assert 0.75 <= event.retry_in <= 1.25
    assert edge.placed == []
    edge.answers = [(V4,)]
    edge.now = 1.3
    await asyncio.wait_for(until(lambda: edge.placed), 5)
    assert edge.placed == [V4]


async def until(ready: object) -> None:
    while not ready():
        await asyncio.sleep(0.01)


async def test_a_host_without_addresses_is_a_failure(edge: Edge) -> None:
    edge.resolver.follow(PEER, VPN)
    await edge.settle()
    assert [type(event) for event in edge.events] == [ResolveFailed]


async def test_a_failed_handshake_takes_the_next_address(edge: Edge) -> None:
    edge.answers = [(V6, V4)]
    edge.resolver.follow(PEER, VPN)
    await edge.settle()
    edge.resolver.feed(HandshakeFailed(time=0, peer=PEER))
    await edge.settle()
    assert edge.placed == [V6, V4]


async def test_a_family_without_a_socket_is_passed_over_at_once(edge: Edge) -> None:
    edge.refuse = {V6: OSError(97, "Address family not supported by protocol")}
    edge.answers = [(V6, V4)]
    edge.resolver.follow(PEER, VPN)
    await edge.settle()
    assert edge.placed == [V4]


async def test_where_no_address_is_usable_nothing_spins(edge: Edge) -> None:
    edge.refuse = {V6: OSError(97, "Address family not supported by protocol")}
    edge.answers = [(V6,)] * 50
    edge.resolver.follow(PEER, VPN)
    await edge.settle()
    assert len(edge.asked) == 1


async def test_a_roamed_peer_is_not_pulled_back(edge: Edge) -> None:
    edge.answers = [(V4,)]
    edge.resolver.follow(PEER, VPN)
    await edge.settle()
    edge.resolver.feed(SessionUp(time=0, peer=PEER, initiator=True))
    edge.resolver.feed(EndpointChanged(time=0, peer=PEER, endpoint=OTHER))
    await edge.settle()
    assert edge.placed == [V4]


async def test_after_silence_the_name_is_looked_up_and_a_new_address_placed(edge: Edge) -> None:
    edge.answers = [(V4,), (OTHER,)]
    edge.resolver.follow(PEER, VPN)
    await edge.settle()
    edge.now = 135.0
    edge.resolver.feed(EndpointChanged(time=0, peer=PEER, endpoint=V4))  # any news makes it look at the clock
    await edge.settle()
    assert edge.placed == [V4, OTHER]


async def test_a_stalled_address_makes_room_for_its_sibling(edge: Edge) -> None:
    edge.answers = [(V6, V4)]
    edge.resolver.follow(PEER, VPN)
    await edge.settle()
    edge.sent, edge.now = 148, 10.0
    edge.resolver.feed(EndpointChanged(time=0, peer=PEER, endpoint=V6))
    await edge.settle()
    assert edge.placed == [V6, V4]


async def test_following_again_tells_the_device_again(edge: Edge) -> None:
    edge.answers = [(V4,)]
    edge.resolver.follow(PEER, VPN)
    await edge.settle()
    edge.resolver.follow(PEER, VPN)
    await edge.settle()
    assert (edge.placed, len(edge.asked)) == ([V4, V4], 1)


async def test_keep_forgets_what_is_not_wanted_any_more(edge: Edge) -> None:
    edge.answers = [(V4,)]
    edge.resolver.follow(PEER, VPN)
    await edge.settle()
    edge.resolver.keep(lambda peer: VPN)
    assert edge.resolver.addresses(PEER) == (V4,)
    edge.resolver.keep(lambda peer: Endpoint("other.example", 1))
    assert edge.resolver.addresses(PEER) == ()
    edge.resolver.feed(HandshakeFailed(time=0, peer=PEER))
    await edge.settle()
    assert edge.placed == [V4]


async def test_the_end_of_the_engine_ends_it_quietly(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    edge.refuse = {V4: ClosedError("closed")}
    edge.answers = [(V4,)]
    edge.resolver.follow(PEER, VPN)
    await edge.settle()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_close_abandons_a_look_up_that_hangs() -> None:
    async def hang(host: str, port: int) -> tuple[str, ...]:
        await asyncio.Event().wait()
        return ()

    async def place(peer: object, endpoint: str) -> None:
        raise AssertionError("nothing was found")

    resolver = Resolver(place=place, sent=lambda peer: 0, publish=lambda event: None, lookup=hang)
    resolver.follow(PEER, VPN)
    await asyncio.sleep(0)
    await asyncio.wait_for(resolver.close(), 1)


async def test_lookup_gives_both_families_as_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple]:
        assert threading.current_thread() is not threading.main_thread()
        kind = (socket.SOCK_DGRAM, 17, "")
        return [
            (socket.AF_INET6, *kind, ("2001:db8::1", port, 0, 0)),
            (socket.AF_INET6, *kind, ("fe80::1%eth0", port, 0, 3)),
            (socket.AF_INET, *kind, ("192.0.2.1", port)),
            (socket.AF_INET, *kind, ("192.0.2.1", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(resolve, "_has_route", lambda family, address: True)
    assert await resolve.lookup("vpn.example", 51820) == (V6, "[fe80::1%3]:51820", V4)


async def test_case_54_an_address_that_no_datagram_can_leave_for_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = (socket.SOCK_DGRAM, 17, "")
    answer = [
        (socket.AF_INET6, *kind, ("2001:db8::1", 51820, 0, 0)),
        (socket.AF_INET, *kind, ("127.0.0.1", 51820)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    real = socket.socket

    def no_ipv6(family: int, *rest: object) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest)

    monkeypatch.setattr(socket, "socket", no_ipv6)
    assert await resolve.lookup("vpn.example", 51820) == ("127.0.0.1:51820", V6)


async def test_lookup_of_a_name_that_cannot_be_one_fails_like_any_other() -> None:
    with pytest.raises((OSError, UnicodeError)):
        await resolve.lookup("a" * 70 + ".example", 51820)
