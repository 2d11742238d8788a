"""C6, fork: a child is told that the engine is not its own, lets go of it, and leaves the parent's tunnel alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab import SOCKETS, until
from peers.program import PORT, Program, start

if TYPE_CHECKING:
    from lab import Lab

# Python 3.12 and later warn of every fork beside threads, which is what is tested here
QUIET = ("-W", "ignore::DeprecationWarning")

# What each way does in place of WAY gets `engine`, and leaves `seconds`, how long the longest child took to end.
AROUND = """
with wgengine.sync.Engine(config, name=name) as engine:
    step("ready")
    begun = time.monotonic()
    codes = []
WAY
    say(seconds=time.monotonic() - begun, codes=codes)
    step("forked")
    say(running=engine.status().state)
"""

BY_HAND = """
    child = os.fork()
    if child == 0:
        calls = [engine.status, engine.close, engine.wait_closed, engine.events, lambda: engine.tun_fd]
        calls += [lambda: engine.apply(config), lambda: engine.plan(config), lambda: wgengine.sync.Engine.close(engine)]
        good = all(map(refused, calls))
        END
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

WAYS = {
    "at once": BY_HAND.replace("END", "os._exit(0 if good else 1)"),
    # runs what programs run at their end: handlers, destructors, joins of threads
    "as programs end": BY_HAND.replace("END", "gc.collect(); sys.exit(0 if good else 1)"),
    "with an error let through": BY_HAND.replace(
        "END", "sys.stderr = open(os.devnull, 'w'); raise SystemExit(0 if good else 1)"
    ),
    "exec": """
    child = os.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", "import os, sys; sys.exit(len(os.listdir('/dev/fd')) > 5)"])
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
    "multiprocessing": """
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        codes += pool.map(abs, [0] * 8)
        pool.close()
        pool.join()
""",
    "multiprocessing, spawn": """
    import multiprocessing
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        codes += pool.map(abs, [0])
        pool.close()
        pool.join()
""",
    # as gunicorn does with preload_app: the master has an engine, each worker makes one of its own
    "prefork": """
    workers = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            good = refused(engine.status)
            another = wgengine.Config(private_key=wgengine.PrivateKey.generate())
            with wgengine.sync.Engine(another, mode="memory") as own:
                good &= own.status().state == "running" and own.status().listen_port != config.listen_port
            sys.exit(0 if good and refused(engine.status) else 1)
        workers.append(child)
    codes += [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in workers]
""",
}
SLOW = ("multiprocessing", "multiprocessing, spawn", "prefork")  # start interpreters, or several children


def forking(lab: Lab, way: str) -> Program:
    program = start(lab, AROUND.replace("WAY", way), python=QUIET)
    program.reaches("ready")
    assert program.far.host.ping("10.9.0.1") == 1
    return program


@pytest.mark.parametrize("way", WAYS)
def test_c6_fork_a_child_is_refused_ends_and_hurts_nobody(lab: Lab, way: str) -> None:
    program = forking(lab, WAYS[way])
    socket_file = SOCKETS / f"{program.name}.sock"
    inode = socket_file.stat().st_ino
    pings = program.start_pings(400)
    program.go_on()
    program.reaches("forked")
    pings.assert_all_answered()
    assert socket_file.stat().st_ino == inode
    assert program.name in program.host.links()
    assert f"listening port: {PORT}" in program.host.run("wg", "show", program.name)
    program.go_on()
    said = program.ends()
    assert said["codes"]
    assert not any(said["codes"])
    assert said["running"] == "running"
    assert way in SLOW or said["seconds"] <= 1
    assert program.name not in program.host.links()
    assert not socket_file.exists()


DAEMON = """
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:  # lives on, with everything that it inherited
            os.chdir("/")
            say(refused=refused(engine.status), daemon=os.getpid())
            signal.pause()
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_c6_fork_what_the_parent_closes_is_gone_while_the_child_lives(lab: Lab) -> None:
    """A daemon that a program leaves behind must hold neither its interface nor its port, nor answer as its socket."""
    program = forking(lab, DAEMON)
    program.go_on()
    program.reaches("forked")
    until(lambda: any("daemon" in fields for fields in program.said), "the daemon")
    program.go_on()
    said = program.ends()
    assert said["refused"]
    assert said["daemon"] in program.host.pids(), "the daemon is not there to hold anything"
    assert program.name not in program.host.links()
    assert not (SOCKETS / f"{program.name}.sock").exists()
    assert f":{PORT} " not in program.host.run("ss", "-Hlnu")
    # another program takes the same name and the same port
    again = lab.wgengine(program.host, name=program.name)
    again.setconf(again.interface_section(PORT))


NATIVE = """
from wgengine._native import Device, Plan

device = Device(memory=True)
child = os.fork()
if child == 0:
    key = config.peers[0].public_key
    with_arguments = {
        "commit": (Plan(),), "uapi": ("get=1",), "rekey": (key,), "peer_state": (key,), "owner": ("10.0.0.1",),
        "inject": (bytes(20),), "ping": ("icmp", "10.0.0.1", "10.0.0.2", 1.0),
        "advertise_disco_key": ("10.0.0.1", "10.0.0.2", key), "set_own_addresses": (["10.0.0.1"],),
        "set_respond_to_ping": (True,),
    }
    told = {}
    for what in dir(device):
        if not what.startswith("_"):
            arguments = with_arguments.get(what, ())
            told[what] = refused(lambda: got(*arguments) if callable(got := getattr(device, what)) else 0)
    say(told=told)
    del device
    gc.collect()
    sys.exit(0)
say(code=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), state=device.state() is not None)
device.close()
"""


def test_c6_fork_every_method_of_the_device_tells_a_child(lab: Lab) -> None:
    said = start(lab, NATIVE, python=QUIET).ends()
    # what the object itself knows, whoever's it is
    knows = {"name", "mtu", "ifindex", "closed"}
    assert {what for what, refused in said["told"].items() if not refused} == knows
    assert len(said["told"]) > 12
    assert (said["code"], said["state"]) == (0, True)


METHODS = """
configs = (config, wgengine.RouterConfig(), wgengine.DNSConfig())
ARGUMENTS = {
    "apply": (config,), "plan": (config,), "reconfig": configs, "plan_reconfig": configs, "on_status": (print,),
    "set_knobs": (wgengine.Knobs(),), "set_netmap": (None,), "ping": ("10.0.0.1",), "whois": ("10.0.0.1",),
    "peer_for_ip": ("10.0.0.1",), "peer_by_key": (config.private_key.public_key,),
}
async def main():
    async with wgengine.Engine(config, name=name) as engine:
        child = os.fork()
        if child == 0:
            told = {}
            for what in dir(engine):
                if not what.startswith("_"):
                    arguments = ARGUMENTS.get(what, ())
                    told[what] = refused(
                        lambda: got(*arguments) if callable(got := getattr(engine, what)) else 0
                    )
            told["enter"] = refused(engine.__aenter__)
            say(told=told)
            os._exit(0)
        say(code=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), state=(await engine.status()).state)
asyncio.run(main())
"""


def test_c6_fork_every_method_of_the_engine_tells_a_child(lab: Lab) -> None:
    said = start(lab, METHODS, python=QUIET).ends()
    knows = {"name", "mode", "knobs", "closed", "health", "netmap", "fake"}  # what a child may look at
    assert {what for what, refused in said["told"].items() if not refused} == knows
    assert (said["code"], said["state"]) == (0, "running")
