"""Sets of IP addresses: prefixes joined and taken away, overlaps, and back to as few prefixes as there can be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from typing import TypeAlias

from wgengine.address import Prefix

__all__ = ["AddressSet"]

Range: TypeAlias = tuple[int, int]  # from the first to the last address
Ranges: TypeAlias = tuple[Range, ...]  # in order, neither overlapping nor touching


@dataclass(frozen=True, slots=True)
class AddressSet:
    """A set of addresses of both families. Equal when the same addresses are in it."""

    v4: Ranges = ()
    v6: Ranges = ()

    @classmethod
    def of(cls, prefixes: Iterable[str]) -> AddressSet:
        """All addresses of these prefixes; host bits do not count."""
        v4: list[Range] = []
        v6: list[Range] = []
        for text in prefixes:
            bits, network, length = Prefix.parse(text)
            (v4 if bits == 32 else v6).append((network, network | ((1 << (bits - length)) - 1)))
        return cls(_joined(v4), _joined(v6))

    @classmethod
    def between(cls, first: IPv4Address | IPv6Address, last: IPv4Address | IPv6Address) -> AddressSet:
        """All addresses from the one to the other, both of one family."""
        ranges = _joined([(int(first), int(last))] if first.version == last.version and int(first) <= int(last) else [])
        return cls(v4=ranges) if first.version == 4 else cls(v6=ranges)

    def __or__(self, other: AddressSet) -> AddressSet:
        return AddressSet(_joined([*self.v4, *other.v4]), _joined([*self.v6, *other.v6]))

    def __sub__(self, other: AddressSet) -> AddressSet:
        return AddressSet(tuple(_without(self.v4, other.v4)), tuple(_without(self.v6, other.v6)))

    def __bool__(self) -> bool:
        return bool(self.v4 or self.v6)

    def overlaps(self, other: AddressSet) -> bool:
        """Whether any address is in both."""
        return _overlap(self.v4, other.v4) or _overlap(self.v6, other.v6)

    def prefixes(self) -> tuple[str, ...]:
        """As few prefixes as there can be, in order, IPv4 first."""
        v4 = (f"{IPv4Address(network)}/{length}" for each in self.v4 for network, length in _prefixes(*each, 32))
        v6 = (f"{IPv6Address(network)}/{length}" for each in self.v6 for network, length in _prefixes(*each, 128))
        return (*v4, *v6)


def _joined(ranges: list[Range]) -> Ranges:
    made: list[Range] = []
    for first, last in sorted(ranges):
        if made and first <= made[-1][1] + 1:
            made[-1] = (made[-1][0], max(made[-1][1], last))
        else:
            made.append((first, last))
    return tuple(made)


def _without(these: Ranges, those: Ranges) -> Iterator[Range]:
    for first, last in these:
        for gone_from, gone_to in those:
            if gone_to < first or gone_from > last:
                continue
            if gone_from > first:
                yield first, gone_from - 1
            first = gone_to + 1
        if first <= last:
            yield first, last


def _overlap(these: Ranges, those: Ranges) -> bool:
    # side by side in order, a range that begins before its forerunner's end belongs to the other set
    return any(one[1] >= other[0] for one, other in pairwise(sorted((*these, *those))))


def _prefixes(first: int, last: int, bits: int) -> Iterator[tuple[int, int]]:
    while first <= last:
        # the largest block that begins here: by the zeros at the end of its address, and by what is left
        aligned = (first & -first).bit_length() - 1 if first else bits
        size = min(aligned, (last - first + 1).bit_length() - 1)
        yield first, bits - size
        first += 1 << size
