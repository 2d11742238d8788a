"""The text of a wg-quick file, read into a Config.

The reader takes what stock `wg setconf` and `wg-quick` take (any letter case, any blanks, the last of a key written
twice) and says more about what they refuse. A comment is tied to the line that it stands at or above. What those two
have no key for stands in comments of one form, `# wgengine: key = value`: they pass it over.
"""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from wgengine.address import Endpoint, interface_address, ip_address, prefix
from wgengine.comments import EXTENSION, Comment, Comments
from wgengine.config import (
    BLANKS,
    Config,
    NetworkLogging,
    Peer,
    Table,
    host_bits_warning,
    masquerade,
    noting,
    search_domain,
)
from wgengine.errors import ConfigError, quoted
from wgengine.keys import PresharedKey, PrivateKey, PublicKey

__all__ = ["decode", "parse"]

# The keys of each section, in the order in which they are written.
INTERFACE_KEYS = (
    "PrivateKey", "ListenPort", "FwMark", "MTU", "Address", "DNS", "Table",
    "PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig",
)  # fmt: skip
PEER_KEYS = ("PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive")
KEYS = {"Interface": INTERFACE_KEYS, "Peer": PEER_KEYS}
HOMES = {key.lower(): (key, kind) for kind, keys in KEYS.items() for key in keys}
# What a netmap says besides: in comments `# wgengine: key = value`.
EXTENSION_KEYS = {
    "Interface": ("LogNodeID", "LogDomainID", "LogExitFlows"),
    "Peer": ("DiscoKey", "V4MasqAddr", "V6MasqAddr", "Jailed"),
}
EXTENSION_HOMES = {key.lower(): (key, kind) for kind, keys in EXTENSION_KEYS.items() for key in keys}
EXTENSIONS = frozenset(key for keys in EXTENSION_KEYS.values() for key in keys)
HOOKS = ("PreUp", "PostUp", "PreDown", "PostDown")
# wg-quick takes its own keys without a value and goes on as if they were not there; AllowedIPs is then an empty list.
MAY_BE_EMPTY = ("Address", "DNS", "MTU", "Table", "AllowedIPs", *HOOKS)
# The names that every distribution's rt_tables gives.
NAMED_TABLES = {"default": 253, "main": 254, "local": 255}

T = TypeVar("T")


def decode(data: bytes, source: str) -> str:
    """The text of a file's bytes. A byte order mark is fine; any encoding but UTF-8 is not."""
    for mark, name in (
        (codecs.BOM_UTF32_LE, "UTF-32LE"),  # begins like the next one
        (codecs.BOM_UTF16_LE, "UTF-16LE"),
        (codecs.BOM_UTF16_BE, "UTF-16BE"),
        (codecs.BOM_UTF32_BE, "UTF-32BE"),
    ):
        if data.startswith(mark):
            raise ConfigError(f"the file is in {name}; save it as UTF-8", file=source)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8", file=source, line=line
        ) from None


@dataclass(slots=True)
class _Line:
    """`key = value`, with the key in its proper spelling."""

    key: str
    value: str
    number: int
    values: tuple[str, ...] = ()  # as they are kept, of a key that adds up
    above: list[str] = field(default_factory=list)  # comments
    beside: str | None = None


@dataclass(slots=True)
class _Section:
    kind: str
    header: _Line
    lines: list[_Line] = field(default_factory=list)
    end: list[str] = field(default_factory=list)  # comments after the last line


def parse(text: str, source: str) -> Config:
    """Read a configuration; `source` names it in errors and warnings."""
    return _Reader(source).config(_sections(text, source))


def _sections(text: str, source: str) -> list[_Section]:
    """The lines by section. What is wrong with a line's form is found here, what is wrong with a value later."""
    sections: list[_Section] = []
    above: list[str] = []  # comments since the last line that was none
    loose = 0  # how many of them a blank line parts from what follows
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        try:
            content, sign, comment = _form(raw.rstrip("\r")).partition("#")
            content = content.strip(BLANKS)
            extension = EXTENSION.fullmatch(comment)
            if extension is not None:
                if content:
                    raise ConfigError("a field within a comment; write `# wgengine: key = value` on a line of its own")
                content, sign, comment = extension["content"].partition("#")
                if EXTENSION.fullmatch(comment):
                    raise ConfigError("two fields in a line; write each `# wgengine: key = value` on a line of its own")
            if not content:
                if sign:
                    above.append(comment.rstrip())
                else:
                    loose = len(above)
                continue
            if content.startswith("["):
                kind = _kind(content, sections)
                if sections:
                    sections[-1].end, above = above[:loose], above[loose:]
                sections.append(_Section(kind, _Line("", "", number)))
                line = sections[-1].header
            elif sections:
                read = _key_value if extension is None else _extension
                key, value = read(content, sections[-1].kind)
                line = _Line(key, value, number)
                sections[-1].lines.append(line)
            else:
                raise ConfigError(f"Line must occur in a section: {_name(content)}; write [Interface] above it")
        except ConfigError as error:
            raise error.at(file=source, line=number) from None
        line.above, above, loose = above, [], 0
        line.beside = comment.rstrip() if sign else None
    if sections:
        sections[-1].end = above
    return sections


def _form(line: str) -> str:
    if "\0" in line:
        raise ConfigError("a NUL byte; save the file as UTF-8 text (is it UTF-16?)")
    if "\r" in line:
        raise ConfigError("a carriage return within the line; end lines with LF or CRLF")
    return line


def _kind(content: str, sections: list[_Section]) -> str:
    squeezed = _squeeze(content).lower()
    for kind in KEYS:
        if squeezed == f"[{kind.lower()}]":
            break
    else:
        raise ConfigError(f"Unknown section: {_name(content)}; write [Interface] or [Peer]")
    if kind == "Interface":
        for other in sections:
            if other.kind == kind:
                raise ConfigError(f"A second [Interface]: the first is in line {other.header.number}; keep one of them")
    return kind


def _key_value(content: str, kind: str) -> tuple[str, str]:
    name, equals, value = content.partition("=")
    if not equals:
        raise ConfigError(f"Invalid config key is missing an equals separator: {_name(name)}; write key = value")
    squeezed = _squeeze(name).lower()
    key, home = HOMES.get(squeezed, ("", ""))
    if home != kind:
        advice = f"{key} belongs in [{home}]" if key else _advice(squeezed, kind)
        raise ConfigError(f"Invalid key for [{kind}] section: {_name(name)}; {advice}")
    value = value.strip(BLANKS)
    if not value and key not in MAY_BE_EMPTY:
        raise ConfigError("Key must have a value; write one, or remove the line", field=key)
    return key, value


def _extension(content: str, kind: str) -> tuple[str, str]:
    name, _, value = content.partition("=")
    key, home = EXTENSION_HOMES.get(_squeeze(name).lower(), ("", ""))
    if home != kind:
        advice = f"{key} belongs in [{home}]" if key else "write one of " + ", ".join(EXTENSION_KEYS[kind])
        raise ConfigError(f"Invalid key after `# wgengine:` in [{kind}]: {_name(name)}; {advice}")
    value = value.strip(BLANKS)
    if not value:
        raise ConfigError("Key must have a value; write one, or remove the line", field=key)
    return key, value


def _advice(squeezed: str, kind: str) -> str:
    if squeezed in EXTENSION_HOMES:
        key, home = EXTENSION_HOMES[squeezed]
        return f"write # wgengine: {key} = …, in [{home}]"
    for near in difflib.get_close_matches(squeezed[:32], HOMES, 1):
        key, home = HOMES[near]
        return f"write {key}" + (f", in [{home}]" if home != kind else "")
    return "write one of " + ", ".join(KEYS[kind])


def _squeeze(text: str) -> str:
    """Without any blanks: so does wg read a line."""
    return text.translate(_NO_BLANKS)


_NO_BLANKS = str.maketrans("", "", BLANKS)


def _name(content: str) -> str:
    """The first word of a line for an error. What is longer than any key may be a secret on the wrong line."""
    word = content.split(maxsplit=1)[0] if content.strip() else content
    return quoted(word) if len(word) <= 24 else "(not shown, it may be a key)"


class _Reader:
    """Values: from lines to a Config. Every error and warning names the line."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._warnings: list[str] = []
        self._comments: list[tuple[int, Comment]] = []

    def config(self, sections: list[_Section]) -> Config:
        interface = next((section for section in sections if section.kind == "Interface"), None)
        if interface is None:
            raise ConfigError("no [Interface]; write [Interface] and PrivateKey = … first", file=self._source)
        private_key, make = self._interface(interface)
        own = private_key.public_key
        peers: list[Peer] = []
        seen: dict[PublicKey, int] = {}
        for section in sections:
            if section.kind == "Peer":
                peer, line = self._peer(section)
                first = seen.setdefault(peer.public_key, line.number)
                if first != line.number:
                    raise self._error(
                        line,
                        f"line {first} has the public key {peer.public_key} too; "
                        "write one [Peer] with the allowed IPs of both",
                    )
                if peer.public_key == own:
                    raise self._error(line, "this is the interface's own public key; write the key of the other side")
                peers.append(peer)
        comments = Comments(comment for _, comment in sorted(self._comments, key=lambda each: each[0]))
        return noting(make(peers=peers, comments=comments), self._warnings)

    def _interface(self, section: _Section) -> tuple[PrivateKey, Callable[..., Config]]:
        """The interface's key, and how to make the whole of it once the peers are known."""
        private_key = self._one(section, "PrivateKey", _squeezed(PrivateKey.from_base64), None)
        if private_key is None:
            raise self._error(section.header, "An interface must have a private key; write PrivateKey = … below")
        names = self._many(section, "DNS", _words, _dns)
        table: Table = self._one(section, "Table", _table, "auto")
        make = partial(
            Config,
            private_key=private_key,
            listen_port=self._one(section, "ListenPort", _squeezed(_number(0, 65535)), 0),
            fwmark=self._one(section, "FwMark", _squeezed(_number(0, 0xFFFFFFFF, hexadecimal=True, off=True)), 0),
            mtu=self._one(section, "MTU", _number(576, 65535), None),
            addresses=self._many(section, "Address", _words, interface_address),
            dns=[name for name in names if _is_server(name)],
            dns_search=[name for name in names if not _is_server(name)],
            table=table,
            pre_up=self._many(section, "PreUp", _whole, str),
            post_up=self._many(section, "PostUp", _whole, str),
            pre_down=self._many(section, "PreDown", _whole, str),
            post_down=self._many(section, "PostDown", _whole, str),
            save_config=self._one(section, "SaveConfig", _boolean, False),
            network_logging=self._network_logging(section),
        )
        self._remember(None, section)
        return private_key, make

    def _network_logging(self, section: _Section) -> NetworkLogging | None:
        lines = [line for line in section.lines if line.key in EXTENSIONS]
        if not lines:
            return None
        try:
            return NetworkLogging(
                node_id=self._one(section, "LogNodeID", str, ""),
                domain_id=self._one(section, "LogDomainID", str, ""),
                log_exit_flows=self._one(section, "LogExitFlows", _boolean, False),
            )
        except ConfigError as error:
            key = {"node_id": "LogNodeID", "domain_id": "LogDomainID"}.get(error.field or "")
            line = next((line for line in lines if line.key == key), lines[0])
            raise error.at(file=self._source, line=line.number, field=key) from None

    def _peer(self, section: _Section) -> tuple[Peer, _Line]:
        public_key = self._one(section, "PublicKey", _squeezed(PublicKey.from_base64), None)
        if public_key is None:
            raise self._error(section.header, "All peers must have public keys; write PublicKey = … below")
        line = next(line for line in reversed(section.lines) if line.key == "PublicKey")
        preshared_key = self._one(section, "PresharedKey", _squeezed(PresharedKey.from_base64), None)
        allowed_ips = self._allowed_ips(section)
        endpoint = self._one(section, "Endpoint", _squeezed(Endpoint.parse), None)
        keepalive = self._one(section, "PersistentKeepalive", _squeezed(_number(0, 65535, off=True)), 0)
        try:
            peer = Peer(
                public_key=public_key,
                preshared_key=preshared_key,
                endpoint=endpoint,
                allowed_ips=allowed_ips,
                persistent_keepalive=keepalive,
                disco_key=self._one(section, "DiscoKey", _squeezed(PublicKey.from_base64), None),
                v4_masq_addr=self._one(section, "V4MasqAddr", partial(masquerade, version=4), None),
                v6_masq_addr=self._one(section, "V6MasqAddr", partial(masquerade, version=6), None),
                jailed=self._one(section, "Jailed", _boolean, False),
            )
        except ConfigError as error:
            if error.line is not None:
                raise
            raise self._error(line, error.message) from None
        self._remember(public_key, section)
        return peer, line

    def _one(self, section: _Section, key: str, read: Callable[[str], T], default: T) -> T:
        """The value of a key that counts once: the last one, as for wg."""
        lines = [line for line in section.lines if line.key == key]
        result = default
        for line in lines:
            result = self._read(line, read, line.value) if line.value else default
        for line in lines[1:]:
            self._warn(line, f"written in line {lines[0].number} already; the last one counts")
        return result

    def _many(
        self, section: _Section, key: str, split: Callable[[str], list[str]], read: Callable[[str], str]
    ) -> list[str]:
        """The values of a key that adds up."""
        for line, word in self._each(section, key, split):
            line.values += (self._read(line, read, word),)
        return [value for line in section.lines if line.key == key for value in line.values]

    def _allowed_ips(self, section: _Section) -> list[str]:
        for line, word in self._each(section, "AllowedIPs", _between_commas):
            text, had_host_bits = self._read(line, _prefix, word)
            if had_host_bits:
                self._warn(line, host_bits_warning(word, text))
            line.values += (text,)
        return [value for line in section.lines if line.key == "AllowedIPs" for value in line.values]

    def _each(self, section: _Section, key: str, split: Callable[[str], list[str]]) -> Iterator[tuple[_Line, str]]:
        for line in section.lines:
            if line.key == key and line.value:
                for word in self._read(line, split, line.value):
                    yield line, word

    def _read(self, line: _Line, read: Callable[[str], T], text: str) -> T:
        try:
            return read(text)
        except ConfigError as error:
            raise self._error(line, error.message) from None

    def _error(self, line: _Line, message: str) -> ConfigError:
        return ConfigError(message, file=self._source, line=line.number, field=line.key or None)

    def _warn(self, line: _Line, message: str) -> None:
        self._warnings.append(f"{self._source}:{line.number}: {line.key}: {message}")

    def _remember(self, peer: PublicKey | None, section: _Section) -> None:
        """Tie the section's comments to whose they are."""
        for line in (section.header, *section.lines):
            tied = partial(Comment, peer=peer, key=line.key, values=line.values)
            self._comments += ((line.number, tied(text=text, where="above")) for text in line.above)
            if line.beside is not None:
                self._comments.append((line.number, tied(text=line.beside, where="beside")))
        last = section.lines[-1].number
        self._comments += ((last, Comment(text=text, peer=peer, where="end")) for text in section.end)


def _squeezed(read: Callable[[str], T]) -> Callable[[str], T]:
    return lambda text: read(_squeeze(text))


def _words(value: str) -> list[str]:
    """Words between commas or blanks: so does wg-quick split its own lists."""
    return [word for word in re.split(f"[,{BLANKS}]+", value) if word]


def _between_commas(value: str) -> list[str]:
    """Entries between commas: so does wg split AllowedIPs."""
    entries = [entry.strip(BLANKS) for entry in value.split(",")]
    if "" in entries:
        raise ConfigError("Two commas in a row, or one at an end of the list; write one between two entries")
    return entries


def _whole(value: str) -> list[str]:
    return [value]


def _prefix(word: str) -> tuple[str, bool]:
    try:
        return prefix(_squeeze(word))
    except ConfigError:
        if word != _squeeze(word):
            raise ConfigError(f"{quoted(word)} is not one prefix; write commas between entries") from None
        raise


def _dns(word: str) -> str:
    return ip_address(word) if _is_server(word) else search_domain(word)


def _is_server(word: str) -> bool:
    """Whether a word of DNS is a server; else it is a search domain. wg-quick's own rule: nothing is looked up."""
    return ":" in word or re.fullmatch(r"[0-9.]+", word) is not None


def _number(low: int, high: int, *, hexadecimal: bool = False, off: bool = False) -> Callable[[str], int]:
    wanted = f"a number from {low} to {high}" + (" (0x… is fine)" if hexadecimal else "") + (" or off" if off else "")

    def read(text: str) -> int:
        word = text.lower()
        if off and word == "off":
            return 0
        number = None
        if re.fullmatch(r"[0-9]{1,20}", word):
            number = int(word)
        elif hexadecimal and re.fullmatch(r"0x[0-9a-f]{1,20}", word):
            number = int(word, 16)
        if number is None or not low <= number <= high:
            raise ConfigError(f"{quoted(text)} is not {wanted}")
        return number

    return read


def _table(text: str) -> Table:
    word = text.lower()
    if word == "auto":
        return "auto"
    if word == "off":
        return "off"
    if word in NAMED_TABLES:
        return NAMED_TABLES[word]
    try:
        return _number(1, 0xFFFFFFFF, hexadecimal=True)(word)
    except ConfigError:
        raise ConfigError(f"{quoted(text)} is not a table; write auto, off, main or a number") from None


def _boolean(text: str) -> bool:
    word = text.lower()
    if word not in ("true", "false"):
        raise ConfigError(f"{quoted(text)} is neither true nor false; write one of them")
    return word == "true"
