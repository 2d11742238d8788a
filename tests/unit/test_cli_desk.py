"""A real engine behind the control socket, as `wgengine up` puts it there: its status, its changes, its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from wgengine import Changes, Config, ConfigError, Engine, Peer, PrivateKey
from wgengine.cli.desk import Desk, Wanted
from wgengine.cli.table import render
from wgengine.control.client import Client
from wgengine.control.server import ControlServer

if TYPE_CHECKING:
    from wgengine.prefs import Prefs

KEY, PEER = PrivateKey.generate(), PrivateKey.generate().public_key


OWN = PrivateKey.from_hex("01" * 32)
NETMAP = {
    "PrivateKey": f"privkey:{OWN.to_hex()}",
    "SelfNode": {
        "Name": "here.example.net.",
        "Key": f"nodekey:{OWN.public_key.to_hex()}",
        "Addresses": ["100.64.0.1/32"],
    },
    "Peers": [{"Name": "far.example.net.", "Key": f"nodekey:{PEER.to_hex()}", "Addresses": ["100.64.0.2/32"]}],
    "revision": 3,
}


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(Config(private_key=KEY), mode="memory", name="wg0") as engine:
        yield engine


@pytest.fixture
async def client(engine: Engine, tmp_path: Path) -> AsyncIterator[Client]:
    async def apply(wanted: Wanted, prefs: Prefs) -> Changes:
        return await engine.apply(wanted, prefs=prefs)

    async with ControlServer(Desk(engine, apply), "wg0", path=str(tmp_path / "wg0.sock")) as server:
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


@pytest.mark.parametrize(
    ("text", "prefs", "field", "words"),
    [
        ("[Interface]\n", {}, "args.prefs", "only a netmap has preferences"),
        ("[Interface]\nDNS = 192.0.2.53\n", None, None, "cannot do all of this yet"),
    ],
)
async def test_what_up_would_refuse_in_a_file_is_refused(
    client: Client, text: str, prefs: dict[str, Any] | None, field: str | None, words: str
) -> None:
    text = text.replace("]\n", f"]\nPrivateKey = {KEY.to_base64()}\n")
    with pytest.raises(ConfigError, match=words) as caught:
        await asyncio.to_thread(lambda: client.reconfigure(text, document="conf", prefs=prefs))
    assert caught.value.field == field


async def test_netmap_is_taken_whole_or_not_at_all(engine: Engine, client: Client) -> None:
    def give(**changes: Any) -> Changes:
        return client.reconfigure(json.dumps({**NETMAP, **changes}))

    await asyncio.to_thread(give)
    first = engine.netmap
    assert first is not None
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"revision": 2}, "revision"),
        ({"Peers": [*NETMAP["Peers"], NETMAP["Peers"][0]]}, "Peers[1].Key"),  # type: ignore[misc]
        ({"Peers": [{"Key": "nodekey:1"}]}, "Peers[0].Key"),
        ({"Peers": 7}, "Peers"),
    ]
    for changes, field in wrong:
        with pytest.raises(ConfigError) as caught:
            await asyncio.to_thread(lambda changes=changes: give(**changes))
        assert caught.value.field == field
        assert engine.netmap is first


async def test_netmap_without_a_private_key_goes_on_with_ours(engine: Engine, client: Client) -> None:
    without = json.dumps({name: value for name, value in NETMAP.items() if name != "PrivateKey"})
    with pytest.raises(ConfigError, match="private key"):
        await asyncio.to_thread(client.reconfigure, without)
    await asyncio.to_thread(client.reconfigure, json.dumps(NETMAP))
    await asyncio.to_thread(client.reconfigure, without)
    assert engine.netmap is not None
    assert engine.netmap.private_key == OWN


async def test_names_are_the_netmaps(client: Client) -> None:
    with pytest.raises(ConfigError, match="no node and no host"):
        await asyncio.to_thread(client.ping, "far.example.invalid")
    await asyncio.to_thread(client.reconfigure, json.dumps(NETMAP))
    told = await asyncio.to_thread(client.ping, "here")
    assert (told["ip"], told["error"] is None) == ("100.64.0.1", False)
    found = await asyncio.to_thread(client.whois, "100.64.0.2")
    assert found is not None
    assert found["node"]["key"] == str(PEER)


async def test_metrics_are_the_engines_own(client: Client) -> None:
    text = await asyncio.to_thread(client.metrics_text)
    assert 'mode="memory"' in text
    assert "wgengine_handshakes_completed_total 0" in text
