"""A real engine behind the control socket: its status, its events, its changes, its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from served import Fake
from wgengine import Changes, Config, ConfigError, Engine, Peer, PrivateKey, Subscription
from wgengine.cli.table import render
from wgengine.control.client import Client
from wgengine.control.server import ControlServer

KEY, PEER = PrivateKey.generate(), PrivateKey.generate().public_key


class Desk(Fake):
    """A real engine where the fake would make things up."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    async def status(self) -> object:
        return await self.engine.status()

    def events(self) -> Subscription:
        return self.engine.events()

    async def reconfigure(self, text: str, *, document: str, prefs: Mapping[str, Any] | None, dry_run: bool) -> Changes:
        config = Config.from_text(text)
        return self.engine.plan(config) if dry_run else await self.engine.apply(config)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(Config(private_key=KEY), mode="memory", name="wg0") as engine:
        yield engine


@pytest.fixture
async def client(engine: Engine, tmp_path: Path) -> AsyncIterator[Client]:
    async with ControlServer(Desk(engine), "wg0", path=str(tmp_path / "wg0.sock")) as server:
        client = await asyncio.to_thread(Client, server.path)
        yield client
        client.close()


async def test_status_is_the_engines_own_and_has_its_table(engine: Engine, client: Client) -> None:
    await engine.apply(Config(private_key=KEY, peers=(Peer(public_key=PEER, allowed_ips=("10.0.0.0/8",)),)))
    told = await asyncio.to_thread(client.status)
    own = (await engine.status()).as_dict()
    assert {**told, "time": 0, "counters": {}} == {**own, "time": 0, "counters": {}}
    text = render(told, told["time"])
    assert str(PEER)[:12] + "…  10.0.0.0/8  -" in text
    assert KEY.to_base64() not in text + repr(told)


async def test_changes_are_the_engines_own_and_a_dry_run_makes_none(engine: Engine, client: Client) -> None:
    text = Config(private_key=KEY, listen_port=51820, peers=(Peer(public_key=PEER),)).to_text()
    lines = [f"+ peer {PEER}"]

    def ask(dry_run: bool) -> Changes:
        return client.reconfigure(text, document="conf", dry_run=dry_run)

    planned = await asyncio.to_thread(ask, True)
    assert list(planned)[-1:] == lines
    assert (await engine.status()).peers == ()
    assert list(await asyncio.to_thread(ask, False)) == list(planned)
    assert [peer.public_key for peer in (await engine.status()).peers] == [PEER]
    assert not await asyncio.to_thread(ask, False)


async def test_mistake_in_a_document_names_its_line_and_changes_nothing(engine: Engine, client: Client) -> None:
    before = (await engine.status()).public_key
    with pytest.raises(ConfigError, match="Frobnicate") as caught:
        await asyncio.to_thread(client.reconfigure, "[Interface]\nFrobnicate = 1\n", document="conf")
    assert caught.value.line == 2
    assert (await engine.status()).public_key == before


async def test_events_go_on_until_the_engine_is_closed(engine: Engine, client: Client) -> None:
    events = client.events()
    following = asyncio.create_task(asyncio.to_thread(list, events))
    while not len(engine._broadcaster):
        await asyncio.sleep(0.001)
    await engine.close()
    assert await following == []
