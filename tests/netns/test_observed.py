"""What our device says of what it did: the reason of every drop, one event for what matters, offloads as they are."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import is_wgengine, until
from peers import watched, without
from peers.device import genkey, pubkey, to_hex
from peers.tunnel import PORT, Tunnel, establish
from peers.wire import throw

if TYPE_CHECKING:
    from lab import Lab

pytestmark = pytest.mark.skipif(not is_wgengine(), reason="looks into wgengine")


def watched_pair(lab: Lab) -> Tunnel:
    a, b = lab.pair()
    return establish(lab.watched(a), lab.watched(b))


def test_an_undisturbed_tunnel_drops_nothing(lab: Lab) -> None:
    tunnel = watched_pair(lab)
    assert tunnel.ping("a", "-f", count=200) == 200
    tunnel.transfer(20_000_000, "a").assert_whole()
    for device in tunnel.devices:
        # what the kernel itself multicasts at a new interface (RFC 4861, RFC 3810) belongs to no peer
        assert set(device.drops()) <= {"no_peer"}


def test_counters_are_of_packets_and_not_of_super_packets(lab: Lab) -> None:
    tunnel = watched_pair(lab)
    assert tunnel.ping() == 1
    before = [device.report()["counters"] for device in tunnel.devices]
    tunnel.transfer(20_000_000, "a").assert_whole()
    sent, received = (
        {key: count - old[key] for key, count in device.report()["counters"].items()}
        for device, old in zip(tunnel.devices, before, strict=True)
    )
    least = 20_000_000 // 1420
    assert sent["tun_rx_packets"] >= least
    assert received["tun_tx_packets"] >= least
    assert sent["udp_tx_datagrams"] >= least
    assert received["udp_rx_datagrams"] >= least
    assert sent["tun_rx_bytes"] >= 20_000_000
    assert received["tun_tx_bytes"] >= 20_000_000


@pytest.mark.parametrize("outer", [4, 6])
def test_datagrams_are_counted_by_the_family_that_carried_them(lab: Lab, outer: int) -> None:
    a, b = lab.pair()
    tunnel = establish(lab.watched(a), lab.watched(b), outer=outer)
    assert tunnel.ping("a", "-f", count=50) == 50
    for device in tunnel.devices:
        counters = device.report()["counters"]
        for name in ("udp_rx_datagrams", "udp_rx_bytes", "udp_tx_datagrams", "udp_tx_bytes"):
            assert counters[name] >= 50
            assert counters[f"{name}_ipv6"] == (counters[name] if outer == 6 else 0)


def test_a_session_is_an_event_on_both_sides(lab: Lab) -> None:
    tunnel = watched_pair(lab)
    assert tunnel.ping("a") == 1
    for device, other, initiator in ((tunnel.a, tunnel.b, True), (tunnel.b, tunnel.a, False)):
        assert device.events("session_up") == [{"peer": other.public, "initiator": initiator}]
        assert device.report()["counters"]["handshakes_completed"] == 1


def test_a_peer_that_answers_no_handshake_is_an_event_long_before_it_is_given_up(lab: Lab) -> None:
    a, b = lab.pair()
    device, nobody = lab.watched(a), pubkey(genkey())
    device.address("10.9.0.1/24")
    device.up()
    device.wg_set("listen-port", "0", "private-key", "/dev/stdin", stdin=device.private)
    device.wg_set("peer", nobody, "endpoint", f"{b.ipv4}:{PORT}", "allowed-ips", "10.9.0.2/32")
    a.attempt("ping", "-n", "-c", "1", "-W", "1", "10.9.0.2")
    told = [{"peer": nobody}]
    until(lambda: device.events("handshake_unanswered") == told, "three tries of 5 s each are told", timeout_s=40)
    assert device.events("handshake_failed") == []
    assert device.report()["counters"]["handshakes_initiated"] >= 3


def test_n08_roaming_is_an_event(lab: Lab) -> None:
    tunnel = watched_pair(lab)
    a, b = tunnel.devices
    assert tunnel.ping() == 1
    b.wg_set("listen-port", "9997")
    assert tunnel.ping("b") == 1
    moved = {"peer": b.public, "endpoint": f"{b.host.ipv4}:9997"}
    until(lambda: a.events("endpoint_changed") == [moved], "one event says where the peer is now", timeout_s=2)


def test_a_change_from_outside_is_an_event(lab: Lab) -> None:
    device = lab.watched(lab.host())
    before = len(device.events("config_changed"))
    device.wg_set("fwmark", "7")
    until(lambda: len(device.events("config_changed")) == before + 1, "one event for one change", timeout_s=2)


def test_case_26_the_drop_has_its_reason(lab: Lab) -> None:
    tunnel = watched_pair(lab)
    a, b = tunnel.devices
    a.wg_set("peer", b.public, "allowed-ips", "10.9.0.0/16", "peer", pubkey(genkey()), "allowed-ips", "10.9.5.5/32")
    b.host.run("ip", "address", "add", "10.9.5.5/32", "dev", "lo")
    assert tunnel.ping() == 1
    assert "bad_source" not in a.drops()
    b.host.ping(tunnel.ipv4[0], "-I", "10.9.5.5", "-i", "0.2", count=3, wait_s=1)
    assert a.drops()["bad_source"] == 3


def test_case_24_one_event_and_few_drops(lab: Lab) -> None:
    tunnel = watched_pair(lab)
    for device in tunnel.devices:
        device.host.run("ip", "link", "set", device.host.link, "mtu", "1280")
    tunnel.transfer(3_000_000, "a", timeout_s=5).assert_whole()
    a, b = tunnel.devices
    assert a.events("path_too_small") == [{"peer": b.public, "endpoint": f"{b.host.ipv4}:{PORT}"}]
    for device in tunnel.devices:
        assert sum(count for reason, count in device.drops().items() if reason != "no_peer") < 100, device.drops()


def test_case_54_sends_without_a_socket_are_counted(lab: Lab) -> None:
    host = lab.host()
    device = lab.watched(host, sys.executable, str(Path(without.__file__)), "ipv6")
    device.address("10.9.0.1/24")
    device.up()
    device.wg_set("listen-port", "0", "private-key", "/dev/stdin", stdin=device.private)
    device.wg_set("peer", pubkey(genkey()), "endpoint", "[2001:db8::77]:51820", "allowed-ips", "10.9.0.77/32")
    host.attempt("ping", "-n", "-c", "1", "-W", "1", "10.9.0.77")
    assert device.drops().get("no_socket", 0) >= 1


def test_strangers_are_counted_by_reason(lab: Lab) -> None:
    tunnel = watched_pair(lab)
    a, b = tunnel.devices
    assert tunnel.ping() == 1
    before = b.drops()
    initiation = b"\1\0\0\0" + bytes(144)
    data = b"\4\0\0\0" + bytes(60)
    thrown = [b"", b"\1", b"\4\0\0\0" + bytes(11), b"\5\0\0\0" + bytes(100)] * 10 + [initiation] * 7 + [data] * 5
    throw(a.host, b.host.ipv4, thrown)
    wanted = {"malformed_message": 40, "bad_mac": 7, "unknown_index": 5}

    def grown() -> dict[str, int]:
        now = b.drops()
        return {reason: now.get(reason, 0) - before.get(reason, 0) for reason in wanted}

    until(lambda: grown() == wanted, f"the drops grow by {wanted}, not by {grown()}", timeout_s=2)


def test_offloads_are_switched_off_while_packets_flow(lab: Lab) -> None:
    tunnel = watched_pair(lab)
    assert tunnel.ping() == 1
    offloads = tunnel.a.report()["offloads"]
    assert all(offloads.values()), f"this kernel has them all: {offloads}"
    running = tunnel.start_transfer(200_000_000, "a")
    time.sleep(0.1)
    for device in tunnel.devices:
        device.send_signal(signal.SIGUSR1)
    assert running.sender.running
    running.result().assert_whole()
    for device in tunnel.devices:
        assert not any(device.report()["offloads"].values())
    tunnel.transfer(20_000_000, "b").assert_whole()


def test_a_blocked_interpreter_stops_no_packet_and_no_handshake(lab: Lab) -> None:
    tunnel = watched_pair(lab)
    a, b = tunnel.devices
    assert tunnel.ping() == 1
    a.send_signal(signal.SIGUSR2)
    begun = time.monotonic()
    # a new key at the other side wants a new handshake, which a has to answer in this time
    b.down()
    b.up()
    b.wg_set("peer", a.public, "remove")
    b.wg_set("peer", a.public, "endpoint", f"{a.host.ipv4}:{PORT}", "allowed-ips", "10.9.0.0/24")
    b.host.run("ip", "route", "replace", "10.9.0.0/24", "dev", b.name)
    assert tunnel.ping("b", "-i", "0.01", "-W", "1", count=100) == 100
    assert time.monotonic() - begun < watched.BLOCKED_S, "the interpreter was to be blocked all the while"
    assert a.report()["counters"]["handshakes_completed"] == 2
    assert time.monotonic() - begun > watched.BLOCKED_S - 0.5, "the interpreter was not blocked"


def test_n24_what_was_made_is_unmade(lab: Lab) -> None:
    """Ports, peers and prefixes come and go a hundred times: descriptors and threads as before, memory too."""
    device = lab.watched(lab.host())
    keys = [pubkey(genkey()) for _ in range(20)]

    def churn(rounds: int) -> None:
        for turn in range(rounds):
            lines = [f"set=1\nlisten_port={40_000 + turn % 2}\nfwmark={turn}"]
            for number, key in enumerate(keys):
                lines.append(f"public_key={to_hex(key)}\nendpoint=192.0.2.2:9")
                lines += [f"allowed_ip=10.{number}.{octet}.0/24" for octet in range(50)]
            assert device.uapi("\n".join(lines)) == "errno=0\n\n"
            assert device.uapi("set=1\nreplace_peers=true") == "errno=0\n\n"

    def resources() -> tuple[int, int]:
        folder = Path(f"/proc/{device.pid}")
        return len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))

    churn(20)
    time.sleep(0.2)
    before, rss_bytes = resources(), device.rss_bytes
    churn(100)
    until(lambda: resources() == before, f"descriptors and threads are {before} again, not {resources()}", timeout_s=2)
    assert device.rss_bytes - rss_bytes < 2 << 20
