"""Netmaps of very many nodes: how long an engine takes to be as they say, what they weigh, and what silence costs."""

import json
import sys

from wgengine.bench.host import host
from wgengine.bench.scale import PEERS

MANY = 10 * PEERS
_IDLE_S = 10.0
_ADDRESS = "192.0.2.1"


def netmap_10k() -> dict[str, float]:
    """10,000 nodes."""
    found = _measured(PEERS, 1.0)
    return {f"netmap_10k_{name}": found[name] for name in ("first_s", "noop_ms", "one_ms", "bytes_each")}


def netmap_100k() -> dict[str, float]:
    """100,000 nodes, and not a packet."""
    found = _measured(MANY, _IDLE_S)
    return {"netmap_100k_load_s": found["first_s"], "netmap_100k_idle_cpu": found["idle_cpu"]}


def _measured(count: int, idle_s: float) -> dict[str, float]:
    words = (sys.executable, "-m", "wgengine.bench.netmap_end", str(count), f"{idle_s:g}")
    with host(_ADDRESS, "") as where:
        found: dict[str, float] = json.loads(where.run(*words, timeout=180))
    return found
