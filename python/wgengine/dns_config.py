"""What DNS is to do while the engine is up: which servers for which names, and the names that we answer ourselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias, TypeVar

from wgengine.address import ip_address, literal_endpoint
from wgengine.document import Fields
from wgengine.errors import ConfigError, quoted
from wgengine.fqdn import fqdn

__all__ = ["DNSConfig", "Resolver"]

Routes: TypeAlias = tuple[tuple[str, tuple["Resolver", ...]], ...]
Hosts: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]

# not the first group of an IPv6 address that is none
_SCHEME = re.compile(r"(?![0-9A-Fa-f]{1,4}:)[A-Za-z][A-Za-z0-9+.-]*:[^\s\x00-\x1f]+")


@dataclass(frozen=True, slots=True)
class Resolver:
    """A server to ask: an address, an address with a port, or a URL such as `https://dns.example/dns-query`."""

    addr: str
    bootstrap: tuple[str, ...] = ()  # where the host of a URL is
    use_with_exit_node: bool = False  # asked also while another node carries all our traffic

    def __post_init__(self) -> None:
        object.__setattr__(self, "addr", _at("addr", server, self.addr))
        object.__setattr__(self, "bootstrap", _at("bootstrap", _each(ip_address), self.bootstrap))
        _flag(self.use_with_exit_node, "use_with_exit_node")

    @classmethod
    def read(cls, data: Fields) -> Resolver:
        data.refuse_others(field.name for field in fields(cls))
        addr = data.read("addr", server)
        if addr is None:
            raise data.error("every resolver has an address; write one such as 192.0.2.53", "addr")
        return cls(addr, data.reads("bootstrap", ip_address), data.flag("use_with_exit_node"))

    def to_dict(self) -> dict[str, Any]:
        """What `DNSConfig.from_dict` reads, without what is the default."""
        made: dict[str, Any] = {"addr": self.addr}
        if self.bootstrap:
            made["bootstrap"] = list(self.bootstrap)
        if self.use_with_exit_node:
            made["use_with_exit_node"] = True
        return made


def server(text: str) -> str:
    """Where a server is, in canonical text. Which kinds of URL can be asked is for those who ask."""
    for read in (ip_address, literal_endpoint):
        try:
            return read(text)
        except ConfigError:
            pass
    if not _SCHEME.fullmatch(text):
        raise ConfigError(f"{quoted(text)} is no resolver; write 192.0.2.53, 192.0.2.53:5353 or https://dns.example/…")
    return text


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class DNSConfig:
    """All fields are canonical and immutable, so configurations are equal when they mean the same.

    Mappings are kept as sorted pairs: `dict(config.routes)` is one again.
    """

    default_resolvers: tuple[Resolver, ...]  # for whatever no route covers; none: as the system has it
    routes: Routes  # suffix → its resolvers; none: the suffix is ours, what is not among the hosts does not exist
    search_domains: tuple[str, ...]
    hosts: Hosts  # name → addresses
    subdomain_hosts: tuple[str, ...]  # of the hosts: those whose every subdomain has the same addresses
    only_ipv6: bool  # we have no IPv4 address ourselves
    accept_dns: bool  # whether the system's resolver may be changed
    magic_hosts_unrouted: bool  # peers have names, but no route covers them

    def __init__(
        self,
        *,
        default_resolvers: Iterable[Resolver | str] = (),
        routes: Mapping[str, Iterable[Resolver | str]] | Routes = (),
        search_domains: Iterable[str] = (),
        hosts: Mapping[str, Iterable[str]] | Hosts = (),
        subdomain_hosts: Iterable[str] = (),
        only_ipv6: bool = False,
        accept_dns: bool = False,
        magic_hosts_unrouted: bool = False,
    ) -> None:
        _set = object.__setattr__
        _set(self, "default_resolvers", _at("default_resolvers", _resolvers, default_resolvers))
        _set(self, "routes", _at("routes", _named(_resolvers), routes))
        _set(self, "search_domains", _at("search_domains", _each(fqdn), search_domains))
        _set(self, "hosts", _at("hosts", _named(_each(ip_address)), hosts))
        _set(self, "subdomain_hosts", tuple(sorted({*_at("subdomain_hosts", _each(fqdn), subdomain_hosts)})))
        _set(self, "only_ipv6", _flag(only_ipv6, "only_ipv6"))
        _set(self, "accept_dns", _flag(accept_dns, "accept_dns"))
        _set(self, "magic_hosts_unrouted", _flag(magic_hosts_unrouted, "magic_hosts_unrouted"))
        known = {name for name, _ in self.hosts}
        for name in self.subdomain_hosts:
            if name not in known:
                raise ConfigError(f"{quoted(name)} is not among the hosts; write it there too", field="subdomain_hosts")

    def replace(self, **changes: Any) -> DNSConfig:
        """This configuration with some fields changed."""
        return replace(self, **changes)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DNSConfig:
        """Read what `to_dict` writes. A name that is no field and a value of the wrong type are refused."""
        read = Fields(data)
        read.refuse_others(field.name for field in fields(cls))
        routes, hosts = read.part("routes"), read.part("hosts")
        made: dict[str, Any] = {
            "default_resolvers": tuple(map(Resolver.read, read.parts("default_resolvers"))),
            "routes": _pairs(routes, lambda of, name: tuple(map(Resolver.read, of.parts(name)))),
            "search_domains": read.reads("search_domains", fqdn),
            "hosts": _pairs(hosts, lambda of, name: of.reads(name, ip_address)),
            "subdomain_hosts": read.reads("subdomain_hosts", fqdn),
            **{name: read.flag(name) for name in ("only_ipv6", "accept_dns", "magic_hosts_unrouted")},
        }
        return cls(**made)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without what is the default."""
        made: dict[str, Any] = {
            "default_resolvers": [each.to_dict() for each in self.default_resolvers],
            "routes": {name: [each.to_dict() for each in resolvers] for name, resolvers in self.routes},
            "search_domains": list(self.search_domains),
            "hosts": {name: list(addresses) for name, addresses in self.hosts},
            "subdomain_hosts": list(self.subdomain_hosts),
            "only_ipv6": self.only_ipv6,
            "accept_dns": self.accept_dns,
            "magic_hosts_unrouted": self.magic_hosts_unrouted,
        }
        return {name: value for name, value in made.items() if value}


T = TypeVar("T")
V = TypeVar("V")


def _at(name: str, read: Callable[[T], V], value: T) -> V:
    try:
        return read(value)
    except ConfigError as error:
        raise error.at(field=f"{name}.{error.field}" if error.field else name) from None


def _each(read: Callable[[str], str]) -> Callable[[Iterable[str]], tuple[str, ...]]:
    def each(values: Iterable[str]) -> tuple[str, ...]:
        if isinstance(values, str):  # it would be read letter by letter
            raise ConfigError(f"{quoted(values)} is one text; write a list of texts")
        return tuple(read(value) for value in values)

    return each


def _resolvers(values: Iterable[Resolver | str]) -> tuple[Resolver, ...]:
    if isinstance(values, str):
        raise ConfigError(f"{quoted(values)} is one text; write a list of resolvers")
    return tuple(Resolver(value) if isinstance(value, str) else value for value in values)


def _named(
    read: Callable[[Iterable[Any]], tuple[V, ...]],
) -> Callable[
    [Mapping[str, Iterable[Any]] | Iterable[tuple[str, Iterable[Any]]]], tuple[tuple[str, tuple[V, ...]], ...]
]:
    def named(
        pairs: Mapping[str, Iterable[Any]] | Iterable[tuple[str, Iterable[Any]]],
    ) -> tuple[tuple[str, tuple[V, ...]], ...]:
        made: dict[str, tuple[V, ...]] = {}
        for text, values in pairs.items() if isinstance(pairs, Mapping) else pairs:
            name = fqdn(text)
            if name in made:
                raise ConfigError(f"{quoted(name)} is there twice (letter case and final dot do not count); keep one")
            made[name] = read(values)
        return tuple(sorted(made.items(), key=lambda pair: pair[0]))

    return named


def _pairs(data: Fields | None, read: Callable[[Fields, str], tuple[V, ...]]) -> tuple[tuple[str, tuple[V, ...]], ...]:
    return tuple((name, read(data, name)) for name in data.names()) if data is not None else ()


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{quoted(str(value))} is neither True nor False; write one of them", field=name)
    return value
