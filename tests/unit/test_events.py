"""Events: from native to typed, and every subscriber's own bounded queue."""

import asyncio
import gc

import pytest
from wgengine import events
from wgengine.errors import Error
from wgengine.events import Broadcaster, ConfigChanged, EventsLost, Failed, SessionUp, from_native
from wgengine.keys import PublicKey

PEER = PublicKey.from_bytes(bytes([7]) * 32)

NATIVE = {
    "session_up": ({"peer": PEER, "initiator": True}, events.SessionUp),
    "handshake_unanswered": ({"peer": PEER}, events.HandshakeUnanswered),
    "handshake_failed": ({"peer": PEER}, events.HandshakeFailed),
    "endpoint_changed": ({"peer": PEER, "endpoint": "192.0.2.1:1"}, events.EndpointChanged),
    "path_too_small": ({"peer": PEER, "endpoint": "192.0.2.1:1"}, events.PathTooSmall),
    "peer_woke": ({"peer": PEER, "by": "sent"}, events.PeerWoke),
    "pong": ({"token": 7, "peer": PEER, "kind": "tsmp", "latency": 0.01, "peer_api_port": None}, events.Pong),
    "ping_expired": ({"token": 7}, events.PingExpired),
    "disco_key_advertised": ({"peer": PEER, "source": "100.64.0.2", "key": PEER}, events.DiscoKeyAdvertised),
    "offload_off": ({"offload": "udp_gso", "errno": 5}, events.OffloadOff),
    "config_changed": ({}, events.ConfigChanged),
    "uapi_refused": ({"line": 3, "text": "no such key"}, events.UapiRefused),
    "link_changed": ({"up": True, "mtu": 1420}, events.LinkChanged),
    "tun_lost": ({}, events.TunLost),
    "uapi_removed": ({}, events.UapiRemoved),
    "failed": ({"reason": "panic"}, events.Failed),
    "lost": ({"count": 3}, events.EventsLost),
}


@pytest.mark.parametrize("kind", NATIVE)
def test_a_native_event_becomes_a_typed_one(kind):
    values, cls = NATIVE[kind]
    event = from_native(kind, 12.5, values)
    assert type(event) is cls
    assert event.time == 12.5
    for name, value in values.items():
        assert getattr(event, name) == value


def test_every_event_is_exported_and_has_a_native_kind_or_is_pythons_own():
    classes = {c for c in vars(events).values() if isinstance(c, type) and issubclass(c, events.Event)} - {events.Event}
    assert {c.__name__ for c in classes} <= set(events.__all__)
    assert classes == {cls for _, cls in NATIVE.values()} | {
        events.Resolved,
        events.ResolveFailed,
        events.HealthChanged,
    }


@pytest.mark.parametrize(
    ("kind", "values"), [("nonsense", {}), ("session_up", {}), ("tun_lost", {"extra": 1}), ("lost", {"number": 1})]
)
def test_a_module_that_does_not_fit_is_named(kind, values):
    with pytest.raises(Error, match="reinstall"):
        from_native(kind, 0.0, values)


def tick(number):
    return Failed(time=float(number), reason=str(number))


async def test_each_subscriber_gets_every_event_in_order():
    broadcaster = Broadcaster()
    one, two = broadcaster.subscribe(), broadcaster.subscribe()
    broadcaster.publish(tick(1))
    late = broadcaster.subscribe()
    broadcaster.publish(tick(2))
    broadcaster.close()
    assert [e.time for e in [event async for event in one]] == [1, 2]
    assert [e.time for e in [event async for event in two]] == [1, 2]
    assert [e.time for e in [event async for event in late]] == [2]


async def test_a_slow_subscriber_loses_the_oldest_and_is_told_how_many():
    broadcaster = Broadcaster(limit=3)
    slow = broadcaster.subscribe()
    for number in range(10):
        broadcaster.publish(tick(number))
    broadcaster.close()
    got = [event async for event in slow]
    assert got[0] == EventsLost(time=6.0, count=7)
    assert [e.time for e in got[1:]] == [7, 8, 9]


async def test_a_lost_note_that_is_lost_itself_still_counts():
    broadcaster = Broadcaster(limit=1)
    slow = broadcaster.subscribe()
    broadcaster.publish(EventsLost(time=0.0, count=5))
    broadcaster.publish(tick(1))
    broadcaster.publish(tick(2))
    assert await anext(slow) == EventsLost(time=1.0, count=6)
    assert await anext(slow) == tick(2)


async def test_a_waiting_subscriber_wakes_up():
    broadcaster = Broadcaster()
    subscription = broadcaster.subscribe()
    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    assert not waiting.done()
    broadcaster.publish(SessionUp(time=1.0, peer=PEER, initiator=False))
    assert await asyncio.wait_for(waiting, 5) == SessionUp(time=1.0, peer=PEER, initiator=False)


async def test_closing_wakes_and_ends_every_waiter():
    broadcaster = Broadcaster()
    subscription = broadcaster.subscribe()
    waiting = [asyncio.ensure_future(anext(subscription, None)) for _ in range(3)]
    await asyncio.sleep(0)
    broadcaster.close()
    assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [None, None, None]
    assert [event async for event in broadcaster.subscribe()] == []


async def test_a_closed_subscription_takes_no_more():
    broadcaster = Broadcaster()
    async with broadcaster.subscribe() as subscription:
        broadcaster.publish(tick(1))
    broadcaster.publish(tick(2))
    assert subscription.closed
    assert [e.time for e in [event async for event in subscription]] == [1]


async def test_a_forgotten_subscription_costs_nothing():
    broadcaster = Broadcaster()
    subscription = broadcaster.subscribe()
    del subscription
    gc.collect()
    broadcaster.publish(ConfigChanged(time=0.0))
    assert len(broadcaster) == 0
