"""One end of the demo: a process with one engine, that does what the demo tells it on standard input.

One JSON object a line: `{"do": "ping", ...}` in; any number of `{"note": ...}` and then `{"ok": ...}` or
`{"error": ...}` out. It lives in its own network namespace if it is told so, and ends when its input ends: whatever
happens to the demo, nothing of it is left behind.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from wgengine import Config, Engine, Peer, PrivateKey, SessionUp, netns
from wgengine.cli import outcome
from wgengine.cli.demo_traffic import KernelTraffic, MemoryTraffic, Note, Traffic
from wgengine.engine import Mode

_OUTER = "wgdemo-wire"
_TUNNEL = "wgdemo"
_MTU = 1420
_HANDSHAKE_WITHIN = 5  # seconds


class End:
    """The engine of this process and what the demo can ask of it: each public method is one command."""

    def __init__(self) -> None:
        self._key = PrivateKey.generate()
        self._config = Config(private_key=self._key)
        self._engine: Engine | None = None
        self._traffic: Traffic | None = None

    async def wire(self, peer_pid: int) -> None:
        """Lays a veth pair from this network namespace into that of another process."""
        from pyroute2 import AsyncIPRoute

        async with AsyncIPRoute() as netlink:
            far = {"ifname": _OUTER, "net_ns_pid": peer_pid}
            await netlink.link("add", ifname=_OUTER, kind="veth", peer=far)

    async def outside(self, address: str) -> None:
        """Gives this end of the veth pair its address."""
        from pyroute2 import AsyncIPRoute

        async with AsyncIPRoute() as netlink:
            for name in ("lo", _OUTER):
                index = (await netlink.link_lookup(ifname=name))[0]
                if name == _OUTER:
                    await netlink.addr("add", index=index, address=address, prefixlen=24)
                await netlink.link("set", index=index, state="up")

    async def start(self, mode: Mode, inside: str, listen_port: int) -> dict[str, Any]:
        """Starts the engine without a peer; answers with its public key and its port."""
        self._config = Config(private_key=self._key, listen_port=listen_port, addresses=[f"{inside}/24"], mtu=_MTU)
        name = _TUNNEL if mode == "tun" else None
        self._engine = Engine(self._config, mode=mode, name=name, uapi=False)
        await self._engine.__aenter__()
        status = await self._engine.status()
        return {"public_key": self._key.public_key.to_base64(), "listen_port": status.listen_port}

    async def connect(self, mode: Mode, inside: str, other: str, peer: str, endpoint: str) -> None:
        """Tells the engine about its peer and opens what the traffic needs."""
        engine = self._running()
        known = Peer(public_key=peer, endpoint=endpoint, allowed_ips=[f"{other}/32"])
        await engine.apply(self._config.with_peer(known))
        if mode == "tun":
            self._traffic = KernelTraffic(inside, other)
        else:
            assert engine.memory_fd is not None
            self._traffic = MemoryTraffic(engine.memory_fd, inside, other, _MTU)

    async def handshake(self) -> dict[str, Any]:
        """Sends the first packet; answers with how long it took until the session was up."""
        events = self._running().events()
        began = time.time()
        ping = asyncio.create_task(asyncio.to_thread(self._moving().ping, 1))
        try:
            async with asyncio.timeout(_HANDSHAKE_WITHIN):
                up = await anext(event async for event in events if isinstance(event, SessionUp))
        except TimeoutError:
            raise ConnectionError(f"no session within {_HANDSHAKE_WITHIN} s; does UDP get through here?") from None
        await ping
        return {"seconds": max(up.time - began, 0.0)}

    async def ping(self, count: int) -> dict[str, Any]:
        """Answers with the round trips in seconds."""
        return {"round_trips": await asyncio.to_thread(self._moving().ping, count)}

    async def send(self, seconds: float) -> None:
        """Sends as fast as it can."""
        await asyncio.to_thread(self._moving().send, seconds)

    async def receive(self) -> dict[str, Any]:
        """Counts what comes; notes the bytes and seconds so far."""
        note: Note = _note
        transfer = await asyncio.to_thread(self._moving().receive, note)
        return transfer._asdict()

    async def status(self) -> dict[str, Any]:
        """The engine's status, as plain values and as text."""
        status = await self._running().status()
        return {"values": status.as_dict(), "text": status.render()}

    async def close(self) -> None:
        """Ends the engine; its interface goes with it."""
        if self._traffic is not None:
            await asyncio.to_thread(self._traffic.close)
        if self._engine is not None:
            await self._engine.close()

    def _running(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("`start` comes first")
        return self._engine

    def _moving(self) -> Traffic:
        if self._traffic is None:
            raise RuntimeError("`connect` comes first")
        return self._traffic


def _say(message: Mapping[str, Any]) -> None:
    os.write(1, (json.dumps(message) + "\n").encode())


def _note(received: int, seconds: float) -> None:
    _say({"note": {"received": received, "seconds": seconds}})


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    end = End()
    pending: asyncio.Task[None] | None = None
    while line := await commands.readline():
        if pending is not None:
            await pending
        command = json.loads(line)
        pending = asyncio.create_task(_obey(end, command.pop("do"), command))
    # the demo is gone or done; a transfer that still runs in a thread must not keep this process
    try:
        await asyncio.wait_for(end.close(), timeout=3)
    finally:
        os._exit(outcome.OK)


async def _obey(end: End, verb: str, arguments: dict[str, Any]) -> None:
    try:
        _say({"ok": await getattr(end, verb)(**arguments) or {}})
    except Exception as error:
        _say({"error": f"{verb}: {outcome.describe(error)}"})


def main(argv: list[str]) -> int:
    """`demo_end [new | new-user | PID]`: the namespaces to live in; PID is whose user namespace to share."""
    try:
        match argv:
            case []:
                pass
            case ["new"]:
                netns.enter_new()
            case ["new-user"]:
                netns.enter_new(user=True)
            case [pid]:
                netns.join_user_of(int(pid))
                netns.enter_new()
    except OSError as error:
        _say({"error": f"no private network namespace: {outcome.describe(error)}"})
        return outcome.FAILED
    _say({"ok": {"pid": os.getpid()}})
    asyncio.run(_serve())
    return outcome.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
