"""The programs in `examples/`, run as they are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import is_wgengine
from wgengine.bench.netmap_end import document

if TYPE_CHECKING:
    from lab import Lab

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = pytest.mark.skipif(not is_wgengine(), reason="programs of wgengine")


def test_a_fleet_is_reconfigured_pinged_and_asked(lab: Lab) -> None:
    netmap = lab.scratch / "fleet.json"
    netmap.touch(mode=0o600)
    netmap.write_text(document(300))
    said = lab.host().run(sys.executable, str(EXAMPLES / "fleet.py"), str(netmap), "3", timeout_s=60)
    assert "reconfigurations; the last one: ~ peer" in said
    assert "ping 100.64.0.0: timed out" in said, "nobody is there"
    assert "300 peers, of which 299 are trimmed" in said, "the one that was pinged is not"
    assert 'wgengine_reconfigs_total{result="changed"}' in said
