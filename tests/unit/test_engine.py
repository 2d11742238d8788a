"""The engine, run for real: in-memory devices, real UDP on loopback, real handshakes."""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from wgengine import (
    ClosedError,
    Config,
    ConfigChanged,
    ConfigError,
    Engine,
    Event,
    Failed,
    Knobs,
    Peer,
    PrivateKey,
    Resolved,
    ResolveFailed,
    SessionUp,
    StateError,
    Subscription,
)

A, B, C = (PrivateKey.generate() for _ in range(3))
PLAIN = bytes(10)  # a virtio-net header that asks for nothing


def packet(source: str, target: str, payload: bytes = b"hello") -> bytes:
    """An IPv4 packet with a UDP datagram in it."""
    udp = struct.pack("!HHHH", 4000, 5000, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    head += ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(target).packed
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return head[:10] + struct.pack("!H", checksum) + head[12:] + udp


def send(engine: Engine, inner: bytes) -> None:
    assert engine.memory_fd is not None
    os.write(engine.memory_fd, PLAIN + inner)


async def receive(engine: Engine) -> bytes:
    """The next packet out of the tunnel."""
    assert engine.memory_fd is not None
    ready, _, _ = await asyncio.to_thread(select.select, [engine.memory_fd], [], [], 10)
    assert ready, "no packet within 10 s"
    return os.read(engine.memory_fd, 1 << 17)[10:]


def config_a(*peers: Peer, listen_port: int = 0) -> Config:
    b = Peer(public_key=B.public_key, allowed_ips=["10.0.0.2/32"])
    return Config(private_key=A, listen_port=listen_port, peers=[b, *peers])


def config_b(port: int, host: str = "127.0.0.1") -> Config:
    a = Peer(public_key=A.public_key, allowed_ips=["10.0.0.1/32"], endpoint=f"{host}:{port}")
    return Config(private_key=B, peers=[a])


@asynccontextmanager
async def pair(host: str = "127.0.0.1") -> AsyncIterator[tuple[Engine, Engine]]:
    """Two engines, of which the second knows where the first is."""
    async with Engine(config_a(), mode="memory") as a:
        port = (await a.status()).listen_port
        async with Engine(config_b(port, host), mode="memory") as b:
            yield a, b


async def wait_for(events: Subscription, kind: type[Event]) -> Event:
    async with asyncio.timeout(10):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"the events ended without a {kind.__name__}")


class TestTunnel:
    async def test_packets_go_both_ways(self) -> None:
        async with pair() as (a, b):
            there, back = packet("10.0.0.2", "10.0.0.1"), packet("10.0.0.1", "10.0.0.2", b"and back")
            send(b, there)
            assert await receive(a) == there
            send(a, back)
            assert await receive(b) == back

    async def test_events_and_status_tell_of_the_session(self) -> None:
        async with pair() as (a, b):
            events = b.events()
            send(b, packet("10.0.0.2", "10.0.0.1"))
            up = await wait_for(events, SessionUp)
            assert isinstance(up, SessionUp)
            assert (up.peer, up.initiator) == (A.public_key, True)
            await receive(a)
            status = await a.status()
            peer = status.peer(B.public_key)
            assert peer is not None
            assert peer.rx_bytes > 0
            assert peer.last_handshake == pytest.approx(up.time, abs=5)
            assert peer.endpoint == f"127.0.0.1:{(await b.status()).listen_port}"
            assert (status.state, status.mode, status.public_key) == ("running", "memory", A.public_key)

    async def test_a_source_that_is_not_the_peers_is_dropped_and_counted(self) -> None:
        async with pair() as (a, b):
            send(b, packet("10.9.9.9", "10.0.0.1"))
            send(b, packet("10.0.0.2", "10.0.0.1", b"honest"))
            assert (await receive(a)).endswith(b"honest")
            assert (await a.status()).drops["bad_source"] == 1


class TestApply:
    async def test_the_same_again_changes_nothing(self) -> None:
        async with Engine(config_a(), mode="memory") as engine:
            assert not engine.plan(config_a())
            assert not await engine.apply(config_a())

    async def test_a_plan_is_what_apply_does_and_is_not_done(self) -> None:
        more = config_a(Peer(public_key=C.public_key, allowed_ips=["10.0.0.3/32"]))
        async with Engine(config_a(), mode="memory") as engine:
            plan = engine.plan(more)
            assert list(plan) == [f"+ peer {C.public_key} allowed_ips 10.0.0.3/32"]
            assert (await engine.status()).peer(C.public_key) is None
            assert await engine.apply(more) == plan
            assert (await engine.status()).peer(C.public_key) is not None

    async def test_a_plan_needs_no_running_engine(self) -> None:
        plan = Engine(mode="memory").plan(config_a())
        assert [line[:6] for line in plan] == ["~ priv", "+ peer"]

    async def test_a_change_leaves_the_sessions_of_others_alone(self) -> None:
        async with pair() as (a, b):
            events = a.events()
            send(b, packet("10.0.0.2", "10.0.0.1"))
            await receive(a)
            await a.apply(config_a(Peer(public_key=C.public_key, allowed_ips=["10.0.0.3/32"])))
            send(b, packet("10.0.0.2", "10.0.0.1", b"still"))
            assert (await receive(a)).endswith(b"still")
            events.close()
            assert len([event async for event in events if isinstance(event, SessionUp)]) == 1

    async def test_a_peer_that_goes_and_comes_is_met_again(self) -> None:
        async with pair() as (a, b):
            send(b, packet("10.0.0.2", "10.0.0.1"))
            await receive(a)
            await a.apply(Config(private_key=A))
            assert (await a.status()).peers == ()
            await a.apply(config_a())
            port = (await b.status()).listen_port
            await a.apply(
                Config(
                    private_key=A,
                    peers=[Peer(public_key=B.public_key, allowed_ips=["10.0.0.2/32"], endpoint=f"127.0.0.1:{port}")],
                )
            )
            send(a, packet("10.0.0.1", "10.0.0.2", b"again"))
            assert (await receive(b)).endswith(b"again")

    async def test_a_port_in_use_is_an_oserror_and_changes_nothing(self) -> None:
        async with pair() as (a, b):
            port = (await a.status()).listen_port
            before = (await b.status()).listen_port
            wanted = config_b(port).replace(listen_port=port)
            with pytest.raises(OSError, match=str(port)) as caught:
                await b.apply(wanted)
            assert caught.value.errno == errno.EADDRINUSE
            assert (await b.status()).listen_port == before
            assert list(b.plan(wanted)) == [f"~ listen_port 0 → {port}"]
            send(b, packet("10.0.0.2", "10.0.0.1"))  # both live on
            await receive(a)

    async def test_a_start_on_a_port_in_use_ends_the_engine_and_not_the_other(self) -> None:
        async with Engine(config_a(), mode="memory") as first:
            port = (await first.status()).listen_port
            second = Engine(config_b(1).replace(listen_port=port), mode="memory")
            with pytest.raises(OSError, match=str(port)):
                async with second:
                    pytest.fail("it must not start")
            assert second.closed
            assert (await first.status()).listen_port == port

    async def test_the_engines_port_serves_where_the_config_has_none(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        async with Engine(config_a(), mode="memory", listen_port=port) as engine:
            assert (await engine.status()).listen_port == port
            assert not engine.plan(config_a())

    async def test_a_caller_who_is_cancelled_leaves_it_consistent(self) -> None:
        more = config_a(Peer(public_key=C.public_key))
        async with Engine(config_a(), mode="memory") as engine:
            task = asyncio.create_task(engine.apply(more))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await engine.apply(more)  # after the one that went on
            assert (await engine.status()).peer(C.public_key) is not None
            assert not engine.plan(more)

    async def test_concurrent_applies_come_one_after_the_other(self) -> None:
        configs = [config_a(Peer(public_key=C.public_key, persistent_keepalive=n)) for n in range(8)]
        async with Engine(config_a(), mode="memory") as engine:
            await asyncio.gather(*(engine.apply(config) for config in configs))
            assert not engine.plan(configs[-1])
            peer = (await engine.status()).peer(C.public_key)
            assert peer is not None
            assert peer.persistent_keepalive == 7

    async def test_no_interface_no_steps_for_one(self) -> None:
        config = config_a().replace(addresses=["10.0.0.1/24"], mtu=1300)
        async with Engine(config, mode="memory") as engine:
            assert (await engine.status()).mtu == 1300
            assert not engine.plan(config.replace(addresses=["10.0.0.7/24"]))

    async def test_ten_thousand_peers_and_one_change(self) -> None:
        peers = [Peer(public_key=PrivateKey.generate().public_key) for _ in range(10_000)]
        config = Config(private_key=A, peers=peers)
        async with Engine(config, mode="memory") as engine:
            assert len((await engine.status()).peers) == 10_000
            changes = await engine.apply(config.with_peer(peers[5000].replace(persistent_keepalive=25)))
            assert list(changes) == [f"~ peer {peers[5000].public_key} persistent_keepalive 25"]


class TestOutside:
    """Somebody else changes the device: over UAPI, as `wg set` does."""

    async def test_the_next_apply_starts_from_the_real_state(self) -> None:
        async with Engine(config_a(), mode="memory") as engine:
            events = engine.events()
            device = engine._device
            assert device is not None
            request = f"set=1\npublic_key={bytes(B.public_key).hex()}\npersistent_keepalive_interval=9\n"
            request += f"public_key={bytes(C.public_key).hex()}\nallowed_ip=10.0.0.3/32\n\n"
            assert device.uapi(request) == "errno=0\n\n"
            await wait_for(events, ConfigChanged)
            wanted = [f"~ peer {B.public_key} persistent_keepalive off", f"- peer {C.public_key}"]
            assert list(engine.plan(config_a())) == wanted
            assert list(await engine.apply(config_a())) == wanted
            assert not engine.plan(config_a())
            assert [peer.public_key for peer in (await engine.status()).peers] == [B.public_key]


class TestNames:
    async def test_an_endpoint_by_name_is_found(self) -> None:
        async with pair("localhost") as (a, b):
            async with asyncio.timeout(10):
                while (peer := (await b.status()).peers[0]).endpoint is None:
                    await asyncio.sleep(0.01)
            send(b, packet("10.0.0.2", "10.0.0.1"))
            assert await receive(a)
            assert peer.endpoint_name == f"localhost:{(await a.status()).listen_port}"

    async def test_a_name_without_an_address_is_an_event_not_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers: list[list[tuple]] = []

        def getaddrinfo(host: str, port: int, **_: object) -> list[tuple]:
            assert host == "vpn.example"
            if not answers:
                raise socket.gaierror(socket.EAI_AGAIN, "try again")
            return answers[0]

        async with Engine(config_a(), mode="memory") as a:
            port = (await a.status()).listen_port
            with monkeypatch.context() as patch:
                patch.setattr(socket, "getaddrinfo", getaddrinfo)
                async with Engine(config_b(port, "vpn.example"), mode="memory") as b:
                    events = b.events()
                    failed = await wait_for(events, ResolveFailed)
                    assert isinstance(failed, ResolveFailed)
                    assert (failed.peer, failed.host) == (A.public_key, "vpn.example")
                    send(b, packet("10.0.0.2", "10.0.0.1"))
                    answers.append([(socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", port))])
                    resolved = await wait_for(events, Resolved)
                    assert isinstance(resolved, Resolved)
                    assert resolved.endpoint == f"127.0.0.1:{port}"
                    send(b, packet("10.0.0.2", "10.0.0.1"))
                    await receive(a)


class TestLife:
    async def test_not_started(self) -> None:
        engine = Engine(config_a(), mode="memory")
        for call in (engine.status, lambda: engine.apply(config_a())):
            with pytest.raises(StateError, match="async with"):
                await call()
        await engine.close()
        assert engine.closed

    async def test_closed(self) -> None:
        engine = Engine(config_a(), mode="memory")
        async with engine:
            events = engine.events()
            waiting = asyncio.create_task(engine.wait_closed())
            await asyncio.sleep(0)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 5)
        await engine.close()
        await engine.wait_closed()
        assert [event async for event in events] == []
        for call in (engine.status, lambda: engine.apply(config_a())):
            with pytest.raises(ClosedError):
                await call()

    async def test_close_from_many_sides_is_one_close(self) -> None:
        async with Engine(config_a(), mode="memory") as engine:
            await asyncio.gather(*(engine.close() for _ in range(5)))
            assert engine.closed

    async def test_close_waits_for_an_apply_under_way(self) -> None:
        async with Engine(config_a(), mode="memory") as engine:
            applying = asyncio.create_task(engine.apply(config_a(Peer(public_key=C.public_key))))
            while not engine._applying.locked():
                await asyncio.sleep(0)
            await engine.close()
            assert await applying

    async def test_started_once(self) -> None:
        engine = Engine(mode="memory")
        async with engine:
            with pytest.raises(StateError, match="once"):
                await engine.__aenter__()
        with pytest.raises(StateError, match="once"):
            await engine.__aenter__()

    async def test_another_loop_is_told_so(self) -> None:
        async with Engine(config_a(), mode="memory") as engine:

            def elsewhere() -> None:
                asyncio.run(engine.apply(config_a()))

            with pytest.raises(StateError, match="another event loop"):
                await asyncio.to_thread(elsewhere)
            with pytest.raises(StateError, match="another event loop"):
                await asyncio.to_thread(lambda: asyncio.run(engine.close()))
            assert not engine.closed

    def test_its_loop_may_end_before_it(self) -> None:
        engine = Engine(config_a(), mode="memory")
        asyncio.run(engine.__aenter__())
        assert not engine.closed
        asyncio.run(engine.close())
        assert engine.closed

    async def test_a_failure_of_the_device_is_a_state(self) -> None:
        async with Engine(config_a(), mode="memory") as engine:
            events = engine.events()
            engine._publish(Failed(time=0.0, reason="thread wg-0 panicked"))
            assert isinstance(await anext(events), Failed)
            status = await engine.status()
            assert (status.state, status.reason) == ("failed", "thread wg-0 panicked")
            with pytest.raises(StateError, match="wg-0 panicked"):
                await engine.apply(config_a())

    async def test_nothing_stays_open(self) -> None:
        def descriptors() -> int:
            gc.collect()
            return len(os.listdir("/dev/fd"))

        async with pair():
            pass
        before = descriptors()
        for _ in range(5):
            async with pair() as (a, b):
                send(b, packet("10.0.0.2", "10.0.0.1"))
                await receive(a)
        assert descriptors() == before

    async def test_knobs_are_kept(self) -> None:
        knobs = Knobs(udp_gso=False, udp_gro=False, tun_offload=False, shards=2)
        async with Engine(config_a(), mode="memory", knobs=knobs) as engine:
            assert engine.knobs == knobs
            offloads = (await engine.status()).offloads
            assert not any(offloads.values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mode": "userspace"}, "mode: this comes with a later version; write tun"),
        ({"mode": "quick"}, "mode: 'quick' is no mode"),
        ({"tun_fd": 3, "name": "wg0"}, "tun_fd: "),
        ({"tun_fd": 3, "mode": "memory"}, "tun_fd: "),
        ({"listen_port": 70000}, "listen_port: 70000 is not a port"),
    ],
)
def test_bad_arguments_are_told_at_once(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Engine(**arguments)


async def test_only_a_config_is_applied() -> None:
    with pytest.raises(TypeError, match=r"Config\.from_file"):
        Engine("wg0.conf")
    async with Engine(mode="memory") as engine:
        with pytest.raises(TypeError):
            await engine.apply("wg0.conf")
        with pytest.raises(TypeError):
            engine.plan(None)


def script(text: str, *, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
    """Run a program of its own, for what ends or splits a process."""
    head = "import asyncio, os, sys, time, wgengine\n"
    head += "config = wgengine.Config(private_key=wgengine.PrivateKey.generate())\n"
    return subprocess.run(
        # Python 3.12 and later warn of every fork beside threads, which is what is tested here
        [sys.executable, "-X", "faulthandler", "-W", "ignore::DeprecationWarning", "-c", head + text],
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


FORK = """
def refused(call):
    try:
        outcome = call()
        if hasattr(outcome, "send"):
            outcome.send(None)
    except wgengine.ForkedError:
        return True
    return False

async def main():
    async with wgengine.Engine(config, mode="memory") as engine:
        child = os.fork()
        if child == 0:
            calls = [engine.status, engine.close, engine.wait_closed, engine.events]
            calls += [lambda: engine.apply(config), lambda: engine.plan(config)]
            os._exit(0 if all(map(refused, calls)) else 1)
        assert os.waitpid(child, 0)[1] == 0, "a call was let through in the child"
        assert (await engine.status()).state == "running"

asyncio.run(main())
"""


def test_a_forked_child_is_refused_and_the_parent_lives_on() -> None:
    done = script(FORK)
    assert (done.returncode, done.stderr) == (0, "")


CHILDREN = {
    "sync": """
import wgengine.sync
with wgengine.sync.Engine(config, mode="memory") as engine:
    child = os.fork()
    if child == 0:
        try:
            engine.status()
        except wgengine.ForkedError:
            sys.exit(7)
    started = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert time.monotonic() - started < 5
    assert engine.status().state == "running"
""",
    # asyncio's own clean-up in a child reaches into the parent's epoll, so the parent's loop is not asked afterwards
    "async": """
async def main():
    async with wgengine.Engine(config, mode="memory") as engine:
        child = os.fork()
        if child == 0:
            sys.exit(7)
        started = time.monotonic()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert time.monotonic() - started < 5
        assert engine.plan(config.replace(fwmark=1))
        os._exit(0)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("mode", CHILDREN)
def test_a_forked_child_ends_as_programs_do(mode: str) -> None:
    done = script(CHILDREN[mode])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_an_exit_without_close_neither_hangs_nor_crashes(mode: str) -> None:
    ways = {
        "async": "engine = wgengine.Engine(config, mode='memory')\nasyncio.run(engine.__aenter__())\n",
        "sync": "import wgengine.sync\nengine = wgengine.sync.Engine(config, mode='memory')\nengine.__enter__()\n",
    }
    for _ in range(5):
        done = script(ways[mode] + "print('end')")
        assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_an_engine_that_is_forgotten_is_closed() -> None:
    text = "for _ in range(50):\n    asyncio.run(wgengine.Engine(config, mode='memory').__aenter__())\n"
    done = script(text + "import gc; gc.collect(); print(len(os.listdir('/dev/fd')) < 50)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives its privileges away")
@pytest.mark.parametrize("mode", ["auto", "tun"])
def test_without_privileges_the_error_names_what_helps(mode: str) -> None:
    text = f"""
import wgengine.engine
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
async def main():
    try:
        async with wgengine.Engine(config, mode={mode!r}):
            print("started")
    except wgengine.PrivilegeError as error:
        print(isinstance(error, PermissionError), error)
asyncio.run(main())
"""
    done = script(text)
    assert done.stdout.startswith("True"), done
    assert "--cap-add NET_ADMIN --device /dev/net/tun" in done.stdout
    assert "unshare -Urn" in done.stdout
