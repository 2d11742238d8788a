"""`ping HOST`: asks the running engine how far away a peer is, once a second."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import click

from wgengine.cli import outcome, running
from wgengine.cli.screen import printable

_PERIOD_S: Final = 1.0
_TRIES: Final = 10


@click.command()
@click.argument("host")
@click.option("--tsmp", "kind", flag_value="tsmp", help="By Tailscale's message: the peer's engine answers.")
@click.option("--icmp", "kind", flag_value="icmp", help="By ICMP echo: the peer's system answers.")
@click.option(
    "--count", type=click.IntRange(min=0), help="How many; 0: until Ctrl-C. Else up to 10, until one returns."
)
@click.option("--timeout", metavar="S", type=click.FloatRange(min=0.01, max=60), default=5.0, help="For each; 5 s.")
@click.option("--size", type=click.IntRange(min=0), default=0, help="Bytes to fill it up with.")
@click.option("--interface", metavar="IF", help=running.HELP)
@click.option("--json", "as_json", is_flag=True, help="Write an object a line for each, and one for all.")
def ping(
    host: str, kind: str | None, count: int | None, timeout: float, size: int, interface: str | None, as_json: bool
) -> int:
    """Ping HOST, the address or the name of a node, through the tunnel of a running engine."""
    tally = Tally()
    with running.reach(interface) as client:
        try:
            while True:
                began = time.monotonic()
                result = client.ping(host, kind=kind or "auto", size=size, timeout=timeout)
                tally.add(result)
                click.echo(json.dumps(result) if as_json else line(result, host))
                if result.get("is_local") or _is_enough(tally, count):
                    break
                time.sleep(max(0.0, began + _PERIOD_S - time.monotonic()))
        except KeyboardInterrupt:
            pass
    if tally.sent and not tally.is_local:
        click.echo(json.dumps({"summary": tally.as_dict()}) if as_json else tally.summary(host))
    return outcome.OK if tally.received or tally.is_local else outcome.FAILED


def _is_enough(tally: Tally, count: int | None) -> bool:
    if count is None:
        return tally.received > 0 or tally.sent >= _TRIES
    return 0 < count <= tally.sent


@dataclass(slots=True)
class Tally:
    """What came of several pings."""

    sent: int = 0
    latencies: list[float] = field(default_factory=list)  # seconds
    is_local: bool = False

    @property
    def received(self) -> int:
        return len(self.latencies)

    def add(self, result: Mapping[str, Any]) -> None:
        """One more result."""
        self.sent += 1
        self.is_local |= bool(result.get("is_local"))
        if not result.get("error"):
            self.latencies.append(float(result.get("latency") or 0.0))

    def as_dict(self) -> dict[str, Any]:
        """For JSON; seconds."""
        some = self.latencies
        return {
            "sent": self.sent,
            "received": self.received,
            "loss": (self.sent - self.received) / self.sent if self.sent else 0.0,
            "min": min(some) if some else None,
            "avg": sum(some) / len(some) if some else None,
            "max": max(some) if some else None,
        }

    def summary(self, host: str) -> str:
        """The last lines."""
        told = self.as_dict()
        text = f"{printable(host)}: {self.sent} sent, {self.received} received, {told['loss']:.0%} loss"
        if not self.latencies:
            return text + "; no reply"
        return text + f"\nmin/avg/max = {_ms(told['min'])}/{_ms(told['avg'])}/{_ms(told['max'])}"


def line(result: Mapping[str, Any], host: str) -> str:
    """What one ping brought."""
    ip = str(result.get("ip"))
    name = printable(str(result.get("node_name") or host).rstrip("."))
    if result.get("is_local"):
        return f"{name} ({ip}) is local: this node"
    if result.get("error"):
        error = printable(str(result["error"]))
        return f'ping "{ip}" {error}' if error == "timed out" else f'ping "{ip}" failed: {error}'
    port = f", port {result['peer_api_port']}" if result.get("peer_api_port") else ""
    path = result.get("endpoint") or str(result.get("kind", "")).upper()
    return f"pong from {name} ({ip}{port}) via {printable(str(path))} in {_ms(float(result.get('latency') or 0.0))}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}ms" if seconds < 1 else f"{seconds:.2f}s"
