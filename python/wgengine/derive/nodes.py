"""What each node of a netmap comes to. With what they came to last time, only those that differ are looked at."""

from __future__ import annotations

from collections.abc import Iterator
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
    remarks: dict[int, Remark]  # of the few nodes that have any
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
        made: list[Peer | None] = []
        fresh: dict[int, Remark] = {}
        for at, old in zip(range(start, stop), _origins(self.nodes, nodes, start, end), strict=True):
            node, is_exit_node = nodes[at], at == exit_node
            if (
                old is not None
                and accept_routes == self.accept_routes
                and is_exit_node == (old == self.exit_node)
                and (self.nodes[old] is node or view(self.nodes[old]) == view(node))
            ):
                peer, remarks = self.peers[old], self.remarks.get(old)
            else:
                peer, remarks = peer_of(node, is_exit_node=is_exit_node, accept_routes=accept_routes)
                if old is not None and self.peers[old] == peer:
                    peer = self.peers[old]
            made.append(peer)
            if remarks:
                fresh[at] = remarks
        kept = {at: each for at, each in self.remarks.items() if at < start}
        kept.update((at + moved, each) for at, each in self.remarks.items() if at + moved >= stop and at >= start)
        unchanged = not fresh and len(kept) == len(self.remarks)
        remarks_now = {**kept, **fresh}
        return Nodes(
            nodes=nodes,
            exit_node=exit_node,
            accept_routes=accept_routes,
            peers=(*self.peers[:start], *made, *self.peers[len(self.peers) - end :]),
            remarks=remarks_now,
            summaries=self.summaries if unchanged else summaries(nodes, remarks_now),
        )

    def unsigned(self) -> tuple[Node, ...]:
        """The peers that may not reach us."""
        return tuple(self.nodes[at] for at, each in sorted(self.remarks.items()) if each & Remark.UNSIGNED)


def _key(nodes: tuple[Node, ...], at: int | None) -> object:
    return None if at is None else nodes[at].key


def _origins(before: tuple[Node, ...], after: tuple[Node, ...], start: int, end: int) -> Iterator[int | None]:
    """Where each node between the ends was before: nearly always at the same place, else wherever its key was."""
    places: dict[object, int] | None = None
    stop = len(before) - end
    for at in range(start, len(after) - end):
        key = after[at].key
        if at < stop and before[at].key == key:
            yield at
            continue
        if places is None:
            places = {before[i].key: i for i in range(start, stop)}
        yield places.get(key)
