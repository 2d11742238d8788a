"""A tunnel that carries a stream while its other peers come, change and go."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from wgengine.bench.host import Host, HostError
from wgengine.bench.implementation import Implementation
from wgengine.bench.scale import IDLE_PEERS, peer_lines
from wgengine.bench.testbed import tunnel, two_hosts
from wgengine.bench.traffic import stream
from wgengine.bench.uapi import ask, setting

PER_SECOND = 100


def reconfigurations(implementation: Implementation, *, number: int, seconds: float) -> dict[str, float]:
    """One pair of streams: with reconfigurations of other peers at both ends, and without."""
    with two_hosts(segmentation=True) as (a, b), tunnel(a, b, implementation):
        for end in (a, b):
            ask(end, setting(line for n in range(IDLE_PEERS) for line in peer_lines(n)))
        stream(a, b, 1)
        # Every second round begins with the other half, so that a machine that drifts favours neither.
        quiet = stream(a, b, seconds) if number % 2 == 0 else 0.0
        with _reconfigured(a, b):
            busy = stream(a, b, seconds)
        quiet = quiet or stream(a, b, seconds)
    return {"reconfig_tcp_ratio": busy / quiet}


def requests(turn: int) -> str:
    """Peers that are there get another endpoint, and every third time one comes or goes."""
    number = turn % IDLE_PEERS
    name, endpoint, allowed = peer_lines(number, port=20_000 + turn % 40_000)
    match turn % 3:
        case 0:
            return setting((name, endpoint, "replace_allowed_ips=true", allowed))
        case 1:
            return setting(peer_lines(IDLE_PEERS + turn))
        case _:
            return setting((peer_lines(IDLE_PEERS + turn - 1)[0], "remove=true"))


@contextmanager
def _reconfigured(*ends: Host) -> Iterator[None]:
    """Reconfigures the devices of these hosts, in turn, as long as the block runs.

    Raises:
        HostError: when a request was refused, or they came at less than nine tenths of the pace.
    """
    stop, refusals, done = threading.Event(), [], 0

    def work() -> None:
        nonlocal done
        begun = time.monotonic()
        while not stop.wait(max(0.0, begun + done / PER_SECOND - time.monotonic())):
            try:
                # Each end hears whole sequences of three: change, come, go.
                ask(ends[done // 3 % len(ends)], requests(done))
            except HostError as refusal:
                refusals.append(refusal)
                return
            done += 1

    worker, begun = threading.Thread(target=work, name="reconfigurations"), time.monotonic()
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()
    if refusals:
        raise refusals[0]
    if done < 0.9 * PER_SECOND * (time.monotonic() - begun):
        raise HostError(f"only {done} reconfigurations in {time.monotonic() - begun:.1f} s")
