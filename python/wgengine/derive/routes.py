"""Which prefixes go into the tunnel, kept in order: one that comes or goes costs a search, not a new list of all."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from wgengine.address import Prefix
from wgengine.ranges import CGNAT, ULA, is_cgnat_host, is_ula_host

__all__ = ["Routes"]

MOST_SINGLE_ROUTES = 10_000  # of nodes' own IPv4 addresses; where there are more, one route takes all of them


class Routes:
    """Prefixes that peers own, and the routes that this makes. Nodes' own addresses are many: those of IPv6 are always
    one route, those of IPv4 from a threshold on."""

    __slots__ = ("_all", "_other", "_singles", "_ula")
    _all: list[str]  # every IPv4 prefix and those of IPv6 that are no node's own address, in order
    _other: list[str]  # of them those that are no node's own address
    _singles: int  # how many are
    _ula: int  # nodes' own addresses of IPv6, which are in neither list

    def __init__(self, prefixes: Iterable[str] = ()) -> None:
        self._all, self._other, self._singles, self._ula = [], [], 0, 0
        for prefix in prefixes:
            if is_ula_host(prefix):
                self._ula += 1
                continue
            self._all.append(prefix)
            if is_cgnat_host(prefix):
                self._singles += 1
            else:
                self._other.append(prefix)
        self._all.sort(key=order)
        self._other.sort(key=order)

    def changed(self, *, gone: Iterable[str], come: Iterable[str]) -> Routes:
        """These without some prefixes that are there, and with some that are not."""
        twin = Routes()
        twin._all, twin._other = self._all.copy(), self._other.copy()
        twin._singles, twin._ula = self._singles, self._ula
        for prefix in gone:
            twin._count(prefix, -1)
        for prefix in come:
            twin._count(prefix, +1)
        return twin

    def _count(self, prefix: str, number: int) -> None:
        if is_ula_host(prefix):
            self._ula += number
            return
        change = _add if number > 0 else _remove
        change(self._all, prefix)
        if is_cgnat_host(prefix):
            self._singles += number
        else:
            change(self._other, prefix)

    def prefixes(self, *, one_cgnat: bool = False) -> tuple[str, ...]:
        """The routes, in order: by family, length and address. With `one_cgnat` two IPv4 addresses are too many."""
        coarse = self._singles > (1 if one_cgnat else MOST_SINGLE_ROUTES)
        if not coarse and not self._ula:
            return tuple(self._all)
        made = (self._other if coarse else self._all).copy()
        if coarse:
            _add(made, CGNAT)
        if self._ula:
            _add(made, ULA)
        return tuple(made)


def _add(prefixes: list[str], prefix: str) -> None:
    at = bisect_left(prefixes, order(prefix), key=order)
    if prefixes[at : at + 1] != [prefix]:  # a range may be someone's subnet, too
        prefixes.insert(at, prefix)


def _remove(prefixes: list[str], prefix: str) -> None:
    del prefixes[bisect_left(prefixes, order(prefix), key=order)]


def order(prefix: str) -> tuple[int, int, int]:
    """By family, length and address."""
    bits, network, length = Prefix.parse(prefix)
    return bits, length, network
