"""What is wrong with an engine, since when, and what to do about it.

`Health` is what an engine has; `Tracker` the table behind it, which knows no clock. What can be wrong stands in
`warnable`.
"""

from __future__ import annotations

from wgengine.health.host import address_conflicts, forwarding_off, route_conflicts, socket_facts
from wgengine.health.rules import Facts
from wgengine.health.tracker import Change, Tracker, Unhealthy
from wgengine.health.warnable import WARNABLES, Severity, Warnable
from wgengine.health.watch import Health

__all__ = [
    "WARNABLES",
    "Change",
    "Facts",
    "Health",
    "Severity",
    "Tracker",
    "Unhealthy",
    "Warnable",
    "address_conflicts",
    "forwarding_off",
    "route_conflicts",
    "socket_facts",
]
