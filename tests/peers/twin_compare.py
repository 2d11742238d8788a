"""One sequence on the seed's twin and on an engine of ours, step by step, until they differ.

Compared are the calls to the router, with content, and to DNS, by place; the peers in the device where the seed looked
who is to be there; and whose an address is. A difference must follow upon a step that shows a known defect of the seed
(`SeedModel` names its row); nothing after it is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from peers.process import LabError
from peers.seed_model import SeedModel
from peers.twin import Answer, Twin, free_port, owner
from peers.twin_sequences import Generated, Step, twin_commands

Router = Mapping[str, Any]

COMPARED = ("router.set", "dns.set")
ROUTER_FIELDS = ("LocalAddrs", "Routes", "LocalRoutes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one step led to. `live`: the keys of the peers in the device, or None where nobody looked."""

    calls: tuple[str, ...] = ()  # of COMPARED, a failed one with `!`
    routers: tuple[Router, ...] = field(default=(), hash=False)  # the content of the router's calls
    live: frozenset[str] | None = None
    owner: tuple[str, bool, str] | None = None  # key, whether it is ourselves, route


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where two sides parted, and by which defects of the seed that may be."""

    step: int
    rows: frozenset[int]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the twin did with a sequence."""

    seen: tuple[Seen, ...]
    rows: tuple[frozenset[int], ...]  # shown up to and with each step
    model: SeedModel  # at the end, with its count of edges


def record(twin: Twin, made: Generated) -> Recorded:
    """Runs a sequence on the twin. The model goes along: it says where the seed looked, and which defects showed."""
    model = SeedModel(automatic_port=made.automatic_port)
    commands = twin_commands(made.steps)
    twin.new(listen_port=0 if made.automatic_port else free_port())
    answers = twin.ask_all([one for command in commands for one in (command, {"do": "device_peers"})])
    seen, rows, shown = [], [], frozenset[int]()
    for number, step in enumerate(made.steps):
        expected = model.step(step)
        shown |= expected.rows
        live = frozenset(key.removeprefix("nodekey:") for key in answers[2 * number + 1].value)
        if live != set(model.device):
            raise LabError(f"seed {made.seed}, step {number}: the twin and its model differ")
        seen.append(_seen(answers[2 * number], live if expected.looked else None))
        rows.append(shown)
    return Recorded(seen=tuple(seen), rows=tuple(rows), model=model)


def _seen(answer: Answer, live: frozenset[str] | None) -> Seen:
    found = owner(answer) if isinstance(answer.value, dict) else None
    return Seen(
        calls=tuple(str(call) for call in answer.calls if call.what in COMPARED),
        routers=tuple(_fields(call.config) for call in answer.calls if call.what == "router.set"),
        live=live,
        owner=(found.key.removeprefix("nodekey:"), found.is_self, found.route) if found else None,
    )


def _fields(router: Router | None) -> Router:
    return {name: (router or {}).get(name) or [] for name in ROUTER_FIELDS}


def difference(made: Generated, theirs: Recorded, ours: Sequence[Seen]) -> Difference | None:
    """The first step that led to something else on our side.

    Raises:
        LabError: they differ although the seed had shown no defect.
    """
    for number, (step, their, our) in enumerate(zip(made.steps, theirs.seen, ours, strict=True)):
        text = _unlike(step, their, our)
        if not text:
            continue
        rows = theirs.rows[number]
        if not rows:
            raise LabError(f"seed {made.seed}, step {number}, {type(step).__name__}: {text}")
        return Difference(step=number, rows=rows, text=text)
    return None


def _unlike(step: Step, theirs: Seen, ours: Seen) -> str:
    if theirs.calls != ours.calls:
        return f"the seed calls {theirs.calls}, we {ours.calls}"
    if theirs.routers != ours.routers:
        return f"the seed's router gets {theirs.routers}, ours {ours.routers}"
    if theirs.live is not None and theirs.live != ours.live:
        beside = {key[:8] for key in theirs.live - (ours.live or frozenset())}
        return f"only the seed's device has {beside}, only ours {sorted((ours.live or frozenset()) - theirs.live)}"
    if theirs.owner != ours.owner:
        return f"the seed says that {step} is {theirs.owner}'s, we {ours.owner}'s"
    return ""
