"""The measuring: each round gives each implementation in turn a fresh tunnel and puts the loads on it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from wgengine.bench import hostile, live, netmaps, scale, traffic
from wgengine.bench.compare import Measured
from wgengine.bench.host import HostError
from wgengine.bench.implementation import Implementation
from wgengine.bench.rows import NOSEG, OURS, TUNNEL_STEPS, Row, Step, steps_of
from wgengine.bench.testbed import tunnel, two_hosts

Tell = Callable[[str], None]
"""Called with what begins now, once per step."""


def _wanted(rows: Sequence[Row], implementation: Implementation, *, segmentation: bool) -> tuple[Step, ...]:
    return steps_of(rows, segmentation=segmentation, ours=implementation.name == OURS)


def steps_per_round(rows: Sequence[Row], implementations: Sequence[Implementation]) -> int:
    """Returns how often ``Tell`` will be called in each round."""
    return sum(len(_wanted(rows, i, segmentation=s)) for i in implementations for s in (True, False))


def rounds(
    rows: Sequence[Row],
    implementations: Sequence[Implementation],
    *,
    count: int,
    seconds: float,
    tell: Tell,
    generator: Path | None = None,
) -> Iterator[Measured]:
    """Measures ``count`` rounds, yielding after each implementation.

    Odd rounds go backwards, so that a machine that grows slower or faster favours nobody; ours and the first peer,
    whose ratio counts most, are always neighbours.
    """
    for number in range(count):
        for implementation in implementations if number % 2 == 0 else reversed(implementations):
            yield measure(rows, implementation, number=number, seconds=seconds, tell=tell, generator=generator)


def measure(
    rows: Sequence[Row],
    implementation: Implementation,
    *,
    number: int,
    seconds: float,
    tell: Tell,
    generator: Path | None = None,
) -> Measured:
    """Measures one implementation once. What fails is said in ``failures``, and the rest goes on."""
    values: dict[str, float] = {}
    failures: list[str] = []
    for segmentation in (True, False):
        steps = [s for s in _wanted(rows, implementation, segmentation=segmentation) if s in TUNNEL_STEPS]
        suffix = "" if segmentation else NOSEG
        if not steps:
            continue
        try:
            with two_hosts(segmentation=segmentation) as (a, b), tunnel(a, b, implementation) as ends:
                for step in steps:
                    tell(f"{implementation.name}: {step}{'' if segmentation else ', segmentation off'}")
                    try:
                        found = traffic.ping(a, b) if step is Step.PING else traffic.load(step, a, b, ends, seconds)
                        values |= {name + suffix: value for name, value in found.items()}
                    except HostError as error:
                        failures.append(f"{step}{suffix}: {error}")
                values["rss_under_load" + suffix] = ends[1].peak_rss() / 1e6
        except HostError as error:
            failures.append(str(error))
    wanted = {row.name for row in rows}
    for step in _wanted(rows, implementation, segmentation=True):
        if step in TUNNEL_STEPS:
            continue
        tell(f"{implementation.name}: {step}")
        try:
            values |= _alone(step, implementation, wanted, number=number, seconds=seconds, generator=generator)
        except HostError as error:
            failures.append(f"{step}: {error}")
    return Measured(
        round=number,
        implementation=implementation.name,
        values={name: value for name, value in values.items() if name in wanted},
        failures=tuple(failures),
    )


def _alone(
    step: Step,
    implementation: Implementation,
    wanted: set[str],
    *,
    number: int,
    seconds: float,
    generator: Path | None,
) -> dict[str, float]:
    """Measures a step that builds its own hosts."""
    match step:
        case Step.PEERS:
            return scale.peers(implementation)
        case Step.ALLOWED:
            return scale.allowed(implementation)
        case Step.IDLE:
            return scale.idle(implementation)
        case Step.NETMAP_10K:
            return netmaps.netmap_10k()
        case Step.NETMAP_100K:
            return netmaps.netmap_100k()
        case Step.RECONFIG:
            return live.reconfigurations(implementation, number=number, seconds=seconds)
    if generator is None:
        raise HostError("the load generator is not there")
    if step is Step.HANDSHAKES:
        return hostile.handshakes(generator, implementation, seconds)
    return hostile.floods(generator, implementation, wanted, number=number, seconds=seconds)
