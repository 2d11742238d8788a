"""The metrics of an engine: what it counts while it runs, and what is read from a snapshot when somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from wgengine.events import EndpointChanged, Event, EventsLost, HandshakeFailed
from wgengine.knobs import Knobs
from wgengine.metrics.drops import Direction, by_tailscaled
from wgengine.metrics.family import OTHER, Family, Kind, Labels, Sample
from wgengine.metrics.registry import Registry

if TYPE_CHECKING:
    from wgengine.keys import PublicKey

__all__ = ["EngineMetrics", "PeerSeen", "Snapshot"]

_PEERS_UNASKED = 100
_PATHS = ("direct_ipv4", "direct_ipv6", "derp", "peer_relay_ipv4", "peer_relay_ipv6")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NOT_VALID = ("bad_handshake", "low_order_key", "replayed_initiation", "unknown_peer")

# what a device counts → what it says; those of IPv6 are parts of the paths' families
_COUNTERS = {
    "tun_rx_packets": "Packets read from the interface.",
    "tun_rx_bytes": "Bytes of packets read from the interface.",
    "tun_tx_packets": "Packets written to the interface.",
    "tun_tx_bytes": "Bytes of packets written to the interface.",
    "tun_reads": "Reads from the interface, each a super-packet.",
    "tun_writes": "Writes to the interface, each a super-packet.",
    "udp_rx_datagrams": "Datagrams received.",
    "udp_rx_bytes": "Bytes of datagrams received.",
    "udp_tx_datagrams": "Datagrams sent.",
    "udp_tx_bytes": "Bytes of datagrams sent.",
    "udp_reads": "Receives, each with many datagrams.",
    "udp_writes": "Sends, each with many datagrams.",
    "handshakes_initiated": "Handshakes that we began.",
    "handshakes_answered": "Handshakes of peers that we answered.",
    "handshakes_completed": "Handshakes that gave a session.",
    "cookies_sent": "Initiations answered with a cookie, under load.",
    "keepalives_sent": "Keepalives sent.",
    "keepalives_received": "Keepalives received.",
    "injected_packets": "Packets that the engine itself sent into the tunnel.",
    "tsmp_received": "Messages by TSMP that peers sent to the engine.",
}
_IPV6 = ("udp_rx_datagrams_ipv6", "udp_rx_bytes_ipv6", "udp_tx_datagrams_ipv6", "udp_tx_bytes_ipv6")


class PeerSeen(Protocol):
    """What a status says of a peer."""

    @property
    def public_key(self) -> PublicKey: ...
    @property
    def rx_bytes(self) -> int: ...
    @property
    def tx_bytes(self) -> int: ...
    @property
    def last_handshake(self) -> float | None: ...


def _nameless(peer: PublicKey) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What an engine looks like at one moment, in plain values."""

    version: str
    mode: str
    counters: Mapping[str, int] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)
    offloads: Mapping[str, bool] = field(default_factory=dict)
    peers: Sequence[PeerSeen] = ()  # those in the device, in an order that stays
    trimmed: int = 0  # those that are not
    peer_name: Callable[[PublicKey], str | None] = _nameless
    advertised_routes: int = 0  # without exit routes
    approved_routes: int = 0  # the same
    home_derp_region: int = 0
    health: Mapping[str, tuple[str, bool]] = field(default_factory=dict)  # code → severity, whether it is shown
    watchdog: Mapping[str, int] = field(default_factory=dict)  # call → how often it hung


class EngineMetrics:
    """One engine's metrics. What has an instrument here is counted by the engine; `collect` adds what it reads."""

    def __init__(self, knobs: Knobs = Knobs()) -> None:  # noqa: B008 (frozen)
        self._knobs = knobs
        self.registry = r = Registry(knobs.metrics_children)
        self.link_changes = r.counter(
            "wgengine_link_changes_total", "Changes of this host's network that the engine acted upon.", ["kind"]
        )
        self.netmon_changes = r.counter(
            "wgengine_netmon_changes_total", "What the network monitor found when it looked.", ["kind"]
        )
        self.rebinds = r.counter("wgengine_rebinds_total", "How often the UDP sockets were opened anew.")
        self.reconfigs = r.counter("wgengine_reconfigs_total", "Reconfigurations by what came of them.", ["result"])
        self.reconfig_seconds = r.histogram(
            "wgengine_reconfig_seconds", "How long reconfigurations took.", buckets=_SECONDS
        )
        self.pings = r.counter("wgengine_pings_total", "Pings by kind and what came of them.", ["kind", "result"])
        self.ping_seconds = r.histogram(
            "wgengine_ping_seconds", "How long answered pings took.", ["kind"], buckets=_SECONDS
        )
        self.endpoint_changes = r.counter(
            "wgengine_peer_endpoint_changes_total", "How often a peer was heard from another address."
        )
        self.disco_key_advertisements = r.counter(
            "wgengine_tsmp_disco_key_advertisements_total", "Disco keys told to peers by TSMP.", ["result"]
        )
        self.packets_reflected = r.counter(
            "wgengine_packets_reflected_total", "Packets to ourselves, given back to the system."
        )
        self.events_lost = r.counter("wgengine_events_lost_total", "Events of the device that came too fast.")
        self._timeouts = 0
        self._rtts: dict[PublicKey, float] = {}
        self._declare()

    def _declare(self) -> None:
        """Series that are there from the start, so that a first change is seen as one."""
        for kind in ("major", "minor"):
            self.link_changes.declare(kind=kind)
        for kind in ("same", "change", "major", "time_jump"):
            self.netmon_changes.declare(kind=kind)
        for result in ("changed", "nothing", "error"):
            self.reconfigs.declare(result=result)
        for result in ("sent", "error"):
            self.disco_key_advertisements.declare(result=result)

    def link_changed(self, *, major: bool) -> None:
        """The engine acted upon a change of the network."""
        self.link_changes.inc(kind="major" if major else "minor")

    def reconfigured(self, seconds: float, result: str) -> None:
        """A reconfiguration ended: `changed`, `nothing` or `error`."""
        self.reconfigs.inc(result=result)
        self.reconfig_seconds.observe(seconds)

    def pinged(self, kind: str, peer: PublicKey, seconds: float | None) -> None:
        """A ping ended; without an answer `seconds` is None."""
        self.pings.inc(kind=kind, result="ok" if seconds is not None else "error")
        if seconds is not None:
            self.ping_seconds.observe(seconds, kind=kind)
            self._rtts.pop(peer, None)
            self._rtts[peer] = seconds
            if len(self._rtts) > self._knobs.metrics_children:
                del self._rtts[next(iter(self._rtts))]

    def feed(self, event: Event) -> None:
        """Something happened to the engine."""
        match event:
            case HandshakeFailed():
                self._timeouts += 1
            case EndpointChanged():
                self.endpoint_changes.inc()
            case EventsLost(count=count):
                self.events_lost.inc(count)

    def collect(self, snapshot: Snapshot) -> list[Family]:
        """Everything at this moment, by name."""
        return self.registry.collect(self._pulled(snapshot))

    def text(self, snapshot: Snapshot) -> str:
        """The same, as Prometheus reads it."""
        return self.registry.text(self._pulled(snapshot))

    def _pulled(self, snapshot: Snapshot) -> Iterator[Family]:
        yield from _user_families(snapshot, self._knobs.metrics_prefix)
        yield from _own_families(snapshot)
        yield self._handshakes(snapshot)
        asked = self._knobs.metrics_per_peer
        if asked or (asked is None and len(snapshot.peers) <= _PEERS_UNASKED):
            yield from _peer_families(snapshot, self._rtts, self._knobs.metrics_children)

    def _handshakes(self, snapshot: Snapshot) -> Family:
        results = {
            "ok": snapshot.counters.get("handshakes_completed", 0),
            "timeout": self._timeouts,
            "invalid": sum(snapshot.drops.get(reason, 0) for reason in _NOT_VALID),
        }
        text = "Handshakes by what came of them."
        return _counter("wgengine_peer_handshakes_total", text, _by("result", results))


def _user_families(snapshot: Snapshot, prefix: str) -> Iterator[Family]:
    """Those that tailscaled has as well, by its names and labels."""
    count = snapshot.counters.get
    for direction, way in (("inbound", "rx"), ("outbound", "tx")):
        for unit, name in (("packets", f"udp_{way}_datagrams"), ("bytes", f"udp_{way}_bytes")):
            paths = dict.fromkeys(_PATHS, 0)
            paths["direct_ipv6"] = count(f"{name}_ipv6", 0)
            paths["direct_ipv4"] = count(name, 0) - paths["direct_ipv6"]
            text = f"WireGuard {unit} {'received' if way == 'rx' else 'sent'}, by path."
            yield _counter(f"{prefix}{direction}_{unit}_total", text, _by("path", paths))
    yield _dropped(snapshot, prefix, "inbound", {})
    yield _dropped(snapshot, prefix, "outbound", {"error": 0})
    warnings = sum(shown for _, shown in snapshot.health.values())
    yield _gauge(f"{prefix}health_messages", "Warnings that are shown.", _by("type", {"warning": warnings}))
    for name, text, value in (
        ("advertised_routes", "Routes offered to others, without exit routes.", snapshot.advertised_routes),
        ("approved_routes", "Routes of ours that others may use, without exit routes.", snapshot.approved_routes),
        ("home_derp_region_id", "The relay region that is ours; 0: none.", snapshot.home_derp_region),
    ):
        yield _gauge(prefix + name, text, [Sample(value)])


def _dropped(snapshot: Snapshot, prefix: str, direction: Direction, start: dict[str, int]) -> Family:
    reasons = start | by_tailscaled(snapshot.drops, direction)
    text = f"{direction.capitalize()} packets that were dropped, in tailscaled's words."
    return _counter(f"{prefix}{direction}_dropped_packets_total", text, _by("reason", reasons))


def _own_families(snapshot: Snapshot) -> Iterator[Family]:
    for name, value in snapshot.counters.items():
        if name not in _IPV6:
            yield _counter(f"wgengine_{name}_total", _COUNTERS.get(name, "Counted by the device."), [Sample(value)])
    yield _counter("wgengine_drops_total", "Packets that were dropped, by reason.", _by("reason", snapshot.drops))
    yield _gauge("wgengine_offload", "Whether an offload is in use.", _by("offload", snapshot.offloads))
    states = {"live": len(snapshot.peers), "trimmed": snapshot.trimmed}
    yield _gauge("wgengine_peers", "Peers in the device, and those left out as idle.", _by("state", states))
    yield _gauge(
        "wgengine_health_warning",
        "Whether this warning is shown.",
        [
            Sample(int(shown), (("code", code), ("severity", severity)))
            for code, (severity, shown) in snapshot.health.items()
        ],
    )
    yield _counter("wgengine_watchdog_timeout_any_total", "Calls that hung.", [Sample(sum(snapshot.watchdog.values()))])
    yield _counter("wgengine_watchdog_timeout_total", "Calls that hung, by call.", _by("op", snapshot.watchdog))
    info = (("version", snapshot.version), ("mode", snapshot.mode))
    yield _gauge("wgengine_info", "Always 1; the labels say which engine this is.", [Sample(1, info)])


def _peer_families(snapshot: Snapshot, rtts: Mapping[PublicKey, float], limit: int) -> Iterator[Family]:
    """Those of the first peers one by one; the rest, which may be very many, costs no more than an addition."""
    labels = _peer_labels(snapshot, limit)

    def samples(
        value: Callable[[PeerSeen], float | None], fold: Callable[[Iterable[float]], float]
    ) -> Iterator[Sample]:
        for label, peer in zip(labels, snapshot.peers, strict=False):
            if (own := value(peer)) is not None:
                yield Sample(own, label)
        rest = [own for peer in snapshot.peers[limit:] if (own := value(peer)) is not None]
        if rest:
            yield Sample(fold(rest), (("peer", OTHER),))

    received = samples(lambda peer: peer.rx_bytes, sum)
    yield _counter("wgengine_peer_rx_bytes_total", "Bytes received from a peer.", received)
    sent = samples(lambda peer: peer.tx_bytes, sum)
    yield _counter("wgengine_peer_tx_bytes_total", "Bytes sent to a peer.", sent)
    shaken = samples(lambda peer: peer.last_handshake, max)
    text = "When the latest handshake of a peer was, in Unix time."
    yield _gauge("wgengine_peer_last_handshake_seconds", text, shaken)
    pinged = samples(lambda peer: rtts.get(peer.public_key), max)
    yield _gauge("wgengine_peer_rtt_seconds", "The latest ping of a peer.", pinged)


def _peer_labels(snapshot: Snapshot, limit: int) -> list[Labels]:
    """A peer's name, or so much of its key as tells it from others; no two are alike, whoever chose the name."""
    peers = snapshot.peers[:limit]
    keys = [peer.public_key.to_base64() for peer in peers]
    taken = {OTHER, *keys}  # so that a peer's whole key is its own, whatever others are called
    labels: list[Labels] = []
    for key, peer in zip(keys, peers, strict=True):
        wanted = (snapshot.peer_name(peer.public_key), key[:8])
        word = next((word for word in wanted if word and word not in taken), key)
        taken.add(word)
        labels.append((("peer", word),))
    return labels


def _counter(name: str, text: str, samples: Iterable[Sample]) -> Family:
    return _family(name, "counter", text, samples)


def _gauge(name: str, text: str, samples: Iterable[Sample]) -> Family:
    return _family(name, "gauge", text, samples)


def _family(name: str, kind: Kind, text: str, samples: Iterable[Sample]) -> Family:
    return Family(name=name, kind=kind, help=text, samples=tuple(samples))


def _by(label: str, values: Mapping[str, int] | Mapping[str, bool]) -> Iterator[Sample]:
    return (Sample(int(value), ((label, key),)) for key, value in values.items())
