"""From what an engine knows about itself to what is wrong: one small rule for each warning, none waits for another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from wgengine.health import warnable as w

if TYPE_CHECKING:
    from wgengine.health.tracker import Tracker

__all__ = ["SHOWN", "WARM_UP_S", "Facts", "due", "judge", "some"]

WARM_UP_S = 5.0
SHOWN = 5  # of many alike


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an engine knows. An error is a text for people, empty when there is none; None is not known."""

    started: float | None = None  # when, on the tracker's clock
    running: bool = False  # whether a configuration was taken up since
    wanted: bool = True  # whether the engine is to be up
    failure: str = ""  # why it carries nothing any more
    any_interface_up: bool | None = None
    udp4_error: str = ""
    router_error: str = ""
    dns_error: str = ""
    state_error: str = ""
    filter_error: str = ""
    tun_error: str = ""
    damage: tuple[str, ...] = ()  # what others did to our interface
    forwarding_off: tuple[str, ...] = ()  # settings that would have to be on, since routes are advertised
    small_buffers: tuple[str, ...] = ()
    route_conflicts: tuple[str, ...] = ()
    address_conflicts: tuple[str, ...] = ()
    fake_error: str = ""


Verdict: TypeAlias = Mapping[str, str] | None  # the arguments of what is wrong; None: nothing is


def _error(value: Callable[[Facts], str], argument: str = "error") -> Callable[[Facts, float], Verdict]:
    return lambda facts, now: {argument: text} if (text := value(facts)) else None


def _set(value: Callable[[Facts], tuple[str, ...]], argument: str) -> Callable[[Facts, float], Verdict]:
    return lambda facts, now: {argument: some(words)} if (words := value(facts)) else None


def _warming_up(facts: Facts, now: float) -> Verdict:
    """Only while it is to run: who stops an engine as it starts does not leave it starting for ever."""
    if facts.started is None or facts.running or not facts.wanted or now >= facts.started + WARM_UP_S:
        return None
    return {}


_RULES: tuple[tuple[w.Warnable, Callable[[Facts, float], Verdict]], ...] = (
    (w.NETWORK_STATUS, lambda facts, now: {} if facts.any_interface_up is False else None),
    (w.WANTRUNNING_FALSE, lambda facts, now: None if facts.wanted else {}),
    (w.WARMING_UP, _warming_up),
    (w.ENGINE_FAILED, _error(lambda facts: facts.failure)),
    (w.NO_UDP4_BIND, _error(lambda facts: facts.udp4_error)),
    (w.ROUTER, _error(lambda facts: facts.router_error)),
    (w.DNS, _error(lambda facts: facts.dns_error)),
    (w.STATE_STORE_HEALTH, _error(lambda facts: facts.state_error)),
    (w.INVALID_PACKET_FILTER, _error(lambda facts: facts.filter_error)),
    (w.TUN_PERMISSION, _error(lambda facts: facts.tun_error)),
    (w.OWN_INTERFACE_DAMAGED, _set(lambda facts: facts.damage, "damage")),
    (w.IP_FORWARDING_OFF, _set(lambda facts: facts.forwarding_off, "settings")),
    (w.BUFFER_TOO_SMALL, _set(lambda facts: facts.small_buffers, "buffers")),
    (w.ROUTE_CONFLICT, _set(lambda facts: facts.route_conflicts, "routes")),
    (w.ADDRESS_CONFLICT, _set(lambda facts: facts.address_conflicts, "addresses")),
    (w.TEST_WARNABLE, _error(lambda facts: facts.fake_error)),
)


def judge(tracker: Tracker, facts: Facts, now: float) -> None:
    """Set and clear every warning that follows from the facts, each by itself."""
    for warnable, rule in _RULES:
        verdict = rule(facts, now)
        if verdict is None:
            tracker.set_healthy(warnable)
        else:
            tracker.report(warnable, now, verdict)


def due(facts: Facts, now: float) -> float | None:
    """When the same facts will be judged differently."""
    return facts.started + WARM_UP_S if facts.started is not None and _warming_up(facts, now) is not None else None


def some(words: tuple[str, ...], total: int | None = None) -> str:
    """At most five of them, and how many there are besides."""
    rest = (len(words) if total is None else total) - len(words[:SHOWN])
    return ", ".join(words[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
