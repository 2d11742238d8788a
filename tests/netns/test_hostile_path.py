"""A path that loses, doubles and reorders: F-15, and what the reordering costs (C3 row 2)."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lab import is_wgengine, until
from peers import shaper
from peers.tunnel import PORT, Tunnel

if TYPE_CHECKING:
    from lab import Lab, Process

WINDOW = 1024  # of boringtun's sessions

pytestmark = pytest.mark.skipif(not is_wgengine(), reason="looks into wgengine")


@dataclass(slots=True, kw_only=True)
class BadPath:
    """A tunnel whose two ends only reach a relay."""

    tunnel: Tunnel
    relay: Process

    def bad(self) -> None:
        self.relay.send_signal(signal.SIGUSR1)
        time.sleep(0.05)

    def good(self) -> None:
        self.relay.send_signal(signal.SIGUSR2)
        time.sleep(0.5)

    def end(self) -> dict[str, Any]:
        """What the relay did on the way from a to b."""
        self.relay.stop()
        said: dict[str, Any] = json.loads(self.relay.log)["a to b"]
        return said


def over_a_relay(lab: Lab, **faults: int) -> BadPath:
    a, middle, b = lab.host(), lab.host(), lab.host()
    lab.join(a, middle, subnet=16)
    lab.join(middle, b, link="u1", subnet=32)
    b.link = "u1"
    words = [f"{key}={value}" for key, value in faults.items()]
    relay = middle.spawn(sys.executable, Path(shaper.__file__), "192.0.2.18", "192.0.2.33", b.ipv4, str(PORT), *words)
    until(lambda: middle.run("ss", "-Hulpn").count(f":{PORT} ") == 2 or not relay.running, "the relay listens")
    tunnel = Tunnel(a=lab.watched(a), b=lab.watched(b))
    for number, endpoint in ((1, ""), (0, f"Endpoint = 192.0.2.18:{PORT}\n")):
        own, other = tunnel.devices[number], tunnel.devices[1 - number]
        own.address(f"{tunnel.ipv4[number]}/24", f"{tunnel.ipv6[number]}/64")
        own.up()
        own.setconf(
            f"{own.interface_section(PORT)}[Peer]\nPublicKey = {other.public}\n{endpoint}"
            f"AllowedIPs = {tunnel.ipv4[1 - number]}/32, {tunnel.ipv6[1 - number]}/128\n"
        )
    assert tunnel.ping() == 1
    return BadPath(tunnel=tunnel, relay=relay)


def flow(tunnel: Tunnel, count: int, a_millisecond: int) -> None:
    """Datagrams through the tunnel, so many a millisecond."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            begun = time.monotonic()
            for number in range(count):
                sender.sendto(number.to_bytes(64, "big"), (tunnel.ipv4[1], 9))
                if number % a_millisecond == 0:
                    time.sleep(max(0.0, begun + number / a_millisecond / 1000 - time.monotonic()))

    def sink() -> socket.socket:
        taker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        taker.bind((tunnel.ipv4[1], 9))
        return taker

    with tunnel.b.host.call(sink):
        tunnel.a.host.call(send)
        time.sleep(0.3)


@pytest.mark.parametrize("depth", [500, 1000, 1500, 2000])
def test_c3_row_02_what_reordering_costs(lab: Lab, depth: int, record_property: Callable[[str, object], None]) -> None:
    """Each datagram is overtaken by up to `depth` later ones, evenly spread; nothing is lost on the way.

    A window of 1,024 takes all of it up to there, and of the rest loses exactly those that come later.
    """
    path = over_a_relay(lab, depth=depth, hold_ms=5000)
    a, b = path.tunnel.devices
    before = a.report()["counters"]["tun_rx_packets"], b.report()["counters"]["tun_tx_packets"]
    path.bad()
    flow(path.tunnel, 10_000, a_millisecond=5)
    path.good()
    sent = a.report()["counters"]["tun_rx_packets"] - before[0]
    arrived = b.report()["counters"]["tun_tx_packets"] - before[1]
    late = b.drops().get("replayed", 0)
    did = path.end()
    record_property(
        "dropped", f"{late} of {sent}, {late / sent:.2%}; the deepest was {max(map(int, did['behind']))} behind"
    )
    assert did["sent"] == did["arrived"] >= 10_000, "the path itself was to lose nothing"
    assert sent >= 10_000
    assert arrived + late == sent
    assert late == sum(count for behind, count in did["behind"].items() if int(behind) >= WINDOW)
    assert (late > 0) == (depth > WINDOW)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_f15_a_session_survives_all_of_it(lab: Lab, soak: bool, record_property: Callable[[str, object], None]) -> None:
    """Whole: 200 s, with the rekey that comes after two minutes. Short: 10 s, with rekeys by hand."""
    seconds = 200 if soak else 10
    path = over_a_relay(lab, loss=30, duplicate=10, depth=2000, hold_ms=1000)
    a, b = path.tunnel.devices
    path.bad()
    pings = a.host.spawn("ping", "-n", "-i", "0.02", "-w", str(seconds), "-W", "2", path.tunnel.ipv4[1])
    began = time.monotonic()
    while time.monotonic() - began < seconds - 1:
        flow(path.tunnel, 4000, a_millisecond=4)
        if not soak:
            a.send_signal(signal.SIGHUP)
    pings.wait()
    sent, answered = map(int, re.findall(r"(\d+)(?: packets transmitted| received)", pings.log))
    drops = b.drops()
    path.good()
    assert path.tunnel.ping("a", "-i", "0.01", count=100) == 100, "the session is as good as before"
    assert path.tunnel.ping("b", "-i", "0.01", count=100) == 100
    did = path.end()
    record_property("pings answered", f"{answered / sent:.0%}, where both ways lose 30 %")
    record_property("dropped as replayed", f"{drops['replayed']}, of which doubled {did['duplicated']}")
    record_property("handshakes", b.report()["counters"]["handshakes_answered"])
    assert answered > sent * 0.1, "the session was dead for a while"
    assert set(drops) <= {"no_peer", "replayed", "replayed_initiation", "unknown_index"}
