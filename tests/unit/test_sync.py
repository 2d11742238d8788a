"""The blocking engine: generated, and alive."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from wgengine import ClosedError, Config, ConfigError, Peer, PrivateKey, SessionUp, StateError, TimedOutError, sync
from wgengine.bridge import LoopThread
from wgengine.engine import Engine as AsyncEngine

ROOT = Path(__file__).resolve().parents[2]
A, B = PrivateKey.generate(), PrivateKey.generate()
CONFIG = Config(private_key=A, peers=[Peer(public_key=B.public_key, allowed_ips=["10.0.0.2/32"])])


def twin(port: int, **more: int) -> Config:
    return Config(private_key=B, peers=[Peer(public_key=A.public_key, endpoint=f"127.0.0.1:{port}", **more)])


class TestSource:
    def test_it_is_what_the_generator_makes_of_the_engine(self) -> None:
        done = subprocess.run(
            [sys.executable, ROOT / "tools" / "gen_sync.py", "--check"], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")

    def test_it_has_the_same_methods_with_the_same_arguments(self) -> None:
        for name, member in vars(AsyncEngine).items():
            if name.startswith("_") and name != "__init__":
                continue
            twin = inspect.getattr_static(sync.Engine, name)
            assert type(twin) is type(member) or inspect.isfunction(twin), name
            if inspect.isfunction(member):
                assert inspect.signature(twin).parameters == inspect.signature(member).parameters, name
                assert not inspect.iscoroutinefunction(twin), name

    def test_no_word_of_async_is_left_in_it(self) -> None:
        source = inspect.getsource(sync)
        assert "async " not in source.replace("asynchronous", "")
        assert "await " not in source

    def test_what_it_says_is_said_of_the_blocking_engine(self) -> None:
        assert "`with Engine(config) as engine:`" in (sync.Engine.__doc__ or "")
        assert "`for event in engine.events()`" in (sync.Engine.events.__doc__ or "")


class TestLife:
    def test_a_tunnel_and_its_events(self) -> None:
        with sync.Engine(CONFIG, mode="memory") as a, sync.Engine(mode="memory") as b:
            with b.events() as events:
                changes = b.apply(twin(a.status().listen_port, persistent_keepalive=1))
                assert len(changes) == 2
                up = events.get(timeout=10)
                assert isinstance(up, SessionUp)
                assert up.peer == A.public_key
            assert a.status().peers[0].last_handshake is not None

    def test_its_thread_ends_with_it(self) -> None:
        with sync.Engine(CONFIG, mode="memory"):
            assert "wgengine-sync" in {thread.name for thread in threading.enumerate()}
        deadline = time.monotonic() + 5
        while any(thread.name.startswith("wgengine") for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def test_a_wait_for_an_event_can_be_bounded(self) -> None:
        with sync.Engine(CONFIG, mode="memory") as engine, engine.events() as events:
            with pytest.raises(TimedOutError):
                events.get(timeout=0.05)
            # and the wait that was given up takes no event from the next one
            engine.apply(CONFIG.replace(fwmark=0))
            with pytest.raises(TimedOutError):
                events.get(timeout=0.05)

    def test_events_end_when_another_thread_closes_the_engine(self) -> None:
        engine = sync.Engine(CONFIG, mode="memory")
        with engine:
            events = engine.events()
            seen: list[str] = []
            listener = threading.Thread(target=lambda: seen.extend(map(str, events)) or seen.append("end"))
            listener.start()
            waiter = threading.Thread(target=engine.wait_closed)
            waiter.start()
            time.sleep(0.1)
            assert listener.is_alive()
            assert waiter.is_alive()
            engine.close()
            listener.join(5)
            waiter.join(5)
            assert seen == ["end"]
            assert not waiter.is_alive()
            with pytest.raises(ClosedError):
                events.get(timeout=1)

    def test_errors_come_through_and_change_nothing(self) -> None:
        with sync.Engine(CONFIG, mode="memory") as a, sync.Engine(mode="memory") as b:
            port = a.status().listen_port
            with pytest.raises(OSError, match=str(port)):
                b.apply(twin(1).replace(listen_port=port))
            assert b.plan(twin(1))
        with pytest.raises(ConfigError):
            sync.Engine(mode="userspace")

    def test_a_start_that_fails_leaves_no_thread(self) -> None:
        with sync.Engine(CONFIG, mode="memory") as a:
            wanted = CONFIG.replace(listen_port=a.status().listen_port)
            failing = sync.Engine(wanted, mode="memory")
            with pytest.raises(OSError, match=str(wanted.listen_port)), failing:
                pytest.fail("it must not start")
            assert failing.closed
            assert sum(thread.name == "wgengine-sync" for thread in threading.enumerate()) == 1

    def test_not_started_and_closed(self) -> None:
        engine = sync.Engine(CONFIG, mode="memory")
        with pytest.raises(StateError, match="with Engine"):
            engine.status()
        assert engine.plan(CONFIG)
        with engine, pytest.raises(StateError, match="once"):
            engine.__enter__()
        for call in (engine.status, lambda: engine.apply(CONFIG), engine.events):
            with pytest.raises(ClosedError):
                call()
        engine.close()
        engine.wait_closed()

    def test_close_without_a_start(self) -> None:
        engine = sync.Engine(CONFIG, mode="memory")
        engine.close()
        assert engine.closed

    def test_close_from_many_threads(self) -> None:
        with sync.Engine(CONFIG, mode="memory") as engine:
            threads = [threading.Thread(target=engine.close) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(5)
            assert engine.closed
            assert not any(thread.is_alive() for thread in threads)

    def test_its_own_thread_must_not_wait_for_itself(self) -> None:
        thread = LoopThread()
        thread.start()

        async def nothing() -> None:
            pass

        with pytest.raises(StateError, match="another"):
            thread.call(lambda: thread.run(nothing()))
        thread.finish(nothing)


def test_ctrl_c_ends_a_wait() -> None:
    program = """
import sys, wgengine, wgengine.sync
config = wgengine.Config(private_key=wgengine.PrivateKey.generate())
try:
    with wgengine.sync.Engine(config, mode="memory") as engine:
        print("waiting", flush=True)
        for event in engine.events():
            pass
except KeyboardInterrupt:
    print("interrupted", engine.closed, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        said, complaints = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert (said, complaints, process.returncode) == ("interrupted True\n", "", 0)
