"""Finds the running engine that a verb means, by its control socket."""

from __future__ import annotations

from wgengine.cli.interface import check_name
from wgengine.cli.outcome import NotRunningError, UsageError
from wgengine.control import place
from wgengine.control.client import Client

HELP = "The interface of the engine; needed where several run."


def reach(interface: str | None) -> Client:
    """A connection to the engine of an interface, or to the only one there is."""
    places = place.listing()
    if interface is not None:
        client = connect(check_name(interface), places)
        if client is None:
            raise NotRunningError(f"no engine of wgengine serves {interface}; start it with `wgengine up`")
        return client
    found = [client for name in places if (client := connect(name, places)) is not None]
    if len(found) == 1:
        return found[0]
    names = ", ".join(client.interface for client in found)
    for client in found:
        client.close()
    if found:
        raise UsageError(f"{len(found)} engines are running ({names}); say which by --interface {found[0].interface}")
    raise NotRunningError("no engine is running here; start one with `wgengine up`")


def connect(interface: str, places: dict[str, str]) -> Client | None:
    """A connection to an engine; None when nobody serves it, whatever a crash left behind."""
    try:
        return Client(places[interface]) if interface in places else None
    except (FileNotFoundError, ConnectionRefusedError):
        return None
