"""Generated sequences on the seed's twin and on our engine: the same calls, device peers and owners, but for known
defects of the seed, each counted by its row.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from lab import need
from peers import build
from peers.our_engine import OurEngine
from peers.seed_model import EDGES
from peers.twin import Twin
from peers.twin_compare import difference, record
from peers.twin_sequences import sequence

# What the seed remembers before it is applied, a router error that ends it, the automatic port, whose an address is.
KNOWN = frozenset({1, 2, 3, 8, 14})


@pytest.fixture(scope="module")
def twin() -> Iterator[Twin]:
    need(build.path("twin").exists(), "the seed's twin is not built: python tests/peers/build.py twin")
    with Twin() as twin:
        yield twin


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_our_engine_does_what_the_seed_does_but_for_its_defects(
    twin: Twin, soak: bool, record_property: Callable[[str, object], None]
) -> None:
    """Whole: 10,000 sequences. Short: 100."""
    count = 5_000 if soak else 50
    edges: Counter[str] = Counter()
    rows: Counter[int] = Counter()
    differing = 0
    for seed in range(count):
        for fine in (False, True):
            made = sequence(seed, fine=fine)
            theirs = record(twin, made)
            ours = asyncio.run(OurEngine(automatic_port=made.automatic_port).seen(made))
            edges += theirs.model.edges
            found = difference(made, theirs, ours)
            if found is not None:
                assert found.rows <= KNOWN, found
                differing += 1
                rows.update(found.rows)
    rarest = min(EDGES, key=lambda edge: edges[edge])
    by_row = ", ".join(f"row {row} in {number}" for row, number in sorted(rows.items()))
    record_property("sequences", f"{2 * count}, of which {differing} differ; shown before: {by_row}")
    record_property("rarest edge", f"{rarest}: {edges[rarest]}")
    assert edges[rarest] >= count // 50
