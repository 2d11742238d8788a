"""Generated sequences: the seed's twin does with every step what the model of the seed says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from lab import need
from peers import build
from peers.process import LabError
from peers.seed_model import EDGES, SeedModel
from peers.twin import Answer, Twin, free_port, owner
from peers.twin_compare import difference, record
from peers.twin_sequences import Reconfig, node_key, sequence, twin_commands


@pytest.fixture(scope="module")
def process() -> Iterator[Twin]:
    need(build.path("twin").exists(), "the seed's twin is not built: python tests/peers/build.py twin")
    with Twin() as twin:
        yield twin


def agree(twin: Twin, seed: int, *, fine: bool) -> SeedModel:
    """Runs one sequence on the twin and on the model, and compares every answer."""
    made = sequence(seed, fine=fine)
    model = SeedModel(automatic_port=made.automatic_port)
    commands = twin_commands(made.steps)
    twin.new(listen_port=0 if made.automatic_port else free_port())
    answers = twin.ask_all([one for command in commands for one in (command, {"do": "device_peers"})])
    for number, step in enumerate(made.steps):
        answer, peers = answers[2 * number], answers[2 * number + 1].value
        expected = model.step(step)
        what = f"seed {seed}, fine={fine}, step {number}: {step}"
        assert peers == {node_key(key): life for key, life in model.device.items()}, what
        assert answer.order == expected.calls, what
        assert expected.refused in answer.error if expected.refused else not answer.error, what
        _same_value(answer, expected.owner, expected.told, what)
    return model


def _same_value(answer: Answer, who: tuple[str, bool, str] | None, told: bool, what: str) -> None:
    if isinstance(answer.value, dict):
        found = owner(answer)
        assert found is not None, what
        assert who == (found.key.removeprefix("nodekey:"), found.is_self, found.route), what
    else:
        assert (who, bool(answer.value)) == (None, told), what


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fine", [False, True], ids=["coarse", "fine"])
def test_generated_sequences_agree_with_the_model(
    process: Twin, soak: bool, fine: bool, record_property: Callable[[str, object], None]
) -> None:
    """Every call, refusal, owner and device peer of every step is as the model says, and every edge is taken."""
    edges: Counter[str] = Counter()
    count = 5_000 if soak else 100
    for seed in range(count):
        edges += agree(process, seed, fine=fine).edges
    rarest = min(EDGES, key=lambda edge: edges[edge])
    record_property("rarest edge", f"{rarest}: {edges[rarest]} in {count} sequences")
    assert edges[rarest] >= count // 50


def test_a_sequence_is_always_the_same_and_has_everything() -> None:
    assert sequence(7) == sequence(7)
    made = [sequence(seed) for seed in range(60)]
    assert all(20 <= len(one.steps) <= 200 for one in made)
    kinds = Counter(type(step).__name__ for one in made for step in one.steps)
    assert set(kinds) == {"Reconfig", "NetMap", "Sent", "Received", "Advance", "LinkChange", "KeepFull", "Ask"}
    sizes = [len(step.peers) for one in made for step in one.steps if isinstance(step, Reconfig)]
    assert min(sizes) <= 1
    assert max(sizes) > 40


def test_a_difference_is_found_and_excused_only_by_a_defect(process: Twin) -> None:
    for made in map(sequence, range(100)):
        theirs = record(process, made)
        telling = [at for at, seen in enumerate(theirs.seen) if seen.routers and seen.live]
        if telling and not theirs.rows[-1]:
            break
    assert difference(made, theirs, record(process, made).seen) is None
    number = telling[-1]
    seen = theirs.seen[number]
    assert seen.live is not None
    for other in (
        replace(seen, calls=seen.calls[::-1][1:]),
        replace(seen, routers=({"Routes": []},)),
        replace(seen, live=frozenset(list(seen.live)[1:])),
        replace(seen, owner=("aa", False, "0.0.0.0/0")),
    ):
        ours = [*theirs.seen[:number], other, *theirs.seen[number + 1 :]]
        with pytest.raises(LabError, match=f"step {number}"):
            difference(made, theirs, ours)
        defect = frozenset({1})
        shown = replace(theirs, rows=(*theirs.rows[:number], *[defect] * (len(theirs.rows) - number)))
        found = difference(made, shown, ours)
        assert found is not None
        assert (found.step, found.rows) == (number, defect)
