"""The measuring: each round gives each implementation in turn a fresh tunnel and puts the loads on it."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import quantiles
from typing import Any

from wgengine.bench.implementation import Implementation
from wgengine.bench.rows import NOSEG, Measured, Row, Step, steps_of
from wgengine.bench.testbed import INTERFACE, Counters, Host, HostError, Process, tunnel, two_hosts, wait_until

PINGS = 1000
DATAGRAM = 1300
_PORT = 5201
_IPERF: Mapping[Step, tuple[str, ...]] = {
    Step.TCP1: (),
    Step.TCP1_REVERSE: ("--reverse",),
    Step.TCP4: ("--parallel", "4"),
    Step.UDP_2G: ("--udp", "--bitrate", "2G", "--length", str(DATAGRAM)),
}

Tell = Callable[[str], None]
"""Called with what begins now, once per step."""


def steps_per_round(rows: Sequence[Row], implementations: int) -> int:
    """Returns how often ``Tell`` will be called in each round."""
    return implementations * sum(len(steps_of(rows, segmentation=s)) for s in (True, False))


def rounds(
    rows: Sequence[Row], implementations: Sequence[Implementation], *, count: int, seconds: float, tell: Tell
) -> Iterator[Measured]:
    """Measures ``count`` rounds, yielding after each implementation.

    Odd rounds go backwards, so that a machine that grows slower or faster favours nobody; ours and the first peer,
    whose ratio counts most, are always neighbours.
    """
    for number in range(count):
        for implementation in implementations if number % 2 == 0 else reversed(implementations):
            yield measure(rows, implementation, number=number, seconds=seconds, tell=tell)


def measure(
    rows: Sequence[Row], implementation: Implementation, *, number: int, seconds: float, tell: Tell
) -> Measured:
    """Measures one implementation once. What fails is said in ``failures``, and the rest goes on."""
    values: dict[str, float] = {}
    failures: list[str] = []
    for segmentation in (True, False):
        steps = steps_of(rows, segmentation=segmentation)
        suffix = "" if segmentation else NOSEG
        if not steps:
            continue
        try:
            with two_hosts(segmentation=segmentation) as (a, b), tunnel(a, b, implementation) as ends:
                for step in steps:
                    tell(f"{implementation.name}: {step}{'' if segmentation else ', segmentation off'}")
                    try:
                        found = _ping(a, b) if step is Step.PING else _load(step, a, b, ends, seconds)
                        values |= {name + suffix: value for name, value in found.items()}
                    except HostError as error:
                        failures.append(f"{step}{suffix}: {error}")
                values["rss_under_load" + suffix] = ends[1].peak_rss() / 1e6
        except HostError as error:
            failures.append(str(error))
    wanted = {row.name for row in rows}
    return Measured(
        round=number,
        implementation=implementation.name,
        values={name: value for name, value in values.items() if name in wanted},
        failures=tuple(failures),
    )


def _ping(a: Host, b: Host) -> dict[str, float]:
    words = ("ping", "-n", "-c", str(PINGS), "-i", "0.002", "-W", "1", b.inner)
    return ping_rows(a.run(*words, timeout=30))


def ping_rows(output: str) -> dict[str, float]:
    """Reads the round-trip times, in ms, that ping printed.

    Raises:
        HostError: when a tenth or more of the pings stayed unanswered: what is left would flatter.
    """
    times = [float(found) for found in re.findall(r"time=([\d.]+) ms", output)]
    if len(times) <= PINGS * 9 // 10:
        raise HostError(f"{len(times)} of {PINGS} pings were answered")
    percentiles = quantiles(times, n=100, method="inclusive")
    return {"ping_idle_p50": percentiles[49], "ping_idle_p99": percentiles[98]}


def _load(step: Step, a: Host, b: Host, ends: tuple[Process, Process], seconds: float) -> dict[str, float]:
    with b.spawn("iperf3", "--server", "--one-off", "--bind", b.inner, "--port", str(_PORT)) as server:
        wait_until(lambda: b.listens_on(_PORT), seconds=5, what=server.complaint)
        spent = -sum(end.cpu_seconds() for end in ends)
        before = a.counters(INTERFACE), b.counters(INTERFACE)
        said = a.run(
            *("iperf3", "--client", b.inner, "--port", str(_PORT), "--json", "--time", f"{seconds:g}", *_IPERF[step]),
            timeout=seconds + 20,
        )
        spent += sum(end.cpu_seconds() for end in ends)
    if step is Step.UDP_2G:
        time.sleep(0.2)  # what still stands in a queue has arrived by then
        sent, written = a.counters(INTERFACE) - before[0], b.counters(INTERFACE) - before[1]
        return {"udp_2g_goodput": received(said)["gbit_s"], "udp_2g_tunnel_loss": tunnel_loss(sent, written)}
    end = received(said)
    found = {step.name.lower(): end["gbit_s"]}
    if step is Step.TCP1:
        gigabytes = end["bytes"] / 1e9
        found |= {"cpu_s_per_gb": spent / gigabytes, "tcp1_retransmits": end["retransmits"] / gigabytes}
    return found


def received(said: str) -> dict[str, float]:
    """Reads what the receiver counted from iperf3's JSON.

    Raises:
        HostError: when it reports an error, or nothing arrived.
    """
    report: dict[str, Any] = json.loads(said)
    if error := report.get("error"):
        raise HostError(f"iperf3: {error}")
    end = report["end"]
    arrived = end["sum_received"]
    if not arrived["bytes"]:
        raise HostError("iperf3: not one byte arrived")
    return {
        "bytes": float(arrived["bytes"]),
        "gbit_s": arrived["bits_per_second"] / 1e9,
        "retransmits": float(end["sum_sent"].get("retransmits", 0)),
    }


def tunnel_loss(sent: Counters, written: Counters) -> float:
    """Returns the percentage of datagrams that went into one TUN and did not come out of the other.

    A super-packet counts as one packet and has one header, so packets cannot be compared and bytes only without
    headers: (bytes - 28 per packet) / 1,300 is the number of datagrams however they were coalesced. What the kernel
    dropped because nobody read the TUN was sent into it, too: those are single datagrams, for iperf3 sends such.
    """
    header = 20 + 8  # IPv4, UDP
    into = (sent.tx_bytes - header * sent.tx_packets) / DATAGRAM + sent.tx_dropped
    out = (written.rx_bytes - header * written.rx_packets) / DATAGRAM
    return max(0.0, 100.0 * (into - out) / into) if into > 0 else 0.0
