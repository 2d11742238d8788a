"""Health on an event loop: told as it happens, watched, and waited for."""

import asyncio

import pytest
from wgengine.errors import ClosedError, TimedOutError
from wgengine.events import EndpointChanged, Failed, HandshakeFailed, LinkChanged, Resolved, SessionUp, TunLost
from wgengine.health import Health, Warnable
from wgengine.health.warnable import WARNABLES
from wgengine.keys import PublicKey

PEER = PublicKey.from_bytes(bytes([7]) * 32)
SLOW = Warnable(code="slow", title="Slow", text="slow", time_to_visible=0.02)


class Clock:
    """Goes on by the loop's clock, and by what is added."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return asyncio.get_running_loop().time() + self.ahead


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def health(clock):
    made = Health(name=lambda peer: "seven", clock=clock)
    yield made
    made.close()


@pytest.fixture
async def said(health):
    """What is published, from a health that is past its start."""
    said = []
    health.start(said.append)
    health.update(running=True)
    said.clear()
    return said


async def test_before_the_start_it_listens_and_says_nothing(health):
    health.update(router_error="busy")
    said = []
    health.start(said.append)
    assert [event.code for event in said] == ["router", "warming-up"]
    assert said[0].text.startswith("Addresses, routes or firewall are not as configured: busy.")
    assert not said[0].healthy


async def test_a_fact_is_told_when_it_comes_and_when_it_goes(health, said):
    health.update(dns_error="refused")
    health.update(dns_error="refused")
    health.update(dns_error="timed out")
    health.update(dns_error="")
    assert [(event.code, event.healthy) for event in said] == [("dns", False), ("dns", False), ("dns", True)]
    assert ["refused" in said[0].text, "timed out" in said[1].text, said[2].text] == [True, True, ""]


async def test_events_of_the_engine_become_warnings(health, said, clock):
    clock.ahead += 1
    health.feed(HandshakeFailed(time=0, peer=PEER))
    assert list(health.current()) == ["peer-handshake-failing"]
    assert "seven" in health.strings()[0]
    clock.ahead += 1
    health.feed(SessionUp(time=0, peer=PEER, initiator=True))
    assert health.current() == {}
    health.feed(LinkChanged(time=0, up=False, mtu=1420))
    assert list(health.current()) == ["own-interface-damaged"]
    health.feed(LinkChanged(time=0, up=True, mtu=1420))
    assert health.overall_error() is None
    health.feed(Failed(time=0, reason="panic"))
    assert "panic" in str(health.overall_error())
    health.feed(TunLost(time=0))
    assert "its interface is gone" in str(health.overall_error())


async def test_a_removed_peer_is_no_warning(health, said, clock):
    clock.ahead += 1
    health.feed(HandshakeFailed(time=0, peer=PEER))
    clock.ahead += 1
    health.forget([PEER])
    assert [event.healthy for event in said] == [False, True]


async def test_very_many_troubles_of_peers_are_told_together(health, said, clock):
    clock.ahead += 1
    for number in range(1000):
        health.feed(HandshakeFailed(time=0, peer=PublicKey.from_bytes(number.to_bytes(32, "big"))))
    assert len(said) == 1
    watching = health.watch()
    await anext(watching)
    (state,) = (await asyncio.wait_for(anext(watching), 20)).values()  # a timer tells of the others
    assert state.text.startswith(
        "Packets wait for peers that do not answer: seven, seven, seven, seven, seven and 995 more."
    )
    assert len(said) == 2
    await watching.aclose()


async def test_events_that_change_nothing_cost_nothing(health, said, clock, monkeypatch):
    clock.ahead += 1
    monkeypatch.setattr(health, "_settle", lambda: pytest.fail("judged for nothing"))
    health.feed(SessionUp(time=0, peer=PEER, initiator=True))
    health.feed(Resolved(time=0, peer=PEER, host="x", endpoint="192.0.2.1:1"))
    health.feed(EndpointChanged(time=0, peer=PEER, endpoint="192.0.2.1:1"))
    health.forget([PEER])


async def test_what_must_last_is_told_by_the_clock(health, said):
    health.register(SLOW)
    health.set_unhealthy(SLOW)
    assert said == []
    await asyncio.wait_for(health.wait_until_healthy(codes=["slow"]), 5)  # it is not shown yet
    async with asyncio.timeout(5):
        async for state in health.watch():
            if "slow" in state:
                break
    assert [event.code for event in said] == ["slow"]
    health.set_healthy(SLOW)
    assert [event.healthy for event in said] == [False, True]


async def test_warming_up_is_over_by_itself_after_its_time():
    now = 1000.0
    health = Health(clock=lambda: now)
    health.start()
    assert list(health.current()) == ["warming-up"]
    assert health._timer is not None
    now += 5.0
    health._settle()  # what the timer calls
    assert health.current() == {}
    assert health._timer is None
    health.close()


async def test_a_watcher_sees_the_present_first_and_then_the_newest(health, said):
    health.update(router_error="a")
    watching = health.watch()
    assert list(await anext(watching)) == ["router"]
    waiting = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0)
    assert not waiting.done()
    health.update(router_error="b", dns_error="c")
    health.update(router_error="")
    assert list(await asyncio.wait_for(waiting, 5)) == ["dns"]
    health.update(dns_error="")
    assert await asyncio.wait_for(anext(watching), 5) == {}
    await watching.aclose()


async def test_closing_ends_every_watcher(health, said):
    async def all_of_it():
        return [list(state) async for state in health.watch()]

    watching = asyncio.ensure_future(all_of_it())
    await asyncio.sleep(0)
    health.close()
    assert await asyncio.wait_for(watching, 5) == [[]]
    health.update(router_error="late")
    assert said == []


async def test_waiting_ends_when_it_is_healthy(health, said):
    await health.wait_until_healthy(0)
    health.update(router_error="a", dns_error="b")
    waiting = asyncio.ensure_future(health.wait_until_healthy(codes=["router"]))
    await asyncio.sleep(0)
    health.update(dns_error="c")
    await asyncio.sleep(0)
    assert not waiting.done()
    health.update(router_error="")
    await asyncio.wait_for(waiting, 5)


async def test_waiting_has_an_end_and_says_what_is_wrong(health, said):
    health.update(router_error="a", dns_error="b")
    with pytest.raises(TimedOutError, match=r"0\.01 s: dns, router"):
        await health.wait_until_healthy(0.01)
    with pytest.raises(ValueError, match="nonsense"):
        await health.wait_until_healthy(codes=["nonsense"])


async def test_who_waits_is_told_of_the_close(health, said):
    health.update(router_error="a")
    waiting = asyncio.ensure_future(health.wait_until_healthy())
    await asyncio.sleep(0)
    health.close()
    with pytest.raises(ClosedError):
        await asyncio.wait_for(waiting, 5)


async def test_the_snapshot_and_the_severities(health, said):
    health.update(forwarding_off=("net.ipv4.ip_forward",))
    assert list(health.snapshot()) == ["Warnings"]
    assert health.snapshot()["Warnings"]["ip-forwarding-off"]["Args"] == {"settings": "net.ipv4.ip_forward"}
    assert health.debug_flags() == ["warn-ip-forwarding-off"]
    severities = health.severities()
    assert severities.keys() == {warnable.code for warnable in WARNABLES}
    assert severities["ip-forwarding-off"] == ("medium", True)
    assert severities["tun-permission"] == ("high", False)


async def test_a_listener_that_sets_facts_itself_is_served():
    said = []
    health = Health()

    def publish(event):
        said.append((event.code, event.healthy))
        if event.code == "router" and not event.healthy:
            health.update(router_error="")

    health.start(publish)
    health.update(running=True)
    said.clear()
    health.update(router_error="a")
    assert said == [("router", False), ("router", True)]
    assert health.current() == {}
    health.close()
