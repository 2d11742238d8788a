"""A netmap: this node, its peers and what is known of them, by the JSON names of `tailscale debug netmap`.

Read strictly and whole or not at all: a value of the wrong type, a key or an address that two nodes have, and the error
names where it stands. Unknown names are kept in `extra`. Host bits of a prefix are cleared with a warning.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from wgengine.config import others_may_read
from wgengine.document import NOTHING, Fields, Raw, data_of, loads, raw
from wgengine.errors import ConfigError
from wgengine.keys import PrivateKey, PublicKey
from wgengine.netmap_dns import NetMapDNS
from wgengine.node import Hostinfo, Node, Reading, read_node_key, written

__all__ = ["Hostinfo", "NetMap", "NetMapDNS", "Node", "UserProfile"]

log = logging.getLogger("wgengine.netmap")

_NAMES = frozenset(
    {
        "PrivateKey", "NodeKey", "SelfNode", "Peers", "DNS", "PacketFilter", "PacketFilterRules", "UserProfiles",
        "Domain", "DomainAuditLogID", "revision",
    }
)  # fmt: skip
_PROFILE_NAMES = frozenset({"ID", "LoginName", "DisplayName", "ProfilePicURL", "Groups"})
_NO_PRIVATE_KEY = "privkey:" + "0" * 64  # what `tailscale debug netmap` writes in its place


@dataclass(frozen=True, slots=True, kw_only=True)
class UserProfile:
    """A person to whom nodes belong."""

    id: int
    login_name: str = ""
    display_name: str = ""
    profile_pic_url: str = ""
    groups: tuple[str, ...] = ()
    extra: Raw = field(default=NOTHING, repr=False)

    @classmethod
    def read(cls, data: Fields, id: int) -> UserProfile:
        if data.integer("ID", default=id) != id:
            raise data.error(f"this is the profile of {id}; write that number, or leave it out", "ID")
        return cls(
            id=id,
            login_name=data.text("LoginName"),
            display_name=data.text("DisplayName"),
            profile_pic_url=data.text("ProfilePicURL"),
            groups=data.texts("Groups"),
            extra=data.rest(_PROFILE_NAMES),
        )

    def to_dict(self) -> dict[str, Any]:
        return written(
            self.extra,
            {
                "ID": self.id,
                "LoginName": self.login_name,
                "DisplayName": self.display_name,
                "ProfilePicURL": self.profile_pic_url,
                "Groups": list(self.groups),
            },
        )


NO_DNS = NetMapDNS()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetMap:
    """The state of the network as this node is to see it. Immutable; equal when every field but `warnings` is."""

    private_key: PrivateKey | None = field(default=None, hash=False)
    node_key: PublicKey | None = None
    self_node: Node | None = None
    peers: tuple[Node, ...] = ()
    dns: NetMapDNS = NO_DNS
    packet_filter: Raw = NOTHING  # a list of Tailscale's FilterRules
    user_profiles: tuple[UserProfile, ...] = ()  # by their id
    domain: str = ""
    domain_audit_log_id: str = ""
    revision: int | None = None  # ours: a later netmap may not have a lower one
    extra: Raw = field(default=NOTHING, repr=False)
    warnings: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_unique(self)
        own = self.public_key
        if self.private_key is not None and own is not None and self.private_key.public_key != own:
            warning = f"the private key is not that of this netmap's own node, {own}: its peers know us by that one"
            if warning not in self.warnings:
                object.__setattr__(self, "warnings", (*self.warnings, warning))
                log.warning("%s", warning)

    @property
    def public_key(self) -> PublicKey | None:
        """The key by which the peers of this netmap know us."""
        return self.self_node.key if self.self_node is not None else self.node_key

    @property
    def addresses(self) -> tuple[str, ...]:
        """Our own addresses."""
        return self.self_node.addresses if self.self_node is not None else ()

    @property
    def magic_dns_suffix(self) -> str:
        """The domain that all nodes' names are in, without dots at its ends: what follows our own first label."""
        name = self.self_node.name.strip(".") if self.self_node is not None else ""
        return name.partition(".")[2] or name

    def user(self, id: int) -> UserProfile | None:
        """The profile of a user."""
        return next((profile for profile in self.user_profiles if profile.id == id), None)

    def replace(self, **changes: Any) -> NetMap:
        """This netmap with some fields changed, and checked again."""
        return NetMap(**{each.name: getattr(self, each.name) for each in fields(self)} | changes)

    def with_private_key(self, private_key: PrivateKey) -> NetMap:
        """This netmap for the node that has this key."""
        return self.replace(private_key=private_key)

    def with_peer(self, node: Node) -> NetMap:
        """This netmap with `node` in place of the peer with its key, or else as its last."""
        at = next((i for i, peer in enumerate(self.peers) if peer.key == node.key), len(self.peers))
        peers = (*self.peers[:at], node, *self.peers[at + 1 :])
        if at == len(self.peers) or _claims(self.peers[at]) != _claims(node):
            return self.replace(peers=peers)
        # it claims nothing new: the others need not be looked at
        twin = object.__new__(NetMap)
        for each in fields(NetMap):
            object.__setattr__(twin, each.name, peers if each.name == "peers" else getattr(self, each.name))
        return twin

    def without_peer(self, key: PublicKey) -> NetMap:
        """This netmap without the peer that has this key."""
        return self.replace(peers=tuple(peer for peer in self.peers if peer.key != key))

    def check_succeeds(self, previous: NetMap | None) -> None:
        """Refuse this netmap if its revision is lower than that of `previous`. Where one has none, nothing is known."""
        if previous is None or previous.revision is None or self.revision is None:
            return
        if self.revision < previous.revision:
            raise ConfigError(
                f"{self.revision} is lower than {previous.revision}, which is in use: this netmap is an old one; "
                "write a higher number, or none",
                field="revision",
            )

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> NetMap:
        """Read a JSON file."""
        source = os.fspath(path)
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            netmap = cls.from_json(file.read(), source=source)
        if (
            netmap.private_key is not None
            and stat.S_ISREG(status.st_mode)
            and others_may_read(Path(path), status.st_mode)
        ):
            mode = stat.S_IMODE(status.st_mode)
            warning = f"{source} holds a private key, and others can read it (mode {mode:04o}); run: chmod 600 {source}"
            log.warning("%s", warning)
            object.__setattr__(netmap, "warnings", (*netmap.warnings, warning))
        return netmap

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "<netmap>") -> NetMap:
        """Read a JSON text; `source` names it in errors."""
        with _collector_paused():
            data = loads(text, source)
            try:
                return cls.from_dict(data)
            except ConfigError as error:
                raise error.at(file=source) from None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NetMap:
        """Read what `json.loads` made of such a text."""
        document, reading = Fields(data), Reading()
        self_node, dns = document.part("SelfNode"), document.part("DNS")
        netmap = cls(
            private_key=document.read("PrivateKey", _private_key),
            node_key=document.read("NodeKey", _node_key),
            self_node=Node.read(self_node, reading) if self_node is not None else None,
            peers=tuple([Node.read(each, reading) for each in document.parts("Peers")]),
            dns=NetMapDNS.read(dns) if dns is not None else NO_DNS,
            packet_filter=_packet_filter(document),
            user_profiles=_user_profiles(document.part("UserProfiles")),
            domain=document.text("Domain"),
            domain_audit_log_id=document.text("DomainAuditLogID"),
            revision=document.integer("revision") if document.has("revision") else None,
            extra=document.rest(_NAMES),
            warnings=tuple(reading.warnings),
        )
        for warning in reading.warnings:
            log.warning("%s", warning)
        return netmap

    def to_dict(self, *, private_key: bool = False) -> dict[str, Any]:
        """Plain data for JSON that `from_dict` reads as an equal netmap. The private key is only there if asked for."""
        made = written(
            self.extra,
            {
                "NodeKey": f"nodekey:{self.node_key.to_hex()}" if self.node_key is not None else "",
                "SelfNode": self.self_node.to_dict() if self.self_node is not None else None,
                "Peers": [peer.to_dict() for peer in self.peers],
                "DNS": self.dns.to_dict(),
                "PacketFilterRules": data_of(self.packet_filter),
                "UserProfiles": {str(profile.id): profile.to_dict() for profile in self.user_profiles},
                "Domain": self.domain,
                "DomainAuditLogID": self.domain_audit_log_id,
            },
        )
        if self.revision is not None:
            made["revision"] = self.revision
        if private_key and self.private_key is not None:
            made["PrivateKey"] = f"privkey:{self.private_key.to_hex()}"
        return made

    def to_json(self, *, private_key: bool = False) -> str:
        """The text of `to_dict`. In ASCII: what is only kept may hold half a character, which no encoding has."""
        return json.dumps(self.to_dict(private_key=private_key))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Nothing that is made here is part of a cycle; to search it for some would take as long as making it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _claims(node: Node) -> tuple[object, ...]:
    """What no other node may have."""
    return node.key, node.addresses, node.stable_id


def _check_unique(netmap: NetMap) -> None:
    """No key, no address and no StableID belongs to two nodes."""
    keys: dict[PublicKey, int] = {}
    addresses: dict[str, int] = {}
    names: dict[str, int] = {}
    myself = -1

    def place(position: int) -> str:
        return "SelfNode" if position == myself else f"Peers[{position}]"

    def refuse(position: int, part: str, first: int, what: str) -> ConfigError:
        message = f"{place(first)} has {what} too; one of the two is wrong: write its own"
        return ConfigError(message, field=f"{place(position)}.{part}")

    own = netmap.public_key
    if own is not None:
        keys[own] = myself
    for position, node in enumerate(netmap.peers) if netmap.self_node is None else _with_self(netmap):
        first = keys.setdefault(node.key, position)
        if first != position:
            raise refuse(position, "Key", first, f"the key {node.key}")
        for index, text in enumerate(node.addresses):
            address = text.partition("/")[0]
            first = addresses.setdefault(address, position)
            if first != position:
                raise refuse(position, f"Addresses[{index}]", first, f"the address {address}")
        if node.stable_id:
            first = names.setdefault(node.stable_id, position)
            if first != position:
                raise refuse(position, "StableID", first, f"the StableID {node.stable_id}")


def _with_self(netmap: NetMap) -> Iterable[tuple[int, Node]]:
    if netmap.self_node is not None:
        yield -1, netmap.self_node
    yield from enumerate(netmap.peers)


def _private_key(text: str) -> PrivateKey | None:
    if text == _NO_PRIVATE_KEY:
        return None
    try:
        if text.startswith("privkey:"):
            return PrivateKey.from_hex(text.removeprefix("privkey:"))
        return PrivateKey.from_base64(text)
    except ConfigError:
        raise ConfigError("this is no private key; write privkey: and 64 hex digits") from None


def _node_key(text: str) -> PublicKey | None:
    key = read_node_key(text)
    return key if any(bytes(key)) else None


def _user_profiles(data: Fields | None) -> tuple[UserProfile, ...]:
    if data is None:
        return ()
    profiles = []
    for name in data.names():
        if not (name.isascii() and name.isdigit() and len(name) <= 19):
            raise data.error("this is no user's number; write profiles by their ID", name)
        profile = data.part(name)
        if profile is not None:
            profiles.append(UserProfile.read(profile, int(name)))
    return tuple(sorted(profiles, key=lambda profile: profile.id))


def _packet_filter(document: Fields) -> Raw:
    """The rules as a control server sends them. Where only compiled matches are there, they are turned into such."""
    name = "PacketFilterRules" if document.has("PacketFilterRules") else "PacketFilter"
    rules = []
    for entry in document.parts(name):
        if entry.has("Srcs") or entry.has("SrcCaps"):
            rules.append(_rule_of_match(entry))
            continue
        entry.texts("SrcIPs")
        for port in entry.parts("DstPorts"):
            port.text("IP")
        rules.append(document.entries(name)[len(rules)])
    return raw(rules)


def _rule_of_match(match: Fields) -> dict[str, Any]:
    destinations = [
        {"IP": each.text("Net"), "Ports": {name: _port(each, name) for name in ("First", "Last")}}
        for each in match.parts("Dsts")
    ]
    grants = [
        {"Dsts": [each.text("Dst")], "CapMap": {each.text("Cap"): each.entries("Values")}}
        for each in match.parts("Caps")
    ]
    rule = {
        "SrcIPs": [*match.texts("Srcs"), *(f"cap:{cap}" for cap in match.texts("SrcCaps"))],
        # a match names its protocols; without any it matches none, which a rule says by a number that is no protocol
        "IPProto": list(match.integers("IPProto")) or [-1],
        "DstPorts": destinations,
        "CapGrant": grants,
    }
    return {name: value for name, value in rule.items() if value}


def _port(destination: Fields, name: str) -> int:
    ports = destination.part("Ports")
    return ports.integer(name, 0, 65535) if ports is not None else 0
