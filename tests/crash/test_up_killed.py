"""Case 52: `wgengine up` is killed at any moment and started again (without default routes, DNS and a kill switch)."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from lab import SOCKETS, is_wgengine, until
from peers.tunnel import PORT
from peers.up import Up, up

if TYPE_CHECKING:
    from lab import Host, Lab
    from peers.device import Device

pytestmark = pytest.mark.skipif(not is_wgengine(), reason="a command of wgengine")

AGAIN_WITHIN_S = 2.0


def with_default(lab: Lab) -> tuple[Host, Host]:
    a, b = lab.pair()
    a.run("ip", "route", "add", "default", "via", a.ipv4.rpartition(".")[0] + ".254")
    return a, b


def client_of(lab: Lab, host: Host, far: Device, number: int = 1, port: int = PORT) -> Up:
    """A tunnel with everything allowed, two addresses, and hooks that touch a file."""
    tunnel = up(lab, host, "")
    inside = f"10.9.{number}"
    tunnel.write(
        f"[Interface]\nPrivateKey = {tunnel.device.private}\nAddress = {inside}.1/24, fd00:{number}::1/64\n"
        f"ListenPort = {port}\nTable = {1000 + number}\n"
        f"PostUp = touch {lab.scratch}/%i.hook\nPostDown = rm -f {lab.scratch}/%i.hook\n"
        f"[Peer]\nPublicKey = {far.public}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {far.host.ipv4}:{PORT}\n"
    )
    far.wg_set("peer", tunnel.device.public, "allowed-ips", f"{inside}.1/32,fd00:{number}::1/128")
    far.address(f"{inside}.2/24")
    return tunnel


def far_end(lab: Lab, host: Host) -> Device:
    far = lab.wgengine(host)
    far.setconf(far.interface_section(PORT))
    far.up()
    return far


def rules_and_routes(host: Host, name: str) -> tuple[list[str], list[str]]:
    rules = host.run("ip", "rule").splitlines() + host.run("ip", "-6", "rule").splitlines()
    routes = [
        route
        for family in ("-4", "-6")
        for route in host.run("ip", family, "route", "show", "table", "1001", check=False).splitlines()
    ]
    assert all(f"dev {name} " in route for route in routes)
    return rules, routes


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_case_52_killed_at_any_moment_it_comes_up_again(
    lab: Lab, soak: bool, record_property: Callable[[str, object], None]
) -> None:
    """After 0.05, 0.1, … 1.5 s."""
    a, b = with_default(lab)
    tunnel = client_of(lab, a, far_end(lab, b))
    before = a.snapshot()
    rules, _ = rules_and_routes(a, tunnel.name)
    slowest = 0.0
    for number in range(1, 31, 1 if soak else 4):
        tunnel.begin()
        time.sleep(0.05 * number)
        tunnel.device.kill9()
        begun = time.monotonic()
        tunnel.begin()
        tunnel.wait_for(f"{tunnel.name} is up")
        assert a.ping("10.9.1.2", wait_s=2) == 1
        slowest = max(slowest, time.monotonic() - begun)
        now, routes = rules_and_routes(a, tunnel.name)
        assert now == rules
        assert len(routes) == 2, "one default route of each family"
        assert "exist" not in tunnel.log.lower()
        assert tunnel.stop() == 0
        a.assert_clean(before)
        assert not tunnel.device.socket_path.exists()
        assert not (lab.scratch / f"{tunnel.name}.hook").exists()
    record_property("slowest second start to the first answer", f"{slowest:.2f} s")
    assert slowest < AGAIN_WITHIN_S


@pytest.mark.parametrize("moment_s", [0.1, 0.3, 0.5, None])
def test_case_52_another_engine_is_not_touched(lab: Lab, moment_s: float | None) -> None:
    a, b = with_default(lab)
    far = far_end(lab, b)
    other = client_of(lab, a, far, 2, PORT + 1)
    other.start()
    assert a.ping("10.9.2.2") == 1
    handshake, hook = other.device.peer(far).latest_handshake, lab.scratch / f"{other.name}.hook"
    tunnel = client_of(lab, a, far)
    before = a.snapshot()
    for _ in range(3):
        if moment_s is None:
            tunnel.start()
        else:
            tunnel.begin()
            time.sleep(moment_s)
        tunnel.device.kill9()
        a.assert_clean(before)  # the other one's interface, addresses, rules and routes among it
        assert hook.exists()
        assert other.device.answers()
        assert a.ping("10.9.2.2") == 1
    tunnel.start()
    assert a.ping("10.9.1.2") == 1
    assert tunnel.stop() == 0
    a.assert_clean(before)
    assert other.device.peer(far).latest_handshake == handshake
    assert other.stop() == 0


def test_case_52_a_dead_owners_socket_is_replaced(lab: Lab) -> None:
    a, b = with_default(lab)
    tunnel = client_of(lab, a, far_end(lab, b))
    tunnel.start()
    tunnel.device.kill9()
    assert tunnel.device.socket_path.exists()
    tunnel.start()
    assert tunnel.device.answers()
    assert tunnel.stop() == 0
    assert not tunnel.device.socket_path.exists()


@pytest.mark.parametrize("owner", ["up", "device", "elsewhere", "link", "socket"])
def test_case_52_a_live_owner_is_in_use(lab: Lab, owner: str) -> None:
    """Told before the first hook runs; and the owner goes on."""
    a, b = with_default(lab)
    tunnel = client_of(lab, a, far_end(lab, b))
    hook = lab.scratch / "ran"
    tunnel.write(tunnel.file.read_text().replace("[Peer]", f"PreUp = touch {hook}\n[Peer]"))
    second = Up(lab=lab, host=lab.host() if owner == "elsewhere" else a, name=tunnel.name)
    listener = None
    if owner == "device":
        lab.wgengine(a, name=tunnel.name)
    elif owner == "link":
        a.run("ip", "tuntap", "add", "dev", tunnel.name, "mode", "tun")
    elif owner == "socket":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(SOCKETS / f"{tunnel.name}.sock"))
        listener.listen()
    else:
        tunnel.start()
        assert a.ping("10.9.1.2") == 1
    hook.unlink(missing_ok=True)
    before = second.host.snapshot()
    done = second.attempt()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{tunnel.name} is in use" in done.stderr
    assert not hook.exists()
    second.host.assert_clean(before, patience_s=0)
    if owner in ("up", "elsewhere"):
        assert tunnel.device.answers()
        assert a.ping("10.9.1.2") == 1
        assert tunnel.stop() == 0
    if listener is not None:
        listener.close()
        tunnel.device.socket_path.unlink()


def test_case_52_killed_while_it_reads_its_file_again(lab: Lab) -> None:
    a, b = with_default(lab)
    tunnel = client_of(lab, a, far_end(lab, b))
    before = a.snapshot()
    text = tunnel.file.read_text()
    for number in range(8):
        tunnel.start()
        tunnel.write(
            text
            + f"[Peer]\nPublicKey = nxr4xDJF6xdur1OqnndnQlgwwl2Y6TpNA3tzkNdOd2U=\nAllowedIPs = 10.{number}.0.0/16\n"
        )
        tunnel.signal(signal.SIGHUP)
        time.sleep(0.004 * number)
        tunnel.device.kill9()
        a.assert_clean(before)
        tunnel.write(text)
    tunnel.start()
    assert a.ping("10.9.1.2") == 1
    assert tunnel.stop() == 0
    until(lambda: not a.pids(), "nothing runs")
