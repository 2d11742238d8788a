"""Whatever a stranger sends: no reply, no harm (ecosystem rows I-4, I-5, S-7)."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from peers.tunnel import PORT, between
from peers.wire import DATA, INITIATION, Wire, throw

if TYPE_CHECKING:
    from lab import Lab

FIRST_STRANGE_PORT = 40_000


def test_every_length_of_every_type_is_met_with_silence(lab: Lab) -> None:
    tunnel = between(lab)
    a, b = tunnel.devices
    assert tunnel.ping() == 1
    handshake = b.peer(a).latest_handshake
    rng = random.Random(20_26)
    payloads = []
    for kind in range(6):
        for length in range(2049):
            head = bytes([kind, 0, 0, 0])[:length]
            payloads.append(head + rng.randbytes(length - len(head)))
    payloads += [bytes([4, 1, 2, 3]) + rng.randbytes(60) for _ in range(50)]  # the reserved bytes are not zero
    payloads += [bytes([4, 0, 0, 0]) + rng.randbytes(60_000) for _ in range(20)]
    with Wire(b.host) as wire:
        throw(a.host, b.host.ipv4, payloads, source_port=FIRST_STRANGE_PORT)
        assert tunnel.ping(count=3, timeout_s=10) == 3
        replies = [d for d in wire.datagrams(source=b.host.ipv4) if d.target_port == FIRST_STRANGE_PORT]
    assert replies == []
    assert b.process is not None
    assert b.process.running
    assert b.peer(a).latest_handshake == handshake
    assert b.peer(a).endpoint == f"{a.host.ipv4}:{PORT}"


def test_real_messages_with_one_bit_wrong_change_nothing(lab: Lab) -> None:
    tunnel = between(lab)
    a, b = tunnel.devices
    with Wire(b.host) as wire:
        assert tunnel.ping() == 1
        time.sleep(0.1)
        real = wire.datagrams(source=a.host.ipv4)
        initiation = next(d.payload for d in real if d.kind == INITIATION)
        data = next(d.payload for d in real if d.kind == DATA)
        spoiled = []
        for message in (initiation, data):
            for at in range(len(message)):
                wrong = bytearray(message)
                wrong[at] ^= 1 << (at % 8)
                spoiled.append(bytes(wrong))
        # the real ones again as well: what was accepted once is not accepted twice
        throw(a.host, b.host.ipv4, [*spoiled, initiation, data], source_port=FIRST_STRANGE_PORT)
        time.sleep(0.2)
        replies = [d for d in wire.datagrams(source=b.host.ipv4) if d.target_port == FIRST_STRANGE_PORT]
    assert replies == []
    assert b.peer(a).endpoint == f"{a.host.ipv4}:{PORT}", "it followed a message that was not authentic"
    assert tunnel.ping() == 1
