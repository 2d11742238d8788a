"""Devices with very much to know: how long it takes to tell them, what it weighs, and whether silence is silent."""

import random
import time
from collections.abc import Iterator
from statistics import median

from wgengine.bench.host import host
from wgengine.bench.implementation import Implementation
from wgengine.bench.testbed import device
from wgengine.bench.uapi import ask, setting

PEERS = 10_000
ALLOWED = 2 * 255 * 256
"""As many as the kernel's own test gives one peer (netns.sh)."""
IDLE_PEERS = 1000
_CHANGES = 500
_IDLE_S = 10.0
_SETTLE_S = 1.0
_ADDRESS = "192.0.2.1"


def key(number: int) -> str:
    """The public key of a peer that nobody is."""
    return random.Random(number).randbytes(32).hex()


def inner(number: int) -> str:
    """An address of its own for each peer."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/32"


def peer_lines(number: int, port: int = 51820) -> tuple[str, ...]:
    """What is said of one peer: its key, its endpoint and its address inside."""
    return (f"public_key={key(number)}", f"endpoint=192.0.2.2:{port}", f"allowed_ip={inner(number)}")


def _device_lines() -> tuple[str, ...]:
    return (f"private_key={random.Random(-1).randbytes(32).hex()}", "listen_port=51820")


def peers(implementation: Implementation) -> dict[str, float]:
    """10,000 peers: the time to load them, what each weighs, and how long one change among them takes."""
    request = setting(line for number in range(PEERS) for line in peer_lines(number))
    with host(_ADDRESS, "") as where, device(where, implementation) as process:
        ask(where, setting(_device_lines()))
        time.sleep(_SETTLE_S)
        light = process.rss()
        load_s = ask(where, request)
        time.sleep(_SETTLE_S)
        heavy = process.rss()
        taken = [ask(where, change) for change in changes(implementation)]
    return {
        "peers_10k_load_s": load_s,
        "peers_10k_bytes_each": (heavy - light) / PEERS,
        "peers_10k_one_change_ms": median(taken) * 1e3,
    }


def changes(implementation: Implementation) -> Iterator[str]:
    """Requests that each give one peer another endpoint and its address anew."""
    chance = random.Random(0)
    for turn in range(_CHANGES):
        number = chance.randrange(PEERS)
        name, endpoint, allowed = peer_lines(number, port=20_000 + turn)
        again = () if implementation.changes_peers else (name, "remove=true")
        yield setting((*again, name, endpoint, "replace_allowed_ips=true", allowed))


def allowed(implementation: Implementation) -> dict[str, float]:
    """One peer with half as many IPv4 and half as many IPv6 addresses."""
    addresses = [f"10.{n >> 8 & 255}.{n & 255}.1/32" for n in range(ALLOWED // 2)]
    addresses += [f"2001:db8:{n:x}::1/128" for n in range(ALLOWED // 2)]
    request = setting((f"public_key={key(0)}", *(f"allowed_ip={address}" for address in addresses)))
    with host(_ADDRESS, "") as where, device(where, implementation):
        ask(where, setting(_device_lines()))
        return {"allowed_130k_set_s": ask(where, request)}


def idle(implementation: Implementation) -> dict[str, float]:
    """1,000 peers, and not a packet."""
    with host(_ADDRESS, "") as where, device(where, implementation) as process:
        ask(where, setting((*_device_lines(), *(line for n in range(IDLE_PEERS) for line in peer_lines(n)))))
        time.sleep(2 * _SETTLE_S)
        before, begun = process.wakeups(), time.monotonic()
        time.sleep(_IDLE_S)
        return {"idle_wakeups_per_s": (process.wakeups() - before) / (time.monotonic() - begun)}
