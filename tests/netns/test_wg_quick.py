"""Stock wg-quick and wg with the device as userspace implementation: up and down, split and full tunnel, syncconf."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import dut, is_wgengine, need, until
from peers.device import Device, genpsk
from peers.tunnel import PORT, between
from peers.wire import Wire

if TYPE_CHECKING:
    from lab import Host, Lab

INSIDE = ("10.9.0.1", "10.9.0.2")
BEYOND = ("198.51.100.7", "2001:db8:beef::7")  # hosts of the internet that the full tunnel leads to


@pytest.fixture
def wg_quick(lab: Lab) -> Path:
    """wg-quick as on a machine whose kernel has no WireGuard, whatever this kernel has.

    It puts its own folder at the head of PATH: so a copy of it finds our `ip` first.
    """
    stock = shutil.which("wg-quick")
    need(stock, "wg-quick is missing: apt-get install wireguard-tools")
    need(shutil.which("sysctl"), "sysctl is missing: apt-get install procps")
    copy = lab.scratch / "wg-quick"
    shutil.copy(str(stock), copy)
    ip = lab.scratch / "ip"
    ip.write_text(
        f'#!/bin/sh\ncase "$*" in *"type wireguard"*) echo "Error: Unknown device type." >&2; exit 2;; esac\n'
        f'exec {shutil.which("ip")} "$@"\n'
    )
    ip.chmod(0o755)
    return copy


def quick(host: Host, wg_quick: Path, verb: str, config: Path) -> str:
    name = "wgengine-device" if is_wgengine() else dut().command[0]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = ("env", f"PATH={path}", f"WG_QUICK_USERSPACE_IMPLEMENTATION={name}")
    done = host.attempt(*environment, wg_quick, verb, config)
    assert done.returncode == 0, f"wg-quick {verb}: {done.stdout}{done.stderr}"
    return done.stderr


def configuration(lab: Lab, device: Device, server: Device, allowed: str, extra: str = "") -> Path:
    """The client's file; the server is configured here too."""
    server.setconf(
        f"{server.interface_section(PORT)}[Peer]\nPublicKey = {device.public}\n"
        f"AllowedIPs = {INSIDE[0]}/32, fd00:9::1/128\n"
    )
    server.address(f"{INSIDE[1]}/24", "fd00:9::2/64")
    server.up()
    path = lab.scratch / f"{device.name}.conf"
    path.touch(mode=0o600)
    path.write_text(
        f"[Interface]\nPrivateKey = {device.private}\nAddress = {INSIDE[0]}/24, fd00:9::1/64\n{extra}\n"
        f"[Peer]\nPublicKey = {server.public}\nAllowedIPs = {allowed}\nEndpoint = {server.host.ipv4}:{PORT}\n"
    )
    return path


def gone(device: Device) -> bool:
    """No link, no socket, no process."""
    return device.name not in device.host.links() and not device.socket_path.exists() and not device.host.pids()


def test_wg_quick_up_and_down_with_a_split_tunnel(lab: Lab, wg_quick: Path) -> None:
    a, b = lab.pair()
    server = lab.wgengine(b)
    client = Device(program=dut(), host=a, name=lab.interface())
    config = configuration(lab, client, server, "10.9.0.0/24, fd00:9::/64, 10.44.0.0/16")
    before = a.snapshot()
    for _ in range(2):
        quick(a, wg_quick, "up", config)
        assert a.ping(INSIDE[1]) == 1
        assert a.ping("fd00:9::2") == 1
        assert f"dev {client.name}" in a.run("ip", "route", "get", "10.44.1.1")
        assert client.show().peers[server.public].allowed_ips == {"10.9.0.0/24", "fd00:9::/64", "10.44.0.0/16"}
        quick(a, wg_quick, "down", config)
        until(lambda: gone(client), "the device ends with its link", timeout_s=5)
        a.assert_clean(before)


def test_wg_quick_up_and_down_with_a_full_tunnel(lab: Lab, wg_quick: Path) -> None:
    a, b = lab.pair()
    server = lab.wgengine(b)
    client = Device(program=dut(), host=a, name=lab.interface())
    for address in BEYOND:
        b.run("ip", "address", "add", address, "dev", "lo")
    config = configuration(lab, client, server, "0.0.0.0/0, ::/0")
    before = a.snapshot()
    quick(a, wg_quick, "up", config)
    mark = a.run("wg", "show", client.name, "fwmark").strip()
    assert re.fullmatch(r"0x[0-9a-f]+", mark), "wg-quick's policy routing hangs on the mark"
    with Wire(b) as wire:
        for address in BEYOND:
            assert a.ping(address, "-f", count=100) == 100
        assert len(wire.datagrams(source=a.ipv4)) >= 200, "the pings did not go through the tunnel"
    quick(a, wg_quick, "down", config)
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
