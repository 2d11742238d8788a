"""The native load generator, `wgengine-load` (rust/load): started in a host, its result read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers.process import run

if TYPE_CHECKING:
    from lab import Host

    from peers.process import Process

BINARY = Path(__file__).parents[2] / "target" / "release" / "wgengine-load"
SPOOFED = "198.18.0.0/15"  # RFC 2544: 131,072 addresses that belong to nobody but benchmarks


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A load under way."""

    process: Process
    seconds: float

    def result(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.process.output(self.seconds + 20))
        return answer


def start(host: Host, command: str, *words: str, seconds: float, **flags: object) -> Load:
    """`wgengine-load COMMAND WORD… --flag value…` in a host, for so many seconds."""
    pairs = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    process = host.spawn(BINARY, command, *words, "--seconds", f"{seconds:g}", *pairs)
    return Load(process=process, seconds=seconds)


def identities(count: int, seed: int = 1) -> list[str]:
    """Public keys, as UAPI writes them, of the initiators that the generator can be."""
    keys: list[str] = json.loads(run([BINARY, "identities", "--seed", str(seed), "--count", str(count)]))
    return keys
