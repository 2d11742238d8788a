"""`events`: what happens to the running engine, line by line, as it happens."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import click

from wgengine.cli import outcome, running
from wgengine.cli.screen import printable


@click.command()
@click.option("--interface", metavar="IF", help=running.HELP)
@click.option("--json", "as_json", is_flag=True, help="Write one object a line.")
def events(interface: str | None, as_json: bool) -> int:
    """Follow what happens to a running engine, until it ends or Ctrl-C."""
    with running.reach(interface) as client:
        try:
            for event in client.events():
                click.echo(json.dumps(event) if as_json else line(event))
        except KeyboardInterrupt:
            pass
    return outcome.OK


def line(event: Mapping[str, Any]) -> str:
    """An event for people: when, what, and its fields."""
    when = time.strftime("%H:%M:%S", time.localtime(event.get("time", 0)))
    rest = " ".join(f"{name}={_shown(value)}" for name, value in event.items() if name not in ("event", "time"))
    return printable(f"{when} {event.get('event')} {rest}".rstrip())


def _shown(value: object) -> str:
    if isinstance(value, str) and value and " " not in value:
        return value
    return json.dumps(value, ensure_ascii=False)
