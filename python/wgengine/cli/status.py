"""`status [IF]`: what every interface with a UAPI socket is doing, laid out as `wg show` does it."""

import json
from typing import Any, Final

import click

from wgengine.cli import screen, uapi
from wgengine.cli.outcome import NotRunningError
from wgengine.status import EngineStatus

# What a UAPI socket can tell of an EngineStatus; the rest is left out, not made up.
_TOLD: Final = ("name", "time", "public_key", "listen_port", "fwmark", "peers")


@click.command()
@click.argument("interface", required=False)
@click.option("--json", "as_json", is_flag=True, help="Write a list with one object per interface.")
def status(interface: str | None, as_json: bool) -> None:
    """Show INTERFACE, or every interface that a userspace implementation serves, and its peers."""
    found = [uapi.ask(interface)] if interface else _all()
    if as_json:
        click.echo(json.dumps([_as_dict(state) for state in found], indent=2))
    elif found:
        screen.show_status("\n\n".join(state.render() for state in found))
    if not found:
        raise NotRunningError("no interface is running; start one with `wgengine device wg0`")


def _all() -> list[EngineStatus]:
    found = []
    for name in uapi.interfaces():
        try:
            found.append(uapi.ask(name))
        except NotRunningError:
            continue  # a socket file that a crash left behind
    return found


def _as_dict(state: EngineStatus) -> dict[str, Any]:
    everything = state.as_dict()
    return {name: everything[name] for name in _TOLD}
