"""The table of `wgengine status`: a line for each peer, and under it what is not as it should be. Pure text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from wgengine.cli.screen import printable
from wgengine.status import size

__all__ = ["render"]

_COLUMNS: Final = ("NAME", "ADDRESS", "STATE", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT", "RTT")
_SESSION_S: Final = 180.0  # REJECT_AFTER_TIME: no session is older
_NONE: Final = "-"
_KEY_SHOWN: Final = 12


def render(status: Mapping[str, Any], now: float) -> str:
    """The text of an engine's status, as its control socket gives it."""
    return "\n".join(_lines(status, now))


def _lines(status: Mapping[str, Any], now: float) -> Iterator[str]:
    yield _heading(status)
    rows = [_row(peer, now) for peer in sorted(status.get("peers", ()), key=_order)]
    own = status.get("self")
    if own:
        rows.insert(0, (_title(own), _address(own), "this node", *[_NONE] * 5))
    if rows:
        yield ""
        yield from _aligned([_COLUMNS, *rows])
    notes = list(_notes(status))
    if notes:
        yield ""
        yield from notes


def _heading(status: Mapping[str, Any]) -> str:
    state = str(status.get("state", "running"))
    words = [state + (f" ({status['reason']})" if status.get("reason") else "")]
    if status.get("mode"):
        words.append(f"mode {status['mode']}")
    if status.get("listen_port"):
        words.append(f"port {status['listen_port']}")
    if status.get("fwmark"):
        words.append(f"fwmark {status['fwmark']:#x}")
    if status.get("public_key"):
        words.append(f"public key {status['public_key']}")
    return printable(f"{status.get('name')}: " + ", ".join(words))


def _row(peer: Mapping[str, Any], now: float) -> tuple[str, ...]:
    handshake, latency = peer.get("last_handshake"), peer.get("latency")
    return (
        _title(peer),
        _address(peer),
        _state(peer, now),
        printable(str(peer.get("endpoint") or peer.get("endpoint_name") or _NONE)),
        _age(now - handshake) if handshake is not None else _NONE,
        size(peer.get("rx_bytes", 0)),
        size(peer.get("tx_bytes", 0)),
        f"{latency * 1000:.1f} ms" if latency is not None else _NONE,
    )


def _title(peer: Mapping[str, Any]) -> str:
    """Its first label, else the beginning of its key."""
    name = str(peer.get("name") or "").partition(".")[0]
    return printable(name) if name else str(peer.get("public_key"))[:_KEY_SHOWN] + "…"


def _address(peer: Mapping[str, Any]) -> str:
    addresses = peer.get("addresses") or peer.get("allowed_ips") or ()
    return str(addresses[0]).removesuffix("/32").removesuffix("/128") if addresses else _NONE


def _order(peer: Mapping[str, Any]) -> tuple[bool, str, str, str]:
    """By name, those without one last."""
    name = str(peer.get("name") or "")
    return not name, name.lower(), _address(peer), str(peer.get("public_key"))


def _state(peer: Mapping[str, Any], now: float) -> str:
    """What the engine says of it, else what its last handshake tells."""
    handshake = peer.get("last_handshake")
    if peer.get("state"):
        state = str(peer["state"])
    elif handshake is not None and now - handshake < _SESSION_S:
        state = "direct"
    else:
        state = "idle" if handshake is not None or peer.get("tx_bytes") or peer.get("trimmed") else _NONE
    words = [state] if state != _NONE else []
    if peer.get("exit_node"):
        words.append("exit node")
    elif peer.get("exit_node_option"):
        words.append("offers exit node")
    if peer.get("online") is False:
        words.append("offline")
    return printable("; ".join(words) or _NONE)


def _notes(status: Mapping[str, Any]) -> Iterator[str]:
    off = [name for name, on in (status.get("offloads") or {}).items() if not on]
    if off:
        yield f"offloads off: {', '.join(off)}"
    dropped = [f"{count} {reason}" for reason, count in (status.get("drops") or {}).items() if count]
    if dropped:
        yield f"dropped: {', '.join(dropped)}"
    health = status.get("health") or ()
    if health:
        yield "# Health check:"
        yield from (f"#     - {printable(str(text))}" for text in health)


_AGES: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def _age(seconds: float) -> str:
    """How long ago, in one unit."""
    for length, unit in _AGES:
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "now"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
