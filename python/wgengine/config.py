"""What a WireGuard interface is to be: its keys, addresses and peers. One type for files, UAPI and `reconfig`."""

from __future__ import annotations

import dataclasses
import logging
import operator
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from wgengine.address import Endpoint, interface_address, ip_address, prefix
from wgengine.comments import Comment, Comments
from wgengine.errors import ConfigError, quoted
from wgengine.keys import PresharedKey, PrivateKey, PublicKey
from wgengine.network_logging import NetworkLogging

__all__ = ["Comment", "Comments", "Config", "Endpoint", "NetworkLogging", "Peer", "Table"]

log = logging.getLogger("wgengine.config")

# "auto": the main table, and an own one for default routes; "off": no routes; else the number of a table
Table: TypeAlias = Literal["auto", "off"] | int

IPV6_MINIMUM_MTU = 1280

# What counts as blank in a line: the C locale's blanks, as for wg. A no-break space is a character like any other.
BLANKS = " \t\v\f"


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class Peer:
    """One peer: its key, where it is reached, and the prefixes that are its own."""

    public_key: PublicKey
    preshared_key: PresharedKey | None = field(hash=False)
    endpoint: Endpoint | None
    allowed_ips: tuple[str, ...]
    persistent_keepalive: int  # seconds; 0: off
    # What a netmap says of a peer besides; no device sees it.
    disco_key: PublicKey | None  # made anew whenever the peer starts: another one means that it lost its sessions
    v4_masq_addr: str | None  # the address by which this peer knows us
    v6_masq_addr: str | None
    jailed: bool  # may answer us, may begin nothing
    warnings: tuple[str, ...] = field(init=False, compare=False, repr=False)

    def __init__(
        self,
        *,
        public_key: PublicKey | str,
        preshared_key: PresharedKey | str | None = None,
        endpoint: Endpoint | str | None = None,
        allowed_ips: Iterable[str] = (),
        persistent_keepalive: int = 0,
        disco_key: PublicKey | str | None = None,
        v4_masq_addr: str | None = None,
        v6_masq_addr: str | None = None,
        jailed: bool = False,
    ) -> None:
        public_key = _key(PublicKey, public_key, "public_key")
        if public_key.is_low_order():
            raise ConfigError(
                "this is a low-order point, whose shared secret everyone knows; "
                "write the public key that the peer's own `wg pubkey` prints",
                field="public_key",
            )
        if preshared_key is not None:
            preshared_key = _key(PresharedKey, preshared_key, "preshared_key")
            if preshared_key.is_zero():  # the protocol's way to say that there is none (whitepaper 5.2)
                preshared_key = None
        if isinstance(endpoint, str):
            endpoint = Endpoint.parse(endpoint)
        if disco_key is not None:
            disco_key = _key(PublicKey, disco_key, "disco_key")
            if not any(bytes(disco_key)):  # how netmaps say that there is none
                disco_key = None
        prefixes: dict[str, None] = {}
        warnings = []
        for entry in _entries(allowed_ips, "allowed_ips"):
            try:
                text, had_host_bits = prefix(entry)
            except ConfigError as error:
                raise error.at(field="allowed_ips") from None
            if had_host_bits:
                warnings.append(host_bits_warning(entry, text))
            prefixes[text] = None
        _set = object.__setattr__
        _set(self, "public_key", public_key)
        _set(self, "preshared_key", preshared_key)
        _set(self, "endpoint", endpoint)
        kept = tuple(prefixes)
        _set(self, "allowed_ips", allowed_ips if kept == allowed_ips else kept)  # one tuple, where a netmap has it too
        _set(self, "persistent_keepalive", _number(persistent_keepalive, 0, 65535, "persistent_keepalive"))
        _set(self, "disco_key", disco_key)
        _set(self, "v4_masq_addr", _masquerade(v4_masq_addr, 4, "v4_masq_addr"))
        _set(self, "v6_masq_addr", _masquerade(v6_masq_addr, 6, "v6_masq_addr"))
        _set(self, "jailed", _flag(jailed, "jailed"))
        _set(self, "warnings", tuple(warnings))
        for warning in warnings:
            log.warning("peer %s: %s", public_key, warning)

    def replace(self, **changes: Any) -> Peer:
        """This peer with some fields changed."""
        return dataclasses.replace(self, **changes)


class _Indexed:
    """Look-ups that a Config keeps beside its fields, so that one change among ten thousand peers costs no search."""

    __slots__ = ("_owners", "_positions")
    _positions: dict[PublicKey, int]
    _owners: dict[str, PublicKey]


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class Config(_Indexed):
    """A WireGuard interface. Immutable; equal when every field but `comments` and `warnings` is.

    A prefix that two peers claim belongs to the later one, here as in every table made from it.
    """

    private_key: PrivateKey = field(hash=False)
    listen_port: int  # 0: the system chooses
    fwmark: int  # 0: off
    addresses: tuple[str, ...]
    mtu: int | None
    dns: tuple[str, ...]
    dns_search: tuple[str, ...]
    table: Table
    pre_up: tuple[str, ...]
    post_up: tuple[str, ...]
    pre_down: tuple[str, ...]
    post_down: tuple[str, ...]
    save_config: bool
    network_logging: NetworkLogging | None
    peers: tuple[Peer, ...]
    comments: Comments = field(compare=False, repr=False)
    warnings: tuple[str, ...] = field(init=False, compare=False, repr=False)

    def __init__(
        self,
        *,
        private_key: PrivateKey | str,
        listen_port: int = 0,
        fwmark: int = 0,
        addresses: Iterable[str] = (),
        mtu: int | None = None,
        dns: Iterable[str] = (),
        dns_search: Iterable[str] = (),
        table: Table = "auto",
        pre_up: Iterable[str] = (),
        post_up: Iterable[str] = (),
        pre_down: Iterable[str] = (),
        post_down: Iterable[str] = (),
        save_config: bool = False,
        network_logging: NetworkLogging | None = None,
        peers: Iterable[Peer] = (),
        comments: Iterable[Comment] = (),
    ) -> None:
        _set = object.__setattr__
        _set(self, "private_key", _key(PrivateKey, private_key, "private_key"))
        _set(self, "listen_port", _number(listen_port, 0, 65535, "listen_port"))
        _set(self, "fwmark", _number(fwmark, 0, 0xFFFFFFFF, "fwmark"))
        _set(self, "addresses", _each(interface_address, addresses, "addresses"))
        _set(self, "mtu", None if mtu is None else _number(mtu, 576, 65535, "mtu"))
        _set(self, "dns", _each(ip_address, dns, "dns"))
        _set(self, "dns_search", _each(search_domain, dns_search, "dns_search"))
        _set(self, "table", _table(table))
        _set(self, "pre_up", _hooks(pre_up, "pre_up"))
        _set(self, "post_up", _hooks(post_up, "post_up"))
        _set(self, "pre_down", _hooks(pre_down, "pre_down"))
        _set(self, "post_down", _hooks(post_down, "post_down"))
        _set(self, "save_config", bool(save_config))
        _set(self, "network_logging", network_logging)
        _set(self, "comments", comments if isinstance(comments, Comments) else Comments(comments))
        warnings = []
        if self.mtu is not None and self.mtu < IPV6_MINIMUM_MTU and any(":" in ip for ip in self.addresses):
            warnings.append(
                f"mtu {self.mtu} is too small for IPv6, which needs {IPV6_MINIMUM_MTU} (RFC 8200 5): "
                "the system will refuse the IPv6 addresses"
            )
        self._adopt(tuple(peers), warnings)

    def _adopt(self, peers: tuple[Peer, ...], warnings: list[str]) -> None:
        """Take the peers: none twice, none of them ourselves, each prefix with the last who claims it."""
        own = self.private_key.public_key
        positions: dict[PublicKey, int] = {}
        owners: dict[str, PublicKey] = {}
        lost: dict[PublicKey, set[str]] = {}
        inherited: list[str] = []
        for position, peer in enumerate(peers):
            key = peer.public_key
            first = positions.setdefault(key, position)
            if first != position:
                raise ConfigError(
                    f"peers[{first}] has the public key {key} too; write one peer with the allowed IPs of both",
                    field=f"peers[{position}].public_key",
                )
            if key == own:
                raise ConfigError(
                    "this is the interface's own public key; write the key of the other side",
                    field=f"peers[{position}].public_key",
                )
            for text in peer.allowed_ips:
                loser = owners.get(text)
                if loser is not None:
                    lost.setdefault(loser, set()).add(text)
                    warnings.append(f"{text} is claimed by two peers: {loser} loses it to {key}, the later one")
                owners[text] = key
            if peer.warnings:  # which it has logged itself
                inherited += (f"peer {key}: {warning}" for warning in peer.warnings)
        if lost:
            kept = list(peers)
            for key, gone in lost.items():
                peer = peers[positions[key]]
                kept[positions[key]] = peer.replace(allowed_ips=[ip for ip in peer.allowed_ips if ip not in gone])
            peers = tuple(kept)
        for warning in warnings:
            log.warning("%s", warning)
        self._hold(peers, positions, owners, (*warnings, *inherited))

    def _hold(
        self,
        peers: tuple[Peer, ...],
        positions: dict[PublicKey, int],
        owners: dict[str, PublicKey],
        warnings: tuple[str, ...],
    ) -> None:
        _set = object.__setattr__
        _set(self, "peers", peers)
        _set(self, "_positions", positions)
        _set(self, "_owners", owners)
        _set(self, "warnings", warnings)

    def __copy__(self) -> Config:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Config:
        return self

    def peer(self, public_key: PublicKey) -> Peer | None:
        """The peer with this key."""
        position = self._positions.get(public_key)
        return None if position is None else self.peers[position]

    def owner(self, allowed_ip: str) -> PublicKey | None:
        """Whose prefix this is: exactly this prefix, in canonical text."""
        return self._owners.get(allowed_ip)

    def replace(self, **changes: Any) -> Config:
        """This configuration with some fields changed."""
        return dataclasses.replace(self, **changes)

    def with_peer(self, peer: Peer) -> Config:
        """This configuration with `peer` in place of the one with its key, or else as its last."""
        position = self._positions.get(peer.public_key)
        if position is None:
            before: tuple[str, ...] = ()
            peers = (*self.peers, peer)
        else:
            before = self.peers[position].allowed_ips
            peers = (*self.peers[:position], peer, *self.peers[position + 1 :])
        key = peer.public_key
        contested = any(self._owners.get(ip, key) != key for ip in peer.allowed_ips)
        if contested or key == self.private_key.public_key:
            return self.replace(peers=peers)
        positions = self._positions if position is not None else {**self._positions, key: len(self.peers)}
        owners = self._owners
        if before != peer.allowed_ips:
            owners = owners.copy()
            for ip in before:
                del owners[ip]
            owners.update(dict.fromkeys(peer.allowed_ips, key))
        return self._derive(peers, positions, owners, tuple(f"peer {key}: {warning}" for warning in peer.warnings))

    def with_peers(self, peers: Iterable[Peer]) -> Config:
        """This configuration with these peers in place of its own. Whichever are the same objects at the same end of
        the list are not looked at again."""
        peers = tuple(peers)
        start = _same(self.peers, peers)
        if start == len(peers) == len(self.peers):
            return self
        end = min(_same(reversed(self.peers), reversed(peers)), len(self.peers) - start, len(peers) - start)
        before, after = self.peers[start : len(self.peers) - end], peers[start : len(peers) - end]
        positions = self._positions
        if [peer.public_key for peer in before] != [peer.public_key for peer in after]:
            positions = {peer.public_key: i for i, peer in enumerate(peers)}
        owners = self._owners.copy()
        for peer in before:
            for ip in peer.allowed_ips:
                del owners[ip]
        for peer in after:
            contested = any(ip in owners for ip in peer.allowed_ips)
            if contested or peer.public_key == self.private_key.public_key or len(positions) != len(peers):
                return self.replace(peers=peers)
            owners.update(dict.fromkeys(peer.allowed_ips, peer.public_key))
        warnings = [f"peer {peer.public_key}: {warning}" for peer in after for warning in peer.warnings]
        return self._derive(peers, positions, owners, tuple(warnings))

    def without_peer(self, public_key: PublicKey) -> Config:
        """This configuration without the peer that has this key."""
        position = self._positions.get(public_key)
        if position is None:
            raise ConfigError(f"there is no peer {public_key}; look at `config.peers`", field="peers")
        peers = (*self.peers[:position], *self.peers[position + 1 :])
        owners = self._owners.copy()
        for ip in self.peers[position].allowed_ips:
            del owners[ip]
        return self._derive(peers, {peer.public_key: i for i, peer in enumerate(peers)}, owners, ())

    def _derive(
        self,
        peers: tuple[Peer, ...],
        positions: dict[PublicKey, int],
        owners: dict[str, PublicKey],
        warnings: tuple[str, ...],
    ) -> Config:
        """A twin with other peers, whose fields are known to be valid."""
        twin = object.__new__(Config)
        for name in _PLAIN_FIELDS:
            object.__setattr__(twin, name, getattr(self, name))
        twin._hold(peers, positions, owners, self.warnings + warnings)
        return twin

    @classmethod
    def from_text(cls, text: str, *, source: str = "<text>") -> Config:
        """Read the text of a wg-quick file; `source` names it in errors."""
        from wgengine import wgquick  # which in turn makes Configs

        return wgquick.parse(text, source)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Config:
        """Read a wg-quick file."""
        from wgengine import wgquick

        source = os.fspath(path)
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            data = file.read()
        config = wgquick.parse(wgquick.decode(data, source), source)
        if stat.S_ISREG(status.st_mode) and others_may_read(Path(path), status.st_mode):
            mode = stat.S_IMODE(status.st_mode)
            warning = (
                f"{source} holds the private key, and others can read it (mode {mode:04o}); run: chmod 600 {source}"
            )
            config = noting(config, [warning])
        return config

    def to_text(self) -> str:
        """The text of a wg-quick file; `from_text` reads back an equal Config. It holds the private key."""
        from wgengine import wgquick_writer

        return wgquick_writer.write(self)


_PLAIN_FIELDS = tuple(f.name for f in dataclasses.fields(Config) if f.name not in ("peers", "warnings"))


def _same(one: Iterable[Peer], other: Iterable[Peer]) -> int:
    """How many leading peers are the same objects."""
    count = 0
    for same in map(operator.is_, one, other):
        if not same:
            break
        count += 1
    return count


def noting(config: Config, warnings: list[str]) -> Config:
    """A twin that carries these warnings as well; they are logged."""
    for warning in warnings:
        log.warning("%s", warning)
    return config._derive(config.peers, config._positions, config._owners, tuple(warnings))


def host_bits_warning(entry: str, taken_as: str) -> str:
    return f"{entry} has host bits set; it is taken as {taken_as}"


_LABEL = re.compile(r"[\w-]{1,63}")


def search_domain(name: str) -> str:
    """A search domain without its final dot. It is never looked up."""
    labels = name.removesuffix(".").split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or re.fullmatch(r"[0-9.]+", name):
        raise ConfigError(f"{quoted(name)} is neither an address nor a domain; write one such as corp.example")
    return ".".join(labels)


def others_may_read(path: Path, mode: int) -> bool:
    # as wg-quick does: a directory that is closed to them protects the file
    directory = path.resolve().parent.stat().st_mode
    by_group = mode & stat.S_IRGRP and directory & stat.S_IXGRP
    by_world = mode & stat.S_IROTH and directory & stat.S_IXOTH
    return bool(by_group or by_world)


_K = TypeVar("_K", PrivateKey, PublicKey, PresharedKey)


def _key(kind: type[_K], value: _K | str, name: str) -> _K:
    if not isinstance(value, str):
        if not isinstance(value, kind):
            raise ConfigError(f"a {type(value).__name__} is no key; write a {kind.__name__} or its base64", field=name)
        return value
    try:
        return kind.from_base64(value)
    except ConfigError as error:
        raise error.at(field=name) from None


def _number(value: object, low: int, high: int, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{quoted(str(value))} is out of range; write a number from {low} to {high}", field=name)
    return value


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{quoted(str(value))} is neither True nor False; write one of them", field=name)
    return value


def masquerade(value: object, version: int) -> str:
    """One address of this version, in canonical text."""
    if not isinstance(value, str):
        raise ConfigError(f"{quoted(str(value))} is no address; write one as text")
    address = ip_address(value)
    if (":" in address) != (version == 6):
        raise ConfigError(f"{address} is no IPv{version} address; write one")
    return address


def _masquerade(value: object, version: int, name: str) -> str | None:
    try:
        return None if value is None else masquerade(value, version)
    except ConfigError as error:
        raise error.at(field=name) from None


def _entries(values: Iterable[str], name: str) -> Iterable[str]:
    if isinstance(values, str):  # it would be read letter by letter
        raise ConfigError(f"{quoted(values)} is one text; write a list of texts", field=name)
    return values


def _each(read: Callable[[str], str], values: Iterable[str], name: str) -> tuple[str, ...]:
    """Every entry in canonical text, each once, in order."""
    try:
        return tuple(dict.fromkeys(read(value) for value in _entries(values, name)))
    except ConfigError as error:
        raise error.at(field=name) from None


def _table(value: Table) -> Table:
    if isinstance(value, str):
        if value not in ("auto", "off"):
            raise ConfigError(f'{quoted(value)} is no table; write "auto", "off" or a number', field="table")
        return value
    return _number(value, 1, 0xFFFFFFFF, "table")


# What would end the line that a hook is written on: a comment sign (as wg-quick reads it) or a line end.
_NOT_IN_HOOK = re.compile(r"[#\n\r\x00\ud800-\udfff]")


def _hooks(commands: Iterable[str], name: str) -> tuple[str, ...]:
    hooks = []
    for command in _entries(commands, name):
        hook = command.strip(BLANKS)
        if not hook or _NOT_IN_HOOK.search(hook):
            raise ConfigError(
                f"{quoted(command)} cannot be a hook; write one line without #, or put it into a script", field=name
            )
        hooks.append(hook)
    return tuple(hooks)
