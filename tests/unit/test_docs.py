"""tools/check_docs.py and tools/tiers.py: what they find in a small tree of files."""

from pathlib import Path

import check_docs as docs
import pytest
import tiers


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(docs, "BUILDINGS", ("tools",))
    monkeypatch.setattr(docs, "DOCUMENTS", ("ARCHITECTURE.md",))
    (tmp_path / "tools" / "boxes").mkdir(parents=True)
    (tmp_path / "tools" / "boxes" / "lid.py").touch()
    (tmp_path / "tools" / "hammer.py").touch()
    (tmp_path / "ARCHITECTURE.md").write_text("## `tools/`: all of them\n\n| `hammer` | x |\n| `boxes/` | y |\n")
    return tmp_path


def test_a_tree_that_is_as_written_passes(tree: Path) -> None:
    assert list(docs.room_violations()) == []


def test_a_room_without_a_line_is_found(tree: Path) -> None:
    (tree / "tools" / "saw.py").touch()
    assert list(docs.room_violations()) == ["ARCHITECTURE.md: no line for tools/saw"]


def test_a_line_without_a_room_is_found(tree: Path) -> None:
    (tree / "tools" / "hammer.py").unlink()
    assert list(docs.room_violations()) == ["ARCHITECTURE.md: tools/hammer has a line but is not there"]


def test_paths_links_and_tests_that_are_not_there_are_found(tree: Path) -> None:
    text = "`tools/saw.py` `test_cuts` [x](docs/y.md)\n```\n`tools/free.py`\n```\n"
    (tree / "ARCHITECTURE.md").write_text(text + "`tools/hammer.py` `test_nails` `test_n01_` [z](tools/boxes)")
    found = list(docs.name_violations({"test_nails"}))
    assert [text.split(": ")[1] for text in found] == [
        "link to docs/y.md, which is not there",
        "names tools/saw.py, which is not there",
        "names the test test_cuts, which is not there",
    ]


def test_examples_are_type_checked(tree: Path) -> None:
    (tree / "ARCHITECTURE.md").write_text("```python\nx: int = 'text'\n```\n")
    assert "Incompatible types" in "".join(docs.example_violations())
    (tree / "ARCHITECTURE.md").write_text("```python\nx: int = 1\n```\n")
    assert list(docs.example_violations()) == []


def test_a_tier_in_which_nothing_ran_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "run_pytest", lambda name: tiers.Tier(name=name))
    assert tiers.run("unit").wrong == ["no test ran"]
    monkeypatch.setattr(tiers, "run_pytest", lambda name: tiers.Tier(name=name, skipped=1))
    assert tiers.run("unit").wrong == []


def test_the_totals_fail_with_any_tier(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    results = {"unit": tiers.Tier(name="unit", passed=3), "model": tiers.Tier(name="model", passed=2, failed=1)}
    monkeypatch.setattr(tiers, "run", results.__getitem__)
    assert tiers.main(["unit"]) == 0
    assert tiers.main(["unit", "model"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "total: 5 passed, 1 failed, 0 skipped"
    assert tiers.main(["moddel"]) == 2
