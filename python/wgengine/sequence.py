"""A whole reconfiguration, part after part: who is told what, in which order, and what a failure means for the rest.

Pure. What is wanted and what each part has accepted are kept apart: a part that refused is told again, also when
nothing else has changed. The order is the tunnel's own need:

```text
way to peers: key, peers, port    before the device, which shakes hands at once
device                            its refusal ends the sequence: nothing else would make sense
flow log starts                   before the router, so that the first packets are counted
router                            its refusal does not keep DNS from being set
dialer, DNS                       after the router, since some hosts take name servers only for links with addresses
flow log stops                    after the router, so that the last packets are counted
BIRD                              last: it announces what works by now
```
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from wgengine.router_config import RouterConfig

if TYPE_CHECKING:
    from wgengine.config import Config
    from wgengine.dns_config import DNSConfig
    from wgengine.keys import PrivateKey, PublicKey
    from wgengine.network_logging import NetworkLogging

__all__ = [
    "Accepted",
    "Facts",
    "Wanted",
    "after_device",
    "before_device",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What one call of `reconfig` asks for."""

    wg: Config
    router: RouterConfig
    dns: DNSConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What each part has taken. None: nothing yet, or its last answer was an error."""

    wg: Config | None = None
    key: PrivateKey | None = None
    peers: frozenset[PublicKey] = frozenset()
    port: int | None = None
    """As it was wished for, not as it is bound: a wish for any port is fulfilled by whichever there is."""
    router: RouterConfig | None = None
    dns: DNSConfig | None = None
    vpn: bool = True
    """Whether the platform's settings are up to date."""
    flow_log: NetworkLogging | None = None
    subnet_router: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What else decides: knobs, the netmap, and how the parts are just now."""

    port: int = 0
    """The port that is wished for; 0: any."""
    bound_port: int = 0
    should_probe_mtu: bool = False
    probes_mtu: bool = False
    may_log_flows: bool = True
    dials_by_routes: bool = False
    has_router: bool = False
    has_dns: bool = False
    has_dialer: bool = False
    has_vpn: bool = False
    """Whether the platform takes its settings all at once."""
    subnet_router: bool | None = None
    """Whether this node is the primary router of a subnet; None: there is no BIRD to be told."""


# -- What is to be told.


def before_device(accepted: Accepted, wanted: Wanted, facts: Facts) -> Iterator[PartStep]:
    """What the way to peers is told before the device is."""
    if accepted.key is None or accepted.key != wanted.wg.private_key:
        yield UseKey(wanted.wg.private_key)
    if accepted.wg is None or accepted.wg.peers is not wanted.wg.peers:
        keys = frozenset(peer.public_key for peer in wanted.wg.peers)
        if keys != accepted.peers:
            yield UsePeers(keys)
    # A port that could not be had is asked for again; any port is right where any was wished for.
    if accepted.port != facts.port or facts.port not in (0, facts.bound_port):
        yield PreferPort(facts.port)
    if facts.should_probe_mtu != facts.probes_mtu:
        yield ProbePathMTU(facts.should_probe_mtu)


def after_device(accepted: Accepted, wanted: Wanted, facts: Facts) -> Iterator[PartStep]:
    """What the other parts are told once the device has taken its share."""
    logging = wanted.wg.network_logging
    should_log = logging is not None and facts.may_log_flows and wanted.router != RouterConfig()
    running = accepted.flow_log
    if running is not None and logging is not None and running != logging:
        yield StopFlowLog()
        running = None
    if should_log and running is None:
        assert logging is not None
        yield StartFlowLog(logging)
        running = logging
    router_changed = facts.has_router and accepted.router != wanted.router
    dns_changed = facts.has_dns and accepted.dns != wanted.dns
    if router_changed:
        yield SetRouter(wanted.router)
    if router_changed or dns_changed:
        if facts.has_dialer:
            router = wanted.router if facts.dials_by_routes else RouterConfig()
            yield DialRoutes(router.routes, router.local_routes)
        if facts.has_dns:
            yield SetDNSConfig(wanted.dns)
    if facts.has_vpn and (router_changed or dns_changed or not accepted.vpn):
        yield ReconfigureVPN()
    if not should_log and running is not None:
        yield StopFlowLog()
    if facts.subnet_router is not None and facts.subnet_router != accepted.subnet_router:
        yield EnableSubnetRouter(facts.subnet_router)
