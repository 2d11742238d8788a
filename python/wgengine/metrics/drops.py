"""Why packets died, in the few words that tailscaled's metrics have for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

__all__ = ["TAILSCALED", "Direction", "by_tailscaled"]

Direction: TypeAlias = Literal["inbound", "outbound"]

# The engine's own word → which way the packet went, and tailscaled's word. `wgengine_drops_total` has the engine's own.
# tailscaled's other two words, multicast and link_local_unicast, are for what a packet filter drops.
TAILSCALED: Mapping[str, tuple[Direction, str]] = {
    "malformed_packet": ("outbound", "too_short"),
    "no_peer": ("outbound", "error"),
    "no_endpoint": ("outbound", "error"),
    "no_private_key": ("outbound", "error"),
    "staging_full": ("outbound", "error"),
    "staging_budget": ("outbound", "error"),
    "handshake_backlog": ("outbound", "error"),
    "handshake_timeout": ("outbound", "error"),
    "peer_removed": ("outbound", "error"),
    "no_socket": ("outbound", "error"),
    "send_failed": ("outbound", "error"),
    "host_tsmp": ("outbound", "acl"),
    "injection_queue_full": ("outbound", "error"),
    "link_down": ("inbound", "error"),
    "malformed_message": ("inbound", "unknown_protocol"),
    "bad_mac": ("inbound", "error"),
    "handshake_queue_full": ("inbound", "error"),
    "cookie_required": ("inbound", "error"),
    "source_limited": ("inbound", "error"),
    "peer_limited": ("inbound", "error"),
    "unknown_peer": ("inbound", "error"),
    "unknown_index": ("inbound", "error"),
    "bad_handshake": ("inbound", "error"),
    "low_order_key": ("inbound", "error"),
    "replayed_initiation": ("inbound", "error"),
    "bad_tag": ("inbound", "error"),
    "replayed": ("inbound", "error"),
    "session_expired": ("inbound", "error"),
    "malformed_inner": ("inbound", "too_short"),
    "bad_source": ("inbound", "acl"),
    "malformed_tsmp": ("inbound", "too_short"),
    "foreign_tsmp": ("inbound", "acl"),
    "unsolicited_pong": ("inbound", "acl"),
    "forged_echo_reply": ("inbound", "acl"),
    "advertisement_limited": ("inbound", "error"),
    "tun_write_failed": ("inbound", "error"),
}


def by_tailscaled(drops: Mapping[str, int], direction: Direction) -> dict[str, int]:
    """The drops of one direction by tailscaled's words: those that ever occurred."""
    found: dict[str, int] = {}
    for reason, count in drops.items():
        if count and reason in TAILSCALED:
            way, word = TAILSCALED[reason]
            if way == direction:
                found[word] = found.get(word, 0) + count
    return found
