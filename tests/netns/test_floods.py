"""A hundred thousand hostile datagrams a second: the tunnel stands, memory stays, and strangers hear nothing.

What of the honest flow is kept is a figure for `wgengine bench` (rows `flood_legit_share…`), not for a test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab import need_load
from peers import load
from peers.device import to_hex
from peers.tunnel import PORT, establish

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab import Host, Lab

MIB = 1 << 20
RATE = 100_000
SUBNET = 16  # of the second wire, on which the stranger lives

# The reasons that may count it, any of them: which one is first depends on how much else there is.
HANDSHAKES = {"bad_handshake", "cookie_required", "handshake_queue_full"}
REASONS = {
    "bad-length": {"malformed_message"},
    "bad-mac1": {"bad_mac"},
    "good-mac1": HANDSHAKES,
    "unknown-index": {"unknown_index"},
    "cookie-replies": {"unknown_index"},
    "replayed-data": {"replayed"},
    "forged-data": {"bad_tag"},
    "replayed-initiations": {"replayed_initiation", "cookie_required", "handshake_queue_full"},
}
SPOOFED = {"good-mac1", "bad-mac1", "bad-length"}
HOSTILE_PEER = {"replayed-data", "forged-data", "replayed-initiations"}
# Who knows our public key may be told to bring a cookie; nobody else is told anything.
MAY_BE_ANSWERED = {"good-mac1", "replayed-initiations"}


def count_replies(stranger: Host) -> None:
    """Counters of what comes back, by what it is; for spoofed sources too, which are routed to the stranger."""
    stranger.nft(
        f"table inet lab {{ counter cookies {{ }}\n counter others {{ }}\n"
        f"chain in {{ type filter hook prerouting priority -300;"
        f' iifname "u1" udp sport {PORT} udp length 72 counter name cookies;'
        f' iifname "u1" udp sport {PORT} udp length != 72 counter name others; }}; }}\n'
    )


@pytest.mark.parametrize("kind", REASONS)
@pytest.mark.timeout(150)
def test_l12_a_flood_is_counted_not_answered_and_costs_no_memory(
    lab: Lab, kind: str, soak: bool, record_property: Callable[[str, object], None]
) -> None:
    need_load()
    seconds = 15 if soak else 3
    (a, b), stranger = lab.pair(), lab.host()
    lab.join(b, stranger, link="u1", subnet=SUBNET)
    target = f"192.0.2.{SUBNET + 1}"
    b.run("ip", "route", "add", load.SPOOFED, "via", stranger.ipv4)
    count_replies(stranger)

    tunnel = establish(lab.wgengine(a), lab.watched(b))
    device = tunnel.b
    key = to_hex(device.public)
    # A peer that turns hostile is one that was let in.
    assert device.uapi(f"set=1\npublic_key={load.identities(1)[0]}\nallowed_ip=10.66.0.0/24") == "errno=0\n\n"
    assert tunnel.ping() == 1
    handshake = device.peer(tunnel.a).latest_handshake
    endpoint = device.peer(tunnel.a).endpoint

    def flood(seconds: float) -> dict[str, int]:
        extra = {"sources": load.SPOOFED} if kind in SPOOFED else {}
        poured = load.start(
            stranger, "flood", kind, seconds=seconds, to=f"{target}:{PORT}", key=key, rate=RATE, **extra
        )
        answered = tunnel.ping("a", "-i", "0.02", count=int(seconds * 40), timeout_s=seconds + 20)
        result = poured.result()
        record_property("flood_rate", int(result["rate"]))
        record_property("pings_answered", f"{answered} of {int(seconds * 40)}")
        return result

    flood(0.5)  # queues and tables take what they are bounded by
    before, rss = device.drops(), device.rss_bytes
    handshaken = stranger.counted("others")  # of the peer that turns hostile, when it was friendly
    result = flood(seconds)
    counted = {reason: count - before.get(reason, 0) for reason, count in device.drops().items()}
    growth = device.rss_bytes - rss
    record_property("rss_growth_kib", growth // 1024)
    record_property("dropped", counted)

    assert result["sent"] > seconds * RATE / 10, f"this was no flood: {result}"
    assert sum(counted.get(reason, 0) for reason in REASONS[kind]) > 0, f"counted {counted}"
    assert growth <= 8 * MIB, f"memory grew by {growth} bytes"
    friendly = 1 if kind in HOSTILE_PEER else 0  # the one response to the handshake it begins with
    assert stranger.counted("others") - handshaken <= friendly, "a stranger was answered"
    if kind not in MAY_BE_ANSWERED:
        assert stranger.counted("cookies") == 0, "a stranger without a mac1 that fits was told something"
    assert tunnel.ping(count=3, timeout_s=20) == 3
    assert device.peer(tunnel.a).latest_handshake == handshake, "the session was lost"
    assert device.peer(tunnel.a).endpoint == endpoint
