"""A peer that is killed and comes back knows nothing of its sessions: how long until packets flow again (F-1, F-2)."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peers.pairings import OURS, PAIRINGS, Pairing, every_pairing
from peers.tunnel import PORT, Tunnel
from peers.wire import INITIATION, Wire

if TYPE_CHECKING:
    from lab import Lab, Process
    from peers.device import Device

KEEPALIVE_TIMEOUT_S, REKEY_TIMEOUT_S, JITTER_S = 10, 5, 0.334  # whitepaper 6.1


def restart(device: Device, other: Device, tunnel: Tunnel, *, knows_endpoint: bool) -> None:
    """Killed, started again, configured as before."""
    number = tunnel.devices.index(device)
    device.kill9()
    device.start()
    device.address(f"{tunnel.ipv4[number]}/24", f"{tunnel.ipv6[number]}/64")
    device.up()
    endpoint = f"Endpoint = {other.host.ipv4}:{PORT}\n" if knows_endpoint else ""
    device.setconf(
        f"{device.interface_section(PORT)}[Peer]\nPublicKey = {other.public}\n{endpoint}"
        f"AllowedIPs = {tunnel.ipv4[1 - number]}/32, {tunnel.ipv6[1 - number]}/128\n"
    )


@every_pairing
def test_f1_the_first_packet_after_a_restart_is_answered(
    lab: Lab, pairing: Pairing, record_property: Callable[[str, object], None]
) -> None:
    """Who sends first was killed: its new session replaces one that the other side still has, by one initiation."""
    tunnel = pairing.tunnel(lab)
    assert tunnel.ping() == 1
    took_ms = []
    for _ in range(3):
        restart(tunnel.a, tunnel.b, tunnel, knows_endpoint=True)
        with Wire(tunnel.b.host) as wire:
            said = tunnel.a.host.run("ping", "-n", "-c", "1", "-W", "2", tunnel.ipv4[1])
            assert len(wire.datagrams(source=tunnel.a.host.ipv4, kind=INITIATION)) == 1
        took_ms.append(float(re.search(r" time=([\d.]+) ms", said)[1]))  # type: ignore[index]
    record_property("first packet, ms", took_ms)
    # not by a second try, which REKEY_TIMEOUT would have brought
    assert max(took_ms) < REKEY_TIMEOUT_S * 1000


@dataclass(slots=True, kw_only=True)
class Silence:
    """Somebody sends to a peer that has been killed."""

    pairing: Pairing
    tunnel: Tunnel
    pings: Process

    def seconds(self) -> float:
        """The longest time between two answers."""
        answers = [float(at) for at in re.findall(r"^\[([\d.]+)\].* bytes from ", self.pings.log, re.MULTILINE)]
        return max(later - earlier for earlier, later in itertools.pairwise(answers))


def test_f2_who_keeps_sending_finds_a_restarted_peer(lab: Lab, record_property: Callable[[str, object], None]) -> None:
    """The peer comes back without its session and does not know where we are. All pairings at once.

    Who sends notices after KEEPALIVE_TIMEOUT and REKEY_TIMEOUT that nothing comes back (whitepaper 6.5).
    """
    silences = []
    for pairing in PAIRINGS:
        tunnel = pairing.tunnel(lab, initiator="a")
        assert tunnel.ping() == 1
        pings = tunnel.a.host.spawn("ping", "-n", "-D", "-i", "0.1", "-c", "220", tunnel.ipv4[1])
        silences.append(Silence(pairing=pairing, tunnel=tunnel, pings=pings))
    time.sleep(1)
    for silence in silences:
        restart(silence.tunnel.b, silence.tunnel.a, silence.tunnel, knows_endpoint=False)
    for silence in silences:
        silence.pings.wait()
        seconds = silence.seconds()
        record_property(str(silence.pairing), f"{seconds:.1f} s of silence")
        assert silence.tunnel.ping("b") == 1
        if silence.pairing.a == OURS:
            least = KEEPALIVE_TIMEOUT_S + REKEY_TIMEOUT_S
            assert least - 0.2 <= seconds <= least + JITTER_S + 0.6, f"{silence.pairing}: {seconds:.1f} s"
