"""Persistent keepalive speaks at once and then keeps its beat: case 28."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import pytest
from lab import until
from peers.tunnel import Tunnel, between
from peers.wire import DATA, INITIATION, KEEPALIVE_BYTES, Datagram, Wire

if TYPE_CHECKING:
    from lab import Lab


def keepalives(seen: list[Datagram], source: str) -> list[float]:
    return [d.time_s for d in seen if d.source == source and d.kind == DATA and d.length == KEEPALIVE_BYTES]


def initiations(seen: list[Datagram]) -> list[Datagram]:
    return [d for d in seen if d.kind == INITIATION]


def handshaken(tunnel: Tunnel) -> bool:
    return all(peer.latest_handshake for device in tunnel.devices for peer in device.show().peers.values())


def test_case_28_the_first_keepalive_comes_at_once(lab: Lab) -> None:
    tunnel = between(lab)
    time.sleep(0.5)
    assert not handshaken(tunnel), "nobody had asked for a session yet"
    tunnel.a.wg_set("peer", tunnel.b.public, "persistent-keepalive", "25")
    until(lambda: handshaken(tunnel), "a handshake follows from the setting", timeout_s=2)


def test_case_28_in_the_set_that_makes_the_peer(lab: Lab) -> None:
    tunnel = between(lab, initiator="a", keepalive=25)
    until(lambda: handshaken(tunnel), "a handshake follows from the new peer", timeout_s=2)


def test_case_28_after_the_interface_was_down(lab: Lab) -> None:
    """As in the kernel. (wireguard-go does not notice that its link was down.)"""
    tunnel = between(lab, initiator="a", keepalive=25)
    until(lambda: handshaken(tunnel), "the first handshake", timeout_s=2)
    with Wire(tunnel.b.host) as wire:
        tunnel.a.down()
        time.sleep(0.3)
        wire.datagrams()
        tunnel.a.up()
        source = tunnel.a.host.ipv4
        until(lambda: wire.datagrams(source=source), "something is sent once the link is up again", timeout_s=2)


def test_case_28_one_second_off_and_on_again(lab: Lab) -> None:
    tunnel = between(lab, initiator="a")
    a, b = tunnel.devices
    source = a.host.ipv4
    with Wire(b.host) as wire:
        a.wg_set("peer", b.public, "persistent-keepalive", "1")
        until(lambda: handshaken(tunnel), "a handshake", timeout_s=2)
        wire.datagrams()
        time.sleep(5)
        seen = wire.datagrams()
        assert 4 <= len(keepalives(seen, source)) <= 6
        assert initiations(seen) == []

        a.wg_set("peer", b.public, "persistent-keepalive", "off")
        time.sleep(0.2)
        wire.datagrams()
        counters = b.peer(a)
        time.sleep(3)
        assert wire.datagrams() == [], "silence was asked for"
        assert b.peer(a) == counters

        a.wg_set("peer", b.public, "persistent-keepalive", "1")
        time.sleep(0.5)
        assert keepalives(wire.datagrams(), source), "set anew it speaks at once"


def test_case_28_the_longest_interval_is_not_a_short_one(lab: Lab) -> None:
    tunnel = between(lab, initiator="a", keepalive=65535)
    until(lambda: handshaken(tunnel), "a handshake", timeout_s=2)
    assert tunnel.a.peer(tunnel.b).keepalive == "65535"
    time.sleep(0.5)
    with Wire(tunnel.b.host) as wire:
        time.sleep(4)
        assert wire.datagrams() == []


@pytest.mark.soak
@pytest.mark.timeout(200)
def test_case_28_the_beat_of_25_seconds(lab: Lab, soak: bool) -> None:
    """Whole: interval 25 for 55 s, then 30 s of silence. Short: interval 3 for 7 s, then 5 s."""
    interval_s, watched_s, silent_s = (25, 55, 30) if soak else (3, 7, 5)
    tunnel = between(lab, initiator="a", keepalive=interval_s)
    a, b = tunnel.devices
    until(lambda: handshaken(tunnel), "a handshake", timeout_s=2)
    time.sleep(0.5)
    with Wire(b.host) as wire:
        time.sleep(watched_s)
        seen = wire.datagrams()
        beats = keepalives(seen, a.host.ipv4)
        assert 2 <= len(beats) <= 3
        for before, after in itertools.pairwise(beats):
            assert abs(after - before - interval_s) <= 1
        assert len(initiations(seen)) <= 1
        a.wg_set("peer", b.public, "persistent-keepalive", "off")
        time.sleep(0.2)
        wire.datagrams()
        counters = b.peer(a)
        time.sleep(silent_s)
        assert wire.datagrams() == []
        assert b.peer(a) == counters
