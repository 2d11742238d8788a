"""What about this host gets in the way of the tunnel: its routes and addresses, its settings, its sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network

__all__ = ["address_conflicts", "forwarding_off", "route_conflicts", "socket_facts"]

Network = IPv4Network | IPv6Network

# What Linux forwards by; the system's own number for "on" is not 0.
_FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}


def route_conflicts(ours: Iterable[str], others: Mapping[str, str]) -> tuple[str, ...]:
    """Routes of the host that take traffic out of the tunnel's: the same prefix, or a part of it.

    `others` has the host's routes through other interfaces: prefix → interface. That a tunnel's default route leaves
    the host's own networks alone is what everybody wants. Link-local and multicast routes are each interface's own.
    The cost follows the host's routes, not ours.
    """
    tunnel = {ip_network(prefix) for prefix in ours}
    found = []
    for prefix, interface in others.items():
        route = ip_network(prefix)
        if route.is_link_local or route.is_multicast:
            continue
        covering = next((wider for wider in _wider(route) if wider in tunnel), None)
        if covering is not None:
            part = "" if covering == route else f", part of {covering}"
            found.append((route.version, route, f"{route} by {interface}{part}"))
    return tuple(text for _, _, text in sorted(found, key=lambda item: (item[0], item[1].network_address, item[2])))


def _wider(route: Network) -> Iterable[Network]:
    """The route itself and all that hold it, the narrowest first, without the default route."""
    return (route.supernet(new_prefix=length) for length in range(route.prefixlen, 0, -1))


def address_conflicts(ours: Iterable[str], others: Mapping[str, str]) -> tuple[str, ...]:
    """Our addresses that another interface of this host has as well. `others`: address → interface."""
    owned = {ip_interface(address).ip: interface for address, interface in others.items()}
    addresses = (ip_interface(address).ip for address in ours)
    return tuple(f"{address} on {owned[address]}" for address in addresses if address in owned)


def forwarding_off(advertised: Iterable[str], setting: Callable[[str], str | None]) -> tuple[str, ...]:
    """Settings to switch on, since routes are advertised. `setting` reads one; None: it cannot be known."""
    versions = sorted({ip_network(prefix).version for prefix in advertised})
    return tuple(f"{name}=1" for name in (_FORWARDING[version] for version in versions) if setting(name) == "0")


def socket_facts(sockets: Mapping[str, int]) -> dict[str, object]:
    """What a device's sockets say, for `Health.update`; nothing before there are any."""
    if not (sockets["ipv4"] or sockets["ipv6"]):
        return {}
    wanted = sockets["wanted_buffer"]
    granted = (("receive", sockets["receive_buffer"]), ("send", sockets["send_buffer"]))
    return {
        "udp4_error": "" if sockets["ipv4"] else "this host has no IPv4",
        "small_buffers": tuple(f"{way} {size} of {wanted} bytes" for way, size in granted if size < wanted),
    }
