"""A tunnel under load for minutes, with rekeys as they come: no second of silence, no growth."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from peers.tunnel import between, read_iperf, seconds_of_silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab import Lab

MIB = 1 << 20


@pytest.mark.soak
@pytest.mark.timeout(420)
def test_iperf_with_rekeys_as_they_come(lab: Lab, soak: bool, record_property: Callable[[str, object], None]) -> None:
    """Whole: five minutes, and memory at the end against that of the first minute. Short: 20 s against 4 s.

    (The memory of wireguard-go grows far beyond this.)
    """
    seconds, settled_s = (300, 60) if soak else (20, 4)
    tunnel = between(lab)
    load = tunnel.start_iperf(seconds, "-i", "1")
    handshakes: set[int] = set()
    early: list[int] = []
    begun = time.monotonic()
    while (elapsed_s := time.monotonic() - begun) < seconds - 1:
        time.sleep(1)
        handshakes.add(tunnel.a.peer(tunnel.b).latest_handshake)
        if not early and elapsed_s >= settled_s:
            early = [device.rss_bytes for device in tunnel.devices]
    late = [device.rss_bytes for device in tunnel.devices]
    report = read_iperf(load, timeout_s=60)

    assert len(report["intervals"]) >= seconds - 1
    assert seconds_of_silence(report) == []
    # REKEY_AFTER_TIME is 120 s (whitepaper 6.1)
    assert seconds // 120 + 1 <= len(handshakes) <= seconds // 60 + 1
    record_property("gbit_per_s", report["end"]["sum_received"]["bits_per_second"] / 1e9)
    record_property("handshakes", len(handshakes))
    record_property("rss_bytes", late)
    growth = [after - before for before, after in zip(early, late, strict=True)]
    assert max(growth) <= 2 * MIB, f"memory grew by {growth} bytes after the first {settled_s} s"
