"""The UAPI socket as managers use it: cases 11, 18, 20 and 22."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from lab import dut, is_wgengine, until
from peers.device import Program, to_hex
from peers.tun import open_tun
from peers.tunnel import PORT, Tunnel, between

if TYPE_CHECKING:
    from lab import Lab

OK = "errno=0\n\n"
FIRST = "9f1af8c43245eb176eaf53aa9e7767425830c25d98e93a4d037b7390d74e7765"
SECOND = "1369fee20a08cac6bea6172a8fd6fc46465df92c68080de6821512058c524902"
FIRST_BASE64 = "nxr4xDJF6xdur1OqnndnQlgwwl2Y6TpNA3tzkNdOd2U="
SECOND_BASE64 = "E2n+4goIysa+phcqj9b8RkZd+SxoCA3mghUSBYxSSQI="


def allowed(lines: list[tuple[str, str]]) -> set[str]:
    return {value for key, value in lines if key == "allowed_ip"}


def test_case_18_settings_of_one_peer_do_not_leak_into_the_next(lab: Lab) -> None:
    device = lab.wgengine(lab.host())
    first = f"""set=1
private_key=f0755b34e87c6e929419e5e8d3c13dedcd86a21907150ea17d2400e69bece276
replace_peers=true
public_key={FIRST}
preshared_key={"ab" * 32}
endpoint=192.0.2.7:7
persistent_keepalive_interval=21
replace_allowed_ips=true
allowed_ip=10.9.7.0/24
public_key={SECOND}
allowed_ip=10.9.8.0/24
"""
    assert device.uapi(first) == OK
    _, peers = device.uapi_get()
    one, two = dict(peers[FIRST]), dict(peers[SECOND])
    assert one["preshared_key"] == "ab" * 32
    assert one["endpoint"] == "192.0.2.7:7"
    assert one["persistent_keepalive_interval"] == "21"
    assert allowed(peers[FIRST]) == {"10.9.7.0/24"}
    assert set(two.get("preshared_key", "0")) == {"0"}
    assert "endpoint" not in two
    assert two["persistent_keepalive_interval"] == "0"
    assert allowed(peers[SECOND]) == {"10.9.8.0/24"}

    second = f"""set=1
public_key={FIRST}
remove=true
public_key={SECOND}
allowed_ip=10.9.9.0/24
public_key={"11" * 32}
update_only=true
allowed_ip=10.9.10.0/24
public_key={"33" * 32}
allowed_ip=10.9.11.0/24
"""
    assert device.uapi(second) == OK
    _, peers = device.uapi_get()
    assert set(peers) == {SECOND, "33" * 32}
    assert allowed(peers[SECOND]) == {"10.9.8.0/24", "10.9.9.0/24"}
    assert allowed(peers["33" * 32]) == {"10.9.11.0/24"}


def test_case_11_the_last_claim_to_a_prefix_wins(lab: Lab) -> None:
    device = lab.wgengine(lab.host())
    device.setconf(
        f"{device.interface_section()}"
        f"[Peer]\nPublicKey = {FIRST_BASE64}\nAllowedIPs = 0.0.0.0/0, 10.9.0.2/32\n"
        f"[Peer]\nPublicKey = {SECOND_BASE64}\nAllowedIPs = 0.0.0.0/0, 10.9.0.0/24\n"
    )
    assert device.peer(FIRST_BASE64).allowed_ips == {"10.9.0.2/32"}
    assert device.peer(SECOND_BASE64).allowed_ips == {"0.0.0.0/0", "10.9.0.0/24"}

    assert device.uapi(f"set=1\npublic_key={FIRST}\nallowed_ip=10.9.0.0/24") == OK
    assert device.peer(FIRST_BASE64).allowed_ips == {"10.9.0.2/32", "10.9.0.0/24"}
    assert device.peer(SECOND_BASE64).allowed_ips == {"0.0.0.0/0"}

    device.wg_set("peer", SECOND_BASE64, "remove")
    assert device.peer(FIRST_BASE64).allowed_ips == {"10.9.0.2/32", "10.9.0.0/24"}


def grows(tunnel: Tunnel) -> bool:
    """Whether what a sends for three pings bears the mark."""
    before = tunnel.a.host.counted("marked")
    assert tunnel.ping("a", "-i", "0.2", count=3) == 3
    return tunnel.a.host.counted("marked") >= before + 3


@pytest.mark.parametrize("outer", [4, 6])
def test_case_20_fwmark_is_applied_and_shown(lab: Lab, outer: int) -> None:
    tunnel = between(lab, outer=outer)
    a = tunnel.a

    def shown() -> tuple[str, str]:
        return a.host.run("wg", "show", a.name, "fwmark").strip(), a.show().fwmark

    assert shown() == ("off", "off")
    a.wg_set("fwmark", "0xca6c")
    assert shown() == ("0xca6c", "0xca6c")
    a.host.nft(
        "table inet lab { counter marked { }\n"
        "chain out { type filter hook output priority 0; meta l4proto udp meta mark 0xca6c counter name marked; }; }\n"
    )
    assert grows(tunnel)
    a.wg_set("listen-port", "51821")
    assert a.show().listen_port == 51821
    assert grows(tunnel), "the sockets of the new port lack the mark"
    a.wg_set("fwmark", "off")
    assert shown() == ("off", "off")
    before = a.host.counted("marked")
    assert tunnel.ping("a", "-i", "0.2", count=3) == 3
    assert a.host.counted("marked") == before


def test_a_port_may_be_taken_back_at_once(lab: Lab) -> None:
    device = lab.wgengine(lab.host())
    answers = [device.uapi(f"set=1\nlisten_port={40_000 + turn % 2}\nfwmark={turn}") for turn in range(300)]
    assert set(answers) == {OK}, f"{len(answers) - answers.count(OK)} of 300 changes failed: {set(answers) - {OK}}"


@pytest.mark.skipif(not is_wgengine(), reason="wireguard-go answers EADDRINUSE for every failure to set a mark")
def test_case_20_a_mark_without_the_privilege_is_eperm(lab: Lab) -> None:
    host = lab.host()
    name = lab.interface()
    # who is handed a TUN needs no capability, but for the mark of a socket (CAP_NET_ADMIN or CAP_NET_RAW)
    fd = host.call(lambda: open_tun(name))
    try:
        ours = dut()
        weak = Program(name=ours.name, command=("setpriv", "--bounding-set=-net_admin,-net_raw", *ours.command))
        device = lab.device(weak, host, name=name, env={"WG_TUN_FD": str(fd)}, pass_fds=(fd,))
    finally:
        os.close(fd)
    assert device.uapi("set=1\nlisten_port=51820") == OK
    assert device.uapi("set=1\nfwmark=51820") == "errno=-1\n\n"
    assert device.show().fwmark == "off"
    assert device.show().listen_port == PORT


def test_case_22_one_allowed_ip_goes_without_harm(lab: Lab) -> None:
    tunnel = between(lab)
    a, b = tunnel.devices
    peer = to_hex(b.public)
    a.wg_set("peer", b.public, "allowed-ips", "10.9.0.2/32,10.20.0.0/16")
    assert tunnel.ping() == 1
    inodes = a.udp_inodes()
    handshake = a.peer(b).latest_handshake
    assert inodes

    pings = a.host.spawn("ping", "-n", "-i", "0.01", "-c", "600", "-W", "2", tunnel.ipv4[1])
    target = f"set=1\npublic_key={peer}\nupdate_only=true\n"
    for _ in range(100):
        replaced = a.uapi(f"{target}replace_allowed_ips=true\nallowed_ip=10.9.0.2/32\nallowed_ip=10.20.0.0/16")
        assert replaced == OK
    assert pings.running, "the replacements were to fall into the pings"
    assert a.uapi(f"{target}allowed_ip=-10.20.0.0/16") == OK
    assert a.uapi(f"{target}allowed_ip=-10.77.0.0/16") == OK
    assert a.uapi("set=1\nlisten_port=51820") == OK
    until(lambda: not pings.running, "the pings end", timeout_s=30)
    assert "600 received" in pings.log, pings.log[-300:]

    assert a.peer(b).allowed_ips == {"10.9.0.2/32"}
    assert a.udp_inodes() == inodes, "the same port was bound anew"

    # what another peer holds is not this one's to take away
    a.wg_set("peer", FIRST_BASE64, "allowed-ips", "10.77.0.0/16")
    assert a.uapi(f"{target}allowed_ip=-10.77.0.0/16") == OK
    assert a.peer(FIRST_BASE64).allowed_ips == {"10.77.0.0/16"}

    # a manager that feeds back what it got: as the device is, so it stays
    answered = (
        "errno",
        "protocol_version",
        "last_handshake_time_sec",
        "last_handshake_time_nsec",
        "rx_bytes",
        "tx_bytes",
    )
    lines = [line for line in a.uapi("get=1").splitlines() if line and line.partition("=")[0] not in answered]
    before = a.show()
    assert a.uapi("set=1\n" + "\n".join(lines)) == OK
    assert a.show() == before
    assert a.udp_inodes() == inodes
    assert tunnel.ping() == 1
    assert a.peer(b).latest_handshake == handshake, "the session was lost"
