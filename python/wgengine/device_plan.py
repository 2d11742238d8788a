"""The device's part of a reconfiguration as one plain plan: what the engine hands to Rust, once names are resolved.

Pure. A plan is carried out whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wgengine.changes import (
    AddPeer,
    ChangePeer,
    RemovePeer,
    ResetSession,
    SetFwmark,
    SetListenPort,
    SetPrivateKey,
    Step,
)

if TYPE_CHECKING:
    from wgengine.address import Endpoint
    from wgengine.keys import PresharedKey, PrivateKey, PublicKey

__all__ = ["DevicePlan", "PeerDelta", "device_plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerDelta:
    """What is to change about one peer; whatever is not named stays."""

    public_key: PublicKey
    remove: bool = False
    update_only: bool = False
    preshared_key: PresharedKey | None = None
    clear_preshared_key: bool = False
    endpoint: Endpoint | None = None
    persistent_keepalive: int | None = None
    replace_allowed_ips: bool = False
    allowed_ips: tuple[str, ...] = ()  # a leading "-" removes
    reset_session: bool = False
    trimmed: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlan:
    """One change of a device, carried out whole or not at all. Falsy when there is none."""

    private_key: PrivateKey | None = None
    listen_port: int | None = None
    fwmark: int | None = None
    peers: tuple[PeerDelta, ...] = ()

    def __bool__(self) -> bool:
        return self != DevicePlan()


NONE_TRIMMED: Mapping[PublicKey, bool] = {}


def device_plan(steps: Iterable[Step], trimmed: Mapping[PublicKey, bool] = NONE_TRIMMED) -> DevicePlan:
    """The steps for the device, put together; and which peers are to be trimmed from now on, or are not."""
    private_key: PrivateKey | None = None
    listen_port: int | None = None
    fwmark: int | None = None
    steps = tuple(steps)
    taken = {ip for step in steps for ip in _taken(step)}
    peers: list[PeerDelta] = []
    for step in steps:
        match step:
            case SetPrivateKey():
                private_key = step.private_key
            case SetListenPort():
                listen_port = step.new
            case SetFwmark():
                fwmark = step.new
            case AddPeer():
                peers.append(
                    PeerDelta(
                        public_key=step.peer.public_key,
                        preshared_key=step.peer.preshared_key,
                        endpoint=step.peer.endpoint,
                        persistent_keepalive=step.peer.persistent_keepalive or None,
                        replace_allowed_ips=True,
                        allowed_ips=step.peer.allowed_ips,
                    )
                )
            case ChangePeer():
                # a prefix that goes to another peer moves there by being given to it
                removed = (f"-{ip}" for ip in step.removed if ip not in taken)
                peers.append(
                    PeerDelta(
                        public_key=step.peer.public_key,
                        update_only=True,
                        preshared_key=step.peer.preshared_key if step.preshared_key else None,
                        clear_preshared_key=step.preshared_key and step.peer.preshared_key is None,
                        endpoint=step.endpoint,
                        persistent_keepalive=step.persistent_keepalive,
                        allowed_ips=(*removed, *step.added),
                    )
                )
            case RemovePeer():
                peers.append(PeerDelta(public_key=step.public_key, remove=True))
            case ResetSession():
                peers.append(PeerDelta(public_key=step.public_key, update_only=True, reset_session=True))
            case _:
                pass  # the interface's
    if trimmed:
        peers = _trimming(peers, trimmed)
    return DevicePlan(private_key=private_key, listen_port=listen_port, fwmark=fwmark, peers=tuple(peers))


def _trimming(peers: list[PeerDelta], trimmed: Mapping[PublicKey, bool]) -> list[PeerDelta]:
    """With the first word on each peer, so that one that comes trimmed is never live; the rest by themselves."""
    left = dict(trimmed)
    said = [peer if peer.remove else replace(peer, trimmed=left.pop(peer.public_key, None)) for peer in peers]
    return [*said, *(PeerDelta(public_key=key, update_only=True, trimmed=shall) for key, shall in left.items())]


def _taken(step: Step) -> tuple[str, ...]:
    if isinstance(step, AddPeer):
        return step.peer.allowed_ips
    return step.added if isinstance(step, ChangePeer) else ()
