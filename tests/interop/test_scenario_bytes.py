"""N1 in every pairing: what `wg`, the interface and the wire count for ten pings is the same, to the byte."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from peers.pairings import Pairing, every_pairing
from peers.wire import DATA, INITIATION, RESPONSE, Wire

if TYPE_CHECKING:
    from lab import Lab

PINGS = 10
PING_BYTES = 84  # of an echo request with the usual 56 bytes
INITIATION_BYTES, RESPONSE_BYTES = 148, 92
SEALED_BYTES = 96 + 32  # padded to 16 (whitepaper 5.4.6), then header and tag
UNPADDED_BYTES = PING_BYTES + 32  # boringtun-cli does not pad (C3 row 3)
KEEPALIVE_BYTES = 32


@every_pairing
def test_n01_exact_bytes_of_ten_flood_pings(
    lab: Lab, pairing: Pairing, record_property: Callable[[str, object], None]
) -> None:
    tunnel = pairing.tunnel(lab)
    with Wire(tunnel.b.host) as wire:
        assert tunnel.ping("a", "-f", count=PINGS) == PINGS
        time.sleep(0.2)
        seen = wire.datagrams()
    at_a, at_b = tunnel.a.peer(tunnel.b), tunnel.b.peer(tunnel.a)
    of_a, of_b = (PINGS * (UNPADDED_BYTES if name == "boringtun-cli" else SEALED_BYTES) for name in pairing.names)
    record_property("n01", f"a: rx {at_a.rx_bytes} tx {at_a.tx_bytes}; b: rx {at_b.rx_bytes} tx {at_b.tx_bytes}")

    on_wire_a = sum(d.length for d in seen if d.source == tunnel.a.host.ipv4)
    on_wire_b = sum(d.length for d in seen if d.source == tunnel.b.host.ipv4)
    # the initiator's keepalive confirms the session where no packet does it first
    assert on_wire_a in (of_a + INITIATION_BYTES, of_a + INITIATION_BYTES + KEEPALIVE_BYTES)
    assert on_wire_b == of_b + RESPONSE_BYTES
    assert [d.kind for d in seen][:3] == [INITIATION, RESPONSE, DATA]
    for name, shown, sent, received in (
        (pairing.a, at_a, on_wire_a, on_wire_b),
        (pairing.b, at_b, on_wire_b, on_wire_a),
    ):
        if name == "boringtun-cli":  # which counts what is inside, and forgets the time
            assert (shown.tx_bytes, shown.rx_bytes) == (PINGS * PING_BYTES, PINGS * PING_BYTES)
        else:
            assert (shown.tx_bytes, shown.rx_bytes) == (sent, received), f"{name} counts otherwise than the wire"
            assert shown.latest_handshake > 0
    for device in tunnel.devices:
        inner = device.host.run("cat", f"/sys/class/net/{device.name}/statistics/rx_bytes")
        assert int(inner) == PINGS * PING_BYTES
