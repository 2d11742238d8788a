"""What a netmap says of DNS, by the JSON names of Tailscale's `tailcfg.DNSConfig`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wgengine.address import ip_address
from wgengine.dns_config import Resolver, server
from wgengine.document import NOTHING, Fields, Raw, data_of
from wgengine.fqdn import fqdn

__all__ = ["DNSRecord", "NetMapDNS", "read_resolver", "resolver_to_dict"]

_NAMES = frozenset({"Resolvers", "Routes", "FallbackResolvers", "Domains", "Proxied", "ExtraRecords"})


@dataclass(frozen=True, slots=True)
class DNSRecord:
    """A name that the netmap adds. Whether it can be served is judged where it is used."""

    name: str
    type: str  # "": by the value, A or AAAA
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetMapDNS:
    """Servers, suffixes and names for every node of the netmap."""

    resolvers: tuple[Resolver, ...] = ()
    routes: tuple[tuple[str, tuple[Resolver, ...]], ...] = ()  # suffix → its resolvers; none: it is ours
    fallback_resolvers: tuple[Resolver, ...] = ()
    domains: tuple[str, ...] = ()  # to search
    magic_dns: bool = False  # peers have names
    extra_records: tuple[DNSRecord, ...] = ()
    extra: Raw = field(default=NOTHING, repr=False)

    @classmethod
    def read(cls, data: Fields) -> NetMapDNS:
        routes: dict[str, tuple[Resolver, ...]] = {}
        suffixes = data.part("Routes")
        for suffix in suffixes.names() if suffixes is not None else ():
            assert suffixes is not None
            name = suffixes.checked(suffix, fqdn)
            if name in routes:
                raise suffixes.error("the same suffix is there twice (case and final dot do not count)", suffix)
            routes[name] = tuple(map(read_resolver, suffixes.parts(suffix)))
        return cls(
            resolvers=tuple(map(read_resolver, data.parts("Resolvers"))),
            routes=tuple(sorted(routes.items(), key=lambda pair: pair[0])),
            fallback_resolvers=tuple(map(read_resolver, data.parts("FallbackResolvers"))),
            domains=data.reads("Domains", fqdn),
            magic_dns=data.flag("Proxied"),
            extra_records=tuple(
                DNSRecord(record.text("Name"), record.text("Type"), record.text("Value"))
                for record in data.parts("ExtraRecords")
            ),
            extra=data.rest(_NAMES),
        )

    def to_dict(self) -> dict[str, Any]:
        records = [{"Name": each.name, "Type": each.type, "Value": each.value} for each in self.extra_records]
        made: dict[str, Any] = {
            "Resolvers": [resolver_to_dict(each) for each in self.resolvers],
            "Routes": {name: [resolver_to_dict(each) for each in resolvers] for name, resolvers in self.routes},
            "FallbackResolvers": [resolver_to_dict(each) for each in self.fallback_resolvers],
            "Domains": [name.removesuffix(".") for name in self.domains],
            "Proxied": self.magic_dns,
            "ExtraRecords": records,
        }
        return {name: value for name, value in made.items() if value} | (data_of(self.extra) or {})


def read_resolver(data: Fields) -> Resolver:
    """A resolver by the JSON names of `dnstype.Resolver`."""
    addr = data.read("Addr", server)
    if addr is None:
        raise data.error("every resolver has an address; write one such as 192.0.2.53", "Addr")
    return Resolver(addr, data.reads("BootstrapResolution", ip_address), data.flag("UseWithExitNode"))


def resolver_to_dict(resolver: Resolver) -> dict[str, Any]:
    made: dict[str, Any] = {"Addr": resolver.addr}
    if resolver.bootstrap:
        made["BootstrapResolution"] = list(resolver.bootstrap)
    if resolver.use_with_exit_node:
        made["UseWithExitNode"] = True
    return made
