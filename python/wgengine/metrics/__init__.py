"""Numbers about one engine, as Prometheus reads them. What stands where: `docs/metrics.md`."""

from __future__ import annotations

from wgengine.metrics.engine import EngineMetrics, PeerSeen, Snapshot
from wgengine.metrics.exposition import CONTENT_TYPE, render
from wgengine.metrics.family import Family, Sample
from wgengine.metrics.registry import Counter, Gauge, Histogram, Registry

__all__ = [
    "CONTENT_TYPE",
    "Counter",
    "EngineMetrics",
    "Family",
    "Gauge",
    "Histogram",
    "PeerSeen",
    "Registry",
    "Sample",
    "Snapshot",
    "render",
]
