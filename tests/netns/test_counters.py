"""Counters and times that `wg` shows: exact bytes (N1), the time of the latest handshake (case 16)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from peers.tunnel import between
from peers.wire import DATA, INITIATION, RESPONSE, Wire

if TYPE_CHECKING:
    from lab import Lab

PING_BYTES = 84  # of an echo request with the usual 56 bytes
SEALED_BYTES = 96 + 32  # padded to 16 (whitepaper 5.4.6), then header and tag
KEEPALIVE_BYTES = 32


def test_n01_exact_bytes_of_ten_flood_pings(lab: Lab) -> None:
    tunnel = between(lab)
    with Wire(tunnel.b.host) as wire:
        assert tunnel.ping("a", "-f", count=10) == 10
        time.sleep(0.2)
        seen = wire.datagrams()
    at_a, at_b = tunnel.a.peer(tunnel.b), tunnel.b.peer(tunnel.a)
    ten = 10 * SEALED_BYTES
    # the initiator's keepalive confirms the session where no packet does it first
    assert at_a.rx_bytes == ten + 92
    assert at_a.tx_bytes in (ten + 148, ten + 148 + KEEPALIVE_BYTES)
    assert (at_b.rx_bytes, at_b.tx_bytes) == (at_a.tx_bytes, at_a.rx_bytes)
    assert sum(d.length for d in seen if d.source == tunnel.a.host.ipv4) == at_a.tx_bytes
    assert sum(d.length for d in seen if d.source == tunnel.b.host.ipv4) == at_a.rx_bytes
    assert [d.kind for d in seen][:3] == [INITIATION, RESPONSE, DATA]
    assert at_a.latest_handshake > 0
    assert at_b.latest_handshake > 0
    for device in tunnel.devices:
        inner = device.host.run("cat", f"/sys/class/net/{device.name}/statistics/rx_bytes", check=True)
        assert int(inner) == 10 * PING_BYTES


def test_case_16_latest_handshake_is_a_time_since_1970(lab: Lab) -> None:
    tunnel = between(lab)
    a, b = tunnel.devices
    assert a.host.run("wg", "show", a.name, "latest-handshakes").split() == [b.public, "0"]
    assert "latest handshake" not in a.host.run("wg", "show", a.name)

    assert tunnel.ping() == 1
    now = time.time()
    shown = a.show()
    assert abs(shown.peers[b.public].latest_handshake - now) <= 2
    assert shown.public == a.public
    assert shown.listen_port == 51820
    said = a.host.run("wg", "show", a.name)
    line = next(line for line in said.splitlines() if "latest handshake" in line)
    assert line.split(": ")[1] in {"Now", *(f"{n} second{'s' if n > 1 else ''} ago" for n in range(1, 6))}

    _, peers = a.uapi_get()
    fields = dict(peers[next(iter(peers))])
    assert 0 <= int(fields["last_handshake_time_nsec"]) <= 999_999_999
    assert abs(int(fields["last_handshake_time_sec"]) - now) <= 2

    # the time is that of the handshake, not of the question
    time.sleep(2.5)
    assert a.peer(b).latest_handshake == shown.peers[b.public].latest_handshake
