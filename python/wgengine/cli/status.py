"""`status [IF]`: what every interface with a UAPI socket is doing, laid out as `wg show` does it."""

import json
from typing import Any, Final

import click

from wgengine.cli import outcome, screen, uapi
from wgengine.status import EngineStatus

# What a UAPI socket can tell of an EngineStatus; the rest is left out, not made up.
_TOLD: Final = ("name", "time", "public_key", "listen_port", "fwmark", "peers")


@click.command()
@click.argument("interface", required=False)
@click.option("--json", "as_json", is_flag=True, help="Write a list with one object per interface.")
def status(interface: str | None, as_json: bool) -> int:
    """Show INTERFACE, or every interface that a userspace implementation serves, and its peers."""
    found, code = ([uapi.ask(interface)], outcome.OK) if interface else _all()
    if as_json:
        click.echo(json.dumps([_as_dict(state) for state in found], indent=2))
    elif found:
        screen.show_status("\n\n".join(state.render() for state in found))
    if not found and code == outcome.OK:
        raise outcome.NotRunningError("no interface is running; start one with `wgengine device wg0`")
    return code


def _all() -> tuple[list[EngineStatus], int]:
    """Those that answer, and the exit code: one that answers nonsense does not hide the others."""
    found = []
    code: int = outcome.OK
    for name in uapi.interfaces():
        try:
            found.append(uapi.ask(name))
        except outcome.NotRunningError:
            continue  # a socket file that a crash left behind
        except ConnectionError as error:
            outcome.complain(error)
            code = outcome.FAILED
    return found, code


def _as_dict(state: EngineStatus) -> dict[str, Any]:
    everything = state.as_dict()
    return {name: everything[name] for name in _TOLD}
