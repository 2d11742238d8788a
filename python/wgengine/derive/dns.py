"""From a netmap and preferences to what DNS is to do. Peers' names are not listed: they are looked up in the netmap."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from wgengine.address import Prefix, ip_address
from wgengine.dns_config import DNSConfig, Resolver
from wgengine.errors import ConfigError
from wgengine.fqdn import covers, fqdn
from wgengine.ranges import CGNAT, ULA, is_cgnat_host, is_ula_host

if TYPE_CHECKING:
    from wgengine.netmap import NetMap
    from wgengine.netmap_dns import DNSRecord
    from wgengine.node import Node
    from wgengine.prefs import Prefs

__all__ = ["dns_config_of", "reverse_zones"]

log = logging.getLogger("wgengine.derive")

Suffixes: TypeAlias = dict[str, tuple[Resolver, ...]]


def dns_config_of(netmap: NetMap, prefs: Prefs, exit_node: Node | None) -> DNSConfig:
    """What DNS is to do with this netmap."""
    node, dns = netmap.self_node, netmap.dns
    if node is not None and node.expired:
        # our tunnel is dead: a server that is reached through it would take all names away
        return DNSConfig()
    hosts = _hosts(dns.extra_records)
    config = DNSConfig(
        accept_dns=prefs.accept_dns,
        only_ipv6=bool(netmap.addresses) and all(":" in ip for ip in netmap.addresses),
        hosts=hosts,
    )
    if not prefs.accept_dns:
        return config
    suffixes: Suffixes = {}
    if dns.magic_dns and netmap.magic_dns_suffix:
        suffixes[fqdn(netmap.magic_dns_suffix)] = ()
        suffixes.update((zone, ()) for ip in netmap.addresses for zone in reverse_zones(_range_of(ip)))
    default = dns.resolvers
    proxy = _proxy_of(exit_node, netmap) if exit_node is not None else None
    if proxy is not None:
        default = _kept_with_exit_node(dns.resolvers) or (Resolver(proxy),)
        for suffix, resolvers in dns.routes:
            kept = _kept_with_exit_node(resolvers)
            if kept or not resolvers:
                suffixes[suffix] = kept
    else:
        if not default and exit_node is not None and exit_node.is_wireguard_only:
            default = exit_node.exit_node_dns_resolvers
        suffixes.update(dns.routes)
        if not default and prefs.exit_node is not None:
            # the servers of the network that we are in are likely out of reach
            default = dns.fallback_resolvers
    for name in hosts:
        if not any(covers(suffix, name) for suffix in suffixes):
            suffixes[name] = ()
    return config.replace(
        default_resolvers=default,
        routes=suffixes,
        search_domains=dns.domains,
        magic_hosts_unrouted=not dns.magic_dns and node is not None,
    )


def _hosts(records: Iterable[DNSRecord]) -> dict[str, tuple[str, ...]]:
    hosts: dict[str, tuple[str, ...]] = {}
    for record in records:
        if record.type not in ("", "A", "AAAA"):
            log.info("the DNS record %s is of type %s; only addresses can be served", record.name, record.type)
            continue
        try:
            name, address = fqdn(record.name), ip_address(record.value)
        except ConfigError as error:
            log.warning("a DNS record of the netmap is passed over: %s", error)
            continue
        hosts[name] = (*hosts.get(name, ()), address)
    return hosts


def _kept_with_exit_node(resolvers: Iterable[Resolver]) -> tuple[Resolver, ...]:
    return tuple(each for each in resolvers if each.use_with_exit_node)


def _proxy_of(exit_node: Node, netmap: NetMap) -> str | None:
    """Where the exit node answers DNS, if it does, at an address of a family that we have too."""
    if not exit_node.answers_dns:
        return None
    ours = [ip for ip in netmap.addresses if ip.endswith("/128" if ":" in ip else "/32")]
    if any(":" not in ip for ip in ours) and (port := exit_node.hostinfo.service_port("peerapi4")):
        address = exit_node.address(4)
        return f"http://{address}:{port}/dns-query" if address is not None else None
    if any(":" in ip for ip in ours) and (port := exit_node.hostinfo.service_port("peerapi6")):
        address = exit_node.address(6)
        return f"http://[{address}]:{port}/dns-query" if address is not None else None
    return None


def _range_of(address: str) -> str:
    """The prefix whose reverse names are ours because of an own address: where a peer's address may be, too."""
    if is_cgnat_host(address):
        return CGNAT
    return ULA if is_ula_host(address) else address


def reverse_zones(prefix: str) -> Iterator[str]:
    """The zones below `in-addr.arpa.` or `ip6.arpa.` that together are this prefix.

    A zone ends at a whole byte of IPv4, or half a byte of IPv6: so there may be many, up to 128.
    """
    bits, network, length = Prefix.parse(prefix)
    step, root = (8, "in-addr.arpa.") if bits == 32 else (4, "ip6.arpa.")
    count = -(-length // step)  # how many labels
    first = network >> (bits - count * step)
    for zone in range(first, first + (1 << (count * step - length))):
        digits = [(zone >> (step * i)) & ((1 << step) - 1) for i in range(count)]
        yield "".join(f"{digit}." if step == 8 else f"{digit:x}." for digit in digits) + root
