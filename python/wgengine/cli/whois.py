"""`whois IP`: which node an address belongs to, and whose that is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from wgengine.cli import outcome, running
from wgengine.cli.screen import printable


@click.command()
@click.argument("ip")
@click.option("--interface", metavar="IF", help=running.HELP)
@click.option("--json", "as_json", is_flag=True, help="Write one object; null when it is nobody's.")
def whois(ip: str, interface: str | None, as_json: bool) -> int:
    """Show who owns IP, an address in the tunnel of a running engine."""
    with running.reach(interface) as client:
        found = client.whois(ip)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found is not None:
        click.echo(render(found))
    else:
        outcome.complain(f"{ip} is nobody's here: no node has it, and no route leads to it")
    return outcome.OK if found is not None else outcome.FAILED


def render(found: Mapping[str, Any]) -> str:
    """The text for people: what is not known is left out."""
    rows = [(label, value) for label, value in _rows(found) if value]
    width = max((len(label) for label, _ in rows), default=0)
    return "\n".join(f"{label + ':':<{width + 1}}  {printable(value)}" for label, value in rows)


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    node, user = found.get("node") or {}, found.get("user") or {}
    ip, route = str(found.get("ip") or ""), str(found.get("route") or "")
    yield "Address", ip
    yield "Route", route if route.partition("/")[0] != ip else ""
    yield "Name", str(node.get("name") or "").rstrip(".")
    yield "Node", "this one" if found.get("is_self") else ""
    yield "System", str(node.get("os") or "")
    yield "Key", str(node.get("key") or "")
    addresses = node.get("addresses") or ()
    yield "Addresses", ", ".join(map(str, addresses))
    yield "Routes", ", ".join(str(each) for each in node.get("allowed_ips") or () if each not in addresses)
    yield "Tags", ", ".join(map(str, node.get("tags") or ()))
    yield "User", " ".join(filter(None, (_text(user, "display_name"), _angled(_text(user, "login_name")))))
    capabilities = found.get("capabilities") or {}
    for name in sorted(capabilities):
        values = capabilities[name] if isinstance(capabilities, Mapping) else None
        yield "Capability", name + (f" {json.dumps(values)}" if values else "")


def _text(user: Mapping[str, Any], name: str) -> str:
    return str(user.get(name) or "")


def _angled(text: str) -> str:
    return f"<{text}>" if text else ""
