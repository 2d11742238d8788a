"""The interface on macOS: `ifconfig` and `route` for a utun device."""

from __future__ import annotations

import errno
import re
import subprocess
from collections.abc import Callable, Sequence

from wgengine.link import DEFAULT_MTU, BringUp, Holdings, Refusal, takes_others_along
from wgengine.reconfig import AddAddress, AddRoute, LinkStep, RemoveAddress, RemoveRoute, SetMTU

__all__ = ["MacLink", "command"]

_PATIENCE_S = 10.0


def command(name: str, step: LinkStep | BringUp) -> list[str]:
    """The command that does a step."""
    match step:
        case AddAddress(address=address) if ":" in address:
            return ["ifconfig", name, "inet6", address, "alias"]
        case AddAddress(address=address):
            # utun is point to point: IPv4 wants a far end, and our own address serves
            return ["ifconfig", name, "inet", address, address.partition("/")[0], "alias"]
        case RemoveAddress(address=address) if ":" in address:
            return ["ifconfig", name, "inet6", address.partition("/")[0], "-alias"]
        case RemoveAddress(address=address):
            return ["ifconfig", name, "inet", address.partition("/")[0], "-alias"]
        case SetMTU(new=mtu):
            return ["ifconfig", name, "mtu", str(mtu or DEFAULT_MTU)]
        case BringUp():
            return ["ifconfig", name, "up"]
        case AddRoute(prefix=prefix):
            return ["route", "-q", "-n", "add", _family(prefix), prefix, "-interface", name]
        case RemoveRoute(prefix=prefix):
            return ["route", "-q", "-n", "delete", _family(prefix), prefix, "-interface", name]


def _family(prefix: str) -> str:
    return "-inet6" if ":" in prefix else "-inet"


def _run(words: Sequence[str]) -> str:
    """Run a command; what it says when it fails becomes the error."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"{words[0]} did not end within {_PATIENCE_S:.0f} s") from None
    if done.returncode:
        said = done.stderr.strip() or f"{words[0]} ended with {done.returncode}"
        raise OSError(_errno(said), said)
    return done.stdout


_ERRNOS = {
    "File exists": errno.EEXIST,
    "Can't assign requested address": errno.EADDRNOTAVAIL,
    "not in table": errno.ESRCH,
    "Operation not permitted": errno.EPERM,
    "permission denied": errno.EPERM,
}


def _errno(said: str) -> int:
    return next((code for words, code in _ERRNOS.items() if words in said), errno.EIO)


class MacLink:
    def __init__(self, name: str, run: Callable[[Sequence[str]], str] = _run) -> None:
        self._name = name
        self._run = run
        self._held = Holdings()

    def perform(self, steps: Sequence[LinkStep | BringUp]) -> tuple[Refusal, ...]:
        refusals: list[Refusal] = []
        for step in steps:
            self._do(step, refusals)
        if takes_others_along(steps):
            # one cannot ask `route` for an interface's routes; adding one again that is there does no harm
            for held in self._held.missing(self._addresses(), set()):
                self._do(held, refusals)
        return tuple(refusals)

    def _do(self, step: LinkStep | BringUp, refusals: list[Refusal]) -> None:
        if isinstance(step, AddRoute | RemoveRoute) and step.table is not None:
            refusals.append(
                Refusal(step, OSError(errno.ENOTSUP, "macOS has one routing table; set Table to auto or off"))
            )
            return
        try:
            self._run(command(self._name, step))
        except OSError as error:
            gone = isinstance(step, RemoveAddress | RemoveRoute) and error.errno in {errno.EADDRNOTAVAIL, errno.ESRCH}
            held = isinstance(step, AddRoute) and error.errno == errno.EEXIST and self._holds(step)
            if not gone and not held:
                refusals.append(Refusal(step, error))
                return
        self._held.note(step)

    def _holds(self, route: AddRoute) -> bool:
        return (route.prefix, route.table) in self._held.routes

    def _addresses(self) -> set[str]:
        """The interface's addresses, from the listing of `ifconfig`."""
        found = set()
        for line in self._run(["ifconfig", self._name]).splitlines():
            if match := re.match(r"\s+inet ([0-9.]+) .*netmask 0x([0-9a-f]{8})", line):
                found.add(f"{match[1]}/{int(match[2], 16).bit_count()}")
            elif match := re.match(r"\s+inet6 ([0-9a-f:]+)(?:%\w+)? prefixlen (\d+)", line):
                found.add(f"{match[1]}/{match[2]}")
        return found
