"""Bulk transfers whose bytes are compared, through every pairing, with offloads on, off, and switched off half way."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from lab import Lab, dut, is_wgengine, program
from peers.tunnel import Transferred, establish

if TYPE_CHECKING:
    from collections.abc import Callable

PEERS = ("wireguard-go", "tailscale-wireguard-go", "boringtun-cli", "self")
OFF = {"WGENGINE_TUN_OFFLOAD": "0", "WGENGINE_UDP_GSO": "0", "WGENGINE_UDP_GRO": "0"}


@pytest.fixture
def size_bytes(soak: bool) -> int:
    return 1_000_000_000 if soak else 50_000_000


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("offloads", ["on", "off", "switched-off-half-way"])
@pytest.mark.parametrize("peer", PEERS)
def test_sha256_is_equal_at_both_ends(
    lab: Lab, peer: str, offloads: str, size_bytes: int, record_property: Callable[[str, object], None]
) -> None:
    a, b = lab.pair()
    env = OFF if offloads == "off" else {}
    ours = lab.device(dut(), a, env=env)
    theirs = lab.device(dut() if peer == "self" else program(peer), b, env=env if peer == "self" else {})
    tunnel = establish(ours, theirs)
    assert tunnel.ping() == 1

    for sender in ("a", "b"):
        before = theirs.peer(ours).rx_bytes if sender == "a" else ours.peer(theirs).rx_bytes
        running = tunnel.start_transfer(size_bytes, sender)
        if offloads == "switched-off-half-way" and is_wgengine():
            receiver, source = (theirs, ours) if sender == "a" else (ours, theirs)
            while receiver.peer(source).rx_bytes - before < size_bytes // 2:
                time.sleep(0.005)
            assert running.sender.running, "half way was to come before the end"
            ours.send_signal(signal.SIGUSR1)
        done: Transferred = running.result(timeout_s=250)
        record_property(f"{sender} sends", str(done))
        done.assert_whole()
    assert tunnel.ping() == 1
