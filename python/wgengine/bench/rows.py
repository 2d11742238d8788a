"""The rows of the benchmark: what each one measures, and what is wanted of it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

BASELINE = "tailscale-wireguard-go"
"""The implementation that ratios are made against: what tailscaled uses."""

OURS = "wgengine"

NOSEG = "_noseg"
"""Suffix of rows measured with the veth's UDP segmentation off.

Over veth a UDP GSO block is never cut into datagrams, which flatters everyone who sends them; a real NIC cuts them.
"""

FLOODS = (
    "bad-length",
    "bad-mac1",
    "good-mac1",
    "unknown-index",
    "cookie-replies",
    "replayed-data",
    "forged-data",
    "replayed-initiations",
)
"""Kinds of hostile datagrams, as the load generator names them."""

LEGIT_SHARE = "flood_legit_share"
LEGIT_SHARES = {f"{LEGIT_SHARE}_{kind.replace('-', '_')}": kind for kind in FLOODS}
"""The row of each kind."""


class Step(StrEnum):
    """One load, put on a fresh tunnel or a fresh device; a step may fill several rows."""

    PING = "1,000 pings"
    TCP1 = "1 TCP stream"
    TCP1_REVERSE = "1 TCP stream, reverse"
    TCP4 = "4 TCP streams"
    UDP_2G = "UDP, 2 Gbit/s offered"
    PEERS = "10,000 peers"
    ALLOWED = "130,560 allowed IPs"
    IDLE = "1,000 idle peers"
    NETMAP_10K = "netmap of 10,000 nodes"
    NETMAP_100K = "netmap of 100,000 nodes"
    HANDSHAKES = "handshakes"
    FLOODS = "floods"
    RECONFIG = "reconfigurations under load"


TUNNEL_STEPS = (Step.PING, Step.TCP1, Step.TCP1_REVERSE, Step.TCP4, Step.UDP_2G)
"""Loads that follow each other on one tunnel, twice: with segmentation and without."""

GENERATED = (Step.HANDSHAKES, Step.FLOODS)
"""Steps that need the native load generator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the result."""

    name: str
    unit: str
    about: str
    step: Step
    segmentation: bool = True
    higher_is_better: bool = False
    target: float | None = None
    """Bound of the ratio; of our own value when the row stands alone."""
    alone: bool = False
    """An absolute bound: there is no peer to compare with."""
    ours_only: bool = False
    """Not measured for peers: it would take too long, or says nothing about them."""
    worst_of: tuple[str, ...] = ()
    """Rows whose lowest median is the value of this one."""

    def meets(self, value: float) -> bool | None:
        """Whether a ratio (own value, when alone) keeps the target; None without a target."""
        if self.target is None:
            return None
        return value >= self.target if self.higher_is_better else value <= self.target

    @property
    def wanted(self) -> str:
        """The target in words, for tables."""
        if self.target is None:
            return ""
        sign = "≥" if self.higher_is_better else "≤"
        return f"{sign} {self.target:,g}{' ' + self.unit if self.alone and self.unit else ''}"


def _throughput(segmentation: bool) -> tuple[Row, ...]:
    suffix = "" if segmentation else NOSEG

    def row(name: str, about: str, step: Step, target: float | None) -> Row:
        return Row(
            name=name + suffix,
            unit="Gbit/s",
            about=about,
            step=step,
            segmentation=segmentation,
            higher_is_better=True,
            target=target if segmentation else 1.0,
        )

    return (
        row("tcp1", "one TCP stream", Step.TCP1, 1.5),
        row("tcp1_reverse", "one TCP stream, the server sends", Step.TCP1_REVERSE, None),
        row("tcp4", "four TCP streams", Step.TCP4, None),
        row("udp_2g_goodput", "1,300-byte datagrams, 2 Gbit/s offered: what arrives", Step.UDP_2G, 2.0),
        Row(
            name=f"udp_2g_tunnel_loss{suffix}",
            unit="%",
            about="of these datagrams: sent into the TUN and not written out of the other one",
            step=Step.UDP_2G,
            segmentation=segmentation,
        ),
        Row(
            name=f"tcp1_retransmits{suffix}",
            unit="/GB",
            about="segments that TCP sent again in tcp1",
            step=Step.TCP1,
            segmentation=segmentation,
        ),
    )


def _scale() -> tuple[Row, ...]:
    def peers(name: str, unit: str, about: str, target: float, *, alone: bool = False) -> Row:
        return Row(name=f"peers_10k_{name}", unit=unit, about=about, step=Step.PEERS, target=target, alone=alone)

    return (
        peers("load_s", "s", "10,000 peers set in one request at the control socket", 0.5),
        peers("bytes_each", "B", "what each of them adds to the resident memory", 3072.0, alone=True),
        peers("one_change_ms", "ms", "one of them changed: median of 500 requests", 1.0),
        Row(
            name="allowed_130k_set_s",
            unit="s",
            about="130,560 allowed IPs of one peer set in one request",
            step=Step.ALLOWED,
            target=1.0,
            alone=True,
        ),
        Row(
            name="idle_wakeups_per_s",
            unit="/s",
            about="how often any thread wakes while 1,000 peers are silent",
            step=Step.IDLE,
            target=2.0,
            alone=True,
        ),
    )


def _netmaps() -> tuple[Row, ...]:
    def row(name: str, unit: str, about: str, target: float) -> Row:
        step = Step.NETMAP_100K if name.startswith("100k") else Step.NETMAP_10K
        return Row(name=f"netmap_{name}", unit=unit, about=about, step=step, target=target, alone=True, ours_only=True)

    return (
        row("10k_first_s", "s", "a netmap of 10,000 nodes read from JSON and applied by an engine of mode tun", 2.0),
        row("10k_noop_ms", "ms", "an equal one, read anew, applied: median of 5", 20.0),
        row("10k_one_ms", "ms", "one node of it changed, applied: median of 100", 5.0),
        row("10k_bytes_each", "B", "what each node adds to the resident memory of the process", 5000.0),
        row("100k_load_s", "s", "a netmap of 100,000 nodes read from JSON and applied", 10.0),
        row("100k_idle_cpu", "%", "of a core, while all of them are silent", 2.0),
    )


def _hostile() -> tuple[Row, ...]:
    def share(name: str, about: str, worst_of: tuple[str, ...] = ()) -> Row:
        return Row(
            name=name,
            unit="",
            about=about,
            step=Step.FLOODS,
            higher_is_better=True,
            target=0.9,
            alone=True,
            ours_only=True,
            worst_of=worst_of,
        )

    return (
        Row(
            name="handshakes_per_s",
            unit="/s",
            about="handshakes that 1,000 initiators were answered",
            step=Step.HANDSHAKES,
            higher_is_better=True,
            target=3000.0,
            alone=True,
        ),
        Row(
            name="handshake_cpu_us",
            unit="µs",
            about="processor time of the responder for each of them",
            step=Step.HANDSHAKES,
        ),
        share(
            LEGIT_SHARE,
            "share of a TCP stream that is kept under the worst of these floods, 100,000 datagrams a second",
            tuple(LEGIT_SHARES),
        ),
        *(share(name, f"the same under {kind.replace('-', ' ')}") for name, kind in LEGIT_SHARES.items()),
    )


# The worse-looking half, without segmentation, is quoted first.
ROWS: tuple[Row, ...] = (
    *_throughput(segmentation=False),
    *_throughput(segmentation=True),
    Row(name="ping_idle_p50", unit="ms", about="median of 1,000 pings 2 ms apart, no load", step=Step.PING, target=0.5),
    Row(name="ping_idle_p99", unit="ms", about="99th percentile of the same pings", step=Step.PING),
    Row(
        name="cpu_s_per_gb",
        unit="s/GB",
        about="user and system time of both tunnel processes per 10⁹ bytes received, in tcp1",
        step=Step.TCP1,
        target=0.65,
    ),
    Row(
        name="rss_under_load",
        unit="MB",
        about="peak resident memory (10⁶ bytes) of the receiver's process after all loads",
        step=Step.TCP1,
        target=64.0,
        alone=True,
    ),
    *_scale(),
    *_netmaps(),
    *_hostile(),
    Row(
        name="reconfig_tcp_ratio",
        unit="",
        about="a TCP stream while other peers are reconfigured 100 times a second, divided by one while none is",
        step=Step.RECONFIG,
        higher_is_better=True,
        target=0.98,
        alone=True,
        ours_only=True,
    ),
)


def select(names: Iterable[str]) -> tuple[Row, ...]:
    """Returns the rows with these names, and those that they are the worst of, in the table's order.

    Raises:
        ValueError: for a name that no row has; the message lists the names.
    """
    wanted = set(names)
    unknown = wanted - {row.name for row in ROWS}
    if unknown:
        known = ", ".join(row.name for row in ROWS)
        raise ValueError(f"no row is named {', '.join(sorted(unknown))}; rows are: {known}")
    wanted |= {name for row in ROWS if row.name in wanted for name in row.worst_of}
    return tuple(row for row in ROWS if row.name in wanted)


def steps_of(rows: Iterable[Row], *, segmentation: bool, ours: bool = True) -> tuple[Step, ...]:
    """Returns the loads that these rows need, idle ones first, as no load may stand before a ping."""
    needed = {row.step for row in rows if row.segmentation == segmentation and (ours or not row.ours_only)}
    return tuple(step for step in Step if step in needed)
