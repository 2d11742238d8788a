"""The interface on Linux, over netlink."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from ipaddress import ip_interface
from itertools import groupby
from typing import Any

from wgengine.address import interface_address, prefix
from wgengine.link import DEFAULT_MTU, BringUp, Holdings, Refusal, takes_others_along
from wgengine.link.rtnetlink import exchange
from wgengine.reconfig import MAIN_TABLE, AddAddress, AddRoute, LinkStep, RemoveAddress, RemoveRoute, SetMTU

__all__ = ["LinuxLink"]

AF_INET, AF_INET6 = 2, 10
IFF_UP = 1
_ROUTES = (AddRoute, RemoveRoute)

# What the kernel says when a thing that shall go is gone: the aim is reached.
_GONE = {errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENOENT}
_NO_IPV6 = {errno.EACCES, errno.EAFNOSUPPORT, errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP}


class LinuxLink:
    def __init__(self, name: str, ifindex: int) -> None:
        self._name = name
        self._ifindex = ifindex
        self._held = Holdings()
        self._seen: tuple[set[str], set[tuple[str, int | None]]] | None = None

    def perform(self, steps: Sequence[LinkStep | BringUp]) -> tuple[Refusal, ...]:
        from pyroute2 import IPRoute  # 0.1 s of import: only for who needs it

        self._seen = None
        with IPRoute() as netlink:
            refusals = self._do(netlink, steps)
            if takes_others_along(steps):
                refusals += self._do(netlink, self._held.missing(*self._present(netlink)))
        return tuple(refusals)

    def _do(self, netlink: Any, steps: Sequence[LinkStep | BringUp]) -> list[Refusal]:
        """Do the steps in their order, routes in a row together."""
        refusals = []
        for are_routes, run in groupby(steps, lambda step: isinstance(step, _ROUTES)):
            if are_routes:
                routes = [step for step in run if isinstance(step, _ROUTES)]
                done: Iterable[tuple[LinkStep | BringUp, int]] = zip(
                    routes, exchange(routes, self._ifindex), strict=True
                )
            else:
                done = ((step, self._send(netlink, step)) for step in run)
            for step, code in done:
                if code and not self._reached(netlink, step, code):
                    refusals.append(Refusal(step, OSError(code, _why(step, code))))
                    continue
                self._held.note(step)
                if takes_others_along([step]):
                    self._seen = None
        return refusals

    def _send(self, netlink: Any, step: LinkStep | BringUp) -> int:
        """Do one step; its errno, or 0."""
        try:
            self._ask(netlink, step)
        except Exception as error:  # pyroute2's NetlinkError is no OSError, but has its errno as `code`
            code = getattr(error, "code", None) or getattr(error, "errno", None)
            if not isinstance(code, int):
                raise
            return code
        return 0

    def _ask(self, netlink: Any, step: LinkStep | BringUp) -> None:
        match step:
            case AddAddress(address=address):
                netlink.addr("add", index=self._ifindex, **_address(address))
            case RemoveAddress(address=address):
                netlink.addr("del", index=self._ifindex, **_address(address))
            case SetMTU(new=mtu):
                netlink.link("set", index=self._ifindex, mtu=mtu or DEFAULT_MTU)
            case BringUp():
                netlink.link("set", index=self._ifindex, state="up")

    def _reached(self, netlink: Any, step: LinkStep | BringUp, code: int) -> bool:
        """Whether the refusal means that there is nothing to do: an adopted interface may be set up already."""
        if code not in _GONE | {errno.EEXIST, errno.EPERM}:
            return False
        match step:
            case RemoveAddress() | RemoveRoute():
                return code in _GONE
            case AddAddress(address=address):
                return address in self._present(netlink)[0]
            case AddRoute(prefix=target, table=table):
                return (target, table) in self._present(netlink)[1]
        (link,) = netlink.get_links(self._ifindex)
        return (
            bool(link["flags"] & IFF_UP) if isinstance(step, BringUp) else link.get("mtu") == (step.new or DEFAULT_MTU)
        )

    def _present(self, netlink: Any) -> tuple[set[str], set[tuple[str, int | None]]]:
        """The addresses and routes that the interface has: read once, however many steps want to know."""
        if self._seen is not None:
            return self._seen
        addresses = set()
        for message in netlink.get_addr(index=self._ifindex):
            local = message.get("local") or message.get("address")  # IPv6 has no local one unless there is a far end
            addresses.add(interface_address(f"{local}/{message['prefixlen']}"))
        routes: set[tuple[str, int | None]] = set()
        for family, anywhere in ((AF_INET, "0.0.0.0"), (AF_INET6, "::")):
            for message in netlink.get_routes(family=family, oif=self._ifindex):
                table = message.get("table")
                key, _ = prefix(f"{message.get('dst') or anywhere}/{message['dst_len']}")
                routes.add((key, None if table == MAIN_TABLE else table))
                if table == MAIN_TABLE:
                    routes.add((key, MAIN_TABLE))
        self._seen = addresses, routes
        return self._seen


def _address(text: str) -> dict[str, Any]:
    interface = ip_interface(text)
    return {
        "address": str(interface.ip),
        "prefixlen": interface.network.prefixlen,
        "family": AF_INET if interface.version == 4 else AF_INET6,
    }


def _why(step: LinkStep | BringUp, code: int) -> str:
    """The system's words, and where they alone do not help, what does."""
    text = os.strerror(code)
    if isinstance(step, AddRoute) and code == errno.EEXIST:
        return f"{text}: another route has this prefix; remove it, or set Table to a number or off"
    if isinstance(step, AddAddress | AddRoute) and ":" in str(step) and code in _NO_IPV6:
        return f"{text}: the interface has no IPv6; it needs an MTU of at least 1280, and sysctl disable_ipv6 = 0"
    return text
