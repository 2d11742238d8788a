"""Our own interface: addresses, MTU, up, and the routes that point at it. All of it dies with the TUN.

What to do comes as the link steps of `reconfig`; here it is done, in their order. Addresses and routes that others put
on the interface are left alone, and a route that leads elsewhere is never replaced. Calls block: the engine makes them
in its own thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from platform import system as platform
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from wgengine.reconfig import AddAddress, AddRoute, LinkStep, RemoveAddress, RemoveRoute, SetMTU, Step, link_steps

if TYPE_CHECKING:
    from wgengine.reconfig import LinkConfig

__all__ = [
    "DEFAULT_MTU",
    "LINK_STEPS",
    "BringUp",
    "Holdings",
    "Link",
    "Refusal",
    "in_order",
    "open_link",
    "refused",
    "still_owed",
    "takes_others_along",
]

# 1500 less the outer IPv6 and UDP headers and WireGuard's own 32 bytes (whitepaper 5.4.6), as wg-quick has it
DEFAULT_MTU = 1420
LINK_STEPS = (AddAddress, RemoveAddress, SetMTU, AddRoute, RemoveRoute)


@dataclass(frozen=True, slots=True)
class BringUp:
    """The interface comes up: once, after its first addresses and before its first route."""

    def __str__(self) -> str:
        return "~ link up"


class Refusal(NamedTuple):
    """A step that the system refused."""

    step: LinkStep | BringUp
    error: OSError


class Link(Protocol):
    """One interface, changed step by step."""

    def perform(self, steps: Sequence[LinkStep | BringUp]) -> tuple[Refusal, ...]:
        """Do what can be done, in this order, and tell what was refused. Blocks."""


class Holdings:
    """The addresses and routes that we put on the interface: what has to be there still after another step."""

    def __init__(self) -> None:
        self.addresses: dict[str, AddAddress] = {}
        self.routes: dict[tuple[str, int | None], AddRoute] = {}

    def note(self, step: LinkStep | BringUp) -> None:
        """Remember a step that was done."""
        match step:
            case AddAddress(address=address):
                self.addresses[address] = step
            case RemoveAddress(address=address):
                self.addresses.pop(address, None)
            case AddRoute(prefix=prefix, table=table):
                self.routes[prefix, table] = step
            case RemoveRoute(prefix=prefix, table=table):
                self.routes.pop((prefix, table), None)

    def missing(self, addresses: set[str], routes: set[tuple[str, int | None]]) -> list[AddAddress | AddRoute]:
        """What is not among the addresses and routes that the interface has, addresses first."""
        return [
            *(step for address, step in self.addresses.items() if address not in addresses),
            *(step for key, step in self.routes.items() if key not in routes),
        ]


S = TypeVar("S", bound=LinkStep | BringUp)

# What goes makes room; the MTU decides whether there can be IPv6; no system takes a route over a link that is down.
_ORDER: tuple[type[LinkStep | BringUp], ...] = (RemoveRoute, RemoveAddress, SetMTU, AddAddress, BringUp, AddRoute)


def in_order(steps: Iterable[S]) -> list[S]:
    """The steps in the order in which an interface takes them."""
    return sorted(steps, key=lambda step: _ORDER.index(type(step)))


def still_owed(owed: Iterable[LinkStep | BringUp], steps: Sequence[Step], desired: LinkConfig) -> Iterator[LinkStep]:
    """What the interface refused before and the new configuration still wants."""
    owed = [step for step in owed if not isinstance(step, BringUp) and step not in steps]
    if not owed:
        return
    wanted = set(link_steps(None, desired))
    for step in owed:
        match step:
            case AddAddress() | AddRoute():
                if step in wanted:
                    yield step
            case RemoveAddress(address=address):
                if AddAddress(address) not in wanted:
                    yield step
            case RemoveRoute(prefix=prefix, table=table):
                if AddRoute(prefix, table) not in wanted:
                    yield step
            case SetMTU(old=old):
                if not any(isinstance(other, SetMTU) for other in steps):
                    yield SetMTU(old, desired.mtu)


def takes_others_along(steps: Sequence[LinkStep | BringUp]) -> bool:
    """Whether these steps may make the kernel drop more than they name.

    The last IPv4 address takes all IPv4 routes of the interface with it, a primary one its secondaries, and an MTU
    below 1280 everything of IPv6.
    """
    return any(isinstance(step, RemoveAddress | SetMTU) for step in steps)


def refused(name: str, refusals: Sequence[Refusal]) -> Exception:
    """One error for everything that was refused on an interface; a single OSError keeps its errno."""
    errors = [OSError(error.errno, f"{name}: {step}: {error.strerror}") for step, error in refusals]
    return errors[0] if len(errors) == 1 else ExceptionGroup(f"{name}: {len(errors)} steps were refused", errors)


def open_link(name: str, ifindex: int) -> Link:
    """The link of this system for an interface that exists."""
    if platform() == "Darwin":
        from wgengine.link.macos import MacLink

        return MacLink(name)
    from wgengine.link.linux import LinuxLink

    return LinuxLink(name, ifindex)
