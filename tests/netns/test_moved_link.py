"""An interface that is renamed, or moved to another namespace while its sockets stay in the first: N23, F-13.

(What containers are given: a tunnel as their only way out, whose outer side they cannot see.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab import until
from peers.tunnel import PORT, Tunnel, between, establish

if TYPE_CHECKING:
    from lab import Host, Lab


def settle(tunnel: Tunnel, host: Host, name: str) -> None:
    """Side a's interface loses its addresses and is down where it has come to."""
    prefixes = (f"{tunnel.ipv4[0]}/24", f"{tunnel.ipv6[0]}/64")
    for prefix in prefixes:
        host.run("ip", "address", "replace", prefix, "dev", name, *(["nodad"] if ":" in prefix else []))
    host.run("ip", "link", "set", name, "up")


@pytest.mark.parametrize("moved", ["before-it-is-up", "while-it-is-up"])
def test_n23_the_interface_moves_to_another_namespace(lab: Lab, moved: str) -> None:
    a, b = (lab.wgengine(host) for host in lab.pair())
    inside = lab.host()
    if moved == "before-it-is-up":
        tunnel = Tunnel(a=a, b=b)
        a.host.run("ip", "link", "set", a.name, "netns", inside.name)
        settle(tunnel, inside, a.name)
        b.address(f"{tunnel.ipv4[1]}/24", f"{tunnel.ipv6[1]}/64")
        b.up()
        for number, (own, other) in enumerate(((a, b), (b, a))):
            own.setconf(
                f"{own.interface_section(PORT)}[Peer]\nPublicKey = {other.public}\n"
                f"AllowedIPs = {tunnel.ipv4[1 - number]}/32, {tunnel.ipv6[1 - number]}/128\n"
                f"Endpoint = {other.host.ipv4}:{PORT}\n"
            )
    else:
        tunnel = establish(a, b)
        assert tunnel.ping() == 1
        a.host.run("ip", "link", "set", a.name, "netns", inside.name)
        settle(tunnel, inside, a.name)
    assert inside.ping(tunnel.ipv4[1], "-i", "0.01", count=20) == 20
    assert inside.ping(tunnel.ipv6[1], "-i", "0.01", count=20) == 20
    assert b.host.ping(tunnel.ipv4[0], "-i", "0.01", count=20) == 20
    assert a.peer(b).endpoint == f"{b.host.ipv4}:{PORT}", "the outer side is where it was"
    assert inside.links() == {"lo", a.name}
    # with the namespace it is in, the device ends
    assert a.process is not None
    process = a.process
    inside.run("ip", "link", "delete", a.name)
    until(lambda: not process.running, "the device ends with its link", timeout_s=5)


def test_n23_the_namespace_that_it_moved_to_goes_away(lab: Lab) -> None:
    tunnel = between(lab)
    a = tunnel.a
    inside = lab.host()
    a.host.run("ip", "link", "set", a.name, "netns", inside.name)
    settle(tunnel, inside, a.name)
    load = inside.spawn("ping", "-q", "-f", "-w", "5", tunnel.ipv4[1])
    until(lambda: tunnel.b.show().peers[a.public].rx_bytes > 10_000, "packets flow", timeout_s=5)
    assert a.process is not None
    process = a.process
    load.stop()
    lab.remove(inside)
    until(lambda: not process.running, "the device ends with its link", timeout_s=10)
    assert process.wait() == 0
    assert tunnel.b.process is not None
    assert tunnel.b.process.running


def test_f13_the_interface_is_renamed(lab: Lab) -> None:
    """Its control socket keeps the old name, which is how it is reached."""
    tunnel = between(lab)
    a = tunnel.a
    assert tunnel.ping() == 1
    other = lab.interface()
    a.down()
    a.host.run("ip", "link", "set", a.name, "name", other)
    settle(tunnel, a.host, other)
    assert tunnel.ping("a", "-i", "0.01", count=20) == 20
    assert tunnel.ping("b", "-i", "0.01", count=20) == 20
    a.host.run("ip", "link", "set", other, "down")
    assert tunnel.ping("b", "-W", "1") == 0
    a.host.run("ip", "link", "set", other, "mtu", "1300", "up")
    settle(tunnel, a.host, other)
    assert tunnel.ping("a") == 1
    a.host.run("ip", "link", "delete", other)
    assert a.process is not None
    process = a.process
    until(lambda: not process.running, "the device ends with its link", timeout_s=5)
