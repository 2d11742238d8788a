"""What each node of a netmap comes to. With what they came to last time, only those that differ are looked at."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wgengine.derive.wireguard import Remark, peer_of, summaries, view
from wgengine.peers import same_ends

if TYPE_CHECKING:
    from wgengine.config import Peer
    from wgengine.node import Node

__all__ = ["Nodes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The peers of a netmap and what became of them, by their place in it."""

    nodes: tuple[Node, ...]
    exit_node: int | None
    accept_routes: bool
    peers: tuple[Peer | None, ...]  # None: skipped
    remarks: dict[int, int]  # of the few nodes that have any
    summaries: tuple[str, ...]

    @classmethod
    def of(cls, nodes: tuple[Node, ...], exit_node: int | None, accept_routes: bool) -> Nodes:
        """From nothing but the netmap."""
        nothing = cls(nodes=(), exit_node=None, accept_routes=accept_routes, peers=(), remarks={}, summaries=())
        return nothing.changed(nodes, exit_node, accept_routes)

    def changed(self, nodes: tuple[Node, ...], exit_node: int | None, accept_routes: bool) -> Nodes:
        """What these nodes come to, at the cost of what is new. A peer that comes out equal is the same object."""
        same_choices = accept_routes == self.accept_routes and _key(nodes, exit_node) == _key(
            self.nodes, self.exit_node
        )
        # whichever are the same objects at the same end are passed over
        start, end = same_ends(self.nodes, nodes) if same_choices else (0, 0)
        stop, moved = len(nodes) - end, len(nodes) - len(self.nodes)
        unlike: Sequence[int] = range(start, stop)
        if same_choices and not moved:
            alike = map(operator.eq, map(view, self.nodes[start:stop]), map(view, nodes[start:stop]))
            unlike = [at for at, same in zip(unlike, alike, strict=True) if not same]
            peers = list(self.peers)
            remarks = self.remarks.copy()
            for at in unlike:
                remarks.pop(at, None)
        else:
            peers = [*self.peers[:start], *(None for _ in unlike), *self.peers[len(self.peers) - end :]]
            remarks = {at: each for at, each in self.remarks.items() if at < start}
            remarks.update((at + moved, each) for at, each in self.remarks.items() if at >= len(self.nodes) - end)
        fresh: dict[int, int] = {}
        for at, old in zip(unlike, _origins(self.nodes, nodes, unlike, start, end), strict=True):
            node, is_exit_node = nodes[at], at == exit_node
            if (
                old is not None
                and accept_routes == self.accept_routes
                and is_exit_node == (old == self.exit_node)
                and view(self.nodes[old]) == view(node)
            ):
                peer, remark = self.peers[old], self.remarks.get(old)
            else:
                peer, remark = peer_of(node, is_exit_node=is_exit_node, accept_routes=accept_routes)
                if old is not None and self.peers[old] == peer:
                    peer = self.peers[old]
            peers[at] = peer
            if remark:
                fresh[at] = remark
        remarks.update(fresh)
        return Nodes(
            nodes=nodes,
            exit_node=exit_node,
            accept_routes=accept_routes,
            peers=tuple(peers),
            remarks=remarks,
            summaries=summaries(nodes, remarks),
        )

    def unsigned(self) -> tuple[Node, ...]:
        """The peers that may not reach us."""
        return tuple(self.nodes[at] for at, each in sorted(self.remarks.items()) if each & Remark.UNSIGNED)


def _key(nodes: tuple[Node, ...], at: int | None) -> object:
    return None if at is None else nodes[at].key


def _origins(
    before: tuple[Node, ...], after: tuple[Node, ...], places: Sequence[int], start: int, end: int
) -> Iterator[int | None]:
    """Where the nodes at some places between the ends were before: nearly always there, else wherever their key was."""
    stop = len(before) - end
    by_key: dict[object, int] | None = None
    for at in places:
        key = after[at].key
        if at < stop and before[at].key == key:
            yield at
            continue
        if by_key is None:
            by_key = {before[i].key: i for i in range(start, stop)}
        yield by_key.get(key)
