"""One node of a netmap, by the JSON names of Tailscale's `tailcfg.Node`. Small, because there are a hundred thousand.

What two nodes have in common (an operating system, a tag, a set of capabilities) is one object in both; what no room of
wgengine looks at is kept as text, in `extra`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from wgengine.address import interface_address, is_canonical_host, literal_endpoint, prefix
from wgengine.config import host_bits_warning, masquerade
from wgengine.document import NOTHING, Fields, Raw, data_of
from wgengine.errors import ConfigError, quoted
from wgengine.keys import PublicKey
from wgengine.netmap_dns import read_resolver, resolver_to_dict

if TYPE_CHECKING:
    from wgengine.dns_config import Resolver

__all__ = ["Hostinfo", "Node", "Reading", "read_node_key", "written"]

T = TypeVar("T")

# Where the number of a node's home relay stood before it had a field of its own: as the port of this address.
_LEGACY_DERP = "127.3.3.40:"
_LARGEST_REGION = 2**31 - 1
# From this version of Tailscale's protocol on, every node answers DNS for those whose exit node it is.
_ANSWERS_DNS = 26

_HOSTINFO_NAMES = frozenset({"OS", "Hostname", "RoutableIPs", "Services"})
_NODE_NAMES = frozenset(
    {
        "ID", "StableID", "Name", "ComputedName", "User", "Sharer", "Key", "DiscoKey", "Addresses", "AllowedIPs",
        "Endpoints", "DERP", "HomeDERP", "Hostinfo", "Cap", "Tags", "PrimaryRoutes", "Created", "KeyExpiry",
        "LastSeen", "Online", "Capabilities", "CapMap", "UnsignedPeerAPIOnly", "DataPlaneAuditLogID", "Expired",
        "SelfNodeV4MasqAddrForThisPeer", "SelfNodeV6MasqAddrForThisPeer", "IsWireGuardOnly", "IsJailed",
        "ExitNodeDNSResolvers",
    }
)  # fmt: skip


# What a control client makes of two other names; kept only where it says more than one of them.
_NODE_NAMES_AND_LABEL = _NODE_NAMES | {"ComputedNameWithHost"}


class Reading:
    """What lasts while a netmap is read: equal values become one object, and warnings are gathered."""

    __slots__ = ("_pool", "warnings")

    def __init__(self) -> None:
        self._pool: dict[Any, Any] = {}
        self.warnings: list[str] = []

    def share(self, value: T) -> T:
        """The first of the values that equal this one."""
        shared: T = self._pool.setdefault(value, value)
        return shared

    def addresses(self, data: Fields, name: str) -> tuple[str, ...]:
        """Addresses with a prefix length; host bits are their point and stay."""
        values = data.texts(name)
        return values if all(map(is_canonical_host, values)) else data.reads(name, interface_address)

    def prefixes(self, data: Fields, name: str) -> tuple[str, ...]:
        """Prefixes without host bits, each once; of those that had some, a warning."""
        values = data.texts(name)
        if not all(map(is_canonical_host, values)):
            taken = data.reads(name, prefix)
            for index, (text, had_host_bits) in enumerate(taken):
                if had_host_bits:
                    self.warnings.append(f"{data.path(name, index)}: {host_bits_warning(values[index], text)}")
            values = tuple(text for text, _ in taken)
        return tuple(dict.fromkeys(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostinfo:
    """What a node says of its host."""

    os: str = ""
    hostname: str = ""
    routable_ips: tuple[str, ...] = ()  # what it offers to carry; what it does carry are the node's allowed IPs
    services: Raw = NOTHING  # a list such as [{"Proto": "peerapi4", "Port": 1234}]
    extra: Raw = field(default=NOTHING, repr=False)

    def service_port(self, protocol: str) -> int:
        """The port of a service such as `peerapi4`; 0 where there is none."""
        ports = [each.get("Port", 0) for each in data_of(self.services) or () if each.get("Proto") == protocol]
        return int(ports[-1]) if ports else 0

    @classmethod
    def read(cls, data: Fields, reading: Reading) -> Hostinfo:
        if not all(map(_is_service, data.entries("Services"))):
            for service in data.parts("Services"):  # finds and names what is wrong
                service.text("Proto")
                service.integer("Port", 0, 65535)
        return cls(
            os=reading.share(data.text("OS")),
            hostname=reading.share(data.text("Hostname")),
            routable_ips=reading.share(reading.prefixes(data, "RoutableIPs")),
            services=data.raw_list("Services"),
            extra=reading.share(data.rest(_HOSTINFO_NAMES)),
        )

    def to_dict(self) -> dict[str, Any]:
        return written(
            self.extra,
            {
                "OS": self.os,
                "Hostname": self.hostname,
                "RoutableIPs": list(self.routable_ips),
                "Services": data_of(self.services),
            },
        )


def _is_service(entry: object) -> bool:
    if type(entry) is not dict:
        return False
    port = entry.get("Port")
    return type(entry.get("Proto")) is str and type(port) is int and 0 <= port <= 65535


NO_HOSTINFO = Hostinfo()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node, ourselves or a peer. All text is canonical, as `from_dict` makes it."""

    key: PublicKey
    id: int = 0
    stable_id: str = ""
    name: str = ""  # with its final dot
    computed_name: str = ""  # the short one, for people
    user: int = 0  # a key of the netmap's user profiles
    sharer: int = 0
    disco_key: PublicKey | None = None  # made anew whenever the node starts
    addresses: tuple[str, ...] = ()  # its own
    allowed_ips: tuple[str, ...] = ()  # its own, and what it carries for others
    endpoints: tuple[str, ...] = ()
    home_derp: int = 0  # 0: none known
    hostinfo: Hostinfo = NO_HOSTINFO
    cap: int = 0  # which version of Tailscale's protocol it speaks; 0: not known
    tags: tuple[str, ...] = ()
    primary_routes: tuple[str, ...] = ()  # of the allowed IPs: what it, and no other, carries now
    created: str = ""  # times are texts of RFC 3339
    key_expiry: str = ""
    last_seen: str = ""
    online: bool | None = None  # None: not known
    capabilities: tuple[str, ...] = ()
    cap_map: Raw = NOTHING  # capability → list of its values
    unsigned_peer_api_only: bool = False  # may be talked to, may not reach us
    data_plane_audit_log_id: str = ""
    expired: bool = False
    v4_masq_addr: str | None = None  # the address by which this peer knows us
    v6_masq_addr: str | None = None
    is_wireguard_only: bool = False  # it speaks plain WireGuard, at its endpoints
    is_jailed: bool = False
    exit_node_dns_resolvers: tuple[Resolver, ...] = ()
    extra: Raw = field(default=NOTHING, repr=False)  # whatever else the document says

    @property
    def display_name(self) -> str:
        """What to call it in messages to people."""
        return self.computed_name or self.name.partition(".")[0] or self.stable_id or str(self.key)[:8]

    def has_cap(self, name: str) -> bool:
        """Whether it has a capability, with values or without."""
        if name in self.capabilities:
            return True
        return bool(self.cap_map) and name in data_of(self.cap_map)

    @property
    def attributes(self) -> frozenset[str]:
        """The names of all its capabilities."""
        return frozenset(self.capabilities).union(data_of(self.cap_map) or ())

    def cap_values(self, name: str) -> list[Any]:
        """The values of a capability, as the document has them."""
        values: list[Any] = (data_of(self.cap_map) or {}).get(name) or []
        return values

    @property
    def answers_dns(self) -> bool:
        """Whether it answers DNS for those whose exit node it is."""
        return self.cap >= _ANSWERS_DNS or self.hostinfo.service_port("peerapi-dns-proxy") > 0

    def address(self, version: Literal[4, 6]) -> str | None:
        """Its first own address of this version, without the prefix length."""
        found = (ip for ip in self.addresses if (":" in ip) == (version == 6))
        return next((ip.partition("/")[0] for ip in found), None)

    def replace(self, **changes: Any) -> Node:
        """This node with some fields changed."""
        return replace(self, **changes)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Node:
        """Read one node; values of the wrong type are refused, unknown names are kept in `extra`."""
        return cls.read(Fields(data), Reading())

    @classmethod
    def read(cls, data: Fields, reading: Reading) -> Node:
        share = reading.share
        key = data.read("Key", read_node_key)
        if key is None:
            raise data.error("every node has a key; write nodekey: and 64 hex digits", "Key")
        if key.is_low_order():
            message = "this is a low-order point, whose shared secret everyone knows; write the node's own public key"
            raise data.error(message, "Key")
        addresses = reading.addresses(data, "Addresses")
        # without allowed IPs a node carries nothing but its own addresses
        allowed_ips = reading.prefixes(data, "AllowedIPs") if data.has("AllowedIPs") else tuple(map(_host, addresses))
        if allowed_ips == addresses:  # nearly always: one tuple for both
            allowed_ips = addresses
        hostinfo = data.part("Hostinfo")
        computed_name = share(data.text("ComputedName"))
        labelled = data.text("ComputedNameWithHost") != computed_name
        return cls(
            key=key,
            id=data.integer("ID"),
            stable_id=data.text("StableID"),
            name=data.text("Name"),
            computed_name=computed_name,
            user=data.integer("User"),
            sharer=data.integer("Sharer"),
            disco_key=data.read("DiscoKey", read_disco_key),
            addresses=addresses,
            allowed_ips=allowed_ips,
            endpoints=data.reads("Endpoints", literal_endpoint),
            home_derp=data.integer("HomeDERP", 0, _LARGEST_REGION) or data.read("DERP", _legacy_region) or 0,
            hostinfo=Hostinfo.read(hostinfo, reading) if hostinfo is not None else NO_HOSTINFO,
            cap=data.integer("Cap"),
            tags=share(data.texts("Tags")),
            primary_routes=share(reading.prefixes(data, "PrimaryRoutes")),
            created=data.time("Created"),
            key_expiry=share(data.time("KeyExpiry")),
            last_seen=data.time("LastSeen"),
            online=data.flag("Online") if data.has("Online") else None,
            capabilities=share(data.texts("Capabilities")),
            cap_map=share(data.raw_lists("CapMap")),
            unsigned_peer_api_only=data.flag("UnsignedPeerAPIOnly"),
            data_plane_audit_log_id=data.text("DataPlaneAuditLogID"),
            expired=data.flag("Expired"),
            v4_masq_addr=data.read("SelfNodeV4MasqAddrForThisPeer", _v4),
            v6_masq_addr=data.read("SelfNodeV6MasqAddrForThisPeer", _v6),
            is_wireguard_only=data.flag("IsWireGuardOnly"),
            is_jailed=data.flag("IsJailed"),
            exit_node_dns_resolvers=share(tuple(map(read_resolver, data.parts("ExitNodeDNSResolvers")))),
            extra=share(data.rest(_NODE_NAMES if labelled else _NODE_NAMES_AND_LABEL)),
        )

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` reads, without what is empty."""
        made = written(
            self.extra,
            {
                "ID": self.id,
                "StableID": self.stable_id,
                "Name": self.name,
                "ComputedName": self.computed_name,
                "User": self.user,
                "Sharer": self.sharer,
                "Key": f"nodekey:{self.key.to_hex()}",
                "DiscoKey": f"discokey:{self.disco_key.to_hex()}" if self.disco_key is not None else "",
                "Addresses": list(self.addresses),
                "Endpoints": list(self.endpoints),
                "HomeDERP": self.home_derp,
                "Hostinfo": self.hostinfo.to_dict(),
                "Cap": self.cap,
                "Tags": list(self.tags),
                "PrimaryRoutes": list(self.primary_routes),
                "Created": self.created,
                "KeyExpiry": self.key_expiry,
                "LastSeen": self.last_seen,
                "Capabilities": list(self.capabilities),
                "CapMap": data_of(self.cap_map),
                "UnsignedPeerAPIOnly": self.unsigned_peer_api_only,
                "DataPlaneAuditLogID": self.data_plane_audit_log_id,
                "Expired": self.expired,
                "SelfNodeV4MasqAddrForThisPeer": self.v4_masq_addr,
                "SelfNodeV6MasqAddrForThisPeer": self.v6_masq_addr,
                "IsWireGuardOnly": self.is_wireguard_only,
                "IsJailed": self.is_jailed,
                "ExitNodeDNSResolvers": [resolver_to_dict(each) for each in self.exit_node_dns_resolvers],
            },
        )
        made["AllowedIPs"] = list(self.allowed_ips)  # also an empty one: its absence would mean the addresses
        if self.online is not None:
            made["Online"] = self.online
        return made


def written(extra: Raw, data: dict[str, Any]) -> dict[str, Any]:
    """An object of a document: without what is read again as the same when it is absent, and with what is only kept."""
    return {name: value for name, value in data.items() if value} | (data_of(extra) or {})


def read_key(text: str, kind: str) -> PublicKey:
    """A public key as these documents write it, or as `wgengine pubkey` prints it."""
    try:
        if text.startswith(kind):
            return PublicKey.from_hex(text[len(kind) :])
        return PublicKey.from_base64(text)
    except ConfigError:
        raise ConfigError(f"{quoted(text)} is no key; write {kind} and 64 hex digits") from None


def read_node_key(text: str) -> PublicKey:
    return read_key(text, "nodekey:")


def read_disco_key(text: str) -> PublicKey | None:
    key = read_key(text, "discokey:")
    return key if any(bytes(key)) else None


def _host(address: str) -> str:
    """The address alone, without the subnet that it may stand in."""
    return interface_address(address.partition("/")[0])


def _legacy_region(text: str) -> int:
    number = text.removeprefix(_LEGACY_DERP)
    if number == text or not (number.isascii() and number.isdigit() and len(number) <= 5):
        raise ConfigError(f"{quoted(text)} is no home relay; write its number as HomeDERP")
    return int(number)


def _v4(text: str) -> str:
    return masquerade(text, 4)


def _v6(text: str) -> str:
    return masquerade(text, 6)
