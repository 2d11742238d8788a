"""What about the host gets in the way: routes and addresses, forwarding, sockets."""

import pytest
from wgengine._native import Device, Plan, PrivateKey
from wgengine.health import Facts, address_conflicts, forwarding_off, route_conflicts, socket_facts


@pytest.mark.parametrize(
    ("ours", "others", "found"),
    [
        (["10.1.0.0/16"], {"10.1.0.0/16": "eth0"}, ["10.1.0.0/16 by eth0"]),
        (["10.0.0.0/8"], {"10.1.0.0/16": "eth0"}, ["10.1.0.0/16 by eth0, part of 10.0.0.0/8"]),
        (["10.0.0.0/8", "10.1.0.0/16"], {"10.1.2.0/24": "e"}, ["10.1.2.0/24 by e, part of 10.1.0.0/16"]),
        (["fd00::/8"], {"fd00:1::/64": "eth0"}, ["fd00:1::/64 by eth0, part of fd00::/8"]),
        (["10.1.0.0/16"], {"10.0.0.0/8": "eth0"}, []),  # ours is the narrower one: it wins
        (["0.0.0.0/0", "::/0"], {"10.1.0.0/16": "eth0", "fd00::/8": "eth0"}, []),
        (["10.1.0.0/16"], {"0.0.0.0/0": "eth0"}, []),
        (["fe80::/10", "224.0.0.0/4"], {"fe80::/64": "eth0", "224.0.0.0/4": "eth0"}, []),
        (["10.0.0.1/32"], {"10.0.0.1/32": "lo"}, ["10.0.0.1/32 by lo"]),
        ([], {"10.0.0.0/8": "eth0"}, []),
    ],
)
def test_route_conflicts(ours, others, found):
    assert list(route_conflicts(ours, others)) == found


def test_conflicts_come_in_order():
    others = {"fd00::/64": "b", "10.2.0.0/16": "a", "10.10.0.0/16": "a"}
    assert route_conflicts(["10.0.0.0/8", "fd00::/8"], others) == (
        "10.2.0.0/16 by a, part of 10.0.0.0/8",
        "10.10.0.0/16 by a, part of 10.0.0.0/8",
        "fd00::/64 by b, part of fd00::/8",
    )


def test_address_conflicts():
    others = {"10.0.0.1/24": "eth0", "fd00::1": "eth1"}
    assert address_conflicts(["10.0.0.1/32", "10.0.0.2/32", "fd00::1/128"], others) == (
        "10.0.0.1 on eth0",
        "fd00::1 on eth1",
    )


@pytest.mark.parametrize(
    ("advertised", "settings", "off"),
    [
        ([], {"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0"}, []),
        (["10.0.0.0/8"], {"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0"}, ["net.ipv4.ip_forward=1"]),
        (["10.0.0.0/8"], {"net.ipv4.ip_forward": "1"}, []),
        (["fd00::/8"], {"net.ipv6.conf.all.forwarding": "2"}, []),
        (["10.0.0.0/8", "fd00::/8"], {}, []),  # a system that cannot say is not blamed
        (
            ["::/0", "0.0.0.0/0"],
            {"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0"},
            ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"],
        ),
    ],
)
def test_forwarding_off(advertised, settings, off):
    assert list(forwarding_off(advertised, settings.get)) == off


def sockets(**values):
    return {"ipv4": 1, "ipv6": 1, "receive_buffer": 100, "send_buffer": 100, "wanted_buffer": 100} | values


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({"ipv4": 0, "ipv6": 0, "receive_buffer": 1}, None),
        ({}, Facts()),
        ({"ipv6": 0}, Facts()),
        ({"ipv4": 0}, Facts(udp4_error="this host has no IPv4")),
        ({"receive_buffer": 7}, Facts(small_buffers=("receive 7 of 100 bytes",))),
        (
            {"receive_buffer": 7, "send_buffer": 8},
            Facts(small_buffers=("receive 7 of 100 bytes", "send 8 of 100 bytes")),
        ),
    ],
)
def test_socket_facts(values, facts):
    found = socket_facts(sockets(**values))
    assert found == {} if facts is None else Facts(**found) == facts


def test_a_device_tells_of_its_sockets():
    device = Device(memory=True)
    try:
        assert socket_facts(device.sockets()) == {}
        device.commit(Plan(private_key=PrivateKey.generate(), listen_port=0))
        seen = device.sockets()
        assert seen["ipv4"] + seen["ipv6"] >= 1
        assert 0 < seen["receive_buffer"] <= seen["wanted_buffer"]
        assert 0 < seen["send_buffer"] <= seen["wanted_buffer"]
        assert socket_facts(seen).keys() == {"udp4_error", "small_buffers"}
    finally:
        device.close()
