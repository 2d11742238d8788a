"""Prefixes and endpoints: how addresses are written, read and kept.

A prefix is kept as its one canonical text ("10.0.0.0/8", "2001:db8::/32"), not as an `ipaddress` object: ten thousand
peers hold tens of thousands of them, Rust parses them anyway, and equal text is an equal prefix.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

from wgengine.errors import ConfigError, quoted

__all__ = ["Endpoint", "Prefix", "interface_address", "ip_address", "is_canonical_host", "literal_endpoint", "prefix"]

_PREFIX_EXAMPLE = "write 10.0.0.0/24, 2001:db8::/64 or the like"
_ENDPOINT_EXAMPLE = "write host:port, such as vpn.example:51820, 192.0.2.1:51820 or [2001:db8::1]:51820"


class Prefix(NamedTuple):
    """A prefix as numbers, for the few places that compute with it."""

    bits: int  # 32 or 128: the family
    network: int
    length: int

    @classmethod
    def parse(cls, text: str) -> Prefix:
        """Read a prefix or an interface address; host bits are cleared."""
        address, length = _split(text)
        return cls(address.bits, address.number & _mask(address.bits, length), length)

    def covers(self, other: Prefix) -> bool:
        """Whether every address of `other` lies within this prefix."""
        return (
            self.bits == other.bits
            and self.length <= other.length
            and (self.network ^ other.network) >> (self.bits - self.length) == 0
        )


def _mask(bits: int, length: int) -> int:
    return ((1 << length) - 1) << (bits - length)


class _Address(NamedTuple):
    text: str  # canonical
    number: int
    bits: int


def _address(text: str) -> _Address:
    # not ipaddress.ip_address: that one also takes numbers, and zones
    if ":" not in text:
        return _Address(text, int(IPv4Address(text)), 32)  # an IPv4 address has one spelling only
    if "%" in text:
        raise AddressValueError("an address with a zone")
    address = IPv6Address(text)
    return _Address(str(address), int(address), 128)


def _split(text: str) -> tuple[_Address, int]:
    """The address and the prefix length; without a length it is a single host."""
    head, slash, tail = text.partition("/")
    try:
        address = _address(head)
    except AddressValueError:
        raise ConfigError(f"{quoted(text)} is not an address with a prefix length; {_PREFIX_EXAMPLE}") from None
    if not slash:
        return address, address.bits
    if not (tail.isascii() and tail.isdigit() and len(tail) <= 4 and int(tail) <= address.bits):
        raise ConfigError(
            f"{quoted(text)} has a bad prefix length; write a number from 0 to {address.bits} after the slash"
        )
    return address, int(tail)


# Hosts whose text is canonical by its form alone, as nearly every one of a netmap's ten thousand is: all four numbers
# of IPv4; of IPv6 groups without a zero among them, and `::` (which the length limits to two groups and more).
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V4 = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
_GROUP = r"[1-9a-f][0-9a-f]{0,3}"
_V4_HOST = re.compile(_V4 + "/32")
_V6_HOST = re.compile(f"{_GROUP}(?::{_GROUP})*::{_GROUP}(?::{_GROUP})*/128")
_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4})"  # the higher ones are rare: they are read in full
_V4_ENDPOINT = re.compile(f"{_V4}:{_PORT}")
_V6_ENDPOINT = re.compile(rf"\[{_GROUP}(?::{_GROUP})*::{_GROUP}(?::{_GROUP})*\]:{_PORT}")


def is_canonical_host(text: str) -> bool:
    """Whether this is the canonical text of one address with its full length. False says nothing."""
    if ":" in text:
        return text.count(":") <= 6 and _V6_HOST.fullmatch(text) is not None
    return _V4_HOST.fullmatch(text) is not None


def literal_endpoint(text: str) -> str:
    """The canonical text of an endpoint that is an address (of one interface, it may be) and a port, and no name."""
    if _V4_ENDPOINT.fullmatch(text) or (text.count(":") <= 7 and _V6_ENDPOINT.fullmatch(text)):
        return text
    endpoint = Endpoint.parse(text)
    if not endpoint.is_literal and "%" not in endpoint.host:
        raise _refused(f"{quoted(text)} is no address with a port; write 192.0.2.1:51820 or [2001:db8::1]:51820")
    return str(endpoint)


def prefix(text: str) -> tuple[str, bool]:
    """The canonical text of a prefix with its host bits cleared, and whether some were set (as `wg` warns of)."""
    return (text, False) if is_canonical_host(text) else _prefix(text)


@lru_cache(maxsize=1024)  # what a file's reader has just read for the sake of its line, Peer reads again
def _prefix(text: str) -> tuple[str, bool]:
    address, length = _split(text)
    network = address.number & _mask(address.bits, length)
    if network == address.number:
        return f"{address.text}/{length}", False
    return f"{IPv4Address(network) if address.bits == 32 else IPv6Address(network)}/{length}", True


def interface_address(text: str) -> str:
    """The canonical text of an interface's own address: host bits are its point and stay."""
    if is_canonical_host(text):
        return text
    address, length = _split(text)
    return f"{address.text}/{length}"


def ip_address(text: str) -> str:
    """The canonical text of one address, without a prefix length."""
    try:
        return _address(text).text
    except AddressValueError:
        raise ConfigError(
            f"{quoted(text)} is not an IP address; write one such as 192.0.2.53 or 2001:db8::53"
        ) from None


# What no host name holds: of ASCII anything but letters, digits, dots, hyphens and underscores; and any blank.
_NOT_IN_HOST = re.compile(r"[\x00-,/:-@\[-^`{-\x7f\s\ud800-\udfff]")
_NUMERIC = re.compile(r"[0-9.]+")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a peer is reached: a name or a literal address, and a port. A name is kept, never resolved here."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not _is_port(self.port):
            raise _refused(f"Invalid endpoint port: {quoted(str(self.port))}; write a number from 0 to 65535")
        if ":" in self.host:
            object.__setattr__(self, "host", _ipv6_host(self.host))
        elif not self.host or _NOT_IN_HOST.search(self.host):
            raise _refused(f"Invalid endpoint host: {quoted(self.host)}; {_ENDPOINT_EXAMPLE}")
        elif _NUMERIC.fullmatch(self.host):
            _check_ipv4_host(self.host)

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read `host:port`; an IPv6 address stands in brackets."""
        host, colon, port = text.rpartition(":")
        if not colon or not port or text.endswith("]"):
            raise _refused(f"Missing port from endpoint: {quoted(text)}; {_ENDPOINT_EXAMPLE}")
        if not host:
            raise _refused(f"Invalid endpoint host: {quoted(text)}; {_ENDPOINT_EXAMPLE}")
        if not (port.isascii() and port.isdigit() and len(port) <= 5):
            raise _refused(
                f"Invalid endpoint port: {quoted(port)}; write a number from 0 to 65535 after the last colon"
            )
        if host.startswith("[") or host.endswith("]") or ":" in host:
            if not (host.startswith("[") and host.endswith("]") and ":" in host):
                raise _refused(f"Brackets must contain an IPv6 address: {quoted(text)}; write [2001:db8::1]:51820")
            host = host[1:-1]
        return cls(host, int(port))

    @property
    def is_literal(self) -> bool:
        """Whether the host is an address already. One with a zone is not: its interface is still to be found."""
        return "%" not in self.host and (":" in self.host or _NUMERIC.fullmatch(self.host) is not None)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _refused(message: str) -> ConfigError:
    return ConfigError(message, field="endpoint")


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535


def _ipv6_host(text: str) -> str:
    literal, percent, zone = text.partition("%")
    try:
        host = str(IPv6Address(literal))
    except AddressValueError:
        raise _refused(f"Brackets must contain an IPv6 address: {quoted(text)}; write [2001:db8::1]:51820") from None
    if percent and not _ZONE.fullmatch(zone):
        raise _refused(f"Invalid endpoint host: {quoted(text)}; write an interface after the %, as in [fe80::1%eth0]:1")
    return host + percent + zone


def _check_ipv4_host(text: str) -> None:
    # getaddrinfo would read 192.0.2 as 192.0.0.2; no real name consists of numbers only
    try:
        IPv4Address(text)
    except AddressValueError:
        raise _refused(
            f"Invalid endpoint host: {quoted(text)}; write all four numbers, as in 192.0.2.1:51820"
        ) from None
