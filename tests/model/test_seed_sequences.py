"""Generated sequences: who is live and whose an address is, by our own rooms and by the seed's rules.

The seed's rules are those of `peers.seed_model`, which the seed's twin agrees with on ten thousand sequences
(tests/interop/test_twin_sequences.py). Ours runs as the seed does: subnet peers are not trimmed, nothing is swept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from peers.our_inputs import our_config, our_netmap, public
from peers.seed_model import EDGES, SeedModel
from peers.twin_sequences import (
    Ask,
    KeepFull,
    NetMap,
    Received,
    Reconfig,
    Sent,
    Step,
    sequence,
)
from wgengine.peers import PeerIndex
from wgengine.trim import Decision, Trimmer


class Ours:
    """Our rooms, called as an engine calls them."""

    def __init__(self) -> None:
        self.trimmer = Trimmer(trim_subnet_peers=False, sweeps=False)
        self.index = PeerIndex()

    def step(self, step: Step, now: float) -> None:
        match step:
            case Reconfig():
                config = our_config(step)
                self.decided(self.trimmer.reconfigured(config.peers, now))
                self.index.set_config(config)
            case NetMap():
                self.index.set_netmap(our_netmap(step))
            case Sent(ip=ip):
                if route := self.index.route(ip):
                    self.decided(self.trimmer.sent(route, now))
            case Received(key=key):
                self.decided(self.trimmer.received(public(key), now))
            case KeepFull(on=on):
                self.trimmer.force_full = on

    def decided(self, decision: Decision) -> None:
        self.trimmer.accept(decision)

    def owner(self, ip: str) -> tuple[str, bool, str] | None:
        found = self.index.peer_for_ip(ip)
        return found and (bytes(found.node.key).hex(), found.is_self, found.route)


def differs(seed: int, *, fine: bool, edges: Counter[str]) -> bool:
    """Runs one sequence on both. That they differ is an error unless the seed has shown row 8 before, where two peers
    have one prefix or a netmap and a configuration do not agree: then the device's answer is ours."""
    made = sequence(seed, fine=fine)
    model, ours = SeedModel(automatic_port=made.automatic_port), Ours()
    shown: set[int] = set()
    for number, step in enumerate(made.steps):
        expected = model.step(step)
        shown |= expected.rows
        if expected.refused == "no changes" or (isinstance(step, Received) and not expected.told):
            continue  # an engine, or its transport, would not come so far
        ours.step(step, model.now)
        live = {some.key for some in model.peers if ours.trimmer.is_live(public(some.key))}
        owner = ours.owner(step.ip) if isinstance(step, Ask) else None
        if (live, owner) != (set(model.device), expected.owner):
            what = f"seed {seed}, fine={fine}, step {number} ({type(step).__name__})"
            assert 8 in shown, f"{what}: live {live ^ set(model.device)}, owner {owner} or {expected.owner}"
            return True
    edges += model.edges
    return False


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_property_1_the_live_peers_are_the_seeds(soak: bool, record_property: Callable[[str, object], None]) -> None:
    edges: Counter[str] = Counter()
    count = 5_000 if soak else 50
    differing = sum(differs(seed, fine=fine, edges=edges) for seed in range(count) for fine in (False, True))
    rarest = min(EDGES, key=lambda edge: edges[edge])
    record_property("sequences", f"{2 * count}, of which {differing} differ by row 8; rarest edge {edges[rarest]}")
    assert differing < count / 2
    assert edges[rarest] >= count // 50
