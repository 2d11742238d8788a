"""Look-ups past our own tunnel: when the system's own will not do, and which way instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from wgengine import Config, Peer, PrivateKey, outside
from wgengine.address import Prefix
from wgengine.outside import Route, Tunnel, in_hosts, interface_for, name_servers, swallowed

OURS, THEIRS = PrivateKey.generate(), PrivateKey.generate().public_key


def tunnel(*allowed_ips: str, **fields: object) -> Tunnel:
    peers = [Peer(public_key=THEIRS, allowed_ips=allowed_ips)]
    return Tunnel(ifindex=7, config=Config(**{"private_key": OURS, "peers": peers, **fields}))


def test_name_servers_of_this_host_itself_do_not_count() -> None:
    text = """# written by hand
nameserver 127.0.0.53
nameserver 192.0.2.53
search corp.example
nameserver 2001:db8::53
nameserver ::1
nameserver nonsense
nameserver
"""
    assert name_servers(text) == ["192.0.2.53", "2001:db8::53"]


def test_the_hosts_file_knows_names_and_aliases() -> None:
    text = "127.0.0.1 localhost\n192.0.2.1 VPN.example vpn # gate\n2001:db8::1 vpn.example\n#192.0.2.9 vpn.example\n"
    assert in_hosts(text, "vpn.example.") == ["192.0.2.1", "2001:db8::1"]
    assert in_hosts(text, "vpn") == ["192.0.2.1"]
    assert in_hosts(text, "gate") == []


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (tunnel("10.0.0.0/8"), False),
        (tunnel("192.0.2.0/24"), True),
        (tunnel("192.0.2.0/24", table="off"), False),
        (tunnel("192.0.2.0/24", table=254), True),
        (tunnel("192.0.2.0/24", table=1234), False),
        (tunnel("0.0.0.0/0"), False),  # such a route is not made without a router
        (tunnel("0.0.0.0/1", "128.0.0.0/1"), True),
        (tunnel(addresses=["192.0.2.1/24"]), True),
        (tunnel("10.0.0.0/8", fwmark=51820), True),
    ],
)
def test_when_the_systems_own_look_up_would_go_astray(ours: Tunnel, expected: bool) -> None:
    assert swallowed(["192.0.2.53"], ours) is expected


def test_without_a_name_server_elsewhere_there_is_nothing_to_take_past() -> None:
    assert not swallowed([], tunnel("0.0.0.0/1", fwmark=1))


ROUTES = [
    Route(Prefix.parse("0.0.0.0/0"), 100, 2),
    Route(Prefix.parse("0.0.0.0/0"), 50, 3),
    Route(Prefix.parse("192.0.2.0/24"), 100, 4),
    Route(Prefix.parse("192.0.2.53/32"), 0, 7),
    Route(Prefix.parse("::/0"), 0, 5),
]


@pytest.mark.parametrize(
    ("address", "interface"), [("192.0.2.53", 4), ("192.0.3.1", 3), ("2001:db8::1", 5), ("192.0.2.1", 4)]
)
def test_the_way_is_the_one_without_our_interface(address: str, interface: int) -> None:
    assert interface_for(address, ROUTES, without=7) == interface


def test_where_only_our_interface_leads_there_is_no_way() -> None:
    assert interface_for("192.0.2.53", ROUTES[3:4], without=7) is None


def test_a_name_in_the_hosts_file_is_asked_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    (tmp_path / "hosts").write_text("198.51.100.7 vpn.example\n")
    monkeypatch.setattr(outside, "RESOLV_CONF", tmp_path / "resolv.conf")
    monkeypatch.setattr(outside, "HOSTS", tmp_path / "hosts")
    assert outside.addresses("vpn.example", tunnel("192.0.2.0/24")) == ["198.51.100.7"]
    assert outside.addresses("vpn.example", tunnel("10.0.0.0/8")) is None


def test_without_a_resolv_conf_the_system_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(outside, "RESOLV_CONF", tmp_path / "missing")
    assert outside.addresses("vpn.example", tunnel("0.0.0.0/1", fwmark=1)) is None
