"""`metrics`: the text as it is, and as objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Serving, installed
from wgengine.cli import main
from wgengine.cli.metrics import samples


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    with installed(tmp_path, monkeypatch) as running:
        yield running


def test_text_is_the_engines_own(served: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["metrics"]) == 0
    assert capsys.readouterr().out == served.fake.metrics


def test_json_has_an_object_for_each_sample(served: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["metrics", "--json", "--interface", "wg0"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"name": "wgengine_x_total", "labels": {"reason": 'a "b"\\'}, "value": 3},
        {"name": "wgengine_up", "labels": {}, "value": 1},
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("-2.5", -2.5), ("1e-05", 1e-05), ("2.5e+10", 2.5e10), ("NaN", "NaN"), ("+Inf", "+Inf"), ("0.1", 0.1)],
)
def test_numbers_that_json_does_not_have_stay_texts(text: str, value: object) -> None:
    assert [sample["value"] for sample in samples(f"x {text}\n")] == [value]


def test_labels_may_hold_braces_commas_and_newlines() -> None:
    (sample,) = samples('x{a="}, b=\\"c\\"",d="\\n"} 1')
    assert sample["labels"] == {"a": '}, b="c"', "d": "\n"}
