"""Troubles of peers: one warning for all whom it concerns, bounded, and forgotten in time."""

import pytest
from wgengine.events import (
    ConfigChanged,
    EndpointChanged,
    HandshakeFailed,
    HandshakeUnanswered,
    LinkChanged,
    PathTooSmall,
    Resolved,
    ResolveFailed,
    SessionUp,
)
from wgengine.health import Tracker
from wgengine.health.peers import PeerTroubles, short_name
from wgengine.keys import PublicKey


def key(number):
    return PublicKey.from_bytes(number.to_bytes(32, "big"))


A, B = key(1), key(2)
NAMES = {A: "a", B: "b"}


@pytest.fixture
def tracker():
    return Tracker()


@pytest.fixture
def troubles():
    return PeerTroubles(lambda peer: NAMES.get(peer, "?"), limit=8)


def texts(troubles, tracker, now):
    troubles.judge(tracker, now)
    return {code: state.args["peers"] for code, state in tracker.current(now).items()}


def test_a_peer_that_does_not_answer_is_shown_at_once_until_it_does(troubles, tracker):
    # it has not answered for 90 s by then
    assert troubles.feed(HandshakeFailed(time=0, peer=A), 1000.0)
    assert texts(troubles, tracker, 1000.0) == {"peer-handshake-failing": "a"}
    assert tracker.current(1000.0)["peer-handshake-failing"].broken_since == 910.0
    assert troubles.feed(SessionUp(time=0, peer=A, initiator=True), 1001.0)
    assert texts(troubles, tracker, 1001.0) == {}


def test_a_peer_is_shown_as_soon_as_three_handshakes_went_unanswered(troubles, tracker):
    troubles.feed(HandshakeUnanswered(time=0, peer=A), 1000.0)
    assert texts(troubles, tracker, 1000.0) == {"peer-handshake-failing": "a"}
    troubles.feed(HandshakeFailed(time=0, peer=A), 1075.0)
    texts(troubles, tracker, 1075.0)
    assert tracker.current(1075.0)["peer-handshake-failing"].broken_since == 985.0
    assert troubles.due() == 1255.0


def test_a_peer_that_nobody_sends_to_any_more_is_forgotten(troubles, tracker):
    troubles.feed(HandshakeFailed(time=0, peer=A), 1000.0)
    troubles.feed(HandshakeFailed(time=0, peer=B), 1090.0)
    assert texts(troubles, tracker, 1179.0) == {"peer-handshake-failing": "a, b"}
    assert troubles.due() == 1180.0
    assert texts(troubles, tracker, 1180.0) == {"peer-handshake-failing": "b"}
    assert texts(troubles, tracker, 1270.0) == {}
    assert troubles.due() is None


def test_one_warning_speaks_of_all_and_of_a_bounded_number(troubles, tracker):
    for number in range(1, 8):
        troubles.feed(HandshakeFailed(time=0, peer=key(number)), 1000.0 + number)
    assert texts(troubles, tracker, 1010.0) == {"peer-handshake-failing": "a, b, ?, ?, ? and 2 more"}
    for number in range(1, 100):
        troubles.feed(HandshakeFailed(time=0, peer=key(number)), 1100.0)
    assert texts(troubles, tracker, 1100.0) == {"peer-handshake-failing": "a, b, ?, ?, ? and 3 more"}


def test_a_name_that_cannot_be_looked_up_is_shown_until_it_can(troubles, tracker):
    troubles.feed(ResolveFailed(time=0, peer=A, host="vpn.example", error="no such name", retry_in=5), 0.0)
    assert texts(troubles, tracker, 1e6) == {"peer-endpoint-unresolvable": "a (vpn.example: no such name)"}
    troubles.feed(Resolved(time=0, peer=A, host="vpn.example", endpoint="192.0.2.1:1"), 1e6)
    assert texts(troubles, tracker, 1e6) == {}


def move(troubles, peer, endpoint, now):
    return troubles.feed(EndpointChanged(time=0, peer=peer, endpoint=endpoint), now)


def test_a_key_in_two_places_is_found_and_forgotten_when_it_is_quiet(troubles, tracker):
    for step in range(5):
        assert move(troubles, A, f"192.0.2.{step % 2}:1", float(step)) is (step == 4)
    assert texts(troubles, tracker, 4.0) == {"duplicate-key": "a (192.0.2.0:1)"}
    assert troubles.due() == 64.0
    assert texts(troubles, tracker, 64.0) == {}


def test_who_roams_or_comes_back_now_and_then_has_one_key(troubles, tracker):
    for step in range(20):
        assert not move(troubles, A, f"192.0.2.{step}:1", float(step))
    for step in range(20):
        assert not move(troubles, B, f"192.0.2.{step % 2}:1", step * 30.0)
    assert texts(troubles, tracker, 600.0) == {}


def test_moves_of_very_many_peers_are_not_all_remembered(troubles):
    for number in range(100):
        move(troubles, key(number), "192.0.2.1:1", 0.0)
    assert len(troubles._places._of) == 8


def test_a_small_path_is_told_until_the_mtu_changes_or_a_while_has_passed(troubles, tracker):
    small = PathTooSmall(time=0, peer=A, endpoint="192.0.2.1:1")
    troubles.feed(small, 0.0)
    assert texts(troubles, tracker, 599.0) == {"mtu-blackhole": "a (192.0.2.1:1)"}
    assert texts(troubles, tracker, 600.0) == {}
    troubles.feed(small, 700.0)
    troubles.feed(LinkChanged(time=0, up=True, mtu=1280), 701.0)
    assert texts(troubles, tracker, 701.0) == {}


def test_a_removed_peer_has_no_troubles(troubles, tracker):
    troubles.feed(HandshakeFailed(time=0, peer=A), 0.0)
    troubles.feed(ResolveFailed(time=0, peer=A, host="x", error="y", retry_in=5), 0.0)
    troubles.feed(PathTooSmall(time=0, peer=A, endpoint="192.0.2.1:1"), 0.0)
    for step in range(5):
        move(troubles, A, f"192.0.2.{step % 2}:1", 0.0)
    assert len(texts(troubles, tracker, 0.0)) == 4
    troubles.forget([A])
    assert texts(troubles, tracker, 0.0) == {}
    assert not troubles._places._of


def test_other_events_are_nobodys_trouble(troubles):
    assert not troubles.feed(ConfigChanged(time=0), 0.0)


def test_a_peer_without_a_name_is_called_by_its_key():
    assert short_name(A) == "AAAAAAAA…"
