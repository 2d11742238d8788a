"""C6: what the program around an engine does to itself, and the tunnel that goes on meanwhile."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import lab as labs
import pytest
from lab import SOCKETS
from peers.program import Program, start
from peers.tunnel import read_iperf

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab import Lab


def reached(lab: Lab, script: str, *, python: tuple[str, ...] = ()) -> Program:
    """The program at its step "ready", its tunnel in use."""
    program = start(lab, script, python=python)
    program.reaches("ready")
    assert program.far.host.ping("10.9.0.1") == 1
    return program


GIL_S = 5
HELD = f"""
import ctypes
with wgengine.sync.Engine(config, name=name) as engine:
    step("ready")
    step("free")
    begun = time.monotonic()
    ctypes.PyDLL(None).sleep({GIL_S})  # a call that does not let other Python threads run
    say(held=time.monotonic() - begun)
    step("held")
"""


def test_c6_gil_held_for_five_seconds_no_packet_is_lost_or_late(
    lab: Lab, record_property: Callable[[str, object], None]
) -> None:
    program = reached(lab, HELD)
    program.go_on()
    longest = {}
    for word in ("free", "held"):
        program.reaches("free")
        pings = program.start_pings(GIL_S * 80)
        if word == "held":
            program.go_on()
        longest[word] = pings.assert_all_answered()
        record_property(f"longest round trip, {word}", f"{longest[word]:g} ms")
    program.reaches("held")
    program.go_on()
    assert program.ends()["held"] > GIL_S - 0.5, "the interpreter was not held"
    # were packets to wait for the interpreter, one would have waited for most of the time
    assert longest["held"] < GIL_S * 1000 / 2


def test_c6_gil_held_the_throughput_stays(lab: Lab, record_property: Callable[[str, object], None]) -> None:
    """Bytes flow in every interval; how many is for a quiet machine (at most 5 % fewer)."""
    program = reached(lab, HELD)
    program.go_on()
    for word in ("free", "held"):
        program.reaches("free")
        server = program.host.spawn("iperf3", "-s", "-1", "-B", "10.9.0.1")
        labs.until(lambda: program.host.listening(5201), "iperf3 listens")
        client = program.far.host.spawn("iperf3", "-c", "10.9.0.1", "-t", str(GIL_S - 1), "-J")
        if word == "held":
            program.go_on()
        report = read_iperf(client, GIL_S + 30)
        server.wait()
        assert all(interval["sum"]["bytes"] for interval in report["intervals"]), f"silence while {word}"
        record_property(f"throughput, {word}", f"{report['end']['sum_received']['bits_per_second'] / 1e9:.2f} Gbit/s")
    program.reaches("held")
    program.go_on()
    assert program.ends()["held"] > GIL_S - 0.5


STORM = 3000
ASLEEP = f"""
async def main():
    async with wgengine.Engine(config, name=name) as engine:
        events = engine.events()
        step("ready")
        await asyncio.sleep(1)
        while events._waiting:  # what the first handshake told
            await anext(events)
        step("asleep")  # blocks the whole event loop
        async with asyncio.timeout(10):
            first = await anext(events)
            lost, received = first.count if isinstance(first, wgengine.EventsLost) else 0, 0
            while lost + received < {STORM}:
                event = await anext(events)
                lost += event.count if isinstance(event, wgengine.EventsLost) else 0
                received += isinstance(event, wgengine.ConfigChanged)
        say(first=type(first).__name__, lost=lost, received=received, plan=list(engine.plan(config)))
        await engine.apply(config)
        say(after=list(engine.plan(config)), running=(await engine.status()).state)
asyncio.run(main())
"""


def test_c6_ring_full_the_oldest_events_are_counted_and_the_state_is_read_again(lab: Lab) -> None:
    program = reached(lab, ASLEEP)
    program.go_on()
    program.reaches("asleep")
    pings = program.start_pings(1100)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(SOCKETS / f"{program.name}.sock"))
        answers = client.makefile("rb")
        for number in range(STORM):
            client.sendall(b"set=1\nfwmark=%d\n\n" % (number % 2 + 1))
            assert (answers.readline(), answers.readline()) == (b"errno=0\n", b"\n")
    pings.assert_all_answered()  # eleven seconds and more
    program.go_on()
    said = program.ends()
    assert said["first"] == "EventsLost"
    assert said["lost"] + said["received"] == STORM
    assert said["received"] >= 1000
    assert any("fwmark" in line for line in said["plan"])
    assert (said["after"], said["running"]) == ([], "running")


LOOPS = {
    "asyncio, debug": """
async def main():
    asyncio.get_running_loop().slow_callback_duration = 60
    await live()
asyncio.run(main(), debug=True)
""",
    "uvloop": "import uvloop\nuvloop.run(live())\n",
    # what a program on trio or another framework does
    "none, the blocking engine in a thread": """
def work():
    with wgengine.sync.Engine(config, name=name) as engine:
        step("ready")
        say(running=engine.status().state)
    say(closed=engine.closed)
thread = threading.Thread(target=work)
thread.start()
thread.join()
""",
}
LIVE = """
async def live():
    async with wgengine.Engine(config, name=name) as engine:
        events = engine.events()
        waiting = asyncio.create_task(anext(events))
        step("ready")
        async with asyncio.timeout(10):
            say(first=type(await waiting).__name__, running=(await engine.status()).state)
            assert not await engine.apply(config)
    say(closed=engine.closed)
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_c6_loop(lab: Lab, loop: str) -> None:
    if loop == "uvloop":
        labs.need(importlib.util.find_spec("uvloop"), "uvloop is not installed: pip install --group test")
    program = reached(lab, LIVE + LOOPS[loop], python=("-X", "dev") if "debug" in loop else ())
    program.go_on()
    said = program.ends()
    assert (said["running"], said["closed"]) == ("running", True)
    assert said.get("first", "LinkChanged") in ("LinkChanged", "SessionUp")
    assert program.name not in program.host.links()


CLOSED_LOOP = """
loop = asyncio.new_event_loop()
engine = wgengine.Engine(config, name=name)
loop.run_until_complete(engine.__aenter__())
loop.close()
step("ready")
async def other():
    try:
        await engine.status()
    except wgengine.StateError as error:
        say(refused=str(error))
    await engine.close()
asyncio.run(other())
say(closed=engine.closed, links=name in os.listdir("/sys/class/net"))
"""


def test_c6_loop_closed_under_an_engine_the_packets_go_on_and_another_loop_may_close_it(lab: Lab) -> None:
    program = reached(lab, CLOSED_LOOP)
    program.start_pings(50).assert_all_answered()
    program.go_on()
    said = program.ends()
    assert "another event loop" in said["refused"]
    assert said["closed"]
    assert program.name not in program.host.links()


TWO_LOOPS = """
def config_of(own, other, port=None):
    endpoint = f"127.0.0.1:{port}" if port else None
    return wgengine.Config(private_key=own, peers=[wgengine.Peer(
        public_key=other.public_key, endpoint=endpoint, persistent_keepalive=1, allowed_ips=["10.0.0.0/8"])])

keys = [wgengine.PrivateKey.generate() for _ in range(10)]

async def one(own, other, port, told):
    async with wgengine.Engine(config_of(own, other, port), mode="memory") as engine:
        told(engine)
        async with asyncio.timeout(30):
            while (status := await engine.status()).peers[0].last_handshake is None:
                await asyncio.sleep(0.05)
        await asyncio.to_thread(both.wait, 30)
        return status.peers[0].public_key == other.public_key

both = threading.Barrier(len(keys))
ports, good = {}, []

def listening(number):
    async def main():
        def told(engine):
            ports[number] = engine._device.state().listen_port
        good.append(await one(keys[number], keys[number + 1], None, told))
    asyncio.run(main())

def calling(number):
    async def main():
        while number - 1 not in ports:
            await asyncio.sleep(0.01)
        good.append(await one(keys[number], keys[number - 1], ports[number - 1], lambda _: None))
    asyncio.run(main())

threads = [threading.Thread(target=calling if number % 2 else listening, args=(number,)) for number in range(len(keys))]
for thread in threads: thread.start()
for thread in threads: thread.join()
say(good=good)
"""


def test_c6_ten_engines_in_ten_loops_of_one_process(lab: Lab) -> None:
    """Five tunnels between engines of one process, each engine on an event loop and a thread of its own."""
    assert start(lab, TWO_LOOPS).ends(60)["good"] == [True] * 10


TWICE = """
def told(**options):
    try:
        with wgengine.sync.Engine(wgengine.Config(private_key=wgengine.PrivateKey.generate()), **options):
            return "started"
    except OSError as error:
        return [error.errno, str(error)]

with wgengine.sync.Engine(config, name=name) as engine:
    step("ready")
    threads, descriptors = threading.active_count(), len(os.listdir("/dev/fd"))
    say(name=told(name=name), port=told(mode="memory", listen_port=config.listen_port))
    gc.collect()
    step("tried")
    say(threads=threading.active_count() - threads, descriptors=len(os.listdir("/dev/fd")) - descriptors)
    say(running=engine.status().state, socket=os.path.exists(f"/var/run/wireguard/{name}.sock"))
"""


def test_c6_same_name_or_port_twice_the_second_fails_and_the_first_is_unhurt(lab: Lab) -> None:
    program = reached(lab, TWICE)
    pings = program.start_pings(100)
    program.go_on()
    program.reaches("tried")
    pings.assert_all_answered()
    assert "51820" in program.host.run("wg", "show", program.name, "listen-port")
    program.go_on()
    said = program.ends()
    assert said["name"][0] in (16, 98)  # EBUSY from the TUN, EADDRINUSE from the socket file
    assert program.name in said["name"][1]
    assert said["port"][0] == 98
    assert "51820" in said["port"][1]
    assert (said["running"], said["socket"]) == ("running", True)
    assert (said["threads"], said["descriptors"]) == (0, 0)


SUBINTERPRETER = """
import sys, warnings
warnings.simplefilter("ignore")
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import json
script = '''
import json, wgengine
try:
    wgengine.PrivateKey.generate()
except ImportError as error:
    print(json.dumps(str(error)))
'''
import wgengine
wgengine.PrivateKey.generate()
second = interpreters.create()
interpreters.run_string(second, script)
sys.stdout.flush()
interpreters.destroy(second)
print(json.dumps(str(wgengine.PrivateKey.generate().public_key)))
"""


def test_c6_second_interpreter_is_refused_and_the_first_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", SUBINTERPRETER], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    refusal, key = (json.loads(line) for line in done.stdout.splitlines())
    assert "subinterpreter" in refusal.replace("-", "")
    assert len(key) == 44
