"""Other peers come, change and go, a thousand times, while one peer's packets flow: none of them is lost or overtaken.

What it costs a TCP stream is for `wgengine bench` (row `reconfig_tcp_ratio`).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from lab import need_load
from peers import load
from peers.tunnel import PORT, establish
from wgengine import Config, Peer, PrivateKey, PublicKey, sync

if TYPE_CHECKING:
    from lab import Host, Lab

RATE = 20_000
NUMBERED_PORT = 5401
OTHERS = 200  # peers beside the one that is spoken with
OK = "errno=0\n\n"

Record = Callable[[str, object], None]
Observed = tuple[Mapping[str, int], Mapping[str, int]]  # counters, drops


def key(number: int) -> str:
    return random.Random(number).randbytes(32).hex()


def inner(number: int) -> str:
    return f"10.66.{number >> 8 & 255}.{number & 255}/32"


def length(soak: bool) -> tuple[int, float]:
    """How many changes, in how many seconds."""
    return (1000, 20.0) if soak else (200, 4.0)


def patient(host: Host, name: str) -> None:
    """What a machine that is busy with other things does not get to read in time waits, and is not dropped."""
    host.run("ip", "link", "set", name, "txqueuelen", "20000")


def tun_drops(host: Host, name: str) -> int:
    """Packets that the kernel dropped because nobody read the TUN."""
    line = next(line for line in host.run("cat", "/proc/net/dev").splitlines() if f"{name}:" in line)
    return int(line.partition(":")[2].split()[11])


def numbered(
    sender: Host, receiver: Host, address: str, changes: int, seconds: float, change: Callable[[int], None]
) -> dict[str, Any]:
    """Numbered packets all the while that `change` is called; what became of them."""
    target = f"{address}:{NUMBERED_PORT}"
    heard = load.start(receiver, "receive-numbered", at=target, seconds=seconds + 20)
    time.sleep(0.3)
    sent = load.start(sender, "send-numbered", to=target, rate=RATE, seconds=seconds)
    begun = time.monotonic() + 0.2
    for turn in range(changes):
        time.sleep(max(0.0, begun + turn * (seconds - 1) / changes - time.monotonic()))
        change(turn)
    assert sent.process.running, "the changes were to fall into the flow: this machine is too slow"
    result = heard.result()
    assert sent.result()["sent"] == result["sent"] > 0.1 * RATE * seconds
    return result


def assert_whole(result: dict[str, Any], never_read: int, sender: Observed, receiver: Observed) -> None:
    """Nothing was lost or overtaken, by the numbers; nor between the two TUNs, by the devices' own counters."""
    assert never_read == 0, "the sender's TUN was not read in time: this machine is too slow"
    for mistake in ("lost", "duplicates", "reordered"):
        assert result[mistake] == 0, f"{result}"
    (counters, drops), (theirs, _) = sender, receiver
    # What the kernel sends to multicast groups by itself belongs to no peer.
    assert counters["tun_rx_packets"] - drops["no_peer"] == theirs["tun_tx_packets"]


@pytest.mark.soak
def test_l8_changes_over_uapi_lose_no_packet_of_another_peer(lab: Lab, soak: bool, record_property: Record) -> None:
    need_load()
    tunnel = establish(*(lab.watched(host) for host in lab.pair()))
    for device in tunnel.devices:
        patient(device.host, device.name)
        others = (f"public_key={key(n)}\nendpoint=192.0.2.9:{PORT}\nallowed_ip={inner(n)}\n" for n in range(OTHERS))
        assert device.uapi("set=1\n" + "".join(others)) == OK
    assert tunnel.ping() == 1

    def change(turn: int) -> None:
        number = turn % OTHERS
        lines = {
            0: f"public_key={key(number)}\nendpoint=192.0.2.9:{1000 + turn}\npersistent_keepalive_interval=0\n"
            f"replace_allowed_ips=true\nallowed_ip={inner(number)}\nallowed_ip={inner(number + 1000)}\n",
            1: f"public_key={key(5000 + turn)}\nallowed_ip={inner(5000 + turn)}\n",
            2: f"public_key={key(5000 + turn - 1)}\nremove=true\n",
        }[turn % 3]
        for device in tunnel.devices:
            assert device.uapi("set=1\n" + lines) == OK

    changes, seconds = length(soak)
    handshake = tunnel.a.peer(tunnel.b).latest_handshake
    result = numbered(tunnel.a.host, tunnel.b.host, tunnel.ipv4[1], changes, seconds, change)
    record_property("numbered", result)
    record_property("changes", 2 * changes)
    sender, receiver = ((said["counters"], said["drops"]) for said in (d.report() for d in tunnel.devices))
    assert_whole(result, tun_drops(tunnel.a.host, tunnel.a.name), sender, receiver)
    assert tunnel.a.peer(tunnel.b).latest_handshake == handshake, "the session was made anew"


@pytest.mark.soak
def test_l8_changes_by_apply_lose_no_packet_of_another_peer(
    lab: Lab, soak: bool, record_property: Record, caplog: pytest.LogCaptureFixture
) -> None:
    """The same with an engine at either end, each told whole configurations that differ in one peer."""
    need_load()
    caplog.set_level(logging.WARNING)  # a line for each route would slow the changes down
    a, b = lab.pair()
    keys = PrivateKey.generate(), PrivateKey.generate()

    def config(own: int, host: Host, turn: int) -> Config:
        partner = Peer(
            public_key=keys[1 - own].public_key, allowed_ips=[f"10.9.0.{2 - own}/32"], endpoint=f"{host.ipv4}:{PORT}"
        )
        others = [
            Peer(public_key=PublicKey.from_hex(key(n)), allowed_ips=[inner(n)], endpoint=f"192.0.2.9:{1000 + n}")
            for n in range(OTHERS)
            if n != turn % OTHERS
        ]
        return Config(
            private_key=keys[own], addresses=[f"10.9.0.{own + 1}/24"], listen_port=PORT, peers=[partner, *others]
        )

    engines = [sync.Engine(name=lab.interface()) for _ in keys]
    try:
        for own, (host, other, engine) in enumerate(((a, b, engines[0]), (b, a, engines[1]))):
            host.call(engine.__enter__)
            engine.apply(config(own, other, 0))
            patient(host, engine.name or "")
        assert a.ping("10.9.0.2", timeout_s=20) == 1

        def change(turn: int) -> None:
            for own, other in enumerate((b, a)):
                assert engines[own].apply(config(own, other, turn + 1)), "nothing was changed"

        changes, seconds = length(soak)
        result = numbered(a, b, "10.9.0.2", changes, seconds, change)
        record_property("numbered", result)
        record_property("changes", 2 * changes)
        sender, receiver = ((said.counters, said.drops) for said in (engine.status() for engine in engines))
        assert_whole(result, tun_drops(a, engines[0].name or ""), sender, receiver)
    finally:
        for engine in engines:
            engine.close()
