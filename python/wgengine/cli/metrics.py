"""`metrics`: the numbers of the running engine, as Prometheus reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import click

from wgengine.cli import outcome, running

_SAMPLE: Final = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)", re.ASCII)
_LABEL: Final = re.compile(r'(\w+)="((?:\\.|[^"\\])*)"')
_ESCAPED: Final = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


@click.command()
@click.option("--interface", metavar="IF", help=running.HELP)
@click.option("--json", "as_json", is_flag=True, help="Write a list with one object per sample.")
def metrics(interface: str | None, as_json: bool) -> int:
    """Write the metrics of a running engine in Prometheus' text format."""
    with running.reach(interface) as client:
        text = client.metrics_text()
    click.echo(json.dumps(list(samples(text)), indent=2) if as_json else text, nl=as_json)
    return outcome.OK


def samples(text: str) -> Iterator[dict[str, Any]]:
    """The samples of a text in that format. What is no number in JSON stays a text."""
    for line in text.splitlines():
        found = _SAMPLE.fullmatch(line)
        if found is None or line.startswith("#"):
            continue
        labels = {
            name: re.sub(r"\\.", lambda escape: _ESCAPED.get(escape[0], escape[0]), value)
            for name, value in _LABEL.findall(found["labels"] or "")
        }
        yield {"name": found["name"], "labels": labels, "value": _number(found["value"])}


def _number(text: str) -> float | str:
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?[\d.]+(?:e[+-]?\d+)?", text) else text
