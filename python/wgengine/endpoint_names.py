"""Endpoints by name, for one engine: which peers have one, and what the device is told when it is looked up."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from wgengine.address import Endpoint
from wgengine.changes import AddPeer, ChangePeer, Step
from wgengine.device_plan import DevicePlan, PeerDelta
from wgengine.resolve import Resolver, lookup

if TYPE_CHECKING:
    from wgengine._native import Device
    from wgengine.config import Config
    from wgengine.events import Event
    from wgengine.keys import PublicKey
    from wgengine.outside import Tunnel

__all__ = ["EndpointNames"]

_SENT_FRESH_S = 1.0


class EndpointNames:
    """`device` gives the one that runs, `commit` has it changed, and `tunnel` is our interface, past which names are
    looked up.
    """

    def __init__(
        self,
        *,
        device: Callable[[], Device],
        commit: Callable[[DevicePlan], Awaitable[None]],
        tunnel: Callable[[], Tunnel | None],
        publish: Callable[[Event], None],
    ) -> None:
        self._device = device
        self._commit = commit
        self._tunnel = tunnel
        self._sent: tuple[float, dict[PublicKey, int]] = (float("-inf"), {})
        self._resolver = Resolver(place=self._place, sent=self._sent_to, publish=publish, lookup=self._look_up)

    def follow(self, desired: Config, steps: Iterable[Step]) -> None:
        """These steps led to this configuration: look up what is new, forget what is gone."""
        resolver = self._resolver
        resolver.keep(lambda key: peer.endpoint if (peer := desired.peer(key)) is not None else None)
        for step in steps:
            match step:
                case AddPeer(peer=peer):
                    endpoint = peer.endpoint
                case ChangePeer(peer=peer):
                    endpoint = step.endpoint
                case _:
                    continue
            if endpoint is not None and not endpoint.is_literal:
                resolver.follow(peer.public_key, endpoint)

    def feed(self, event: Event) -> None:
        """What happened."""
        self._resolver.feed(event)

    async def close(self) -> None:
        await self._resolver.close()

    async def _look_up(self, host: str, port: int) -> tuple[str, ...]:
        self._device()
        return await lookup(host, port, self._tunnel())

    async def _place(self, peer: PublicKey, endpoint: str) -> None:
        """Tell the device where a peer is. One that is gone meanwhile stays gone."""
        delta = PeerDelta(public_key=peer, update_only=True, endpoint=Endpoint.parse(endpoint))
        await self._commit(DevicePlan(peers=(delta,)))

    def _sent_to(self, peer: PublicKey) -> int:
        """Bytes sent to a peer, at most a second old: a thousand names are not a thousand snapshots."""
        taken, sent = self._sent
        if time.monotonic() - taken > _SENT_FRESH_S:
            sent = {each.public_key: each.tx_bytes for each in self._device().state().peers}
            self._sent = (time.monotonic(), sent)
        return sent.get(peer, 0)
