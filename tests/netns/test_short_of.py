"""A device short of what it needs goes on with what there is, counts what it drops, and recovers (F-3, F-7)."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import is_wgengine, run, until
from peers.tunnel import PORT, Tunnel, establish, read_iperf

if TYPE_CHECKING:
    from lab import Lab
    from peers.device import Device

SO_SNDBUFFORCE = 32

pytestmark = pytest.mark.skipif(not is_wgengine(), reason="looks into wgengine")


@pytest.fixture
def tunnel(lab: Lab) -> Tunnel:
    a, b = lab.pair()
    tunnel = establish(lab.watched(a), lab.watched(b))
    assert tunnel.ping() == 1
    return tunnel


def handshakes(device: Device) -> int:
    made: int = device.report()["counters"]["handshakes_completed"]
    return made


def test_f3_a_connection_outlives_a_wire_that_goes_and_comes_back(tunnel: Tunnel) -> None:
    a, b = tunnel.devices
    load = tunnel.start_iperf(6, "-i", "0.5", "-b", "50M")
    time.sleep(1)
    for _ in range(2):
        a.host.run("ip", "link", "set", a.host.link, "down")
        time.sleep(0.5)
        a.host.run("ip", "link", "set", a.host.link, "up")
        # an address of IPv6 goes with its link
        a.host.run("ip", "address", "replace", f"{a.host.ipv6}/64", "dev", a.host.link, "nodad")
        begun = time.monotonic()
        until(lambda: tunnel.ping("a", "-W", "1") == 1, "packets flow again", timeout_s=5)
        assert time.monotonic() - begun < 1
    report = read_iperf(load, timeout_s=30)
    assert report["intervals"][-1]["sum"]["bytes"] > 0
    assert [handshakes(device) for device in (a, b)] == [1, 1], "the session was to live on"


def test_f3_a_connection_outlives_another_address(tunnel: Tunnel) -> None:
    a, b = tunnel.devices
    load = tunnel.start_iperf(5, "-i", "0.5", "-b", "50M")
    for octet in (121, 122):
        time.sleep(1)
        a.host.run("ip", "address", "flush", "dev", a.host.link)
        a.host.run("ip", "address", "add", f"192.0.2.{octet}/24", "dev", a.host.link)
        begun = time.monotonic()
        until(lambda: tunnel.ping("a", "-W", "1") == 1, "packets flow again", timeout_s=5)
        assert time.monotonic() - begun < 1
        assert b.peer(a).endpoint == f"192.0.2.{octet}:51820"
    assert read_iperf(load, timeout_s=30)["intervals"][-1]["sum"]["bytes"] > 0
    assert [handshakes(device) for device in (a, b)] == [1, 1]


def descriptors(device: Device) -> int:
    return len(list(Path(f"/proc/{device.pid}/fd").iterdir()))


def limit(device: Device, count: int) -> None:
    run(["prlimit", "--pid", str(device.pid), f"--nofile={count}:1024"])


def test_f7_no_descriptor_is_left(tunnel: Tunnel) -> None:
    """Clients of the control socket beyond what the process may open have to wait; packets do not."""
    a = tunnel.a
    assert a.process is not None
    used = descriptors(a)
    limit(a, used + 3)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(a.socket_path))
        time.sleep(0.2)
        assert descriptors(a) == used + 3
        before = a.process.cpu_s
        assert tunnel.ping("a", "-i", "0.01", count=100) == 100
        assert a.process.cpu_s - before < 0.5, "who waits for a descriptor does not spin"
    until(lambda: descriptors(a) == used, "the clients that went are let go", timeout_s=5)

    # one for the request, none for the sockets that it asks for: refused as a whole, and the old ones serve on
    limit(a, used + 1)
    said = a.host.attempt("wg", "set", a.name, "listen-port", "51999", timeout_s=20)
    assert "Too many open files" in said.stderr
    limit(a, 1024)
    assert a.show().listen_port == PORT
    assert tunnel.ping("b", "-i", "0.01", count=50) == 50
    a.wg_set("listen-port", "51999")
    assert tunnel.ping() == 1


def test_f7_a_firewall_that_refuses_what_is_sent(tunnel: Tunnel) -> None:
    """The kernel answers EPERM to each send: counted, and over as soon as the rule is."""
    a = tunnel.a
    a.host.nft("table inet lab { chain out { type filter hook output priority 0; udp dport 51820 drop; }; }\n")
    before = a.drops().get("send_failed", 0)
    assert a.host.ping(tunnel.ipv4[1], "-i", "0.01", count=50, wait_s=1) == 0
    assert a.drops()["send_failed"] - before >= 50
    a.host.run("nft", "delete", "table", "inet", "lab")
    assert tunnel.ping("a", "-W", "1") == 1
    assert handshakes(a) == 1


def test_f7_the_queue_of_the_interface_is_full(tunnel: Tunnel) -> None:
    """Nobody reads it for a while: the kernel drops and counts, and afterwards all is as before."""
    a = tunnel.a

    def dropped() -> int:
        return int(a.host.run("cat", f"/sys/class/net/{a.name}/statistics/tx_dropped"))

    before = dropped()
    a.send_signal(signal.SIGSTOP)
    try:
        with a.host.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
            sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20)
            for _ in range(3000):
                sender.sendto(bytes(1000), (tunnel.ipv4[1], 9))
        assert dropped() - before > 1000
    finally:
        a.send_signal(signal.SIGCONT)
    until(lambda: tunnel.ping("a", "-W", "1") == 1, "packets flow again", timeout_s=2)
    tunnel.transfer(5_000_000).assert_whole()
    assert handshakes(a) == 1
