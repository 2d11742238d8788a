"""Hosts joined by veth, and the devices on them: a tunnel, or one device alone."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from wgengine.bench.host import Host, HostError, Process, host, wait_until
from wgengine.bench.implementation import Implementation

INTERFACE = "wg0"
OUTER_MTU = 1500
TUNNEL_MTU = 1420
PORT = 51820
_VETH = "veth0"
STRANGE_VETH = "veth1"


@contextmanager
def two_hosts(*, segmentation: bool) -> Iterator[tuple[Host, Host]]:
    """Yields two fresh hosts that reach each other; fresh, so that no cached route or TCP metric is inherited."""
    with host("192.0.2.1", "10.9.0.1") as a, host("192.0.2.2", "10.9.0.2") as b:
        _join(a, a.address, b, b.address, _VETH)
        for end in (a, b):
            end.run("ethtool", "-K", _VETH, "tx-udp-segmentation", "on" if segmentation else "off")
        yield a, b


@contextmanager
def stranger(to: Host) -> Iterator[tuple[Host, str]]:
    """Yields a host on a wire of its own to ``to``, and the address at which it reaches that one."""
    with host("198.51.100.2", "") as third:
        _join(to, "198.51.100.1", third, third.address, STRANGE_VETH)
        yield third, "198.51.100.1"


def _join(a: Host, address_a: str, b: Host, address_b: str, link: str) -> None:
    a.run("ip", "link", "add", link, "type", "veth", "peer", "name", link, "netns", str(b.pid))
    for end, address in ((a, address_a), (b, address_b)):
        end.run("ip", "address", "add", f"{address}/24", "dev", link)
        end.run("ip", "link", "set", link, "mtu", str(OUTER_MTU), "up")


@contextmanager
def device(where: Host, implementation: Implementation) -> Iterator[Process]:
    """Runs one device that has no peers yet, its link up."""
    with where.spawn(*implementation.command, INTERFACE, environment=implementation.environment) as process:
        _await_device(where, process)
        where.run("ip", "link", "set", INTERFACE, "mtu", str(TUNNEL_MTU), "up")
        yield process


@contextmanager
def tunnel(a: Host, b: Host, implementation: Implementation) -> Iterator[tuple[Process, Process]]:
    """Runs the implementation on both hosts, configures it with `wg`, and yields once a ping has come through."""
    with ExitStack() as stack:
        ends = [
            stack.enter_context(h.spawn(*implementation.command, INTERFACE, environment=implementation.environment))
            for h in (a, b)
        ]
        for where, end in zip((a, b), ends, strict=True):
            _await_device(where, end)
        key_a, key_b = (a.run("wg", "genkey").strip() for _ in range(2))
        _configure(a, key_a, peer=b, peer_key=key_b)
        _configure(b, key_b, peer=a, peer_key=key_a)
        a.run("ping", "-n", "-c", "1", "-w", "10", b.inner, timeout=15)
        yield ends[0], ends[1]


def _await_device(where: Host, end: Process) -> None:
    """Waits until the device answers `wg`."""
    wait_until(lambda: not end.running or _answers(where), seconds=15, what=end.complaint)
    if not end.running:
        raise HostError(end.complaint())


def _answers(where: Host) -> bool:
    try:
        where.run("wg", "show", INTERFACE, "listen-port")
    except HostError:
        return False
    return True


def _configure(where: Host, key: str, *, peer: Host, peer_key: str) -> None:
    """Gives a device its key, its one peer and its address; keys go through pipes only."""
    public = where.run("wg", "pubkey", stdin=peer_key).strip()
    where.run(
        *("wg", "set", INTERFACE, "listen-port", str(PORT), "private-key", "/dev/stdin", "peer", public),
        *("endpoint", f"{peer.address}:{PORT}", "allowed-ips", f"{peer.inner}/32"),
        stdin=key,
    )
    where.run("ip", "address", "add", f"{where.inner}/24", "dev", INTERFACE)
    where.run("ip", "link", "set", INTERFACE, "mtu", str(TUNNEL_MTU), "up")
