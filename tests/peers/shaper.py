"""A bad path between two hosts: `shaper.py HERE_A HERE_B THERE_B PORT [key=value …]`, a relay that spoils all.

What comes to HERE_A goes to THERE_B from HERE_B, and what comes back goes to whoever spoke last at HERE_A. It begins as
a good path; SIGUSR1 makes it bad, SIGUSR2 good again. SIGTERM: a line of JSON that says what it did, and how
many data messages came how far behind the greatest counter before them.

loss, duplicate     percent
depth               how many later packets may overtake one, at most; each is held back by a random number of them
hold_ms             nothing is held longer than this
seed                of all the randomness
"""

from __future__ import annotations

import heapq
import json
import random
import select
import signal
import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

DATA = b"\4\0\0\0"  # a data message's first four bytes (whitepaper 5.4.6)
BUFFER_BYTES = 64 << 20
SO_RCVBUFFORCE = 33
Address = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    loss: float = 0
    duplicate: float = 0
    depth: int = 0
    hold_ms: int = 200
    seed: int = 1


@dataclass(slots=True, kw_only=True)
class Held:
    """A datagram that waits for its turn, which comes after so many arrivals, or for the end of its time."""

    datagram: bytes
    until: float
    gone: bool = False


@dataclass(slots=True, kw_only=True)
class Direction:
    """What is under way in one direction."""

    faults: Faults
    chance: random.Random
    arrived: int = 0
    by_turn: list[tuple[int, int, Held]] = field(default_factory=list)
    by_age: deque[Held] = field(default_factory=deque)
    did: Counter[str] = field(default_factory=Counter)
    greatest: dict[int, int] = field(default_factory=dict)
    behind: Counter[int] = field(default_factory=Counter)

    def take(self, datagram: bytes) -> None:
        self.did["arrived"] += 1
        if self.chance.random() * 100 < self.faults.loss:
            self.did["lost"] += 1
            return
        copies = 1 + (self.chance.random() * 100 < self.faults.duplicate)
        self.did["duplicated"] += copies - 1
        until = time.monotonic() + self.faults.hold_ms / 1000
        for _ in range(copies):
            self.arrived += 1
            held = Held(datagram=datagram, until=until)
            turn = self.arrived + self.chance.randint(0, self.faults.depth)
            heapq.heappush(self.by_turn, (turn, self.arrived, held))
            self.by_age.append(held)

    def sent(self, datagram: bytes) -> None:
        """Notes how far a data message's counter is behind the greatest of its session that was sent before."""
        self.did["sent"] += 1
        if datagram[:4] == DATA and len(datagram) >= 16:
            session, counter = struct.unpack_from("<IQ", datagram, 4)
            greatest = self.greatest.setdefault(session, counter)
            self.greatest[session] = max(greatest, counter)
            self.behind[max(0, greatest - counter)] += 1

    def report(self) -> dict[str, object]:
        return {**self.did, "behind": self.behind}

    def ready(self, bad: bool) -> Iterator[bytes]:
        """Those whose turn has come and those that are held long enough; all, on a good path."""
        while self.by_turn and (not bad or self.by_turn[0][0] <= self.arrived):
            held = heapq.heappop(self.by_turn)[2]
            if not held.gone:
                held.gone = True
                yield held.datagram
        now = time.monotonic()
        while self.by_age and (self.by_age[0].gone or self.by_age[0].until <= now):
            held = self.by_age.popleft()
            if not held.gone:
                held.gone = True
                yield held.datagram


def opened(address: str, port: int) -> socket.socket:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    end.bind((address, port))
    end.setblocking(False)
    return end


def relay(a: socket.socket, b: socket.socket, there_b: Address, faults: Faults) -> dict[str, dict[str, object]]:
    state = {"bad": False, "stop": False}
    signal.signal(signal.SIGUSR1, lambda *_: state.update(bad=True))
    signal.signal(signal.SIGUSR2, lambda *_: state.update(bad=False))
    signal.signal(signal.SIGTERM, lambda *_: state.update(stop=True))
    there: dict[socket.socket, Address | None] = {a: None, b: there_b}
    ways = {
        a: Direction(faults=faults, chance=random.Random(faults.seed)),
        b: Direction(faults=faults, chance=random.Random(faults.seed + 1)),
    }
    while not state["stop"]:
        waiting = any(way.by_age for way in ways.values())
        for end in select.select((a, b), (), (), 0.002 if waiting else 0.2)[0]:
            for _ in range(64):
                try:
                    datagram, sender = end.recvfrom(65535)
                except BlockingIOError:
                    break
                there[end] = sender
                if state["bad"]:
                    ways[end].take(datagram)
                elif target := there[b if end is a else a]:
                    (b if end is a else a).sendto(datagram, target)
        for end, other in ((a, b), (b, a)):
            target = there[other]
            for datagram in ways[end].ready(state["bad"]):
                if target:
                    other.sendto(datagram, target)
                    ways[end].sent(datagram)
    return {"a to b": ways[a].report(), "b to a": ways[b].report()}


if __name__ == "__main__":
    here_a, here_b, to, port, *words = sys.argv[1:]
    chosen = Faults(**{key: int(value) for key, _, value in (word.partition("=") for word in words)})
    with opened(here_a, int(port)) as one, opened(here_b, int(port)) as two:
        print(json.dumps(relay(one, two, (to, int(port)), chosen)), flush=True)
