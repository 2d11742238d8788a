"""Tells the parts that the engine joins what the sequence says, and keeps what each of them has accepted."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from wgengine.changes import (
    DialRoutes,
    EnableSubnetRouter,
    PartStep,
    PreferPort,
    ProbePathMTU,
    ReconfigureVPN,
    SetDNSConfig,
    SetRouter,
    StartFlowLog,
    StopFlowLog,
    UseKey,
    UsePeers,
)
from wgengine.fakes import FakeDialer, FakeDNSManager, FakeNetMonitor, FakeNetworkLogger, FakeRouter
from wgengine.sequence import Accepted

if TYPE_CHECKING:
    from wgengine.netmap import NetMap
    from wgengine.subsystem import BirdClient, Dialer, DNSManager, NetMonitor, NetworkLogger, Router, Sock

__all__ = ["Conductor", "Parts"]

log = logging.getLogger("wgengine.conductor")

BIRD_PROTOCOL = "tailscale"
FLOW_LOG_PATIENCE_S = 5.0  # for the last lines of a flow log


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the engine joins. A part that is not given is one that does nothing; None: there is none to be told."""

    router: Router = field(default_factory=FakeRouter)
    dns: DNSManager = field(default_factory=FakeDNSManager)
    dialer: Dialer = field(default_factory=FakeDialer)
    flow_log: NetworkLogger = field(default_factory=FakeNetworkLogger)
    netmon: NetMonitor = field(default_factory=FakeNetMonitor)
    owns_netmon: bool = True
    """Whether the network monitor ends with the engine."""
    bird: BirdClient | None = None
    sock: Sock | None = None
    reconfigure_vpn: Callable[[], Any] | None = None


class Conductor:
    """`call` runs what may block in the engine's own thread; `heard` learns what each part said to each step."""

    def __init__(
        self,
        parts: Parts,
        call: Callable[..., Awaitable[Any]],
        heard: Callable[[PartStep, Exception | None], None] = lambda step, error: None,
    ) -> None:
        self.parts = parts
        self._heard = heard
        self.accepted = Accepted()
        self._call = call

    async def tell(self, what: Callable[..., Any], *args: Any) -> Any:
        """Call a part: a coroutine function here, anything else where it may block."""
        if inspect.iscoroutinefunction(what):
            return await what(*args)
        answer = await self._call(what, *args)
        return await answer if inspect.isawaitable(answer) else answer

    async def begin(self) -> None:
        """Before there is a device. Until we know that we route a subnet, nobody shall send its packets here."""
        if self.parts.bird is not None:
            await self.tell(self.parts.bird.disable_protocol, BIRD_PROTOCOL)

    async def begin_with(self, interface: str) -> None:
        """The interface is there. The router is tried early, so that one that cannot work is known at once."""
        await self.tell(self.parts.dialer.set_tun_name, interface)
        await self.tell(self.parts.router.up)
        await self.tell(self.parts.router.set, None)
        await self.tell(self.parts.netmon.start)

    async def end(self) -> None:
        """The host gets its own back before the tunnel goes. What one part refuses does not keep the others."""
        parts = self.parts
        ends: list[Callable[[], Any]] = [parts.dns.down, parts.router.close]
        if parts.owns_netmon:
            ends.insert(0, parts.netmon.close)
        if parts.sock is not None:
            ends.insert(0, parts.sock.close)
        if parts.bird is not None:
            bird = parts.bird
            ends += [lambda: bird.disable_protocol(BIRD_PROTOCOL), bird.close]
        ends.append(lambda: parts.flow_log.shutdown(FLOW_LOG_PATIENCE_S))
        for end in ends:
            try:
                await self.tell(end)
            except Exception as error:
                log.error("a part did not end well: %s", error)

    async def perform(self, steps: Iterable[PartStep], netmap: NetMap | None) -> list[tuple[PartStep, Exception]]:
        """Carry them out in order; what is refused, and why. One refusal does not keep the others from being tried."""
        refused: list[tuple[PartStep, Exception]] = []
        for step in steps:
            try:
                await self._perform(step, netmap)
            except Exception as error:
                error.add_note(f"on the way: {step}")
                log.warning("%s: %s", step, error)
                self._forget(step)
                refused.append((step, error))
                self._heard(step, error)
            else:
                self._heard(step, None)
        return refused

    async def _perform(self, step: PartStep, netmap: NetMap | None) -> None:
        parts, accepted = self.parts, self.accepted
        match step:
            case UseKey():
                await self._tell_sock("set_private_key", step.private_key)
                self.accepted = replace(accepted, key=step.private_key)
            case UsePeers():
                await self._tell_sock("update_peers", step.keys)
                self.accepted = replace(accepted, peers=step.keys)
            case PreferPort():
                await self._tell_sock("set_preferred_port", step.port)
                self.accepted = replace(accepted, port=step.port)
            case ProbePathMTU():
                await self._tell_sock("update_pmtud")
            case StartFlowLog():
                await self.tell(parts.flow_log.startup, netmap, step.logging)
                self.accepted = replace(accepted, flow_log=step.logging)
                if accepted.router is not None:
                    await self.tell(parts.flow_log.reconfig_routes, accepted.router)
            case StopFlowLog():
                await self.tell(parts.flow_log.shutdown, FLOW_LOG_PATIENCE_S)
                self.accepted = replace(accepted, flow_log=None)
            case SetRouter():
                await self.tell(parts.flow_log.reconfig_routes, step.config)
                await self.tell(parts.router.set, step.config)
                self.accepted = replace(accepted, router=step.config)
            case DialRoutes():
                await self.tell(parts.dialer.set_routes, step.routes, step.local_routes)
            case SetDNSConfig():
                await self.tell(parts.dns.set, step.config)
                self.accepted = replace(accepted, dns=step.config)
            case ReconfigureVPN():
                if parts.reconfigure_vpn is not None:
                    await self.tell(parts.reconfigure_vpn)
                self.accepted = replace(accepted, vpn=True)
            case EnableSubnetRouter():
                if parts.bird is not None:
                    change = parts.bird.enable_protocol if step.on else parts.bird.disable_protocol
                    await self.tell(change, BIRD_PROTOCOL)
                self.accepted = replace(accepted, subnet_router=step.on)

    async def _tell_sock(self, method: str, *args: Any) -> None:
        if self.parts.sock is not None:
            await self.tell(getattr(self.parts.sock, method), *args)

    def _forget(self, step: PartStep) -> None:
        """After a refusal nobody knows how the part stands, so it is told again next time."""
        match step:
            case UseKey():
                self.accepted = replace(self.accepted, key=None)
            case PreferPort():
                self.accepted = replace(self.accepted, port=None)
            case SetRouter():
                self.accepted = replace(self.accepted, router=None)
            case SetDNSConfig():
                self.accepted = replace(self.accepted, dns=None)
            case ReconfigureVPN():
                self.accepted = replace(self.accepted, vpn=False)
            case _:
                pass  # what it was before is what it still counts as
