"""Every pairing with a real peer: who initiates, with and without PSK, IPv4 and IPv6 outside, both inside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from lab import Host, Lab, dut, opened, program
from peers.tunnel import PORT, Side, Tunnel, establish
from peers.wire import INITIATION, RESPONSE, Wire

if TYPE_CHECKING:
    from peers.device import Device, Program

PEERS = ("wireguard-go", "tailscale-wireguard-go", "boringtun-cli", "self")


def peer_program(name: str) -> Program:
    return dut() if name == "self" else program(name)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Lab, Host, Host]]:
    """One pair of hosts for the whole module; each test stops the devices that it started."""
    with opened() as lab:
        yield lab, *lab.pair()


def stop(lab: Lab, *devices: Device) -> None:
    for device in devices:
        device.stop()
        device.socket_path.unlink(missing_ok=True)
        lab.devices.remove(device)


@pytest.fixture
def devices(request: pytest.FixtureRequest, pair: tuple[Lab, Host, Host]) -> Iterator[tuple[Device, Device]]:
    """Ours on the first host, the peer on the second."""
    lab, a, b = pair
    started = lab.device(dut(), a), lab.device(peer_program(request.param), b)
    yield started
    stop(lab, *started)


@pytest.mark.parametrize("initiator", ["a", "b"], ids=["we-initiate", "they-initiate"])
@pytest.mark.parametrize("outer", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("psk", [False, True], ids=["plain", "psk"])
@pytest.mark.parametrize("devices", PEERS, indirect=True)
def test_s02_handshake_and_data(devices: tuple[Device, Device], psk: bool, outer: int, initiator: Side) -> None:
    ours, theirs = devices
    tunnel = establish(ours, theirs, psk=psk, outer=outer, initiator=initiator)
    with Wire(theirs.host) as wire:
        assert tunnel.ping(initiator) == 1
        time.sleep(0.05)
        handshake = [(d.kind, d.source) for d in wire.datagrams() if d.kind in (INITIATION, RESPONSE)]
    first, second, _ = tunnel.ends(initiator)
    source = {4: (first.host.ipv4, second.host.ipv4), 6: (first.host.ipv6, second.host.ipv6)}[outer]
    assert handshake == [(INITIATION, source[0]), (RESPONSE, source[1])], (
        "one handshake, by the side that was to make it"
    )
    # the responder has learned where its peer is
    learned = second.peer(first).endpoint
    assert learned == (f"{source[0]}:{PORT}" if outer == 4 else f"[{source[0]}]:{PORT}")
    assert_moves(tunnel)
    assert ours.peer(theirs).latest_handshake > time.time() - 30


def assert_moves(tunnel: Tunnel) -> None:
    for family in (4, 6):
        for sender in ("a", "b"):
            assert tunnel.ping(sender, "-i", "0.002", family=family, count=20) == 20
            tunnel.transfer(1_000_000, sender, family=family).assert_whole()


@pytest.mark.parametrize("devices", PEERS, indirect=True)
def test_a_wrong_preshared_key_keeps_everything_out(devices: tuple[Device, Device]) -> None:
    ours, theirs = devices
    tunnel = establish(ours, theirs, psk=True)
    ours.wg_set("peer", theirs.public, "preshared-key", "/dev/null")
    assert tunnel.ping("a", "-W", "1") == 0
    assert tunnel.ping("b", "-W", "1") == 0
    assert ours.peer(theirs).latest_handshake == 0
