"""What the engine does when the host's network changes: one change after the other, in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wgengine.conductor import Conductor
    from wgengine.dns_config import DNSConfig
    from wgengine.subsystem import LinkChange

__all__ = ["LinkChanges"]

log = logging.getLogger("wgengine.link_changes")

_MOST_WAITING = 256  # a network that changes faster than it can be followed is followed from its latest state


class LinkChanges:
    """`desired_dns` is what was last asked for, whether or not it was accepted: others may have overwritten ours.

    `seen` hears of each change, with whether it was a major one.
    """

    def __init__(
        self,
        conductor: Conductor,
        *,
        desired_dns: Callable[[], DNSConfig | None],
        seen: Callable[[LinkChange, bool], None],
    ) -> None:
        self._conductor = conductor
        self._desired_dns = desired_dns
        self._seen = seen
        self._waiting: list[LinkChange] = []
        self._following: asyncio.Task[None] | None = None
        self._closed = False

    def put(self, change: LinkChange) -> None:
        """Follow this one, after those before it."""
        if self._closed:
            return
        self._waiting.append(change)
        del self._waiting[:-_MOST_WAITING]
        if self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follow_all(), name="wgengine-link-change")

    async def settled(self) -> None:
        """Wait until what has been put is followed."""
        while self._following is not None:
            await asyncio.wait({self._following})

    async def _follow_all(self) -> None:
        try:
            while self._waiting and not self._closed:
                await self._follow(self._waiting.pop(0))
        finally:
            self._following = None

    async def _follow(self, change: LinkChange) -> None:
        parts, up, major = self._conductor.parts, change.any_interface_up, change.rebind_likely_required
        if not up:
            log.info("all links are down: %s", change.description)
        elif major:
            log.info("the network has changed much: %s", change.description)
        else:
            log.debug("the network has changed a little: %s", change.description)
        self._seen(change, major)
        if not up or major:
            await self._try("flushing DNS caches", parts.dns.flush_caches)
        dns = self._desired_dns()
        if major and up and dns is not None:
            await self._try("setting DNS again", parts.dns.set, dns)
            if parts.reconfigure_vpn is not None:
                await self._try("the platform's VPN settings", parts.reconfigure_vpn)
        if parts.sock is None:
            return
        await self._try("the way to peers", parts.sock.set_network_up, up)
        if up:
            if major:
                await self._try("rebinding", parts.sock.rebind)
            why = "link-change-major" if major else "link-change-minor"
            await self._try("asking where we are", parts.sock.restun, why)

    async def _try(self, what: str, call: Callable[..., Any], *args: Any) -> None:
        try:
            await self._conductor.tell(call, *args)
        except Exception as error:
            log.warning("%s failed after a change of the network: %s", what, error)

    async def close(self, timeout: float) -> None:
        """Begin no other, and wait so long (seconds) for the one that runs."""
        self._closed = True
        self._waiting.clear()
        if self._following is not None:
            _, late = await asyncio.wait({self._following}, timeout=timeout)
            for task in late:
                log.error("following a change of the network takes longer than %.0f s; it is left behind", timeout)
                task.cancel()
