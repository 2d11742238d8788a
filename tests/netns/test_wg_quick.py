"""Stock wg-quick and wg with the device as userspace implementation: up and down, syncconf. (Full tunnel: N15.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab import dut, until
from peers.device import Device, genpsk
from peers.quick import INSIDE, Quick, configuration, copied, gone
from peers.tunnel import PORT, between

if TYPE_CHECKING:
    from lab import Lab


@pytest.fixture
def quick(lab: Lab) -> Quick:
    return copied(lab)


def test_wg_quick_up_and_down_with_a_split_tunnel(lab: Lab, quick: Quick) -> None:
    a, b = lab.pair()
    server = lab.wgengine(b)
    client = Device(program=dut(), host=a, name=lab.interface())
    config = configuration(lab, client, server, "10.9.0.0/24, fd00:9::/64, 10.44.0.0/16")
    before = a.snapshot()
    for _ in range(2):
        quick(client, "up", config)
        assert a.ping(INSIDE[1]) == 1
        assert a.ping("fd00:9::2") == 1
        assert f"dev {client.name}" in a.run("ip", "route", "get", "10.44.1.1")
        assert client.show().peers[server.public].allowed_ips == {"10.9.0.0/24", "fd00:9::/64", "10.44.0.0/16"}
        quick(client, "down", config)
        until(lambda: gone(client), "the device ends with its link", timeout_s=5)
        a.assert_clean(before)


def test_wg_syncconf_changes_one_peer_and_keeps_the_sessions(lab: Lab) -> None:
    """(wireguard-go binds the same port anew.)"""
    tunnel = between(lab)
    a, b = tunnel.devices
    assert tunnel.ping() == 1
    handshake = a.peer(b).latest_handshake
    inodes = a.udp_inodes()
    pings = a.host.spawn("ping", "-n", "-i", "0.01", "-c", "150", "-W", "2", tunnel.ipv4[1])
    for octet in range(1, 11):
        text = a.interface_section(PORT) + (
            f"[Peer]\nPublicKey = {b.public}\nEndpoint = {b.host.ipv4}:{PORT}\n"
            f"AllowedIPs = 10.9.0.2/32, fd00:9::2/128\n"
            f"[Peer]\nPublicKey = nxr4xDJF6xdur1OqnndnQlgwwl2Y6TpNA3tzkNdOd2U=\nAllowedIPs = 10.{octet}.0.0/16\n"
        )
        a.host.run("wg", "syncconf", a.name, "/dev/stdin", stdin=text)
        assert a.peer("nxr4xDJF6xdur1OqnndnQlgwwl2Y6TpNA3tzkNdOd2U=").allowed_ips == {f"10.{octet}.0.0/16"}
    a.host.run("wg", "syncconf", a.name, "/dev/stdin", stdin=text.rpartition("[Peer]")[0])
    assert set(a.show().peers) == {b.public}
    assert "150 received" in pings.output()
    assert a.peer(b).latest_handshake == handshake
    assert a.udp_inodes() == inodes


def test_wg_addconf_and_setconf_with_a_preshared_key(lab: Lab) -> None:
    tunnel = between(lab, psk=True)
    a, b = tunnel.devices
    assert tunnel.ping() == 1
    assert a.peer(b).preshared == tunnel.psk
    # with another preshared key nothing passes, until both ends have it
    other = genpsk()
    for device, peer in ((a, b), (b, a)):
        device.wg_set("peer", peer.public, "remove")
        device.wg_set(
            *("peer", peer.public, "preshared-key", "/dev/stdin", "allowed-ips", "10.9.0.0/24"),
            *("endpoint", f"{peer.host.ipv4}:{PORT}"),
            stdin=other if device is a else genpsk(),
        )
    assert tunnel.ping(count=2) == 0
    b.wg_set("peer", a.public, "preshared-key", "/dev/stdin", stdin=other)
    until(lambda: tunnel.ping() == 1, "both ends have the same preshared key", timeout_s=20)


def test_wg_show_all_dump_while_under_load(lab: Lab) -> None:
    tunnel = between(lab)
    a, b = tunnel.devices
    load = tunnel.start_iperf(3)
    last, rows = 0, 0
    while load.running:
        lines = a.host.run("wg", "show", "all", "dump", timeout_s=5).splitlines()
        row = next(line.split("\t") for line in lines if line.startswith(f"{a.name}\t{b.public}"))
        assert len(row) == 9
        assert int(row[7]) >= last, "a counter went backwards"
        last, rows = int(row[7]), rows + 1
    assert rows >= 20, f"only {rows} answers in 3 s"
    assert last > 10_000_000
    assert tunnel.ping() == 1
