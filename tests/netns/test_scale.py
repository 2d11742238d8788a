"""Devices with very many peers: what they cost when they are silent, unreachable, or come and go without end.

How fast it all goes is for `wgengine bench` (rows `peers_10k_…`, `idle_wakeups_per_s`).
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pytest
from lab import need_load
from peers import load
from peers.device import to_hex
from peers.tunnel import PORT

if TYPE_CHECKING:
    from lab import Lab
    from peers.device import Device

MIB = 1 << 20
OK = "errno=0\n\n"
BATCH = 10_000  # peers a request

Record = Callable[[str, object], None]


def key(number: int) -> str:
    return random.Random(number).randbytes(32).hex()


def peer(number: int) -> str:
    inner = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/32"
    return f"public_key={key(number)}\nendpoint=192.0.2.2:{PORT}\nallowed_ip={inner}\n"


def tell(device: Device, lines: Iterable[str]) -> None:
    assert device.uapi("set=1\n" + "".join(lines)) == OK


def alone(lab: Lab) -> Device:
    """A device that has a key, a port and a link, and nobody to talk to."""
    device = lab.wgengine(lab.host())
    device.up()
    tell(device, [f"private_key={to_hex(device.private)}\n", f"listen_port={PORT}\n"])
    return device


def wakeups(device: Device) -> int:
    said = device.host.run("sh", "-c", f"cat /proc/{device.pid}/task/*/status")
    return sum(int(line.split()[1]) for line in said.splitlines() if line.startswith("voluntary_ctxt_switches:"))


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_l7_a_hundred_thousand_peers_cost_nothing_while_they_are_silent(
    lab: Lab, soak: bool, record_property: Record
) -> None:
    count, seconds = 100_000, 60 if soak else 5
    device = alone(lab)
    before = device.rss_bytes
    begun = time.monotonic()
    for first in range(0, count, BATCH):
        tell(device, map(peer, range(first, first + BATCH)))
    record_property("load_s", round(time.monotonic() - begun, 2))
    time.sleep(1)
    each = (device.rss_bytes - before) / count
    record_property("bytes_each", int(each))
    assert device.process is not None
    spent, begun = device.process.cpu_s, time.monotonic()
    time.sleep(seconds)
    share = (device.process.cpu_s - spent) / (time.monotonic() - begun)
    record_property("idle_cpu_share", round(share, 4))
    assert share <= 0.02
    assert each <= 4096
    assert len(device.show().peers) == count


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_r2_ten_thousand_unreachable_peers_that_are_sent_to_stay_within_the_budget(
    lab: Lab, soak: bool, record_property: Record
) -> None:
    """Nobody listens at their endpoints, and each is sent to again and again."""
    need_load()
    count, seconds = 10_000, 60 if soak else 8
    device = alone(lab)
    other = lab.host()
    lab.join(device.host, other)
    tell(device, map(peer, range(count)))
    device.host.run("ip", "route", "add", "10.0.0.0/16", "dev", device.name)
    before = device.rss_bytes
    sent = load.start(
        device.host, "spray", to=f"10.0.0.0:{PORT}", seconds=seconds, rate=100_000, count=count, length=1300
    )
    most, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.2)
        most = max(most, device.rss_bytes)
    result = sent.result()
    record_property("packets_sent", result["sent"])
    record_property("rss_growth_kib", (most - before) // 1024)
    assert result["sent"] >= 4 * count, f"hardly anybody was sent to: {result}"
    assert most - before <= 64 * MIB
    assert most - before >= MIB, "nothing was staged: this was no test"


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_r3_peers_that_come_and_go_leave_nothing(lab: Lab, soak: bool, record_property: Record) -> None:
    """Whole: a million are added and removed after the warm-up."""
    rounds, each = (125, 10_000) if soak else (50, 5_000)
    device = alone(lab)
    settled = 0
    for turn in range(rounds):
        numbers = range(turn * each, (turn + 1) * each)
        tell(device, map(peer, numbers))
        tell(device, (f"public_key={key(number)}\nremove=true\n" for number in numbers))
        if turn == rounds // 5 - 1:
            settled = device.rss_bytes
    growth = device.rss_bytes - settled
    record_property("added_and_removed", rounds * each * 4 // 5)
    record_property("rss_growth_kib", growth // 1024)
    assert not device.show().peers
    assert abs(growth) <= 2 * MIB


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_r4_a_source_for_each_handshake_fills_no_table(lab: Lab, soak: bool, record_property: Record) -> None:
    """Each handshake comes from another address, which is real: it brings the cookie that it was given.

    Whole: it goes on until 100,000 addresses have been used.
    """
    need_load()
    seconds, least = (20, 100_000) if soak else (8, 1_000)
    initiators = 500  # each soon has as many sessions as a peer may have
    a, b = lab.pair()
    a.run("ip", "route", "add", "local", load.SPOOFED, "dev", "lo")
    b.run("ip", "route", "add", load.SPOOFED, "via", a.ipv4)
    device = lab.wgengine(b)
    device.up()
    tell(device, [f"private_key={to_hex(device.private)}\n", f"listen_port={PORT}\n"])
    keys = load.identities(initiators)
    tell(device, (f"public_key={key}\nallowed_ip=10.{n >> 8}.{n & 255}.0/24\n" for n, key in enumerate(keys)))
    rest = ("handshakes", "--to", f"{b.ipv4}:{PORT}", "--key", to_hex(device.public), "--count", str(initiators))

    def shake(seconds: float) -> dict[str, int]:
        return load.start(a, *rest, "--roam", "1", seconds=seconds, sources=load.SPOOFED, outstanding=400).result()

    shake(3)
    before = device.rss_bytes
    total = Counter[str]()
    while total["begun"] < least:  # pytest's own timeout ends what never comes that far
        total.update({what: count for what, count in shake(seconds).items() if isinstance(count, int)})
    growth = device.rss_bytes - before
    record_property("handshakes", total["answered"])
    record_property("cookies", total["cookies"])
    record_property("rss_growth_kib", growth // 1024)
    assert total["cookies"] > 0, "there was no load: nobody was asked for a cookie"
    assert growth <= 8 * MIB
    assert device.process is not None
    assert device.process.running


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_r5_a_thousand_idle_peers_let_it_sleep(lab: Lab, soak: bool, record_property: Record) -> None:
    seconds = 60 if soak else 10
    device = alone(lab)
    tell(device, map(peer, range(1000)))
    time.sleep(2)
    before, begun = wakeups(device), time.monotonic()
    time.sleep(seconds)
    rate = (wakeups(device) - before) / (time.monotonic() - begun)
    record_property("wakeups_per_s", round(rate, 2))
    assert rate <= 2


def test_l9_n20_very_many_allowed_ips_are_set_and_shown(lab: Lab) -> None:
    device = alone(lab)
    addresses = {f"10.{n >> 8 & 255}.{n & 255}.1/32" for n in range(65_280)}
    addresses |= {f"2001:db8:{n:x}::1/128" for n in range(1, 65_281)}
    tell(device, [f"public_key={key(0)}\n", *(f"allowed_ip={address}\n" for address in addresses)])
    (row,) = device.show().peers.values()
    assert row.allowed_ips == addresses
    tell(device, [f"public_key={key(0)}\nreplace_allowed_ips=true\n"])
    (row,) = device.show().peers.values()
    assert row.allowed_ips == frozenset()
