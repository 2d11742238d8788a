"""Honest traffic through a tunnel: pings, TCP streams and datagrams, and what of them arrived."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import quantiles
from typing import Any

from wgengine.bench.host import Counters, Host, HostError, Process, wait_until
from wgengine.bench.rows import Step
from wgengine.bench.testbed import INTERFACE

PINGS = 1000
DATAGRAM = 1300
_PORT = 5201
_IPERF: Mapping[Step, tuple[str, ...]] = {
    Step.TCP1: (),
    Step.TCP1_REVERSE: ("--reverse",),
    Step.TCP4: ("--parallel", "4"),
    Step.UDP_2G: ("--udp", "--bitrate", "2G", "--length", str(DATAGRAM)),
}


def ping(a: Host, b: Host) -> dict[str, float]:
    """Pings an idle tunnel."""
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


def load(step: Step, a: Host, b: Host, ends: tuple[Process, Process], seconds: float) -> dict[str, float]:
    """Puts one load on the tunnel from ``a`` to ``b`` and returns the rows that it fills."""
    with _server(b):
        spent = -sum(end.cpu_seconds() for end in ends)
        before = a.counters(INTERFACE), b.counters(INTERFACE)
        said = _client(a, b, seconds, *_IPERF[step])
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


def stream(a: Host, b: Host, seconds: float) -> float:
    """Gbit/s of one TCP stream from ``a`` to ``b``."""
    with _server(b):
        return received(_client(a, b, seconds))["gbit_s"]


@contextmanager
def streaming(a: Host, b: Host, seconds: float) -> Iterator[None]:
    """One TCP stream from ``a`` to ``b`` until the block is left, and at most so long."""
    words = ("iperf3", "--client", b.inner, "--port", str(_PORT), "--time", f"{seconds:g}")
    with _server(b), a.spawn(*words) as client:
        yield
        if not client.running:
            raise HostError(f"iperf3 ended before its time: {client.complaint()}")


@contextmanager
def _server(b: Host) -> Iterator[None]:
    with b.spawn("iperf3", "--server", "--one-off", "--bind", b.inner, "--port", str(_PORT)) as server:
        wait_until(lambda: b.listens_on(_PORT), seconds=5, what=server.complaint)
        yield


def _client(a: Host, b: Host, seconds: float, *options: str) -> str:
    words = ("iperf3", "--client", b.inner, "--port", str(_PORT), "--json", "--time", f"{seconds:g}")
    return a.run(*words, *options, timeout=seconds + 20)


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
