"""Sessions that go deaf some seconds after a handshake: case 32 (boringtun issue 495)."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import Lab, Process, dut, program, until
from peers import requests
from peers.tunnel import Side, establish

if TYPE_CHECKING:
    from peers.device import Device

PEERS = ("wireguard-go", "tailscale-wireguard-go", "boringtun-cli", "self")


@dataclass(slots=True, kw_only=True)
class Conversation:
    """One side asks the other through a tunnel, again and again."""

    name: str
    ours: Device
    asked: Process
    interval_s: float
    handshakes: set[int] = field(default_factory=set)

    def look(self) -> None:
        (peer,) = self.ours.show().peers.values()
        if peer.latest_handshake:
            self.handshakes.add(peer.latest_handshake)


def begin(lab: Lab, peer: str, keepalive: int, asking: Side, interval_s: float, watched_s: int) -> Conversation:
    a, b = lab.pair()
    ours, theirs = lab.device(dut(), a), lab.device(dut() if peer == "self" else program(peer), b)
    client, server, address = establish(ours, theirs, keepalive=keepalive).ends(asking)
    script = Path(requests.__file__)
    server.host.spawn(sys.executable, script, "serve", address, "8080")
    until(lambda: server.host.listening(8080), "the server listens")
    ask = (sys.executable, script, "ask", address, "8080", str(interval_s), str(watched_s))
    return Conversation(
        name=f"{peer}, keepalive {keepalive}, {'we' if asking == 'a' else 'they'} ask",
        ours=ours,
        asked=client.host.spawn(*ask),
        interval_s=interval_s,
    )


@pytest.mark.soak
@pytest.mark.timeout(500)
def test_case_32_no_request_goes_unanswered(lab: Lab, soak: bool) -> None:
    """Every pairing, both sides asking, all at once. Whole: five minutes, over two rekeys. Short: 12 s, asking faster.

    With a keepalive, requests come every 3 s. Without, every 11 s, so that passive keepalives are sent in between
    (whitepaper 6.5).
    """
    watched_s = 300 if soak else 12
    conversations = [
        begin(lab, peer, keepalive, asking, interval_s if soak else 0.5, watched_s)
        for keepalive, interval_s in ((25, 3), (0, 11))
        for peer in PEERS
        for asking in ("a", "b")
    ]
    while any(conversation.asked.running for conversation in conversations):
        for conversation in conversations:
            conversation.look()
        time.sleep(1)
    for conversation in conversations:
        lines = conversation.asked.output().splitlines()
        assert lines.count("ok") == len(lines), f"{conversation.name}: {[line for line in lines if line != 'ok']}"
        assert len(lines) >= watched_s / conversation.interval_s - 1, f"{conversation.name}: {len(lines)} requests"
        # one per REKEY_AFTER_TIME and the first; one more where both sides began at once
        many = len(conversation.handshakes)
        assert watched_s // 150 + 1 <= many <= watched_s // 120 + 2, f"{conversation.name}: {many} handshakes"
