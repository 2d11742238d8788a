"""Our engine without a tunnel: its own rooms, joined as it joins them, on a clock and with parts that write down.

What is left out is the device, which takes whatever it is told: who is in it is what the trimming decided and what was
accepted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wgengine.conductor import Conductor, Parts
from wgengine.configurator import Configurator
from wgengine.errors import ReconfigError
from wgengine.knobs import Knobs
from wgengine.link_changes import LinkChanges
from wgengine.peers import PeerIndex
from wgengine.router_config import RouterConfig
from wgengine.subsystem import LinkChange as OurLinkChange
from wgengine.trim import Decision, Trimmer
from wgengine.wishes import Wishes

from peers.our_inputs import our_config, our_dns, our_netmap, our_router, public, router_by_go
from peers.twin_compare import Router, Seen
from peers.twin_sequences import (
    Advance,
    Ask,
    Generated,
    KeepFull,
    LinkChange,
    NetMap,
    Received,
    Reconfig,
    Sent,
    Step,
)

if TYPE_CHECKING:
    from wgengine.dns_config import DNSConfig

# The transport tells of a peer at most once in more than so many seconds.
TOLD_S = 10
PORT = 41641


@dataclass
class Notes:
    """What the parts were told; calls in `failing` fail."""

    calls: list[str] = field(default_factory=list)
    routers: list[Router] = field(default_factory=list)
    failing: tuple[str, ...] = ()

    def note(self, call: str) -> None:
        failed = call in self.failing
        self.calls.append(call + ("!" if failed else ""))
        if failed:
            raise OSError(5, f"{call} fails")


class NotedRouter:
    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def up(self) -> None: ...

    def set(self, config: RouterConfig | None) -> None:
        self._notes.routers.append(router_by_go(config or RouterConfig()))
        self._notes.note("router.set")

    def close(self) -> None: ...


class NotedDNS:
    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def set(self, config: DNSConfig) -> None:
        self._notes.note("dns.set")

    def flush_caches(self) -> None: ...

    def down(self) -> None: ...


class AnyDevice:
    """Takes everything, and has seen nothing."""

    name = "none"

    def commit(self, plan: object) -> None: ...

    def activity(self) -> list[Any]:
        return []


async def _call(what: Callable[..., Any], *args: Any) -> Any:
    answer = what(*args)
    return await answer if isinstance(answer, Awaitable) else answer


class OurEngine:
    """Runs as the seed does: subnet peers are not trimmed, nothing is swept."""

    def __init__(self, *, automatic_port: bool) -> None:
        self._now = 0.0
        self._notes = Notes()
        self._knobs = Knobs()
        self._wishes = Wishes(
            listen_port=0 if automatic_port else PORT, has_interface=False, has_router=True, has_dns=True
        )
        parts = Parts(router=NotedRouter(self._notes), dns=NotedDNS(self._notes))
        conductor = Conductor(parts, _call)
        trimmer = Trimmer(trim_subnet_peers=False, sweeps=False)
        self._configurator = Configurator(conductor, trimmer, _call, clock=lambda: self._now)
        self._desired_dns: DNSConfig | None = None
        self._links = LinkChanges(conductor, desired_dns=lambda: self._desired_dns, seen=lambda change, major: None)
        self._index = PeerIndex()
        self._device: Any = AnyDevice()
        self._told: dict[str, float] = {}

    async def seen(self, made: Generated) -> list[Seen]:
        """What each step of a sequence leads to."""
        return [await self._seen(step) for step in made.steps]

    async def _seen(self, step: Step) -> Seen:
        self._notes.calls, self._notes.routers = [], []
        owner = None
        match step:
            case Reconfig():
                await self._reconfig(step)
            case NetMap():
                self._index.set_netmap(our_netmap(step))
            case Sent(ip=ip):
                if route := self._index.route(ip):
                    await self._follow(self._configurator.trimmer.sent(route, self._now))
            case Received(key=key):
                await self._received(key)
            case Advance(seconds=seconds):
                self._now += seconds
            case LinkChange(major=major, up=up):
                self._links.put(OurLinkChange(any_interface_up=up, rebind_likely_required=major))
                await self._links.settled()
            case KeepFull(on=on):
                self._knobs = Knobs(keep_full_wg_config=on)
                self._configurator.trimmer.force_full = on
            case Ask(ip=ip):
                found = self._index.peer_for_ip(ip)
                owner = (bytes(found.node.key).hex(), found.is_self, found.route) if found is not None else None
        return Seen(calls=tuple(self._notes.calls), routers=tuple(self._notes.routers), live=self._live(), owner=owner)

    async def _reconfig(self, step: Reconfig) -> None:
        self._notes.failing = step.fail
        config, router, dns = our_config(step), our_router(step.router), our_dns(step.dns)
        self._desired_dns = dns
        wish = self._wishes.of_configs(config, router, dns, self._knobs, None)
        try:
            await self._configurator.apply(wish, self._device, None, None)
        except ReconfigError:
            pass  # the calls say which part failed
        finally:
            self._notes.failing = ()
        self._index.set_config(self._configurator.applied)
        kept = {peer.key for peer in step.peers}
        self._told = {key: at for key, at in self._told.items() if key in kept}

    async def _received(self, key: str) -> None:
        applied, last = self._configurator.applied, self._told.get(key)
        is_peer = applied is not None and applied.peer(public(key)) is not None
        if is_peer and (last is None or self._now - last > TOLD_S):
            self._told[key] = self._now
            await self._follow(self._configurator.trimmer.received(public(key), self._now))

    async def _follow(self, decision: Decision) -> None:
        await self._configurator.trim(decision, self._device)

    def _live(self) -> frozenset[str]:
        applied = self._configurator.applied
        peers = applied.peers if applied is not None else ()
        is_live = self._configurator.trimmer.is_live
        return frozenset(peer.public_key.to_hex() for peer in peers if is_live(peer.public_key))
