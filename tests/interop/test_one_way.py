"""Sessions that go deaf some seconds after a handshake: case 32 (boringtun issue 495)."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import Lab, dut, program
from peers import requests
from peers.tunnel import Side, establish

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.device import Device

PEERS = ("wireguard-go", "tailscale-wireguard-go", "boringtun-cli", "self")
REKEY_AFTER_S = 120  # whitepaper 6.1


def handshakes(device: Device, seen: set[int]) -> set[int]:
    (peer,) = device.show().peers.values()
    return seen | {peer.latest_handshake}


@pytest.mark.soak
@pytest.mark.timeout(500)
@pytest.mark.parametrize("asking", ["a", "b"], ids=["we-ask", "they-ask"])
@pytest.mark.parametrize("way", ["keepalive", "every-11-s"])
@pytest.mark.parametrize("peer", PEERS)
def test_case_32_no_request_goes_unanswered(
    lab: Lab, peer: str, way: str, asking: Side, soak: bool, record_property: Callable[[str, object], None]
) -> None:
    """Whole: five minutes a pairing, over two rekeys. Short: the first 12 s of it, in which requests come quicker.

    With a keepalive, requests come every 3 s. Without, every 11 s, so that passive keepalives are sent in between
    (whitepaper 6.5).
    """
    interval_s = {"keepalive": 3.0, "every-11-s": 11.0}[way] if soak else 0.5
    watched_s = 300 if soak else 12
    a, b = lab.pair()
    ours, theirs = lab.device(dut(), a), lab.device(dut() if peer == "self" else program(peer), b)
    tunnel = establish(ours, theirs, keepalive=25 if way == "keepalive" else 0)
    client, server, address = tunnel.ends(asking)
    script = Path(requests.__file__)
    serving = server.host.spawn(sys.executable, script, "serve", address, "8080")
    asked = client.host.spawn(sys.executable, script, "ask", address, "8080", str(interval_s), str(watched_s))
    seen: set[int] = set()
    while asked.running:
        time.sleep(1)
        seen = handshakes(ours, seen)
    said = asked.output()
    answers, failures = said.split().count("ok"), [line for line in said.splitlines() if line.startswith("failed")]
    assert failures == []
    assert answers >= watched_s / interval_s - 2
    assert serving.running
    seen.discard(0)
    record_property("handshakes", len(seen))
    assert 1 <= len(seen) <= watched_s // REKEY_AFTER_S + 2
