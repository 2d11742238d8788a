"""What an engine is doing, as plain values: for programs, as JSON, and as text in the manner of `wg show`."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from wgengine.keys import PublicKey

if TYPE_CHECKING:
    from wgengine._native import Device, PeerState
    from wgengine.config import Peer
    from wgengine.node import Node

__all__ = ["EngineStatus", "PeerStatus", "State", "ago", "size", "status_of"]

State: TypeAlias = Literal["running", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """One peer as the device has it now."""

    public_key: PublicKey
    has_preshared_key: bool = False
    endpoint: str | None = None  # where packets go now
    endpoint_name: str | None = None  # as configured, when that is a name
    allowed_ips: tuple[str, ...] = ()
    last_handshake: float | None = None  # Unix time
    rx_bytes: int = 0
    tx_bytes: int = 0
    persistent_keepalive: int = 0  # seconds; 0: off
    trimmed: bool = False  # without traffic for so long that it has no session until there is some
    name: str | None = None  # as the netmap has it
    online: bool | None = None

    @classmethod
    def of(cls, state: PeerState, configured: Peer | None, *, trimmed: bool = False) -> PeerStatus:
        """From what the device says, and what was configured."""
        endpoint = configured.endpoint if configured is not None else None
        return cls(
            public_key=state.public_key,
            has_preshared_key=state.preshared_key is not None and not state.preshared_key.is_zero(),
            endpoint=state.endpoint,
            endpoint_name=str(endpoint) if endpoint is not None and not endpoint.is_literal else None,
            allowed_ips=tuple(state.allowed_ips),
            last_handshake=state.last_handshake,
            rx_bytes=state.rx_bytes,
            tx_bytes=state.tx_bytes,
            persistent_keepalive=state.persistent_keepalive,
            trimmed=trimmed,
        )

    def with_node(self, node: Node | None) -> PeerStatus:
        """This status with what the netmap says of the peer."""
        if node is None:
            return self
        return replace(self, name=node.computed_name or node.name or None, online=node.online)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `json.dumps`."""
        return _plain_fields(self)

    def lines(self, now: float) -> Iterator[str]:
        """The peer's paragraph."""
        yield f"peer: {self.public_key}"
        if self.has_preshared_key:
            yield "  preshared key: (hidden)"
        if self.endpoint or self.endpoint_name:
            where = self.endpoint or "(not resolved yet)"
            yield f"  endpoint: {where}" + (f" ({self.endpoint_name})" if self.endpoint_name else "")
        yield f"  allowed ips: {', '.join(self.allowed_ips) or '(none)'}"
        if self.last_handshake is not None:
            yield f"  latest handshake: {ago(now - self.last_handshake)}"
        if self.rx_bytes or self.tx_bytes:
            yield f"  transfer: {size(self.rx_bytes)} received, {size(self.tx_bytes)} sent"
        if self.persistent_keepalive:
            yield f"  persistent keepalive: every {_span(self.persistent_keepalive)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """An engine and its peers at one moment."""

    name: str
    mode: str
    state: State
    time: float  # Unix time of this snapshot
    reason: str | None = None  # why it failed
    public_key: PublicKey | None = None
    listen_port: int = 0
    fwmark: int = 0  # 0: off
    mtu: int = 0
    peers: tuple[PeerStatus, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict, hash=False)
    drops: Mapping[str, int] = field(default_factory=dict, hash=False)  # every reason, also those that never occurred
    offloads: Mapping[str, bool] = field(default_factory=dict, hash=False)
    health: tuple[str, ...] = ()  # what is wrong and what to do about it, the worst first

    def peer(self, public_key: PublicKey) -> PeerStatus | None:
        """The peer with this key."""
        return next((peer for peer in self.peers if peer.public_key == public_key), None)

    def with_nodes(self, node: Callable[[PublicKey], Node | None]) -> EngineStatus:
        """This status with what a netmap says of each peer."""
        return replace(self, peers=tuple(peer.with_node(node(peer.public_key)) for peer in self.peers))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `json.dumps`. No secret is among them."""
        return _plain_fields(self)

    def render(self, now: float | None = None) -> str:
        """A text for people, laid out as `wg show` does; peers with the latest handshake come first."""
        return "\n".join(self._lines(clock.time() if now is None else now))

    __str__ = render

    def _lines(self, now: float) -> Iterator[str]:
        yield f"interface: {self.name}"
        if self.state != "running":
            yield f"  state: {self.state}" + (f" ({self.reason})" if self.reason else "")
        if self.public_key is not None:
            yield f"  public key: {self.public_key}"
            yield "  private key: (hidden)"
        if self.listen_port:
            yield f"  listening port: {self.listen_port}"
        if self.fwmark:
            yield f"  fwmark: 0x{self.fwmark:x}"
        off = [name for name, on in self.offloads.items() if not on]
        if off:
            yield f"  offloads off: {', '.join(off)}"
        dropped = {reason: count for reason, count in self.drops.items() if count}
        if dropped:
            yield "  dropped: " + ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        for peer in sorted(self.peers, key=lambda peer: -(peer.last_handshake or 0.0)):
            yield ""
            yield from peer.lines(now)


def status_of(
    device: Device,
    *,
    mode: str,
    failure: str | None,
    configured: Callable[[PublicKey], Peer | None],
    is_trimmed: Callable[[PublicKey], bool],
) -> EngineStatus:
    """A snapshot. Blocks for a while where there are very many peers."""
    state = device.state()
    return EngineStatus(
        name=device.name,
        mode=mode,
        state="running" if failure is None else "failed",
        reason=failure,
        time=clock.time(),
        public_key=state.public_key,
        listen_port=state.listen_port,
        fwmark=state.fwmark,
        mtu=device.mtu,
        peers=tuple(
            PeerStatus.of(peer, configured(peer.public_key), trimmed=is_trimmed(peer.public_key))
            for peer in state.peers
        ),
        counters=device.counters(),
        drops=device.drops(),
        offloads=device.offloads(),
    )


def _plain_fields(status: PeerStatus | EngineStatus) -> dict[str, Any]:
    return {f.name: _plain(getattr(status, f.name)) for f in fields(status)}


def _plain(value: Any) -> Any:
    match value:
        case PeerStatus() | EngineStatus():
            return _plain_fields(value)
        case PublicKey():
            return value.to_base64()
        case tuple():
            return [_plain(item) for item in value]
        case Mapping():
            return dict(value)
    return value


_UNITS = (("year", 365 * 86400), ("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def _span(seconds: int) -> str:
    """Seconds as `wg` words them: `2 minutes, 5 seconds`."""
    parts = []
    for unit, length in _UNITS:
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count} {unit}" + ("s" if count > 1 else ""))
    return ", ".join(parts)


def ago(seconds: float) -> str:
    """How long ago, as `wg show` says it."""
    if seconds < 0:
        return "(the clock was set back)"
    return f"{_span(int(seconds))} ago" if seconds >= 1 else "now"


def size(count: int) -> str:
    """Bytes as `wg show` writes them."""
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.2f} {unit}"
    return f"{amount / 1024:.2f} TiB"
