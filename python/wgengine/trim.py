"""Which peers are worth a session: one without traffic for five minutes is trimmed, and its next packet wakes it.

Pure: `now` is an argument, seconds of a monotonic clock; what never happened is None. A Trimmer says what should
change, as a `Decision`; when the device has taken it, `accept` makes it so. A decision that the device refused is not
accepted, and the next evaluation comes to it again.

The cost follows the change: live peers wait in a heap by their last activity, so that an evaluation looks at those
whose time has come and at those that stirred, not at a hundred thousand others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING, NamedTuple

from wgengine.peers import same_ends

if TYPE_CHECKING:
    from wgengine.config import Peer
    from wgengine.keys import PublicKey
    from wgengine.peers import Route

__all__ = ["IDLE_AFTER", "RECHECK_AFTER", "SEND_GRANULARITY", "STATUS_INTERVAL", "Decision", "Trimmer"]

IDLE_AFTER = 300.0  # a peer whose last activity is this old is trimmed
SEND_GRANULARITY = 10.0  # how exactly the last packet to an address is remembered
RECHECK_AFTER = 60.0  # a packet to an address that was silent for this long leads to an evaluation
STATUS_INTERVAL = 60.0  # while peers are heard from, someone should look at the status this often

NEVER = float("-inf")  # sorts before every time


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What an input leads to. Truthy when the device is to be told something."""

    trimmed: Mapping[PublicKey, bool]  # whether a peer is to be trimmed, where that changes or the peer is new
    live: int  # how many peers will have a place in the device
    total: int  # out of how many
    status_due: bool = False  # someone should ask for the status
    _change: _Change = field(repr=False, compare=False)
    _cutoff: float = field(repr=False, compare=False)

    def __bool__(self) -> bool:
        return bool(self.trimmed)


class _Entry:
    """One peer as the device has it."""

    __slots__ = ("addresses", "key", "latest", "live", "queued", "seen", "stamp", "tracked")

    def __init__(self, key: PublicKey) -> None:
        self.key = key
        self.addresses: tuple[str, ...] = ()  # its allowed IPs
        self.tracked = False  # whether it may be trimmed: its activity counts
        self.live = False
        self.seen: float | None = None  # last activity that is tied to no address of it
        self.latest: float | None = None  # last activity of any kind
        self.stamp = NEVER  # where it waits in the heap: not after `latest`
        self.queued = False  # whether it waits in the heap

    def __lt__(self, other: _Entry) -> bool:
        return self.stamp < other.stamp


class _Change(NamedTuple):
    """How the wanted peers differ from the accepted ones."""

    peers: Sequence[Peer] | None  # None: they are the same
    policy: tuple[bool, bool]
    differing: Mapping[PublicKey, tuple[tuple[str, ...], bool]]  # new or other: allowed IPs, tracked
    gone: Collection[PublicKey]


class Trimmer:
    """Decides which peers are live. A peer that may not be trimmed is always live.

    `force_full` trims nobody. Without `trim_subnet_peers` a peer may be trimmed only if all its allowed IPs are single
    addresses. Both take effect with the next evaluation. Without `sweeps` nothing but traffic and `reconfigured` leads
    to one: peers that fall idle in a network without either stay live.
    """

    def __init__(self, *, force_full: bool = False, trim_subnet_peers: bool = True, sweeps: bool = True) -> None:
        self.force_full = force_full
        self.trim_subnet_peers = trim_subnet_peers
        self.sweeps = sweeps
        self._peers: Sequence[Peer] = ()
        self._policy = (force_full, trim_subnet_peers)
        self._entries: dict[PublicKey, _Entry] = {}
        self._sent: dict[str, float] = {}  # by prefix: when a packet last went there; of tracked prefixes, where ever
        self._heap: list[_Entry] = []  # every live tracked peer waits here, or is unsettled
        self._unsettled: dict[PublicKey, _Entry] = {}  # live but idle, or trimmed but stirred, as far as one knows
        self._live = 0
        self._status_at: float | None = None

    # -- Inputs.

    def reconfigured(self, peers: Sequence[Peer], now: float) -> Decision:
        """The peers of a new configuration, no key twice. What is remembered of a key or a prefix survives while it
        is tracked: a prefix also where it moves to another peer."""
        return self._evaluate(peers, now)

    def sent(self, route: Route, now: float) -> Decision:
        """A packet goes to an address of this route."""
        entry = self._entries.get(route.key)
        last = self._sent.get(route.prefix)
        if entry is None or not entry.tracked or (last is None and route.prefix not in entry.addresses):
            return self._nothing()
        silence = None if last is None else now - last
        if silence is None or silence >= SEND_GRANULARITY:
            self._sent[route.prefix] = now
            self._stir(entry, now)
        if silence is None or silence >= RECHECK_AFTER:
            return self._evaluate(self._peers, now)
        return self._nothing()

    def received(self, key: PublicKey, now: float) -> Decision:
        """A packet came from this peer."""
        entry = self._entries.get(key)
        if entry is None or not entry.tracked:
            return self._nothing()
        entry.seen = now
        self._stir(entry, now)
        due = self._status_due(now)
        return self._nothing(due) if entry.live else self._evaluate(self._peers, now, due)

    def woke(self, key: PublicKey, now: float, *, received: bool) -> Decision:
        """The data plane woke this peer by itself, for a packet that it received or is to send: it is live already."""
        entry = self._entries.get(key)
        if entry is None or not entry.tracked:
            return self._nothing()
        entry.seen = now
        self._set_live(entry, True)
        self._stir(entry, now)
        self._file(entry, NEVER)
        return self._evaluate(self._peers, now, received and self._status_due(now))

    def observed(self, activity: Iterable[tuple[PublicKey, float | None, float | None]], now: float) -> bool:
        """When packets were last sent to and received from peers, as the data plane counted them. Leads to no
        evaluation; returns whether the status is due."""
        heard = False
        since = NEVER if self._status_at is None else self._status_at
        for key, sent, received in activity:
            entry = self._entries.get(key)
            if entry is None or not entry.tracked:
                continue
            at = max(NEVER if sent is None else sent, NEVER if received is None else received)
            if at > (NEVER if entry.seen is None else entry.seen):
                entry.seen = at
                self._stir(entry, at)
            heard = heard or (received is not None and received > since)
        return heard and self._status_due(now)

    def sweep(self, now: float, activity: Iterable[tuple[PublicKey, float | None, float | None]] = ()) -> Decision:
        """Time has passed; `activity` as for `observed`."""
        due = self.observed(activity, now)
        return self._evaluate(self._peers, now, due)

    def next_sweep(self, now: float) -> float | None:
        """When the next peer may fall idle; None if none will, or nothing is swept."""
        if not self.sweeps:
            return None
        while self._heap and self._advance():
            pass
        idle = self._heap[0].stamp + IDLE_AFTER if self._heap else None
        if not self._unsettled:
            return idle
        again = now + RECHECK_AFTER  # the device refused the last decision
        return again if idle is None else min(idle, again)

    def accept(self, decision: Decision) -> None:
        """The device has taken what was decided. To be called for a falsy decision, too: peers may have gone."""
        change = decision._change
        if change.peers is not None:
            self._adopt(change)
            self._peers, self._policy = change.peers, change.policy
        for key, trimmed in decision.trimmed.items():
            entry = self._entries.get(key)
            if entry is not None:
                self._set_live(entry, not trimmed)
        for key in (*decision.trimmed, *change.differing):
            entry = self._entries.get(key)
            if entry is not None:
                self._file(entry, decision._cutoff)

    # -- What is known.

    def is_live(self, key: PublicKey) -> bool:
        """Whether the device has this peer, not trimmed."""
        entry = self._entries.get(key)
        return entry is not None and entry.live

    def is_tracked(self, key: PublicKey) -> bool:
        """Whether this peer may be trimmed, so that its activity counts."""
        entry = self._entries.get(key)
        return entry is not None and entry.tracked

    def last_active(self, key: PublicKey) -> float | None:
        """When a tracked peer was last sent to or heard from."""
        entry = self._entries.get(key)
        return None if entry is None else entry.latest

    @property
    def live(self) -> int:
        """How many peers are live."""
        return self._live

    @property
    def total(self) -> int:
        """How many peers there are."""
        return len(self._entries)

    # -- Evaluation: nothing that anyone can see changes here.

    def _nothing(self, status_due: bool = False) -> Decision:
        live, total = self._live, len(self._entries)
        return Decision(trimmed={}, live=live, total=total, status_due=status_due, _change=_SAME, _cutoff=NEVER)

    def _evaluate(self, peers: Sequence[Peer], now: float, status_due: bool = False) -> Decision:
        cutoff = now - IDLE_AFTER
        change = self._compare(peers)
        trimmed: dict[PublicKey, bool] = {}
        live, total = self._live, len(self._entries)
        for key in change.gone:
            live -= self._entries[key].live
            total -= 1
        for key, (addresses, tracked) in change.differing.items():
            entry = self._entries.get(key)
            seen = entry.seen if entry is not None else None
            shall = not tracked or self._latest(seen, addresses) > cutoff
            if entry is None:
                live += shall
                total += 1
                trimmed[key] = not shall
            elif entry.live != shall:
                live += shall - entry.live
                trimmed[key] = not shall
        self._refresh(cutoff)
        for key, entry in self._unsettled.items():
            if key not in change.differing and key not in change.gone:
                live += -1 if entry.live else 1
                trimmed[key] = entry.live
        return Decision(trimmed=trimmed, live=live, total=total, status_due=status_due, _change=change, _cutoff=cutoff)

    def _compare(self, peers: Sequence[Peer]) -> _Change:
        policy = (self.force_full, self.trim_subnet_peers)
        before = self._peers
        start = end = 0
        if policy == self._policy:
            if peers is before:
                return _SAME
            # the same objects at both ends are passed over; a key in the middle then is in neither end
            start, end = same_ends(before, peers)
        differing: dict[PublicKey, tuple[tuple[str, ...], bool]] = {}
        middle = peers[start : len(peers) - end]
        for peer in middle:
            entry = self._entries.get(peer.public_key)
            tracked = not self.force_full and (self.trim_subnet_peers or all(map(_is_single, peer.allowed_ips)))
            if entry is None or entry.tracked != tracked or entry.addresses != peer.allowed_ips:
                differing[peer.public_key] = (peer.allowed_ips, tracked)
        gone = {peer.public_key for peer in before[start : len(before) - end]}
        gone.difference_update(peer.public_key for peer in middle)
        return _Change(peers, policy, differing, gone)

    def _latest(self, seen: float | None, addresses: tuple[str, ...]) -> float:
        latest = NEVER if seen is None else seen
        if self._sent:
            latest = max(latest, max((self._sent.get(address, NEVER) for address in addresses), default=NEVER))
        return latest

    def _refresh(self, cutoff: float) -> None:
        """Let the unsettled be just those whose state is not what their activity asks for, as of `cutoff`."""
        heap = self._heap
        while heap and heap[0].stamp <= cutoff:
            if not self._advance():
                idle = heappop(heap)
                idle.queued = False
                self._unsettled[idle.key] = idle
        for entry in list(self._unsettled.values()):
            if entry.live == (entry.latest is not None and entry.latest > cutoff):
                del self._unsettled[entry.key]
                self._file(entry, cutoff)

    def _advance(self) -> bool:
        """Bring the first in the heap up to date, if it is not: drop it, or let it wait by its real last activity."""
        first = self._heap[0]
        if not first.live:
            heappop(self._heap).queued = False
            return True
        if first.latest is not None and first.latest > first.stamp:
            first.stamp = first.latest
            heapreplace(self._heap, first)
            return True
        return False

    # -- State.

    def _stir(self, entry: _Entry, at: float) -> None:
        if entry.latest is None or at > entry.latest:
            entry.latest = at
        if not entry.live:
            self._unsettled[entry.key] = entry

    def _status_due(self, now: float) -> bool:
        if self._status_at is not None and now - self._status_at < STATUS_INTERVAL:
            return False
        self._status_at = now
        return True

    def _set_live(self, entry: _Entry, live: bool) -> None:
        self._live += live - entry.live
        entry.live = live
        self._unsettled.pop(entry.key, None)

    def _file(self, entry: _Entry, cutoff: float) -> None:
        """Put an entry where an evaluation will find it in time."""
        if not entry.tracked:
            return
        if entry.live:
            if not entry.queued:
                entry.stamp = NEVER if entry.latest is None else entry.latest
                entry.queued = True
                heappush(self._heap, entry)
        elif entry.latest is not None and entry.latest > cutoff:
            self._unsettled[entry.key] = entry  # it stirred between decision and acceptance

    def _adopt(self, change: _Change) -> None:
        lost: set[str] = set()
        for key in change.gone:
            entry = self._entries.pop(key)
            self._live -= entry.live
            lost.update(entry.addresses)
            self._retire(entry)
        kept: set[str] = set()
        for key, (addresses, tracked) in change.differing.items():
            entry = _Entry(key)
            entry.addresses, entry.tracked = addresses, tracked
            before = self._entries.get(key)
            if before is not None:
                entry.live = before.live
                lost.update(before.addresses)
                self._retire(before)
            if tracked:
                kept.update(addresses)
                entry.seen = None if before is None else before.seen
                latest = self._latest(entry.seen, addresses)
                entry.latest = None if latest == NEVER else latest
            self._entries[key] = entry
        if self._sent:
            for address in lost - kept:
                self._sent.pop(address, None)

    def _retire(self, entry: _Entry) -> None:
        self._unsettled.pop(entry.key, None)
        entry.live = False  # the heap may hold it still, and will drop it


_SAME = _Change(None, (False, False), {}, ())


def _is_single(prefix: str) -> bool:
    return prefix.endswith("/128" if ":" in prefix else "/32")
