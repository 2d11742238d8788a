"""Messages that get lost on the way: each kind of handshake message, and a share of everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab import until
from peers.tunnel import between
from peers.wire import DATA, INITIATION, RESPONSE, Wire

if TYPE_CHECKING:
    from lab import Host, Lab

REKEY_TIMEOUT_S = 5  # whitepaper 6.1
JITTER_S = 0.334


def drop(host: Host, what: str) -> None:
    """Loses arriving UDP datagrams of which the nftables expression is true."""
    host.nft(
        "table inet lossy { counter lost { }\n"
        f"chain in {{ type filter hook input priority -10; meta l4proto udp {what} counter name lost drop; }}; }}\n"
    )


def heal(host: Host) -> None:
    host.run("nft", "delete", "table", "inet", "lossy")


def lost(host: Host) -> int:
    said = host.run("nft", "list", "counter", "inet", "lossy", "lost")
    return int(said.split("packets ")[1].split()[0])


@pytest.mark.parametrize("kind", [INITIATION, RESPONSE], ids=["initiation", "response"])
def test_a_lost_handshake_message_is_made_up_for_after_rekey_timeout(lab: Lab, kind: int) -> None:
    tunnel = between(lab)
    deaf = tunnel.b.host if kind == INITIATION else tunnel.a.host
    drop(deaf, f"@th,64,8 {kind}")
    with Wire(tunnel.b.host) as wire:
        pings = tunnel.a.host.spawn("ping", "-n", "-c", "1", "-W", "10", tunnel.ipv4[1])
        until(lambda: lost(deaf), "the first message is lost", timeout_s=2)
        heal(deaf)
        said = pings.output(timeout_s=15)
        initiations = [d.time_s for d in wire.datagrams(kind=INITIATION)]
    # the packet that asked for the session waited for it
    assert "1 received" in said
    assert len(initiations) == 2
    assert REKEY_TIMEOUT_S - 0.1 <= initiations[1] - initiations[0] <= REKEY_TIMEOUT_S + JITTER_S + 0.3


def test_the_first_data_is_lost_and_the_session_stands(lab: Lab) -> None:
    tunnel = between(lab)
    drop(tunnel.b.host, f"@th,64,8 {DATA}")
    assert tunnel.ping("a", "-W", "1") == 0
    assert lost(tunnel.b.host) >= 1
    heal(tunnel.b.host)
    handshake = tunnel.a.peer(tunnel.b).latest_handshake
    assert handshake > 0
    assert tunnel.ping("a") == 1
    assert tunnel.a.peer(tunnel.b).latest_handshake == handshake


def test_three_of_a_hundred_are_lost(lab: Lab) -> None:
    tunnel = between(lab)
    for device in tunnel.devices:
        device.host.cut_batches()  # one is to be lost, not sixty
        drop(device.host, "numgen random mod 100 < 3")
    tunnel.transfer(5_000_000, "a", timeout_s=60).assert_whole()
    tunnel.transfer(5_000_000, "b", timeout_s=60).assert_whole()
    assert lost(tunnel.b.host) > 10
