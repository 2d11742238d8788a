"""Hosts that lack one of the two families: case 54.

(wireguard-go works without IPv6 but then shows port 0, and does not start without IPv4.)
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lab import lacking
from peers.device import Device, genkey, pubkey
from peers.tunnel import PORT, Tunnel, establish

if TYPE_CHECKING:
    from lab import Host, Lab


def device_lacking(lab: Lab, host: Host, family: str) -> Device:
    device = lab.device(lacking(family), host)
    device.wg_set("listen-port", "0")
    return device


def bound(device: Device) -> dict[str, set[int]]:
    """The ports of its UDP sockets by family."""
    ports: dict[str, set[int]] = {}
    for family, table in (("ipv4", "/proc/net/udp"), ("ipv6", "/proc/net/udp6")):
        rows = device.host.run("cat", table).splitlines()[1:]
        ports[family] = {int(row.split()[1].rpartition(":")[2], 16) for row in rows}
    return ports


def test_case_54_without_ipv6_sockets_an_ipv4_peer_works(lab: Lab) -> None:
    a, b = lab.pair()
    weak = lab.device(lacking("ipv6"), a)
    tunnel = establish(weak, lab.wgengine(b))
    assert tunnel.ping("a") == 1
    assert weak.show().listen_port == PORT
    assert bound(weak) == {"ipv4": {PORT}, "ipv6": set()}


def test_case_54_an_ipv6_endpoint_on_an_ipv4_host_harms_nobody(lab: Lab) -> None:
    a, b = lab.pair()
    weak = lab.device(lacking("ipv6"), a)
    tunnel = establish(weak, lab.wgengine(b))
    assert tunnel.ping("a") == 1
    far = pubkey(genkey())
    weak.wg_set(
        "peer", far, "endpoint", "[2001:db8::77]:51820", "allowed-ips", "10.9.0.77/32", "persistent-keepalive", "1"
    )
    assert weak.peer(far).endpoint == "[2001:db8::77]:51820"
    assert weak.process is not None
    weak.host.spawn("ping", "-n", "-i", "0.2", "-c", "25", "10.9.0.77")
    before_s, begun = weak.process.cpu_s, time.monotonic()
    assert tunnel.ping("a", "-i", "0.5", count=10) == 10
    share = (weak.process.cpu_s - before_s) / (time.monotonic() - begun)
    assert share < 0.02, f"{share:.1%} of a processor went into a peer that cannot be reached"


def test_case_54_without_ipv4_sockets_an_ipv6_endpoint_works(lab: Lab) -> None:
    a, b = lab.pair()
    weak = lab.device(lacking("ipv4"), a)
    tunnel = establish(weak, lab.wgengine(b), outer=6)
    assert tunnel.ping("a") == 1
    assert bound(weak) == {"ipv4": set(), "ipv6": {PORT}}


def test_case_54_ipv6_switched_off_by_sysctl(lab: Lab) -> None:
    """The socket can be made then, but has no address to send from."""
    a, b = lab.pair()
    a.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    device = lab.wgengine(a)
    other = lab.wgengine(b)
    device.setconf(
        f"{device.interface_section(PORT)}[Peer]\nPublicKey = {other.public}\n"
        f"AllowedIPs = 10.9.0.2/32\nEndpoint = {b.ipv4}:{PORT}\n"
    )
    other.setconf(f"{other.interface_section(PORT)}[Peer]\nPublicKey = {device.public}\nAllowedIPs = 10.9.0.1/32\n")
    for end, address in ((device, "10.9.0.1/24"), (other, "10.9.0.2/24")):
        end.address(address)
        end.up()
    assert Tunnel(a=device, b=other).ping("a") == 1


def test_case_54_one_port_for_both_families_also_when_the_kernel_chooses(lab: Lab) -> None:
    device = lab.wgengine(lab.host())
    seen = set()
    for _ in range(5):
        device.wg_set("listen-port", "0")
        device.up()
        port = device.show().listen_port
        assert port != 0
        assert bound(device) == {"ipv4": {port}, "ipv6": {port}}
        device.wg_set("listen-port", "51820")
        seen.add(port)
    assert seen
    for family in ("ipv6", "ipv4"):
        weak = device_lacking(lab, lab.host(), family)
        weak.up()
        assert weak.show().listen_port != 0
