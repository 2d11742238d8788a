"""N15 in every pairing: wg-quick's policy routing, by which all goes through the tunnel but the tunnel itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers.device import Device
from peers.pairings import Pairing, every_pairing, program_of
from peers.quick import assert_full_tunnel, copied

if TYPE_CHECKING:
    from lab import Lab


@every_pairing
def test_n15_wg_quick_with_a_full_tunnel(lab: Lab, pairing: Pairing) -> None:
    a, b = lab.pair()
    client = Device(program=program_of(pairing.a), host=a, name=lab.interface())
    assert_full_tunnel(lab, copied(lab), client, pairing.device(lab, 1, b))
