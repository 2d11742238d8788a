"""Pings: what can be asked of whom, and exactly one result for each, whatever becomes of the answer.

The device keeps the time and knows the pong of the right peer; its events say how a ping ended. Events may be lost, and
an engine may be closed: then the result is made here.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

from wgengine.address import ip_address
from wgengine.errors import ClosedError, ConfigError, StateError, TimedOutError
from wgengine.events import Event, PingExpired, Pong

if TYPE_CHECKING:
    from wgengine.peers import PeerIndex

__all__ = ["TIMED_OUT", "Ask", "Kind", "PingResult", "Pings", "ask"]

Kind: TypeAlias = Literal["auto", "disco", "tsmp", "icmp", "peerapi"]
Send: TypeAlias = Callable[[str, str, str, float], int]  # `Device.ping`

TIMED_OUT: Final = "timed out"
_CLOSED: Final = "the engine was closed meanwhile"
_KINDS: Final = ("auto", "disco", "tsmp", "icmp", "peerapi")
_LONGEST_S: Final = 3600.0
_LARGEST: Final = 65_000
_GRACE_S: Final = 1.0  # for the device's own word that nobody answered


@dataclass(frozen=True, slots=True, kw_only=True)
class PingResult:
    """What came of one ping: a latency or an error."""

    ip: str  # that was asked for
    kind: str  # how: tsmp or icmp
    error: str | None = None
    latency: float | None = None  # seconds, a handshake included if one was needed
    node_ip: str | None = None  # of the node that answered
    node_name: str | None = None
    endpoint: str | None = None  # where it was sent to, outside the tunnel
    peer_api_port: int | None = None
    is_local: bool = False  # it is our own address: nothing was sent

    @property
    def ok(self) -> bool:
        """Whether it was answered."""
        return self.error is None

    def raise_for_error(self) -> Self:
        """This result, if it is no error; `TimedOutError` when nobody answered, `StateError` when it was not sent."""
        if self.error is None:
            return self
        if self.error == TIMED_OUT:
            raise TimedOutError(f"ping {self.ip}: nobody answered in time")
        raise (ClosedError if self.error == _CLOSED else StateError)(f"ping {self.ip}: {self.error}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `json.dumps`."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A ping that can be sent."""

    kind: Literal["tsmp", "icmp"]
    source: str
    destination: str
    timeout: float
    node_name: str | None


def ask(
    ip: str, *, kind: str, size: int, timeout: float, index: PeerIndex, own: Sequence[str] = ()
) -> Ask | PingResult:
    """The ping to send, or the result where there is nothing to send. `ConfigError` for arguments that are none.

    `own` are the interface's addresses, which serve where no netmap says which are this node's.
    """
    address = _check(ip, kind, size, timeout)
    way: Literal["tsmp", "icmp"] = "tsmp" if kind == "tsmp" else "icmp"
    failed = PingResult(ip=address, kind=way if kind == "auto" else kind)
    if kind in ("disco", "peerapi"):
        return replace(failed, error=f"there is no {kind} here yet; ping by tsmp or icmp")
    found, hosts = index.peer_for_ip(address), [prefix.partition("/")[0] for prefix in own]
    if (found is not None and found.is_self) or (found is None and address in hosts):
        return replace(failed, error=f"{address} is this node's own", is_local=True)
    if found is None and index.owner(address) is None:
        return replace(failed, error="no matching peer: no node has this address, and no route leads to it")
    is_v6 = ":" in address
    source = index.self_address(6 if is_v6 else 4) or next((host for host in hosts if (":" in host) == is_v6), None)
    if source is None:
        family = "IPv6" if is_v6 else "IPv4"
        return replace(failed, error=f"this node has no {family} address in the tunnel to ask from")
    name = getattr(found.node, "name", None) if found is not None else None
    return Ask(kind=way, source=source, destination=address, timeout=timeout, node_name=name or None)


def _check(ip: str, kind: str, size: object, timeout: object) -> str:
    if kind not in _KINDS:
        raise ConfigError(f"{kind!r} is none; write {', '.join(_KINDS)}", field="kind")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= _LARGEST:
        raise ConfigError(f"a number of bytes from 0 to {_LARGEST} is wanted", field="size")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= _LONGEST_S:
        raise ConfigError(f"seconds are wanted, more than 0 and at most {_LONGEST_S:.0f}", field="timeout")
    try:
        address = ipaddress.ip_address(ip_address(ip))
    except ConfigError as error:
        raise error.at(field="ip") from None
    return str((address.ipv4_mapped if address.version == 6 else None) or address)


class Pings:
    """The pings that are under way, on the engine's event loop."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[Pong | str]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def send(self, asked: Ask, send: Send) -> PingResult:
        """Send it by `send`, and wait for what comes of it. Whoever stops waiting is forgotten."""
        failed = PingResult(ip=asked.destination, kind=asked.kind, node_name=asked.node_name)
        if self._closed:
            return replace(failed, error=_CLOSED)
        try:
            token = send(asked.kind, asked.source, asked.destination, asked.timeout)
        except StateError as error:
            return replace(failed, error=str(error))
        waiting: asyncio.Future[Pong | str] = asyncio.get_running_loop().create_future()
        self._waiting[token] = waiting
        try:
            async with asyncio.timeout(asked.timeout + _GRACE_S):
                ended = await waiting
        except TimeoutError:  # the event that said so was lost
            ended = TIMED_OUT
        finally:
            del self._waiting[token]
        if isinstance(ended, str):
            return replace(failed, error=ended)
        return replace(
            failed, latency=ended.latency, node_ip=asked.destination, peer_api_port=ended.peer_api_port or None
        )

    def feed(self, event: Event) -> None:
        """What happened; events about anything else are let be."""
        match event:
            case Pong(token=token):
                self._end(token, event)
            case PingExpired(token=token):
                self._end(token, TIMED_OUT)

    def close(self) -> None:
        """End all of them."""
        self._closed = True
        for token in tuple(self._waiting):
            self._end(token, _CLOSED)

    def _end(self, token: int, result: Pong | str) -> None:
        waiting = self._waiting.get(token)
        if waiting is not None and not waiting.done():
            waiting.set_result(result)
