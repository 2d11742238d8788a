"""How a device comes and goes: every end leaves nothing, and a second one harms nobody."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import SOCKETS, LabError, dut, is_wgengine, until
from peers import without
from peers.device import Device
from peers.tun import open_tun
from peers.tunnel import PORT, between, establish

if TYPE_CHECKING:
    from lab import Host, Lab

ours_only = pytest.mark.skipif(not is_wgengine(), reason="words and exit codes of wgengine")


def ended(device: Device) -> bool:
    """No process, no link, no socket file."""
    assert device.process is not None
    return not device.process.running and device.name not in device.host.links() and not device.socket_path.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_takes_everything_with_it(lab: Lab, number: signal.Signals) -> None:
    host = lab.host()
    before = host.snapshot()
    device = lab.wgengine(host)
    device.setconf(device.interface_section(PORT))
    device.address("10.9.0.1/24", "fd00:9::1/64")
    device.up()
    assert device.process is not None
    begun = time.monotonic()
    assert device.process.stop(number) == 0
    assert time.monotonic() - begun < 2
    assert ended(device)
    host.assert_clean(before)


def test_it_ends_when_its_socket_file_is_removed(lab: Lab) -> None:
    host = lab.host()
    before = host.snapshot()
    device = lab.wgengine(host)
    device.up()
    device.socket_path.unlink()
    until(lambda: ended(device), "the device ends with its socket file", timeout_s=5)
    host.assert_clean(before)


def test_it_ends_when_its_link_is_deleted(lab: Lab) -> None:
    host = lab.host()
    before = host.snapshot()
    device = lab.wgengine(host)
    device.up()
    host.run("ip", "link", "delete", device.name)
    until(lambda: ended(device), "the device ends with its link", timeout_s=5)
    host.assert_clean(before)


def test_n23_it_lives_on_when_its_namespace_loses_the_name(lab: Lab) -> None:
    """A process keeps its namespace alive: without the name the tunnel goes on."""
    tunnel = between(lab)
    assert tunnel.ping() == 1
    lab.remove(tunnel.b.host)
    assert tunnel.b.process is not None
    assert tunnel.b.process.running
    assert tunnel.ping() == 1
    assert tunnel.b.stop() == 0


def test_killed_it_leaves_no_link_and_the_next_one_takes_over(lab: Lab) -> None:
    a, b = lab.pair()
    before = a.snapshot()
    first, second = lab.wgengine(a), lab.wgengine(b)
    tunnel = establish(first, second)
    assert tunnel.ping() == 1
    first.kill9()
    until(lambda: first.name not in a.links(), "the kernel removes the TUN", timeout_s=2)
    a.assert_clean(before)
    # its socket file stayed; whoever comes next under this name replaces it
    again = lab.device(dut(), a, name=first.name, private=first.private)
    again.setconf(
        f"{again.interface_section(PORT)}[Peer]\nPublicKey = {second.public}\nAllowedIPs = 10.9.0.2/32\n"
        f"Endpoint = {b.ipv4}:{PORT}\n"
    )
    again.address("10.9.0.1/24")
    again.up()
    assert a.ping("10.9.0.2") == 1
    assert again.stop() == 0
    assert not again.socket_path.exists()


def test_a_name_in_use_is_refused_and_its_owner_untouched(lab: Lab) -> None:
    tunnel = between(lab)
    a, b = tunnel.devices
    assert tunnel.ping() == 1
    shown = a.peer(b).latest_handshake
    second = a.host.attempt(*a.command, timeout_s=10)
    assert second.returncode == 1
    assert a.name in second.stderr + second.stdout
    # the same name in another namespace would share the socket file
    elsewhere = lab.host()
    third = elsewhere.attempt(*a.command, timeout_s=10)
    assert third.returncode == 1
    assert a.name not in elsewhere.links()
    assert a.answers()
    assert tunnel.ping() == 1
    assert a.peer(b).latest_handshake == shown


@pytest.mark.parametrize("shards", ["1", "2"])
def test_a_port_in_use_is_refused_and_nothing_changed(lab: Lab, shards: str) -> None:
    """(wireguard-go is left without any socket.)"""
    tunnel = between(lab, env={"WGENGINE_SHARDS": shards})
    a, b = tunnel.devices
    assert tunnel.ping() == 1
    inodes, handshake = a.udp_inodes(), a.peer(b).latest_handshake

    def occupy() -> socket.socket:
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        holder.bind(("", 51999))
        return holder

    with a.host.call(occupy):
        with pytest.raises(LabError, match="Address already in use"):
            a.wg_set("listen-port", "51999")
        assert a.show().listen_port == PORT
        assert a.udp_inodes() == inodes
        assert tunnel.ping() == 1
        assert a.peer(b).latest_handshake == handshake
    # the port of another device of ours on the same machine is in use as well, however its sockets were made
    other = lab.wgengine(a.host, env={"WGENGINE_SHARDS": shards})
    with pytest.raises(LabError, match="Address already in use"):
        other.setconf(other.interface_section(PORT))
    assert other.show().listen_port != PORT
    assert tunnel.ping() == 1


@ours_only
@pytest.mark.parametrize("name", ["a name", "sixteen-letters-", "..", "a/b", ""])
def test_a_name_that_no_interface_can_have(lab: Lab, name: str) -> None:
    said = lab.host().attempt(*dut().command, name, timeout_s=10)
    assert said.returncode in (1, 2)
    assert said.stderr.startswith("wgengine")
    assert "Traceback" not in said.stderr


def daemon_pid(host: Host) -> int:
    (pid,) = host.pids()
    return pid


@ours_only
def test_without_f_it_goes_to_the_background_once_it_serves(lab: Lab) -> None:
    host = lab.host()
    before = host.snapshot()
    device = Device(program=dut(), host=host, name=lab.interface())
    command = [word for word in device.command if word != "-f"]
    host.run(*command, timeout_s=10)
    assert device.answers(), "the command returned before the socket was there"
    assert device.name in host.links()
    pid = daemon_pid(host)
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(stat[1]) == 1, "a daemon's parent is init"
    assert int(stat[3]) != os.getsid(0), "a daemon has a session of its own"
    assert os.readlink(f"/proc/{pid}/cwd") == "/"

    second = host.attempt(*command, timeout_s=10)
    assert second.returncode == 1, "the parent tells how its daemon fared"
    assert device.name in second.stderr
    assert daemon_pid(host) == pid

    os.kill(pid, signal.SIGTERM)
    until(lambda: not host.pids(), "the daemon ends", timeout_s=5)
    assert not device.socket_path.exists()
    host.assert_clean(before)


@ours_only
def test_wg_process_foreground_stays(lab: Lab) -> None:
    host = lab.host()
    name = lab.interface()
    command = [word for word in dut().command if word != "-f"]
    process = host.spawn(*command, name, env={"WG_PROCESS_FOREGROUND": "1"})
    until(lambda: name in host.links(), "the interface")
    assert host.pids() == {process.pid}
    assert process.stop() == 0


@pytest.mark.parametrize("vnet_hdr", [True, False], ids=["offloads", "plain"])
def test_wg_tun_fd_is_adopted(lab: Lab, vnet_hdr: bool) -> None:
    a, b = lab.pair()
    name = lab.interface()
    fd = a.call(lambda: open_tun(name, vnet_hdr=vnet_hdr))
    try:
        a.run("ip", "link", "set", name, "mtu", "1380")
        adopted = lab.device(dut(), a, name=name, env={"WG_TUN_FD": str(fd)}, pass_fds=(fd,))
    finally:
        os.close(fd)
    tunnel = establish(adopted, lab.wgengine(b), mtu=1380)
    assert tunnel.ping() == 1
    tunnel.transfer(8_000_000, "a").assert_whole()
    tunnel.transfer(8_000_000, "b").assert_whole()
    assert adopted.stop() == 0
    assert ended(adopted)


def test_wg_uapi_fd_is_adopted(lab: Lab) -> None:
    host = lab.host()
    name = lab.interface()
    path = SOCKETS / f"{name}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        fd = listener.fileno()
        process = host.spawn(*dut().command, name, env={"WG_UAPI_FD": str(fd)}, pass_fds=(fd,))
    until(lambda: name in host.links() or not process.running, "the interface")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(b"get=1\n\n")
        assert b"errno=0" in client.recv(65536)
    assert process.stop() == 0
    path.unlink(missing_ok=True)  # it belongs to who made it


@ours_only
@pytest.mark.parametrize("way", ["no privilege", "no device"])
def test_without_a_tun_it_says_what_would_help(lab: Lab, way: str) -> None:
    host = lab.host()
    name = lab.interface()
    if way == "no privilege":
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]
    else:
        command = [sys.executable, str(Path(without.__file__)), "tun"]
    said = host.attempt(*command, *dut().command, name, timeout_s=10)
    assert said.returncode == 3
    assert "--cap-add NET_ADMIN --device /dev/net/tun" in said.stderr
    assert "unshare -Urn" in said.stderr
    assert "Traceback" not in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_it_starts_and_ends_twenty_times(lab: Lab) -> None:
    host = lab.host()
    before = host.snapshot()
    for _ in range(20):
        device = lab.wgengine(host)
        device.setconf(device.interface_section(PORT))
        device.up()
        assert device.stop() == 0
        assert ended(device)
    host.assert_clean(before)
