"""tools/scenarios.py: which row and which pairing a test is of, and what is told of it."""

from pathlib import Path

import pytest
import scenarios

REPORT = """<testsuites><testsuite>
<testcase name="test_n01_bytes[wgengine+boringtun-cli]"><properties>
  <property name="n01" value="a: rx 1 tx 2; b: rx 3 tx 4"/></properties></testcase>
<testcase name="test_n18_n19_rules[4-responder-wireguard-go]"/>
<testcase name="test_n20_many"/>
<testcase name="test_n21_keys"><failure/></testcase>
<testcase name="test_n22_low"><skipped/></testcase>
<testcase name="test_f2_restart"><properties><property name="a+b" value="15.3 s"/></properties></testcase>
<testcase name="test_other"/>
</testsuite></testsuites>"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(scenarios, "TIERS", ("netns",))
    (tmp_path / "netns.xml").write_text(REPORT)
    return scenarios.document(list(scenarios.cases(tmp_path))).splitlines()


def cells(told: list[str], row: str) -> list[str]:
    (line,) = [line for line in told if line.startswith(f"| {row} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][2:]


def test_a_pairing_has_its_own_cell(told: list[str]) -> None:
    assert cells(told, "N1") == ["", "", "", "✓ 1", ""]


def test_a_peer_and_our_part_are_a_pairing(told: list[str]) -> None:
    assert cells(told, "N18") == cells(told, "N19") == ["", "", "✓ 1", "", ""]


def test_one_device_alone_stands_under_the_first(told: list[str]) -> None:
    assert cells(told, "N20") == ["✓ 1", "", "", "", ""]


def test_what_failed_is_seen_and_what_skipped_is_not_claimed(told: list[str]) -> None:
    assert cells(told, "N21") == ["**✗**", "", "", "", ""]
    assert cells(told, "N22") == [""] * 5


def test_what_was_measured_is_told(told: list[str]) -> None:
    assert "| wgengine → boringtun-cli | 1, 2 | 3, 4 |" in told
    assert "| `test_f2_restart` | a → b: 15.3 s |" in told


def test_a_report_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"netns\.xml is missing"):
        list(scenarios.cases(tmp_path))
