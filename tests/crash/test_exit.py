"""C6, interpreter exit: however a program ends, it ends at once, with its own code, and leaves nothing behind."""

from __future__ import annotations

import resource
import signal
from typing import TYPE_CHECKING

import pytest
from lab import SOCKETS
from peers.process import until
from peers.program import start

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab import Lab

ASYNC = """
engine = wgengine.Engine(config, name=name)
async def main():
    await engine.__aenter__()
    step("ready")
    BODY
asyncio.run(main())
"""
SYNC = """
engine = wgengine.sync.Engine(config, name=name)
engine.__enter__()
step("ready")
BODY
"""
# How it ends, and with which code.
ENDS = {
    "forgotten, async": (ASYNC.replace("BODY", "pass"), 0),
    "forgotten, blocking": (SYNC.replace("BODY", "pass"), 0),
    "pending tasks": (
        ASYNC.replace("BODY", "pending = [asyncio.create_task(anext(engine.events())) for _ in range(5)]"),
        0,
    ),
    "a listener waits in a thread": (
        SYNC.replace("BODY", "threading.Thread(target=list, args=(engine.events(),), daemon=True).start()"),
        0,
    ),
    "from a thread": (
        "def work():\n"
        + "".join(f"    {line}\n" for line in SYNC.replace("BODY", "globals()['kept'] = engine").splitlines())
        + "thread = threading.Thread(target=work)\nthread.start()\nthread.join()",
        0,
    ),
    "sys.exit in a callback": (
        ASYNC.replace("BODY", "asyncio.get_running_loop().call_soon(sys.exit, 3); await asyncio.sleep(60)"),
        3,
    ),
    "os._exit": (SYNC.replace("BODY", "os._exit(4)"), 4),
    "SIGTERM": (SYNC.replace("BODY", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"), -signal.SIGTERM),
    "kill -9": (SYNC.replace("BODY", "os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)"), -signal.SIGKILL),
}
# The program is ended from outside of Python, so nobody takes its socket file away: the next one under its name does.
KILLED = ("os._exit", "SIGTERM", "kill -9")
WHOLE = 100


def end_once(lab: Lab, way: str) -> None:
    script, code = ENDS[way]
    unlimited = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (-1, -1))\n"
    program = start(lab, unlimited + script)
    program.reaches("ready")
    assert program.far.host.ping("10.9.0.1") == 1
    flood = program.far.host.spawn("ping", "-q", "-f", "10.9.0.1")
    program.go_on()
    assert program.process.wait(5) == code, program.process.log
    beside = [line for line in program.process.log.splitlines() if not line.startswith("{")]
    assert not beside or way.startswith("sys.exit"), beside
    until(lambda: program.name not in program.host.links(), "the interface goes", timeout_s=2)
    file = SOCKETS / f"{program.name}.sock"
    assert file.exists() == (way in KILLED), way
    file.unlink(missing_ok=True)
    flood.stop(signal.SIGINT)
    program.far.stop()


@pytest.mark.parametrize("way", ENDS)
@pytest.mark.soak
def test_c6_exit_without_close(lab: Lab, way: str, soak: bool) -> None:
    """A hundred ends in all, while packets flow; no core, no hang, nothing left."""
    for _ in range(-(-WHOLE // len(ENDS)) if soak else 1):
        end_once(lab, way)


ROUNDS = """
import psutil
own = psutil.Process()

def seen():
    gc.collect()
    return dict(rss=own.memory_info().rss, threads=own.num_threads(), descriptors=own.num_fds())

async def once():
    async with wgengine.Engine(config, name=name) as engine:
        assert (await engine.status()).state == "running"

async def rounds(count):
    for _ in range(count):
        await once()

def blocking(count):
    for _ in range(count):
        with wgengine.sync.Engine(config, name=name) as engine:
            assert engine.status().state == "running"

ROUND, WARM, COUNT = PLACE
ROUND(WARM)
before = seen()
ROUND(COUNT)
say(before=before, after=seen())
"""


@pytest.mark.parametrize("kind", ["async", "blocking"])
@pytest.mark.soak
def test_c6_r1_started_and_stopped_it_leaves_memory_threads_and_descriptors_as_they_were(
    lab: Lab, kind: str, soak: bool, record_property: Callable[[str, object], None]
) -> None:
    rounds = 500 if soak else 50  # of each kind
    call = "lambda count: asyncio.run(rounds(count))" if kind == "async" else "blocking"
    # Without it glibc gives threads arenas of their own, up to eight a core, one now and then: growth that has an end.
    one_arena = {"MALLOC_ARENA_MAX": "1"}
    program = start(lab, ROUNDS.replace("PLACE", f"{call}, 20, {rounds}"), env=one_arena)
    said = program.ends(timeout_s=110)
    before, after = said["before"], said["after"]
    grown = after["rss"] - before["rss"]
    record_property("resident memory", f"{before['rss'] >> 10} KiB, {grown / 1024:+.0f} KiB after {rounds} more")
    assert after["threads"] == before["threads"]
    assert after["descriptors"] == before["descriptors"]
    assert grown <= 2 << 20
    assert program.name not in program.host.links()


def test_this_process_may_write_cores() -> None:
    """Else the ends above would prove less: a soft limit of 0 is raised by the script, a hard one is not."""
    assert resource.getrlimit(resource.RLIMIT_CORE)[1] != 0
