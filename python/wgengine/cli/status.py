"""`status [IF]`: our engines as a table, by their control sockets; others as `wg show` lays them out, by theirs."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Final

import click

from wgengine.cli import interface as names
from wgengine.cli import outcome, running, screen, table, uapi
from wgengine.control import place
from wgengine.errors import Error

SCHEMA: Final = 1  # of the JSON: fields may come; while this stays none goes or changes its meaning
# What a UAPI socket can tell of an EngineStatus; the rest is left out, not made up.
_TOLD: Final = ("name", "time", "public_key", "listen_port", "fwmark", "peers")


@click.command()
@click.argument("interface", required=False)
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option("--interval", metavar="S", type=click.FloatRange(min=0.1), default=2.0, help="Seconds between; 2.")
@click.option("--json", "as_json", is_flag=True, help="Write a list with one object per interface.")
def status(interface: str | None, watch: bool, interval: float, as_json: bool) -> int:
    """Show INTERFACE, or every interface that a userspace implementation serves, and its peers."""
    if not watch:
        return _show(interface, as_json=as_json)
    try:
        while True:
            _show(interface, as_json=as_json, again=True)
            time.sleep(interval)
    except KeyboardInterrupt:
        return outcome.OK


@dataclass(frozen=True, slots=True)
class _Seen:
    """An interface: as an object, and as text."""

    told: dict[str, Any]
    text: str


def _show(interface: str | None, *, as_json: bool, again: bool = False) -> int:
    found, code = ([_ask(interface)], outcome.OK) if interface else _all()
    if as_json:
        told = [{"version": SCHEMA, **seen.told} for seen in found]
        click.echo(json.dumps(told, indent=None if again else 2))  # again and again: a line each time
    elif found:
        if again:
            click.clear()  # on a terminal only
        screen.show_status("\n\n".join(seen.text for seen in found))
    if not found and code == outcome.OK:
        raise outcome.NotRunningError("no interface is running; start one with `wgengine up` or `wgengine device wg0`")
    return code


def _ask(interface: str, places: dict[str, str] | None = None) -> _Seen:
    """One interface: an engine of ours tells more than UAPI can."""
    client = running.connect(names.check_name(interface), place.listing() if places is None else places)
    if client is None:
        state = uapi.ask(interface)
        everything = state.as_dict()
        return _Seen({name: everything[name] for name in _TOLD}, state.render())
    with client:
        told = client.status()
    return _Seen(told, table.render(told, time.time()))


def _all() -> tuple[list[_Seen], int]:
    """Those that answer, and the exit code: one that answers nonsense does not hide the others."""
    found = []
    code: int = outcome.OK
    places = place.listing()
    for name in sorted({*places, *uapi.interfaces()}):
        try:
            found.append(_ask(name, places))
        except outcome.NotRunningError:
            continue  # a socket file that a crash left behind
        except (ConnectionError, Error) as error:
            if isinstance(error, PermissionError):
                raise
            outcome.complain(error)
            code = outcome.FAILED
    return found, code
