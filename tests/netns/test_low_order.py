"""Peers whose public key gives an all-zero shared secret get no datagram: N22."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

from peers.device import genkey, pubkey
from peers.wire import INITIATION, Wire

if TYPE_CHECKING:
    from lab import Lab

# the points of small order on Curve25519, and the non-canonical forms of them that fit in 255 bits
P = 2**255 - 19
LOW_ORDER = (
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
    P,
    P + 1,
)


def test_n22_no_datagram_leaves_for_a_low_order_key(lab: Lab) -> None:
    a, b = lab.pair()
    device = lab.wgengine(a)
    device.up()
    endpoint = ("endpoint", f"{b.ipv4}:51820", "persistent-keepalive", "1")
    with Wire(b) as wire:
        device.wg_set("listen-port", "51820", "private-key", "/dev/stdin", stdin=device.private)
        for point in LOW_ORDER:
            low = base64.b64encode(point.to_bytes(32, "little")).decode()
            # a refusal of the key, in wg's words, is right as well as silence
            a.attempt("wg", "set", device.name, "peer", low, *endpoint)
        time.sleep(2)
        assert wire.datagrams() == []
        # an ordinary key, of a peer that never answers: the device does send
        device.wg_set("peer", pubkey(genkey()), *endpoint)
        time.sleep(0.5)
        assert len(wire.datagrams(kind=INITIATION)) == 1
