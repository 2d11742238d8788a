"""What a reconfiguration changes: its steps one by one, each of them a line that a person can read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from wgengine.address import Endpoint
    from wgengine.config import Peer
    from wgengine.dns_config import DNSConfig
    from wgengine.keys import PrivateKey, PublicKey
    from wgengine.network_logging import NetworkLogging
    from wgengine.router_config import RouterConfig

__all__ = [
    "AddAddress",
    "AddPeer",
    "AddRoute",
    "ChangePeer",
    "Changes",
    "DeviceStep",
    "DialRoutes",
    "EnableSubnetRouter",
    "LinkStep",
    "PartStep",
    "PreferPort",
    "ProbePathMTU",
    "ReconfigureVPN",
    "RemoveAddress",
    "RemovePeer",
    "RemoveRoute",
    "ResetSession",
    "SetDNS",
    "SetDNSConfig",
    "SetFwmark",
    "SetListenPort",
    "SetMTU",
    "SetPrivateKey",
    "SetRouter",
    "Skipped",
    "StartFlowLog",
    "Step",
    "StopFlowLog",
    "UseKey",
    "UsePeers",
]


# `str` of each step is its line in a plan. No line holds a secret.


@dataclass(frozen=True, slots=True)
class SetPrivateKey:
    private_key: PrivateKey

    def __str__(self) -> str:
        return f"~ private_key (public key {self.private_key.public_key})"


@dataclass(frozen=True, slots=True)
class SetListenPort:
    old: int
    new: int

    def __str__(self) -> str:
        return f"~ listen_port {self.old} → {self.new}"


@dataclass(frozen=True, slots=True)
class SetFwmark:
    old: int
    new: int

    def __str__(self) -> str:
        return f"~ fwmark {self.old:#x} → {self.new:#x}"


@dataclass(frozen=True, slots=True)
class AddPeer:
    peer: Peer

    def __str__(self) -> str:
        words = [f"+ peer {self.peer.public_key}"]
        if self.peer.endpoint is not None:
            words.append(f"endpoint {self.peer.endpoint}")
        if self.peer.allowed_ips:
            words.append(f"allowed_ips {_some(self.peer.allowed_ips)}")
        if self.peer.persistent_keepalive:
            words.append(f"persistent_keepalive {self.peer.persistent_keepalive}")
        if self.peer.preshared_key is not None:
            words.append("preshared_key (hidden)")
        return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePeer:
    """What changes of a peer; its session and its counters go on. None or empty: that part stays."""

    peer: Peer  # as it shall be
    preshared_key: bool = False  # whether it changes
    endpoint: Endpoint | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    persistent_keepalive: int | None = None

    def __str__(self) -> str:
        words = [f"~ peer {self.peer.public_key}"]
        if self.preshared_key:
            words.append("preshared_key (hidden)" if self.peer.preshared_key is not None else "preshared_key none")
        if self.endpoint is not None:
            words.append(f"endpoint {self.endpoint}")
        if self.added or self.removed:
            signed = [*(f"-{ip}" for ip in self.removed), *(f"+{ip}" for ip in self.added)]
            words.append(f"allowed_ips {_some(signed)}")
        if self.persistent_keepalive is not None:
            words.append(f"persistent_keepalive {self.persistent_keepalive or 'off'}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class RemovePeer:
    public_key: PublicKey

    def __str__(self) -> str:
        return f"- peer {self.public_key}"


@dataclass(frozen=True, slots=True)
class AddAddress:
    address: str

    def __str__(self) -> str:
        return f"+ address {self.address}"


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    address: str

    def __str__(self) -> str:
        return f"- address {self.address}"


@dataclass(frozen=True, slots=True)
class SetMTU:
    old: int | None
    new: int | None  # None: the default

    def __str__(self) -> str:
        return f"~ mtu {self.old or 'default'} → {self.new or 'default'}"


@dataclass(frozen=True, slots=True)
class AddRoute:
    prefix: str
    table: int | None  # None: the main one, and for a default route one of its own

    def __str__(self) -> str:
        return f"+ route {self.prefix}" + (f" table {self.table}" if self.table is not None else "")


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    prefix: str
    table: int | None

    def __str__(self) -> str:
        return f"- route {self.prefix}" + (f" table {self.table}" if self.table is not None else "")


@dataclass(frozen=True, slots=True)
class SetDNS:
    servers: tuple[str, ...]
    search: tuple[str, ...]

    def __str__(self) -> str:
        return f"~ dns {' '.join((*self.servers, *self.search)) or 'none'}"


# -- Steps of the parts that the engine joins.


@dataclass(frozen=True, slots=True)
class UseKey:
    private_key: PrivateKey

    def __str__(self) -> str:
        return f"~ paths: key (public key {self.private_key.public_key})"


@dataclass(frozen=True, slots=True)
class UsePeers:
    keys: frozenset[PublicKey]

    def __str__(self) -> str:
        return f"~ paths: {len(self.keys)} peers"


@dataclass(frozen=True, slots=True)
class PreferPort:
    port: int

    def __str__(self) -> str:
        return f"~ paths: port {self.port or 'any'}"


@dataclass(frozen=True, slots=True)
class ProbePathMTU:
    on: bool

    def __str__(self) -> str:
        return f"~ paths: path MTU discovery {'on' if self.on else 'off'}"


@dataclass(frozen=True, slots=True)
class ResetSession:
    """The peer has restarted: packets sealed for its old session would be lost."""

    public_key: PublicKey

    def __str__(self) -> str:
        return f"~ peer {self.public_key} new session (its disco key changed)"


@dataclass(frozen=True, slots=True)
class StartFlowLog:
    logging: NetworkLogging

    def __str__(self) -> str:
        return "+ flow log"


@dataclass(frozen=True, slots=True)
class StopFlowLog:
    def __str__(self) -> str:
        return "- flow log"


@dataclass(frozen=True, slots=True)
class SetRouter:
    config: RouterConfig

    def __str__(self) -> str:
        return f"~ router: {len(self.config.local_addrs)} addresses, {len(self.config.routes)} routes"


@dataclass(frozen=True, slots=True)
class DialRoutes:
    routes: tuple[str, ...]
    local_routes: tuple[str, ...]

    def __str__(self) -> str:
        return f"~ dialer: {len(self.routes)} routes"


@dataclass(frozen=True, slots=True)
class SetDNSConfig:
    config: DNSConfig

    def __str__(self) -> str:
        return f"~ dns: {len(self.config.default_resolvers)} resolvers, {len(self.config.routes)} routes"


@dataclass(frozen=True, slots=True)
class ReconfigureVPN:
    def __str__(self) -> str:
        return "~ vpn settings of the platform"


@dataclass(frozen=True, slots=True)
class EnableSubnetRouter:
    on: bool

    def __str__(self) -> str:
        return f"{'+' if self.on else '-'} BIRD protocol tailscale"


DeviceStep: TypeAlias = SetPrivateKey | SetListenPort | SetFwmark | AddPeer | ChangePeer | RemovePeer | ResetSession
LinkStep: TypeAlias = AddAddress | RemoveAddress | SetMTU | AddRoute | RemoveRoute
PartStep: TypeAlias = (
    UseKey
    | UsePeers
    | PreferPort
    | ProbePathMTU
    | StartFlowLog
    | StopFlowLog
    | SetRouter
    | DialRoutes
    | SetDNSConfig
    | ReconfigureVPN
    | EnableSubnetRouter
)
Step: TypeAlias = DeviceStep | LinkStep | PartStep | SetDNS


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something wanted that is not carried out, and what would carry it out."""

    what: str
    needs: str

    def __str__(self) -> str:
        return f"! {self.what}: not done, it needs {self.needs}"


@dataclass(frozen=True, slots=True)
class Changes:
    """What changes, in the order in which it is done. Falsy when nothing does; iterates over its lines."""

    steps: tuple[Step, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[str]:
        return map(str, self.steps)

    def __str__(self) -> str:
        return "\n".join(map(str, chain(self.steps, self.skipped))) or "nothing changes"


_SHOWN = 8


def _some(words: Sequence[str]) -> str:
    rest = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
