"""What can be asked of a running engine, and how its arguments are read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from wgengine.control.names import Named, find_address, literal
from wgengine.errors import ConfigError, TimedOutError, quoted

if TYPE_CHECKING:
    from wgengine.control.wire import Request

__all__ = ["Served", "Stream", "perform", "takes_body"]

KINDS: Final = ("auto", "disco", "tsmp", "icmp", "peerapi")
DOCUMENTS: Final = ("netmap", "conf")
_LONGEST_PING_S: Final = 60.0
_LARGEST_PING: Final = 65_000
_DNS_S: Final = 5.0


class Events(Protocol):
    """A subscription."""

    def __aiter__(self) -> AsyncIterator[object]: ...
    def close(self) -> None: ...


class Served(Protocol):
    """An engine, as far as its control socket goes. What it returns is told by `values.plain`."""

    async def status(self) -> object: ...
    async def ping(self, ip: str, *, kind: Any, size: int, timeout: float) -> object: ...
    def whois(self, ip: str) -> object | None: ...
    async def metrics_text(self) -> str: ...
    def events(self) -> Events: ...
    def nodes(self) -> Iterable[Named]:
        """Ourselves and the peers, where they have names."""
        ...

    async def reconfigure(
        self, text: str, *, document: str, prefs: Mapping[str, Any] | None, dry_run: bool
    ) -> object: ...


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """An answer that goes on."""

    items: Events


def takes_body(verb: str) -> bool:
    """Whether a request may bring more than its line."""
    return verb == "reconfigure"


async def perform(served: Served, request: Request, body: bytes = b"") -> object:
    """The answer to a request; a `Stream` of answers."""
    args = _Args(request.args)
    match request.verb:
        case "status":
            args.done()
            return await served.status()
        case "ping":
            host, kind = args.text("host"), args.one_of("kind", KINDS, "auto")
            size = args.whole("size", 0, 0, _LARGEST_PING)
            timeout = args.number("timeout", 5, 0.01, _LONGEST_PING_S)
            args.done()
            ip = await _address(host, served)
            return await served.ping(ip, kind=kind, size=size, timeout=timeout)
        case "whois":
            ip = args.address("ip")
            args.done()
            return served.whois(ip)
        case "metrics":
            args.done()
            return await served.metrics_text()
        case "events":
            args.done()
            return Stream(served.events())
        case "reconfigure":
            document, dry_run = args.one_of("document", DOCUMENTS, "netmap"), args.flag("dry_run")
            prefs = args.object("prefs")
            args.done()
            return await served.reconfigure(_text(body), document=document, prefs=prefs, dry_run=dry_run)
    raise ConfigError(
        f"{quoted(request.verb)} is none; status, ping, whois, metrics, events, reconfigure are", field="verb"
    )


async def _address(host: str, served: Served) -> str:
    """The address of a node by its name in the netmap, else by DNS."""
    known = literal(host) or find_address(host, served.nodes())
    if known is not None:
        return known
    try:
        async with asyncio.timeout(_DNS_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except TimeoutError:
        raise TimedOutError(f"no node is called {quoted(host)}, and DNS does not answer; write an address") from None
    except (OSError, UnicodeError):
        raise ConfigError(
            f"{quoted(host)} is no node and no host; write a node's name or an address", field="args.host"
        ) from None
    return str(found[0][4][0])


def _text(body: bytes) -> str:
    if not body:
        raise ConfigError("the document is wanted: its length in bytes here, itself after the line", field="body")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"this is no UTF-8, from byte {error.start} on", field="body") from None


class _Args:
    """Arguments by their names; each must be read."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._left = dict(given)

    def text(self, name: str) -> str:
        value = self._left.pop(name, None)
        if not isinstance(value, str) or not value:
            raise ConfigError("a text is wanted", field=f"args.{name}")
        return value

    def address(self, name: str) -> str:
        text = self.text(name)
        found = literal(text)
        if found is None:
            raise ConfigError(f"{quoted(text)} is no IP address; write one such as 100.64.0.2", field=f"args.{name}")
        return found

    def one_of(self, name: str, words: tuple[str, ...], default: str) -> str:
        value = self._left.pop(name, default)
        if value not in words:
            shown = quoted(value) if isinstance(value, str) else "this"
            raise ConfigError(f"{shown} is none; write {', '.join(words)}", field=f"args.{name}")
        return str(value)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self._left.pop(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ConfigError(f"a number from {low} to {high} is wanted", field=f"args.{name}")
        return value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        value = self.number(name, default, low, high)
        if not isinstance(value, int):
            raise ConfigError("a whole number is wanted", field=f"args.{name}")
        return value

    def flag(self, name: str) -> bool:
        value = self._left.pop(name, False)
        if not isinstance(value, bool):
            raise ConfigError("true or false is wanted", field=f"args.{name}")
        return value

    def object(self, name: str) -> Mapping[str, Any] | None:
        value = self._left.pop(name, None)
        if value is not None and not isinstance(value, dict):
            raise ConfigError("an object is wanted", field=f"args.{name}")
        return value

    def done(self) -> None:
        if self._left:
            raise ConfigError("this verb does not take it", field=f"args.{min(self._left)}")
