"""Pings: what is asked of whom, and exactly one result for each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from served import NETMAP
from wgengine import ping
from wgengine._native import Device, PeerPlan, Plan
from wgengine.config import Config, Peer
from wgengine.errors import ClosedError, ConfigError, StateError, TimedOutError
from wgengine.events import Pong, SessionUp, from_native
from wgengine.keys import PrivateKey
from wgengine.peers import PeerIndex
from wgengine.ping import Ask, PingResult, Pings, ask

ALICE = NETMAP.peers[0]
KEY = PrivateKey.generate()


def index(*, netmap: bool = True, routes: tuple[str, ...] = ("10.0.0.0/8",)) -> PeerIndex:
    made = PeerIndex()
    made.set_netmap(NETMAP if netmap else None)
    made.set_config(
        Config(private_key=KEY, peers=(Peer(public_key=ALICE.key, allowed_ips=(*ALICE.allowed_ips, *routes)),))
    )
    return made


def asked(ip: str, kind: str = "auto", own: tuple[str, ...] = (), **how: Any) -> Ask | PingResult:
    return ask(ip, kind=kind, size=how.pop("size", 0), timeout=how.pop("timeout", 5), index=index(**how), own=own)


@pytest.mark.parametrize(
    ("ip", "source", "destination"),
    [
        ("100.64.0.2", "100.64.0.1", "100.64.0.2"),
        ("::ffff:100.64.0.2", "100.64.0.1", "100.64.0.2"),
        ("FD7A:115C:A1E0::2", "fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2"),
        ("10.1.2.3", "100.64.0.1", "10.1.2.3"),
    ],
)
def test_it_goes_from_our_own_address_of_that_family(ip: str, source: str, destination: str) -> None:
    assert asked(ip, "tsmp") == Ask(
        kind="tsmp", source=source, destination=destination, timeout=5, node_name="alice.example.net."
    )


def test_auto_is_icmp_where_there_are_no_paths() -> None:
    made = asked("100.64.0.2")
    assert isinstance(made, Ask)
    assert made.kind == "icmp"


def test_without_a_netmap_the_interfaces_addresses_serve() -> None:
    made = asked("10.1.2.3", netmap=False, own=("fd00::1/64", "10.0.0.1/24"))
    assert made == Ask(kind="icmp", source="10.0.0.1", destination="10.1.2.3", timeout=5, node_name=None)
    mine = asked("10.0.0.1", netmap=False, own=("10.0.0.1/24",))
    assert isinstance(mine, PingResult)
    assert mine.is_local


@pytest.mark.parametrize(
    ("ip", "kind", "how", "error"),
    [
        ("100.64.0.1", "icmp", {}, "100.64.0.1 is this node's own"),
        ("192.0.2.1", "icmp", {}, "no matching peer: no node has this address, and no route leads to it"),
        ("100.64.0.2", "disco", {}, "there is no disco here yet; ping by tsmp or icmp"),
        ("10.1.2.3", "icmp", {"netmap": False}, "this node has no IPv4 address in the tunnel to ask from"),
        (
            "fd00::1",
            "icmp",
            {"netmap": False, "routes": ("fd00::/8",), "own": ("10.0.0.1/8",)},
            "this node has no IPv6 address in the tunnel to ask from",
        ),
    ],
)
def test_what_cannot_be_sent_is_a_result_that_says_why(ip: str, kind: str, how: dict[str, Any], error: str) -> None:
    made = asked(ip, kind, **how)
    assert isinstance(made, PingResult)
    assert (made.error, made.latency, made.ok) == (error, None, False)
    assert made.is_local == (ip == "100.64.0.1")


def test_row_09_a_kind_that_is_not_there_has_a_result_too() -> None:
    """The seed never answers a `peerapi` ping."""
    made = asked("100.64.0.2", "peerapi")
    assert isinstance(made, PingResult)
    assert made.error == "there is no peerapi here yet; ping by tsmp or icmp"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"ip": "alice"}, "ip"),
        ({"ip": "100.64.0.2/32"}, "ip"),
        ({"kind": "smoke"}, "kind"),
        ({"size": -1}, "size"),
        ({"size": True}, "size"),
        ({"size": 65_001}, "size"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": 3601}, "timeout"),
        ({"timeout": True}, "timeout"),
    ],
)
def test_argument_that_is_none_is_named(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        asked(**{"ip": "100.64.0.2", **arguments})
    assert caught.value.field == field


# -- One result for each.

ASK = Ask(kind="tsmp", source="100.64.0.1", destination="100.64.0.2", timeout=5, node_name="alice")


def pong(token: int, port: int | None = None) -> Pong:
    return Pong(time=0.0, token=token, peer=ALICE.key, kind="tsmp", latency=0.25, peer_api_port=port)


async def under_way(pings: Pings, count: int = 1) -> list[asyncio.Task[PingResult]]:
    tasks = [asyncio.create_task(pings.send(ASK, lambda *_, token=n: token)) for n in range(count)]  # type: ignore[misc]
    while len(pings) < count:
        await asyncio.sleep(0)
    return tasks


async def test_pong_is_the_result_of_its_own_ping_only() -> None:
    pings = Pings()
    first, second = await under_way(pings, 2)
    for event in (SessionUp(time=0.0, peer=ALICE.key, initiator=True), pong(7), pong(1, 80), pong(1, 81)):
        pings.feed(event)
    result = await second
    assert result == PingResult(
        ip="100.64.0.2", kind="tsmp", latency=0.25, node_ip="100.64.0.2", node_name="alice", peer_api_port=80
    )
    assert not first.done()
    pings.feed(pong(0, 0))
    assert (await first).peer_api_port is None
    assert len(pings) == 0


async def test_row_09_a_ping_that_nobody_answers_has_a_result() -> None:
    pings = Pings()
    (waiting,) = await under_way(pings)
    pings.feed(from_native("ping_expired", 1.0, {"token": 0}))
    assert (await waiting).error == "timed out"


async def test_row_09_a_ping_whose_event_was_lost_has_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ping, "_GRACE_S", -5.0)
    result = await Pings().send(ASK, lambda *_: 1)
    assert result.error == "timed out"


async def test_close_ends_all_and_later_ones_at_once() -> None:
    pings = Pings()
    tasks = await under_way(pings, 3)
    pings.close()
    for result in [*await asyncio.gather(*tasks), await pings.send(ASK, lambda *_: 9)]:
        assert result.error == "the engine was closed meanwhile"
    assert len(pings) == 0


async def test_ping_that_is_given_up_is_forgotten_and_its_pong_is_nobodys() -> None:
    pings = Pings()
    (waiting,) = await under_way(pings)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert len(pings) == 0
    pings.feed(pong(0))


async def test_device_that_cannot_send_it_says_why_in_the_result() -> None:
    def full(*_: object) -> int:
        raise StateError("1024 pings are under way: wait until some have ended")

    result = await Pings().send(ASK, full)
    assert result.error == "1024 pings are under way: wait until some have ended"


@pytest.mark.parametrize(
    ("error", "kind"),
    [("timed out", TimedOutError), ("no matching peer", StateError), ("the engine was closed meanwhile", ClosedError)],
)
def test_result_is_raised_as_what_it_is(error: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"ping 100\.64\.0\.2: "):
        PingResult(ip="100.64.0.2", kind="tsmp", error=error).raise_for_error()
    good = PingResult(ip="100.64.0.2", kind="tsmp", latency=0.1)
    assert good.raise_for_error() is good


def test_result_is_plain_for_json() -> None:
    told = PingResult(ip="100.64.0.2", kind="tsmp", latency=0.5).as_dict()
    assert json.loads(json.dumps(told))["latency"] == 0.5


# -- With a real device.


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    device = Device(memory=True)
    device.commit(Plan(private_key=PrivateKey.generate(), peers=[PeerPlan(ALICE.key, allowed_ips=["100.64.0.2/32"])]))
    yield device
    device.close()


async def test_device_ends_a_ping_by_an_event_that_is_ours(device: Device) -> None:
    pings, loop = Pings(), asyncio.get_running_loop()

    def pump() -> None:
        for kind, when, values in device.drain():
            pings.feed(from_native(kind, when, values))

    loop.add_reader(device.event_fd, pump)
    result = await pings.send(Ask(**{**_fields(ASK), "timeout": 0.05}), device.ping)
    loop.remove_reader(device.event_fd)
    assert (result.error, result.node_name) == ("timed out", "alice")
    elsewhere = await pings.send(Ask(**{**_fields(ASK), "destination": "192.0.2.1"}), device.ping)
    assert elsewhere.error == "no peer's allowed IPs hold 192.0.2.1"


def _fields(asked: Ask) -> dict[str, Any]:
    return {name: getattr(asked, name) for name in ("kind", "source", "destination", "timeout", "node_name")}
