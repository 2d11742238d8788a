"""A device plan as Rust takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wgengine._native import PeerPlan, Plan

if TYPE_CHECKING:
    from wgengine.device_plan import DevicePlan

__all__ = ["to_native"]


def to_native(plan: DevicePlan) -> Plan:
    """The plan as Rust takes it. Endpoints by name are left out: the resolver places them."""
    peers = [
        PeerPlan(
            peer.public_key,
            remove=peer.remove,
            update_only=peer.update_only,
            preshared_key=peer.preshared_key,
            clear_preshared_key=peer.clear_preshared_key,
            endpoint=str(peer.endpoint) if peer.endpoint is not None and peer.endpoint.is_literal else None,
            persistent_keepalive=peer.persistent_keepalive,
            replace_allowed_ips=peer.replace_allowed_ips,
            allowed_ips=peer.allowed_ips,
            reset_session=peer.reset_session,
            trimmed=peer.trimmed,
        )
        for peer in plan.peers
    ]
    return Plan(private_key=plan.private_key, listen_port=plan.listen_port, fwmark=plan.fwmark, peers=peers)
