"""An engine with a netmap of very many nodes: a process of its own, so that memory and processor time are the engine's.

Run in the namespace where its interface shall be; the figures come as one JSON object.
"""

import asyncio
import gc
import json
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from wgengine.engine import Engine
from wgengine.netmap import NetMap
from wgengine.prefs import Prefs

PREFS = Prefs(accept_routes=True)
_SAME = 5
_CHANGES = 100


def document(count: int) -> str:
    """The JSON text of a netmap with so many peers, each with two addresses and an endpoint."""
    return json.dumps(
        {
            "PrivateKey": "privkey:" + _key("private key"),
            "Domain": "example.net",
            "SelfNode": _node(count),
            "Peers": [_node(number) for number in range(count)],
        }
    )


def _key(seed: str) -> str:
    return random.Random(seed).randbytes(32).hex()


def _node(number: int) -> dict[str, Any]:
    addresses = [
        f"100.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}/32",
        f"fd7a:115c:a1e0:{number >> 16:x}::{number & 65535:x}/128",
    ]
    return {
        "ID": number + 1,
        "StableID": f"n{number}",
        "Name": f"node-{number}.example.net.",
        "User": 1,
        "Key": "nodekey:" + _key(f"node {number}"),
        "DiscoKey": "discokey:" + _key(f"disco {number}"),
        "Addresses": addresses,
        "AllowedIPs": addresses,
        "Endpoints": [f"192.0.2.2:{1024 + number % 60_000}"],
        "HomeDERP": 1,
        "Hostinfo": {"OS": "linux", "Hostname": f"node-{number}"},
        "Online": True,
    }


def _resident() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


async def measure(count: int, idle_s: float) -> dict[str, float]:
    """Load it, again, with one peer changed, and be silent."""
    text = document(count)
    async with Engine(mode="tun", name="wgbench0", uapi=False) as engine:
        gc.collect()
        light = _resident()
        begun = time.perf_counter()
        netmap = NetMap.from_json(text)
        await engine.apply(netmap, prefs=PREFS)
        first = time.perf_counter() - begun
        gc.collect()
        each = (_resident() - light) / count
        same = [await _applied(engine, NetMap.from_json(text)) for _ in range(_SAME)]
        changed: list[float] = []
        chance = random.Random(0)
        for turn in range(_CHANGES):
            at = chance.randrange(count)
            node = replace(netmap.peers[at], allowed_ips=(*netmap.peers[at].addresses, f"10.{turn}.0.1/32"))
            netmap = netmap.with_peer(node)
            changed.append(await _applied(engine, netmap))
        await asyncio.sleep(1)
        spent = -time.process_time()
        await asyncio.sleep(idle_s)
        spent += time.process_time()
    return {
        "first_s": first,
        "noop_ms": median(same) * 1e3,
        "one_ms": median(changed) * 1e3,
        "bytes_each": each,
        "idle_cpu": 100.0 * spent / idle_s,
    }


async def _applied(engine: Engine, netmap: NetMap) -> float:
    begun = time.perf_counter()
    await engine.apply(netmap, prefs=PREFS)
    return time.perf_counter() - begun


def main(count: str, idle_s: str) -> None:
    print(json.dumps(asyncio.run(measure(int(count), float(idle_s)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
