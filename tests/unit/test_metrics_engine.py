"""The metrics of an engine: which there are, under which names, and where their values come from."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import wgengine
from prometheus_client.parser import text_string_to_metric_families as parse
from wgengine._native import Device
from wgengine.events import ConfigChanged, EndpointChanged, EventsLost, HandshakeFailed
from wgengine.health import Health
from wgengine.keys import PublicKey
from wgengine.knobs import Knobs
from wgengine.metrics import EngineMetrics, Snapshot
from wgengine.metrics import engine as room
from wgengine.metrics.drops import TAILSCALED, by_tailscaled

ROOT = Path(__file__).resolve().parents[2]
REASONS = {"acl", "multicast", "link_local_unicast", "too_short", "fragment", "unknown_protocol", "error"}


def key(number):
    return PublicKey.from_bytes(number.to_bytes(32, "big"))


@dataclass
class Seen:
    public_key: PublicKey
    rx_bytes: int = 0
    tx_bytes: int = 0
    last_handshake: float | None = None


def snapshot(**values):
    return Snapshot(**{"version": "1", "mode": "fake", **values})


def read(metrics, snap):
    """{name: {labels' values: value}} as Prometheus reads it."""
    found = {}
    for family in parse(metrics.text(snap)):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


@pytest.fixture(scope="module")
def device():
    made = Device(memory=True)
    yield made
    made.close()


def test_every_drop_of_the_device_has_its_row(device):
    assert set(TAILSCALED) == set(device.drops())
    assert {word for _, word in TAILSCALED.values()} <= REASONS


def test_every_counter_of_the_device_is_explained(device):
    assert set(room._COUNTERS) | set(room._IPV6) == set(device.counters())


def test_drops_are_told_by_direction_in_tailscaleds_words():
    drops = {"bad_source": 1, "bad_tag": 2, "replayed": 3, "no_peer": 4, "malformed_packet": 0, "from_the_future": 9}
    assert by_tailscaled(drops, "inbound") == {"acl": 1, "error": 5}
    assert by_tailscaled(drops, "outbound") == {"error": 4}


def test_drops_have_the_engines_own_words_too():
    found = read(EngineMetrics(), snapshot(drops={"bad_tag": 2, "no_peer": 0}))
    assert found["wgengine_drops_total"] == {("bad_tag",): 2, ("no_peer",): 0}
    assert found["wgengine_inbound_dropped_packets_total"] == {("error",): 2}
    assert found["wgengine_outbound_dropped_packets_total"] == {("error",): 0}  # there from the start


@pytest.mark.parametrize("prefix", ["wgengine_", "tailscaled_"])
def test_dashboards_find_what_they_know(prefix):
    counters = {f"udp_{way}_{unit}": 10 for way in ("rx", "tx") for unit in ("datagrams", "bytes")}
    counters |= {f"{name}_ipv6": 3 for name in counters}
    health = {"router": ("medium", True), "dns": ("medium", False)}
    snap = snapshot(counters=counters, health=health, advertised_routes=2, approved_routes=1, home_derp_region=9)
    found = read(EngineMetrics(Knobs(metrics_prefix=prefix)), snap)
    paths = {"direct_ipv4": 7, "direct_ipv6": 3, "derp": 0, "peer_relay_ipv4": 0, "peer_relay_ipv6": 0}
    for direction in ("inbound", "outbound"):
        for unit in ("packets", "bytes"):
            assert found[f"{prefix}{direction}_{unit}_total"] == {(path,): count for path, count in paths.items()}
    assert found[f"{prefix}health_messages"] == {("warning",): 1}
    assert found[f"{prefix}advertised_routes"] == {(): 2}
    assert found[f"{prefix}approved_routes"] == {(): 1}
    assert found[f"{prefix}home_derp_region_id"] == {(): 9}
    assert found["wgengine_health_warning"] == {("router", "medium"): 1, ("dns", "medium"): 0}
    assert not any(name.startswith("tailscaled_") for name in found) or prefix == "tailscaled_"


def test_what_happens_is_counted():
    metrics = EngineMetrics()
    for event in (
        HandshakeFailed(time=0, peer=key(1)),
        EndpointChanged(time=0, peer=key(1), endpoint="192.0.2.1:1"),
        EventsLost(time=0, count=5),
        ConfigChanged(time=0),
    ):
        metrics.feed(event)
    metrics.link_changed(major=True)
    metrics.reconfigured(0.02, "changed")
    metrics.pinged("icmp", key(1), 0.004)
    metrics.pinged("icmp", key(1), None)
    found = read(metrics, snapshot(counters={"handshakes_completed": 7}, drops={"bad_handshake": 1, "unknown_peer": 2}))
    assert found["wgengine_peer_handshakes_total"] == {("ok",): 7, ("timeout",): 1, ("invalid",): 3}
    assert found["wgengine_peer_endpoint_changes_total"] == {(): 1}
    assert found["wgengine_events_lost_total"] == {(): 5}
    assert found["wgengine_link_changes_total"] == {("major",): 1, ("minor",): 0}
    assert found["wgengine_reconfigs_total"] == {("changed",): 1, ("nothing",): 0, ("error",): 0}
    assert found["wgengine_reconfig_seconds_count"] == {(): 1}
    assert found["wgengine_pings_total"] == {("icmp", "ok"): 1, ("icmp", "error"): 1}
    assert found["wgengine_ping_seconds_sum"] == {("icmp",): 0.004}


def test_peers_have_names_that_tell_them_apart():
    peers = [Seen(key(number), rx_bytes=number, tx_bytes=2, last_handshake=3.0) for number in range(1, 6)]
    whole = [peer.public_key.to_base64() for peer in peers]
    names = dict(zip(whole, ["name", "name", None, "other", whole[0]], strict=True))
    snap = snapshot(peers=peers, trimmed=4, peer_name=lambda peer: names[peer.to_base64()])
    found = read(EngineMetrics(), snap)
    # all these keys begin alike: only one has its beginning for a name
    called = ["name", whole[1][:8], whole[2], whole[3], whole[4]]
    assert found["wgengine_peer_rx_bytes_total"] == {(name,): n for n, name in enumerate(called, 1)}
    assert found["wgengine_peer_last_handshake_seconds"] == {(name,): 3.0 for name in called}
    assert found["wgengine_peers"] == {("live",): 5, ("trimmed",): 4}


def test_a_peer_that_never_shook_hands_has_no_time_of_it():
    found = read(EngineMetrics(), snapshot(peers=[Seen(key(1))]))
    assert "wgengine_peer_last_handshake_seconds" not in found
    assert found["wgengine_peer_tx_bytes_total"] == {("AAAAAAAA",): 0}


@pytest.mark.parametrize(
    ("asked", "peers", "series"),
    [(None, 100, 100), (None, 101, 0), (True, 101, 101), (False, 1, 0), (True, 2000, 1001)],
)
def test_series_of_single_peers_are_bounded(asked, peers, series):
    snap = snapshot(peers=[Seen(key(number), rx_bytes=1) for number in range(peers)])
    found = read(EngineMetrics(Knobs(metrics_per_peer=asked)), snap).get("wgengine_peer_rx_bytes_total", {})
    assert len(found) == series
    if series:
        assert sum(found.values()) == peers


def test_what_is_beyond_the_limit_is_added_up_or_the_newest():
    peers = [Seen(key(number), rx_bytes=number, last_handshake=number or None) for number in (5, 1, 3, 0, 2)]
    found = read(
        EngineMetrics(Knobs(metrics_children=2)), snapshot(peers=peers, peer_name=lambda k: f"p{bytes(k)[-1]}")
    )
    assert found["wgengine_peer_rx_bytes_total"] == {("p5",): 5, ("p1",): 1, ("other",): 5}
    assert found["wgengine_peer_last_handshake_seconds"] == {("p5",): 5, ("p1",): 1, ("other",): 3}


def test_the_latest_ping_of_peers_that_are_there_is_told():
    metrics = EngineMetrics(Knobs(metrics_children=2))
    for number, seconds in ((1, 0.5), (2, 0.2), (1, 0.1), (3, 0.3), (3, 0.4)):
        metrics.pinged("tsmp", key(number), seconds)
    assert len(metrics._rtts) == 2
    snap = snapshot(peers=[Seen(key(1)), Seen(key(4))], peer_name=lambda k: f"p{bytes(k)[-1]}")
    assert read(metrics, snap)["wgengine_peer_rtt_seconds"] == {("p1",): 0.1}


def test_no_series_of_peers_no_ping_of_theirs():
    metrics = EngineMetrics(Knobs(metrics_per_peer=False))
    metrics.pinged("icmp", key(1), 0.1)
    assert "wgengine_peer_rtt_seconds" not in read(metrics, snapshot(peers=[Seen(key(1))]))


def test_calls_that_hung_are_counted_by_call_and_together():
    found = read(EngineMetrics(), snapshot(watchdog={"reconfig": 2, "ping": 1}))
    assert found["wgengine_watchdog_timeout_total"] == {("reconfig",): 2, ("ping",): 1}
    assert found["wgengine_watchdog_timeout_any_total"] == {(): 3}
    assert read(EngineMetrics(), snapshot())["wgengine_watchdog_timeout_any_total"] == {(): 0}


async def test_a_status_of_the_engine_is_what_a_snapshot_wants():
    ours, theirs = wgengine.PrivateKey.generate(), key(1)
    config = wgengine.Config(private_key=ours, peers=(wgengine.Peer(public_key=theirs, allowed_ips=("10.0.0.1/32",)),))
    async with wgengine.Engine(config, mode="memory") as engine:
        status = await engine.status()
    snap = snapshot(counters=status.counters, drops=status.drops, offloads=status.offloads, peers=status.peers)
    found = read(EngineMetrics(), snap)
    assert found["wgengine_peer_tx_bytes_total"] == {(theirs.to_base64()[:8],): 0}
    assert set(found["wgengine_drops_total"]) == {(reason,) for reason in TAILSCALED}
    assert found["wgengine_info"] == {("1", "fake"): 1}


def test_row_37_two_engines_count_apart():
    one, two = EngineMetrics(), EngineMetrics()
    one.rebinds.inc()
    assert read(one, snapshot())["wgengine_rebinds_total"] == {(): 1}
    assert read(two, snapshot())["wgengine_rebinds_total"] == {(): 0}


def test_the_document_has_every_metric_with_its_labels(device):
    health = Health()
    metrics = EngineMetrics()
    metrics.pinged("icmp", key(1), 0.1)
    snap = Snapshot(
        version=wgengine.__version__,
        mode="fake",
        counters=device.counters(),
        drops=device.drops(),
        offloads=device.offloads(),
        peers=[Seen(key(1), last_handshake=1.0)],
        health=health.severities(),
        watchdog={"ping": 1},
    )
    families = metrics.collect(snap)
    said = {
        family.name: {name for sample in family.samples for name, _ in sample.labels} - {"le"} for family in families
    }
    said["wgengine_inbound_dropped_packets_total"] = {"reason"}  # nothing was dropped
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(wgengine_\w+)` \| ((?:`\w+`(?:, )?)*) ?\|", text, re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == said
    assert len(list(parse(metrics.text(snap)))) == len(families)
