"""Names of endpoints looked up past our own tunnel.

The system's look-up goes wherever the routing table says. Where our own routes cover a name server, a tunnel that is
down could never learn its peer's new address; and where our datagrams bear a mark, so must these queries. Then, and
only then, the name servers are asked here: marked, and by the interface that would be used if ours were not there.
Blocks; Linux only.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wgengine.address import Prefix
from wgengine.reconfig import MAIN_TABLE, AddAddress, AddRoute, diff

if TYPE_CHECKING:
    from wgengine.config import Config

__all__ = ["Route", "Tunnel", "addresses", "interface_for", "swallowed"]

RESOLV_CONF = Path("/etc/resolv.conf")
HOSTS = Path("/etc/hosts")
PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """Our own interface, and what was configured on it."""

    ifindex: int
    config: Config

    def covers(self, addresses: Iterable[str]) -> bool:
        """Whether our routes or our addresses' subnets lead to one of these."""
        targets = [Prefix.parse(address) for address in addresses]
        for step in diff(None, self.config).steps:
            match step:
                case AddAddress(address=text):
                    ours = Prefix.parse(text)
                case AddRoute(prefix=text, table=table) if table in (None, MAIN_TABLE):
                    ours = Prefix.parse(text)
                case _:
                    continue
            if any(ours.covers(target) for target in targets):
                return True
        return False


def name_servers(text: str) -> list[str]:
    """The name servers of a resolv.conf, without those of this host itself: they have their own way out."""
    servers = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                address = ipaddress.ip_address(words[1])
            except ValueError:
                continue
            if not address.is_loopback:
                servers.append(words[1])
    return servers


def swallowed(servers: Sequence[str], tunnel: Tunnel) -> bool:
    """Whether the system's own look-up would miss the way: into the tunnel, or out without our mark."""
    return bool(servers) and (tunnel.config.fwmark != 0 or tunnel.covers(servers))


@dataclass(frozen=True, slots=True)
class Route:
    """One route of the main table, as far as the choice of an interface goes."""

    prefix: Prefix
    metric: int
    ifindex: int


def interface_for(address: str, routes: Iterable[Route], without: int) -> int | None:
    """The interface that leads to an address when one interface is left out."""
    target = Prefix.parse(address)
    fitting = [route for route in routes if route.ifindex != without and route.prefix.covers(target)]
    best = min(fitting, key=lambda route: (-route.prefix.length, route.metric), default=None)
    return best.ifindex if best is not None else None


def addresses(host: str, tunnel: Tunnel) -> list[str] | None:
    """The addresses of a host; None where the system's own look-up does. OSError when there is no answer."""
    if sys.platform != "linux":
        return None
    servers = name_servers(_read(RESOLV_CONF))
    if not swallowed(servers, tunnel):
        return None
    known = in_hosts(_read(HOSTS), host)
    if known:
        return known
    routes = list(_routes(servers))
    ways = {server: interface_for(server, routes, tunnel.ifindex) for server in servers}
    open_ways = {server: way for server, way in ways.items() if way is not None}
    if not open_ways:  # behind the tunnel only
        return None
    return _ask(host, open_ways, tunnel.config.fwmark)


def in_hosts(text: str, host: str) -> list[str]:
    """What the hosts file says of a host."""
    wanted = host.rstrip(".").lower()
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if wanted in (word.lower() for word in words[1:]):
            found.append(words[0])
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _routes(servers: Iterable[str]) -> Iterator[Route]:
    from pyroute2 import IPRoute

    with IPRoute() as netlink:
        for bits in {Prefix.parse(server).bits for server in servers}:
            family, anywhere = (socket.AF_INET, "0.0.0.0") if bits == 32 else (socket.AF_INET6, "::")
            for message in netlink.get_routes(family=family, table=MAIN_TABLE):
                ifindex = message.get("oif")
                if ifindex is not None:
                    prefix = Prefix.parse(f"{message.get('dst') or anywhere}/{message['dst_len']}")
                    yield Route(prefix, message.get("priority") or 0, ifindex)


def _ask(host: str, ways: dict[str, int], mark: int) -> list[str]:
    """Ask the name servers, each by its own interface."""
    import dns.exception
    import dns.message
    import dns.nameserver
    import dns.query
    import dns.resolver

    class Server(dns.nameserver.Do53Nameserver):
        """A name server that is asked through sockets of ours."""

        def query(self, request: dns.message.QueryMessage, timeout: float, *_: Any, **how: Any) -> dns.message.Message:
            kind = socket.SOCK_STREAM if how.get("max_size") else socket.SOCK_DGRAM
            with _socket(self.address, kind, ways[self.address], mark) as asking:
                if kind == socket.SOCK_STREAM:
                    asking.settimeout(timeout)
                    asking.connect((self.address, self.port))
                    asking.setblocking(False)
                    return dns.query.tcp(request, self.address, timeout, sock=asking)
                return dns.query.udp(
                    request, self.address, timeout, raise_on_truncation=True, ignore_unexpected=True, sock=asking
                )

    resolver = dns.resolver.Resolver(filename=str(RESOLV_CONF))
    resolver.nameservers = [Server(address) for address in ways]
    resolver.use_search_by_default = True
    try:
        answers = resolver.resolve_name(host, lifetime=PATIENCE_S)
    except dns.exception.DNSException as error:
        raise OSError(errno.EHOSTUNREACH, f"{host}: {error}") from error
    return [str(address) for address in answers.addresses()]


def _socket(address: str, kind: socket.SocketKind, ifindex: int, mark: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, socket.if_indextoname(ifindex).encode() + b"\0")
        if mark:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        if kind == socket.SOCK_DGRAM:
            made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
