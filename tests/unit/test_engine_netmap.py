"""An engine by netmap: what it asks of its parts and in which order, who owns an address, pings, lazy peers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from wgengine import Config, ConfigError, Engine, Peer, PrivateKey, ReconfigError
from wgengine.dns_config import DNSConfig
from wgengine.events import Event, HealthChanged, Subscription
from wgengine.fakes import FakeNetMonitor
from wgengine.knobs import Knobs
from wgengine.netmap import NetMap
from wgengine.prefs import Prefs
from wgengine.router_config import RouterConfig
from wgengine.subsystem import LinkChange

KEYS = [PrivateKey.generate() for _ in range(3)]


@dataclass
class Recorder:
    """Parts that write down what they are told, all in one list; `failing` names calls that raise."""

    told: list[tuple[Any, ...]] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)

    def note(self, name: str, *args: Any) -> None:
        self.told.append((name, *args))
        if name in self.failing:
            raise OSError(5, f"{name} failed on purpose")

    def names(self) -> list[str]:
        names, self.told = [name for name, *_ in self.told], []
        return names


class Router:
    def __init__(self, recorder: Recorder) -> None:
        self.note = recorder.note

    def up(self) -> None:
        self.note("router.up")

    def set(self, config: RouterConfig | None) -> None:
        self.note("router.set", config)

    def close(self) -> None:
        self.note("router.close")


class DNS:
    def __init__(self, recorder: Recorder) -> None:
        self.note = recorder.note

    async def set(self, config: DNSConfig) -> None:
        self.note("dns.set", config)

    def flush_caches(self) -> None:
        self.note("dns.flush")

    def down(self) -> None:
        self.note("dns.down")


class Bird:
    def __init__(self, recorder: Recorder) -> None:
        self.note = recorder.note

    def enable_protocol(self, protocol: str) -> None:
        self.note("bird.enable", protocol)

    def disable_protocol(self, protocol: str) -> None:
        self.note("bird.disable", protocol)

    def close(self) -> None:
        self.note("bird.close")


def node(number: int, **more: Any) -> dict[str, Any]:
    return {
        "ID": number,
        "StableID": f"n{number}",
        "Name": f"node{number}.example.net.",
        "ComputedName": f"node{number}",
        "Key": f"nodekey:{KEYS[number].public_key.to_hex()}",
        "Addresses": [f"100.64.0.{number + 1}/32"],
        "AllowedIPs": [f"100.64.0.{number + 1}/32"],
        "IsWireGuardOnly": True,
        **more,
    }


def netmap(own: int, *peers: dict[str, Any], revision: int | None = None, **more: Any) -> NetMap:
    document: dict[str, Any] = {
        "PrivateKey": f"privkey:{KEYS[own].to_hex()}",
        "SelfNode": node(own, **more),
        "Peers": list(peers),
    }
    return NetMap.from_dict(document | ({} if revision is None else {"revision": revision}))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def engine(recorder: Recorder) -> AsyncIterator[Engine]:
    parts: dict[str, Any] = {"router": Router(recorder), "dns": DNS(recorder), "bird": Bird(recorder)}
    async with Engine(mode="fake", netmon=FakeNetMonitor(), **parts) as engine:
        yield engine


async def test_the_parts_are_told_in_order_and_only_what_changed(engine: Engine, recorder: Recorder) -> None:
    assert recorder.names() == ["bird.disable", "router.up", "router.set"]
    subnets = {"PrimaryRoutes": ["10.0.0.0/8"], "Hostinfo": {"RoutableIPs": ["10.0.0.0/8"]}}
    first = netmap(0, node(1), **subnets)
    changes = await engine.apply(first)
    assert changes
    assert recorder.names() == ["router.set", "dns.set", "bird.enable"]
    assert not await engine.apply(first)
    assert not await engine.apply(netmap(0, node(1), **subnets)), "equal, though parsed anew"
    assert recorder.names() == []
    lines = list(await engine.apply(netmap(0, node(1), node(2))))
    assert lines[0] == f"+ peer {KEYS[2].public_key} allowed_ips 100.64.0.3/32"
    assert lines[-1] == "- BIRD protocol tailscale"
    assert recorder.names() == ["router.set", "dns.set", "bird.disable"]
    await engine.close()
    assert recorder.names() == ["dns.down", "router.close", "bird.disable", "bird.close"]


async def test_row_01_02_what_a_part_refuses_is_asked_again_and_keeps_no_other(
    engine: Engine, recorder: Recorder
) -> None:
    recorder.names()
    recorder.failing = {"router.set"}
    with pytest.raises(ReconfigError, match="not as configured") as caught:
        await engine.apply(netmap(0, node(1)))
    assert [str(error) for error in caught.value.exceptions] == ["[Errno 5] router.set failed on purpose"]
    assert recorder.names() == ["router.set", "dns.set"]
    assert any("peer" in line for line in caught.value.changes), "the device took its share"
    recorder.failing = set()
    assert await engine.apply(netmap(0, node(1)))
    assert recorder.names() == ["router.set", "dns.set"]


async def test_health_and_metrics_tell_of_what_a_part_refuses(engine: Engine, recorder: Recorder) -> None:
    recorder.failing = {"dns.set"}
    events = engine.events()
    with pytest.raises(ReconfigError):
        await engine.apply(netmap(0, node(1)))
    assert "dns" in engine.health.current()
    assert any("dns.set failed on purpose" in text for text in engine.health.strings())
    assert (await engine.status()).health == tuple(engine.health.strings())
    text = await engine.metrics_text()
    assert 'wgengine_reconfigs_total{result="error"} 1' in text
    assert 'wgengine_peers{state="trimmed"} 1' in text
    recorder.failing = set()
    await engine.apply(netmap(0, node(1)))
    assert "dns" not in engine.health.current()
    assert 'wgengine_reconfigs_total{result="changed"} 1' in await engine.metrics_text()
    told = [event async for event in closing(engine, events)]
    assert [event.healthy for event in told if isinstance(event, HealthChanged) and event.code == "dns"] == [
        False,
        True,
    ]


async def closing(engine: Engine, events: Subscription) -> AsyncIterator[Event]:
    """What was told up to the engine's end."""
    await engine.close()
    async for event in events:
        yield event


async def test_row_03_nothing_is_changed_with_an_automatic_port(engine: Engine) -> None:
    configs = Config(private_key=KEYS[0]), RouterConfig(), DNSConfig()
    assert await engine.reconfig(*configs)
    assert not await engine.reconfig(*configs)


async def test_a_port_is_drawn_anew_by_a_knob_and_comes_back() -> None:
    async with Engine.fake() as engine:
        bare = Config(private_key=KEYS[0], listen_port=0), RouterConfig(), DNSConfig()
        await engine.reconfig(*bare)
        port = (await engine.status()).listen_port
        fixed = Config(private_key=KEYS[0], listen_port=port), RouterConfig(), DNSConfig()
        await engine.reconfig(*fixed)
        engine.set_knobs(Knobs(randomize_client_port=True))
        assert await engine.reconfig(*fixed)
        assert (await engine.status()).listen_port != port
        engine.set_knobs(Knobs())
        await engine.reconfig(*fixed)
        assert (await engine.status()).listen_port == port


async def test_an_old_netmap_is_refused_and_the_last_one_stays(engine: Engine) -> None:
    await engine.apply(netmap(0, node(1), revision=7))
    with pytest.raises(ConfigError, match="6 is lower than 7") as caught:
        await engine.apply(netmap(0, node(2), revision=6))
    assert caught.value.field == "revision"
    assert [peer.public_key for peer in (await engine.status()).peers] == [KEYS[1].public_key]


async def test_who_owns_an_address_and_whose_it_is(engine: Engine) -> None:
    subnet = node(2, AllowedIPs=["100.64.0.3/32", "10.1.0.0/16"], PrimaryRoutes=["10.1.0.0/16"])
    await engine.apply(netmap(0, node(1), subnet), prefs=Prefs(accept_routes=True))
    found = engine.peer_for_ip("10.1.2.3")
    assert found is not None
    assert (found.node.key, found.route, found.is_self) == (KEYS[2].public_key, "10.1.0.0/16", False)
    assert engine.peer_for_ip("10.2.0.1") is None
    own = engine.whois("100.64.0.1")
    assert own is not None
    assert own.is_self
    assert own.node is not None
    assert own.node.name == "node0.example.net."


async def test_row_13_link_changes_are_followed_in_order_and_closing_waits(recorder: Recorder) -> None:
    monitor = FakeNetMonitor()
    async with Engine(mode="fake", netmon=monitor, dns=DNS(recorder), router=Router(recorder)) as engine:
        await engine.apply(netmap(0, node(1)))
        recorder.names()
        monitor.inject(LinkChange(any_interface_up=True))
        monitor.inject(LinkChange(any_interface_up=False))
        monitor.inject(LinkChange(any_interface_up=True, rebind_likely_required=True))
        while len(recorder.told) < 3:
            await asyncio.sleep(0.01)
        assert recorder.names() == ["dns.flush", "dns.flush", "dns.set"]
        running, finish = asyncio.Event(), asyncio.Event()

        async def slow_flush() -> None:
            running.set()
            await finish.wait()
            recorder.note("flushed")

        engine._parts.dns.flush_caches = slow_flush  # type: ignore[method-assign]
        monitor.inject(LinkChange(any_interface_up=False))
        await running.wait()
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        finish.set()
        await closing
        assert recorder.names()[0] == "flushed"


async def test_a_major_change_sets_the_dns_of_a_plain_configuration_again(recorder: Recorder) -> None:
    monitor = FakeNetMonitor()
    async with Engine(mode="fake", netmon=monitor, dns=DNS(recorder)) as engine:
        await engine.apply(Config(private_key=KEYS[0], dns=["192.0.2.53"]))
        ((_, wanted),) = recorder.told
        recorder.names()
        monitor.inject(LinkChange(any_interface_up=True, rebind_likely_required=True))
        await engine._link_changes.settled()
        while len(recorder.told) < 2:
            await asyncio.sleep(0.01)
        assert recorder.told == [("dns.flush",), ("dns.set", wanted)]


async def test_the_status_is_told_once_for_many_requests() -> None:
    async with Engine.fake() as engine:
        told: list[Any] = []
        again = engine.on_status(lambda status, error: told.append((status, error)))
        for _ in range(10):
            engine.request_status()
        await asyncio.sleep(0.1)
        assert 1 <= len(told) <= 2
        assert all(error is None for _, error in told)
        again()
        engine.request_status()
        await asyncio.sleep(0.05)
        assert len(told) <= 2


async def test_row_12_reset_and_stop_takes_all_away_within_its_time(engine: Engine, recorder: Recorder) -> None:
    await engine.apply(netmap(0, node(1)))
    recorder.names()
    status = await engine.reset_and_stop(timeout=5)
    assert status.peers == ()
    assert recorder.told[0] == ("router.set", RouterConfig())
    assert recorder.names() == ["router.set", "dns.set"]


class TestTwoEngines:
    """Two engines, each with its UDP port on loopback, and no interface."""

    @pytest.fixture
    async def pair(self) -> AsyncIterator[tuple[Engine, Engine]]:
        async with Engine.fake() as one, Engine.fake() as other:
            ends = (one, other)
            for number, engine in enumerate(ends):
                await engine.apply(netmap(number))
            ports = [(await engine.status()).listen_port for engine in ends]
            for number, engine in enumerate(ends):
                peer = node(1 - number, Endpoints=[f"127.0.0.1:{ports[1 - number]}"])
                await engine.apply(netmap(number, peer))
            yield ends

    @pytest.mark.parametrize("kind", ["tsmp", "icmp", "auto"])
    async def test_a_ping_is_answered(self, pair: tuple[Engine, Engine], kind: Any) -> None:
        result = await pair[0].ping("100.64.0.2", kind=kind)
        assert result.ok, result.error
        assert result.latency is not None
        assert result.latency > 0
        assert result.node_name == "node1.example.net."
        assert result.endpoint is not None
        assert result.endpoint.startswith("127.0.0.1:")

    async def test_row_09_every_ping_has_one_result(self, pair: tuple[Engine, Engine]) -> None:
        one, other = pair
        assert "no matching peer" in str((await one.ping("100.64.0.9")).error)
        assert (await one.ping("100.64.0.1")).is_local
        assert "tsmp or icmp" in str((await one.ping("100.64.0.2", kind="peerapi")).error)
        await other.close()
        result = await one.ping("100.64.0.2", timeout=0.2)
        assert result.error == "timed out"
        with pytest.raises(TimeoutError):
            result.raise_for_error()
        waiting = asyncio.create_task(one.ping("100.64.0.2", timeout=30))
        await asyncio.sleep(0.05)
        await one.close()
        assert (await waiting).error == "the engine was closed meanwhile"

    async def test_peers_come_trimmed_and_traffic_wakes_them(self, pair: tuple[Engine, Engine]) -> None:
        one, other = pair
        (peer,) = (await one.status(full=True)).peers
        assert (peer.trimmed, peer.name) == (True, "node1")
        assert (await one.ping("100.64.0.2")).ok, "the first packet is not lost"
        await asyncio.sleep(0.1)
        for engine in (one, other):
            (peer,) = (await engine.status()).peers
            assert not peer.trimmed


async def test_a_plain_configuration_is_never_trimmed() -> None:
    config = Config(private_key=KEYS[0], peers=(Peer(public_key=KEYS[1].public_key, allowed_ips=["10.0.0.0/8"]),))
    async with Engine(config, mode="fake") as engine:
        (peer,) = (await engine.status()).peers
        assert not peer.trimmed
