"""N20 and N21: configurations that split an answer, and what `wg set` means, in the kernel's order."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from lab import LabError
from peers.device import Device, genkey, genpsk, pubkey

if TYPE_CHECKING:
    from lab import Lab


def shown(device: Device, what: str) -> list[str]:
    return device.host.run("wg", "show", device.name, what).splitlines()


@pytest.fixture
def device(lab: Lab) -> Device:
    return lab.wgengine(lab.host())


def test_n20_very_many_allowed_ips_of_one_peer(device: Device, record_property: Callable[[str, object], None]) -> None:
    pairs = [(f"{a}.{b}.0.0/16", f"{a:x}::{f'{b:x}' if b else ''}/128") for a in range(1, 256) for b in range(256)]
    prefixes = {prefix for pair in pairs for prefix in pair}
    assert len(prefixes) == 130_560
    public = pubkey(genkey())
    lines = "".join(f"AllowedIPs = {v4},{v6}\n" for v4, v6 in pairs)
    begun = time.monotonic()
    device.setconf(f"[Interface]\nPrivateKey = {device.private}\n[Peer]\nPublicKey = {public}\n{lines}")
    record_property("set_s", round(time.monotonic() - begun, 2))
    (row,) = shown(device, "allowed-ips")
    key, *told = row.split()
    assert key == public
    assert len(told) == len(prefixes)
    assert set(told) == prefixes


def test_n20_forty_peers_of_fifty_two(device: Device) -> None:
    wanted = {pubkey(genkey()): {f"{a}.{b}.0.0/16" for b in range(1, 53)} for a in range(1, 41)}
    peers = "".join(f"[Peer]\nPublicKey = {key}\nAllowedIPs = {', '.join(ips)}\n" for key, ips in wanted.items())
    device.setconf(f"[Interface]\nPrivateKey = {device.private}\n{peers}")
    told = {row.split()[0]: set(row.split()[1:]) for row in shown(device, "allowed-ips")}
    assert told == wanted


def test_n20_bare_peers_before_one_that_is_not(device: Device) -> None:
    bare = [pubkey(genkey()) for _ in range(29)]
    last = pubkey(genkey())
    text = "".join(f"[Peer]\nPublicKey = {key}\n" for key in bare)
    device.setconf(f"{text}[Peer]\nPublicKey = {last}\nAllowedIPs = 255.2.3.4/32,abcd::255/128\n")
    told = dict(row.split("\t") for row in shown(device, "allowed-ips"))
    assert told.pop(last) == "255.2.3.4/32 abcd::255/128"
    assert told == dict.fromkeys(bare, "(none)")
    device.host.run("wg", "showconf", device.name)


def test_n20_the_second_peer_has_197(device: Device) -> None:
    """As many as just do not fit what is left of a page."""
    first, second = pubkey(genkey()), pubkey(genkey())
    wanted = {f"abcd:{b:x}::/64" for b in range(1, 198)}
    device.setconf(
        f"[Peer]\nPublicKey = {first}\nAllowedIPs = 1.2.3.4/32\n"
        f"[Peer]\nPublicKey = {second}\nAllowedIPs = {', '.join(sorted(wanted))}\n"
    )
    told = {row.split()[0]: set(row.split()[1:]) for row in shown(device, "allowed-ips")}
    assert told == {first: {"1.2.3.4/32"}, second: wanted}


def test_n21_an_unknown_interface_is_an_error(device: Device) -> None:
    said = device.host.attempt("wg", "show", "doesnotexist")
    assert said.returncode == 1
    assert device.host.attempt("wg", "show", device.name).returncode == 0


def test_n21_an_empty_file_takes_the_keys_away(device: Device) -> None:
    peer = pubkey(genkey())
    device.wg_set("private-key", "/dev/stdin", stdin=device.private)
    device.wg_set("peer", peer, "preshared-key", "/dev/stdin", stdin=genpsk())
    assert shown(device, "private-key") == [device.private]
    assert shown(device, "preshared-keys") != [f"{peer}\t(none)"]
    device.wg_set("private-key", "/dev/null", "peer", peer, "preshared-key", "/dev/null")
    assert shown(device, "private-key") == ["(none)"]
    assert shown(device, "preshared-keys") == [f"{peer}\t(none)"]
    assert shown(device, "peers") == [peer]


def test_n21_one_self_is_no_peer(device: Device) -> None:
    other = genkey()
    device.wg_set("peer", device.public)
    device.wg_set("private-key", "/dev/stdin", stdin=device.private)
    assert shown(device, "public-key") == [device.public]
    assert shown(device, "peers") == [], "the peer that one has become oneself"
    device.host.attempt("wg", "set", device.name, "peer", device.public)
    assert shown(device, "peers") == []
    # under another key the same public key is somebody else
    device.wg_set("private-key", "/dev/stdin", stdin=other)
    device.wg_set("peer", device.public)
    assert shown(device, "peers") == [device.public]


def test_n21_private_keys_are_clamped(device: Device) -> None:
    raw, clamped = "/" + device.private[1:], "+" + device.private[1:]
    device.wg_set("private-key", "/dev/stdin", stdin=raw)
    assert shown(device, "private-key") == [clamped]
    assert shown(device, "public-key") == [pubkey(raw)]


def test_n21_allowed_ips_shrink(device: Device) -> None:
    peer = pubkey(genkey())
    for wanted in (
        "0.0.0.0/0,10.0.0.0/8,100.0.0.0/10,172.16.0.0/12,192.168.0.0/16",
        "0.0.0.0/0",
        "::/0,1700::/111,5000::/4,e000::/37,9000::/75",
        "::/0",
        "",
    ):
        device.wg_set("peer", peer, "allowed-ips", wanted)
        (row,) = shown(device, "allowed-ips")
        assert set(row.split()[1:]) == set(wanted.split(",") if wanted else ["(none)"])


def test_n21_a_refused_request_changes_nothing(device: Device) -> None:
    peer = pubkey(genkey())
    device.wg_set("peer", peer, "allowed-ips", "10.1.0.0/16")
    before = device.show()
    with pytest.raises(LabError):
        device.wg_set("peer", peer, "allowed-ips", "10.2.0.0/16,10.3.0.0/33")
    assert "errno=0" not in device.uapi("set=1\nlisten_port=4711\npublic_key=nonsense")
    assert device.show() == before
