"""Trimming: each rule and limit by itself, with clocks that began with the machine."""

import sys
import tracemalloc

import pytest
from wgengine.config import Peer
from wgengine.keys import PublicKey
from wgengine.peers import Route
from wgengine.trim import Trimmer

A, B, C, D = (PublicKey.from_bytes(bytes([n]) * 32) for n in (0xA1, 0xB1, 0xC1, 0xD1))
IP = {A: "100.64.0.1/32", B: "100.64.0.2/32", C: "100.64.0.3/32", D: "100.64.0.4/32"}


def peer(key, *allowed_ips, **fields):
    return Peer(public_key=key, allowed_ips=allowed_ips or (IP[key],), **fields)


def to(key, prefix=None):
    return Route(prefix or IP[key], key)


def trimmer(*peers, now=3.0, **knobs):
    """One whose device has taken these peers."""
    made = Trimmer(**knobs)
    made.accept(made.reconfigured(peers, now))
    return made


def take(trimmer, decision):
    trimmer.accept(decision)
    return dict(decision.trimmed)


def test_a_new_peer_is_trimmed_though_the_clock_has_just_begun():
    made = Trimmer()
    decision = made.reconfigured([peer(A), peer(B)], 3.0)
    assert dict(decision.trimmed) == {A: True, B: True}
    assert (decision.live, decision.total) == (0, 2)
    made.accept(decision)
    assert (made.live, made.total) == (0, 2)
    assert not made.is_live(A)
    assert made.is_tracked(A)
    assert made.last_active(A) is None


def test_activity_at_time_zero_is_activity():
    made = trimmer(peer(A), now=0.0)
    assert take(made, made.sent(to(A), 0.0)) == {A: False}
    assert made.last_active(A) == 0.0
    assert not made.sent(to(A), 9.0)
    assert made.last_active(A) == 0.0  # 0 is a time, not "never"


def test_a_packet_by_a_route_that_the_peer_has_not_leaves_nothing_behind():
    made = trimmer(peer(A), peer(B))
    assert not made.sent(Route(IP[B], A), 4.0)
    assert not made.sent(Route("100.64.0.77/32", A), 4.0)
    assert made.last_active(A) is made.last_active(B) is None


def test_the_first_packet_to_a_peer_makes_it_live():
    made = trimmer(peer(A), peer(B))
    decision = made.sent(to(A), 4.0)
    assert dict(decision.trimmed) == {A: False}
    assert (decision.live, decision.total) == (1, 2)
    assert not made.is_live(A)  # not before the device has it
    made.accept(decision)
    assert made.is_live(A)


def test_a_packet_from_a_trimmed_peer_makes_it_live():
    made = trimmer(peer(A), peer(B))
    assert take(made, made.received(A, 4.0)) == {A: False}
    assert made.last_active(A) == 4.0


def test_a_packet_from_a_live_peer_is_noted_and_leads_to_no_evaluation():
    made = trimmer(peer(A), peer(B))
    take(made, made.received(A, 4.0))
    take(made, made.received(B, 5.0))
    assert not made.received(B, 304.5)  # A is idle by now
    assert made.last_active(B) == 304.5
    assert made.is_live(A)


def test_a_packet_from_a_stranger_leaves_nothing_behind():
    made = trimmer(peer(A))
    decision = made.received(B, 4.0)
    assert not decision
    assert not decision.status_due
    assert made.total == 1
    assert made.last_active(B) is None


@pytest.mark.parametrize(("later", "stored"), [(9.999, False), (10.0, True)])
def test_when_a_packet_was_sent_is_stored_every_ten_seconds(later, stored):
    made = trimmer(peer(A))
    take(made, made.sent(to(A), 100.0))
    assert not made.sent(to(A), 100.0 + later)
    assert made.last_active(A) == (100.0 + later if stored else 100.0)


@pytest.mark.parametrize(("silence", "evaluated"), [(59.999, False), (60.0, True)])
def test_a_packet_after_a_minute_of_silence_leads_to_an_evaluation(silence, evaluated):
    made = trimmer(peer(A), peer(B))
    take(made, made.sent(to(B), 100.0))
    take(made, made.sent(to(A), 350.0))
    decision = made.sent(to(A), 350.0 + silence)  # B is idle since 400
    assert dict(decision.trimmed) == ({B: True} if evaluated else {})


@pytest.mark.parametrize(("age", "live"), [(299.999, True), (300.0, False)])
def test_activity_counts_while_it_is_strictly_within_five_minutes(age, live):
    made = trimmer(peer(A))
    take(made, made.sent(to(A), 100.0))
    assert take(made, made.sweep(100.0 + age)) == ({} if live else {A: True})
    assert made.is_live(A) == live


def test_a_peer_with_two_addresses_lives_by_either():
    made = trimmer(peer(A, "100.64.0.1/32", "fd7a:115c:a1e0::1/128"))
    take(made, made.sent(to(A), 0.0))
    assert not made.sent(Route("fd7a:115c:a1e0::1/128", A), 200.0)  # live already
    assert not made.sweep(499.0)
    assert take(made, made.sweep(500.0)) == {A: True}


def test_an_address_keeps_its_time_when_it_moves_to_another_peer():
    made = trimmer(peer(A), peer(B))
    take(made, made.sent(to(A), 10.0))
    moved = made.reconfigured([peer(A, "100.64.0.9/32"), peer(B, IP[A], IP[B])], 20.0)
    assert dict(moved.trimmed) == {A: True, B: False}
    made.accept(moved)
    assert made.last_active(B) == 10.0
    assert made.last_active(A) is None
    assert not made.sent(Route(IP[A], B), 69.0)  # silent for 59 seconds, not for ever


def test_a_peer_keeps_what_it_received_when_its_addresses_change():
    made = trimmer(peer(A))
    take(made, made.received(A, 10.0))
    assert take(made, made.reconfigured([peer(A, "100.64.0.9/32")], 20.0)) == {}
    assert made.last_active(A) == 10.0


def test_a_peer_that_lost_its_used_address_falls_idle_when_its_own_time_is_over():
    made = trimmer(peer(A, IP[A], IP[B]), peer(C))
    take(made, made.received(A, 10.0))
    take(made, made.sent(Route(IP[B], A), 200.0))
    take(made, made.reconfigured([peer(A), peer(C, IP[C], IP[B])], 210.0))
    assert made.is_live(A)
    assert made.next_sweep(211.0) == 310.0
    assert take(made, made.sweep(310.0)) == {A: True}


def test_what_left_the_configuration_is_forgotten():
    made = trimmer(peer(A), peer(B))
    take(made, made.sent(to(A), 10.0))
    take(made, made.received(A, 10.0))
    take(made, made.reconfigured([peer(B)], 11.0))
    assert (made.live, made.total) == (0, 1)
    assert not made.is_live(A)
    assert take(made, made.reconfigured([peer(B), peer(A)], 12.0)) == {A: True}
    assert made.last_active(A) is None


def test_two_configurations_with_one_peer_each_leave_one_peer():
    made = trimmer(peer(A))
    take(made, made.reconfigured([peer(B)], 4.0))
    assert [made.is_tracked(key) for key in (A, B)] == [False, True]
    assert made.last_active(B) is None
    assert not made.is_live(B)


def test_a_peer_changed_otherwise_stays_as_it_is():
    made = trimmer(peer(A), peer(B))
    take(made, made.sent(to(A), 10.0))
    assert not made.reconfigured([peer(A, persistent_keepalive=25), peer(B, persistent_keepalive=25)], 20.0)


def test_the_order_of_peers_is_nothing():
    made = trimmer(peer(A), peer(B), peer(C))
    take(made, made.sent(to(B), 10.0))
    assert take(made, made.reconfigured([peer(C), peer(B), peer(A)], 20.0)) == {}
    assert take(made, made.sent(to(C), 21.0)) == {C: False}


def test_force_full_makes_every_peer_live_and_forgets():
    made = trimmer(peer(A), peer(B))
    take(made, made.sent(to(A), 10.0))
    made.force_full = True
    assert not made.received(A, 11.0)  # not before the next evaluation
    assert take(made, made.sweep(12.0)) == {B: False}
    assert not made.is_tracked(A)
    assert not made.sent(to(A), 13.0)
    assert made.last_active(A) is None
    assert take(made, made.sweep(1000.0)) == {}
    made.force_full = False
    assert take(made, made.sweep(1001.0)) == {A: True, B: True}


def test_without_subnet_trimming_a_peer_with_a_subnet_is_always_live():
    router = peer(A, IP[A], "10.0.0.0/8")
    made = trimmer(router, peer(B), trim_subnet_peers=False)
    assert made.is_live(A)
    assert not made.is_tracked(A)
    assert not made.sent(to(A), 4.0)  # its single address is not tracked either
    assert made.last_active(A) is None
    assert take(made, made.sweep(10_000.0)) == {}
    # when the subnet goes it is a peer like any other
    assert take(made, made.reconfigured([peer(A), peer(B)], 10_001.0)) == {A: True}


@pytest.mark.parametrize("prefix", ["100.64.0.0/31", "fd00::/32", "0.0.0.0/0", "::/0", "fd00::/127"])
def test_what_a_subnet_is(prefix):
    assert trimmer(peer(A, prefix), trim_subnet_peers=False).is_live(A)
    assert not trimmer(peer(A, prefix)).is_live(A)


def test_a_refused_decision_is_made_again():
    made = trimmer(peer(A), peer(B))
    assert made.sent(to(A), 10.0)  # the device refuses
    assert not made.is_live(A)
    assert not made.sent(to(A), 30.0)  # nothing to evaluate
    assert take(made, made.sweep(31.0)) == {A: False}
    assert dict(made.sweep(400.0).trimmed) == {A: True}  # refused again
    assert made.is_live(A)
    assert made.next_sweep(401.0) == 461.0
    assert take(made, made.sweep(461.0)) == {A: True}
    assert made.next_sweep(462.0) is None


def test_a_refused_configuration_changes_nothing():
    made = trimmer(peer(A), peer(B))
    take(made, made.sent(to(A), 10.0))
    made.reconfigured([peer(B, IP[A])], 20.0)
    assert made.is_live(A)
    assert made.total == 2
    assert take(made, made.reconfigured([peer(A), peer(B)], 21.0)) == {}
    assert take(made, made.reconfigured([peer(B, IP[A])], 22.0)) == {B: False}


def test_activity_between_a_decision_and_its_acceptance_is_not_lost():
    made = trimmer(peer(A))
    take(made, made.sent(to(A), 10.0))
    idle = made.sweep(310.0)
    made.received(A, 310.5)
    made.accept(idle)  # the device has trimmed it
    assert not made.is_live(A)
    assert take(made, made.sweep(311.0)) == {A: False}


def test_a_peer_that_woke_by_itself_is_live_at_once():
    made = trimmer(peer(A), peer(B))
    assert not made.woke(A, 10.0, received=False)  # nothing to tell the device
    assert made.is_live(A)
    assert made.live == 1
    assert made.next_sweep(10.0) == 310.0


def test_a_peer_that_woke_while_it_was_to_be_trimmed_stays_live():
    made = trimmer(peer(A))
    take(made, made.sent(to(A), 10.0))
    made.sweep(310.0)  # refused
    made.woke(A, 311.0, received=True)
    assert made.next_sweep(312.0) == 611.0


def test_a_peer_that_woke_while_it_was_trimmed_and_was_not_let_live_can_live_and_fall_idle_again():
    made = trimmer(peer(A))
    take(made, made.sent(to(A), 10.0))
    idle = made.sweep(310.0)
    made.woke(A, 311.0, received=False)
    made.accept(idle)
    made.sweep(312.0)  # it should live, but the device refuses, until that is over
    assert take(made, made.sweep(700.0)) == {}
    assert take(made, made.sent(to(A), 701.0)) == {A: False}
    assert take(made, made.sweep(1001.0)) == {A: True}


def test_the_next_sweep_is_when_the_longest_silence_is_five_minutes():
    made = trimmer(peer(A), peer(B), peer(C))
    assert made.next_sweep(3.0) is None
    take(made, made.received(A, 10.0))
    take(made, made.received(B, 20.0))
    assert made.next_sweep(20.0) == 310.0
    made.received(A, 100.0)
    assert made.next_sweep(100.0) == 320.0
    take(made, made.reconfigured([peer(A), peer(C)], 101.0))
    assert made.next_sweep(101.0) == 400.0
    assert made.received(C, 390.0)  # the device refuses
    assert made.next_sweep(391.0) == 400.0
    assert made.next_sweep(330.0) == 390.0  # sooner, for its sake


def test_only_received_packets_ask_for_the_status_each_minute():
    made = trimmer(peer(A))
    assert not made.sent(to(A), 3.0).status_due
    assert made.received(A, 4.0).status_due
    assert not made.received(A, 63.9).status_due
    assert made.received(A, 64.0).status_due
    assert not made.woke(A, 200.0, received=False).status_due
    assert made.woke(A, 201.0, received=True).status_due


def test_a_sweep_asks_for_the_status_if_someone_was_heard_since():
    made = trimmer(peer(A), peer(B))
    assert not made.sweep(10.0, [(A, 9.0, None)]).status_due
    assert made.sweep(20.0, [(A, 9.0, 15.0)]).status_due
    assert not made.sweep(100.0, [(A, 9.0, 15.0)]).status_due  # nobody since
    assert not made.sweep(101.0, [(C, 100.0, 100.0)]).status_due  # a stranger
    assert made.sweep(102.0, [(A, 9.0, 21.0), (B, 9.0, 15.0)]).status_due


def test_what_the_data_plane_counted_keeps_a_peer_live():
    made = trimmer(peer(A), peer(B))
    made.woke(A, 10.0, received=False)
    assert not made.sweep(310.0, [(A, 290.0, None)])
    assert made.next_sweep(311.0) == 590.0
    assert not made.sweep(590.0, [(A, 290.0, 500.0)])
    # an older time changes nothing, neither now nor when its addresses change
    assert not made.sweep(700.0, [(A, 290.0, 400.0)])
    assert take(made, made.reconfigured([peer(A, "100.64.0.9/32"), peer(B)], 701.0)) == {}
    assert made.last_active(A) == 500.0
    assert take(made, made.sweep(800.0)) == {A: True}


def test_what_the_data_plane_counted_is_no_news_where_more_is_known():
    made = trimmer(peer(A))
    take(made, made.sent(to(A), 100.0))
    made.observed([(A, 50.0, None)], 101.0)
    assert made.last_active(A) == 100.0


def test_sweeps_can_be_switched_off():
    made = trimmer(peer(A), sweeps=False)
    take(made, made.sent(to(A), 10.0))
    assert made.next_sweep(11.0) is None
    made.sweeps = True
    assert made.next_sweep(11.0) == 310.0


def test_row_06_waking_one_peer_looks_at_no_other():
    """The first packet to a peer among very many costs a look at that peer, a sweep one at those that are due."""
    made = Trimmer()
    made.accept(made.reconfigured(MANY, 3.0))
    looked_at = calls_during(lambda: made.accept(made.sent(Route(MANY[500].allowed_ips[0], MANY[500].public_key), 4.0)))
    assert looked_at < 100
    for each in MANY[:1000]:
        made.woke(each.public_key, 10.0, received=True)
    assert calls_during(lambda: made.received(MANY[7].public_key, 200.0)) < 100
    assert calls_during(lambda: made.sweep(200.0)) < 100
    idle = made.sweep(310.0)
    assert len(idle.trimmed) == 999
    made.accept(idle)
    assert take(made, made.sweep(500.0)) == {MANY[7].public_key: True}


def test_row_06_a_configuration_with_one_other_peer_costs_one_peer():
    made = Trimmer()
    made.accept(made.reconfigured(MANY, 3.0))
    other = (*MANY[:500], MANY[500].replace(allowed_ips=["100.127.0.1/32"]), *MANY[501:])
    assert calls_during(lambda: made.accept(made.reconfigured(other, 4.0))) < 100
    assert made.total == len(MANY)


def test_row_06_idle_peers_fall_idle_without_any_traffic():
    made = trimmer(peer(A), peer(B))
    take(made, made.sent(to(A), 10.0))
    take(made, made.sent(to(B), 50.0))
    assert made.next_sweep(60.0) == 310.0
    assert take(made, made.sweep(310.0)) == {A: True}
    assert made.next_sweep(310.0) == 350.0


def test_row_07_a_peer_with_a_subnet_is_trimmed_and_woken_by_its_longest_prefix():
    made = trimmer(peer(A, IP[A], "10.0.0.0/8"), peer(B, "10.1.0.0/16"))
    assert made.live == 0
    assert take(made, made.sent(Route("10.0.0.0/8", A), 4.0)) == {A: False}
    assert take(made, made.sent(Route("10.1.0.0/16", B), 5.0)) == {B: False}
    assert take(made, made.sweep(304.0)) == {A: True}
    assert take(made, made.sweep(305.0)) == {B: True}


def test_row_07_a_peer_without_allowed_ips_lives_while_it_is_heard_from():
    nobody = Peer(public_key=A)
    made = trimmer(nobody)
    assert not made.is_live(A)
    assert take(made, made.received(A, 4.0)) == {A: False}
    assert take(made, made.sweep(303.9)) == {}
    assert take(made, made.sweep(304.0)) == {A: True}


def test_a_tracked_peer_is_at_most_three_hundred_bytes():
    tracemalloc.start()
    made = Trimmer()
    before = tracemalloc.get_traced_memory()[0]
    made.accept(made.reconfigured(MANY, 3.0))
    trimmed = (tracemalloc.get_traced_memory()[0] - before) / len(MANY)
    for each in MANY:
        made.accept(made.received(each.public_key, 4.0))
    live = (tracemalloc.get_traced_memory()[0] - before) / len(MANY)
    tracemalloc.stop()
    print(f"{trimmed:.0f} bytes for a trimmed peer, {live:.0f} for a live one")
    assert trimmed <= 200
    assert live <= 300


# ten thousand in the fast tier: what is constant for them is constant for ten times as many
MANY = tuple(
    Peer(
        public_key=PublicKey.from_bytes(n.to_bytes(2, "big") * 16),
        allowed_ips=[f"100.64.{n >> 8}.{n & 255}/32", f"fd7a:115c:a1e0::{n:x}/128"],
    )
    for n in range(1, 10_001)
)


def calls_during(action):
    """How many Python functions were called."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return calls
