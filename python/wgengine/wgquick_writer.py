"""The text of a wg-quick file, written from a Config: in one canonical order, each comment where it stood."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from wgengine.wgquick import EXTENSIONS, HOOKS

if TYPE_CHECKING:
    from wgengine.comments import Comment
    from wgengine.config import Config, Peer
    from wgengine.keys import PublicKey

__all__ = ["write"]


def write(config: Config) -> str:
    """The text of a configuration: keys in one order, nothing written that is the default."""
    remaining: dict[PublicKey | None, list[Comment]] = {}
    for comment in config.comments:
        remaining.setdefault(comment.peer, []).append(comment)
    blocks = [_block("Interface", _interface_lines(config), remaining.get(None, []))]
    blocks += (_block("Peer", _peer_lines(peer), remaining.get(peer.public_key, [])) for peer in config.peers)
    return "\n".join(blocks)


Line: TypeAlias = tuple[str, tuple[str, ...]]  # a key and its values, before they are laid out


def _interface_lines(config: Config) -> Iterator[Line]:
    yield "PrivateKey", (config.private_key.to_base64(),)
    yield "ListenPort", (str(config.listen_port),) if config.listen_port else ()
    yield "FwMark", (f"{config.fwmark:#x}",) if config.fwmark else ()
    yield "MTU", (str(config.mtu),) if config.mtu is not None else ()
    yield "Address", config.addresses
    yield "DNS", (*config.dns, *config.dns_search)
    yield "Table", (str(config.table),) if config.table != "auto" else ()
    yield "PreUp", config.pre_up
    yield "PostUp", config.post_up
    yield "PreDown", config.pre_down
    yield "PostDown", config.post_down
    yield "SaveConfig", ("true",) if config.save_config else ()
    logging = config.network_logging
    yield "LogNodeID", (logging.node_id,) if logging is not None else ()
    yield "LogDomainID", (logging.domain_id,) if logging is not None else ()
    yield "LogExitFlows", ("true",) if logging is not None and logging.log_exit_flows else ()


def _peer_lines(peer: Peer) -> Iterator[Line]:
    yield "PublicKey", (peer.public_key.to_base64(),)
    yield "PresharedKey", (peer.preshared_key.to_base64(),) if peer.preshared_key is not None else ()
    yield "AllowedIPs", peer.allowed_ips
    yield "Endpoint", (str(peer.endpoint),) if peer.endpoint is not None else ()
    yield "PersistentKeepalive", (str(peer.persistent_keepalive),) if peer.persistent_keepalive else ()
    yield "DiscoKey", (peer.disco_key.to_base64(),) if peer.disco_key is not None else ()
    yield "V4MasqAddr", (peer.v4_masq_addr,) if peer.v4_masq_addr is not None else ()
    yield "V6MasqAddr", (peer.v6_masq_addr,) if peer.v6_masq_addr is not None else ()
    yield "Jailed", ("true",) if peer.jailed else ()


def _block(kind: str, lines: Iterable[Line], comments: list[Comment]) -> str:
    """One section as text, each comment at its line. A comment whose line is gone stays, at the section's end."""
    out = _with_comments(f"[{kind}]", [note for note in comments if not note.key and note.where != "end"])
    rest = [note for note in comments if note.key or note.where == "end"]
    for key, values in lines:
        if values:
            notes = [note for note in rest if note.key == key and note.where != "end"]
            for run, tied in _runs(key, values, notes):
                sign = "# wgengine: " if key in EXTENSIONS else ""
                out += _with_comments(f"{sign}{key} = {', '.join(run)}", tied)
                rest = [note for note in rest if note not in tied]
    return "".join(f"{line}\n" for line in (*out, *(f"#{note.text}" for note in rest)))


def _with_comments(line: str, notes: list[Comment]) -> list[str]:
    above = [f"#{note.text}" for note in notes if note.where == "above"]
    beside = [f" #{note.text}" for note in notes if note.where == "beside"]
    return [*above, line + "".join(beside)]


def _runs(key: str, values: tuple[str, ...], notes: list[Comment]) -> Iterator[tuple[list[str], list[Comment]]]:
    """Which values share a line: all that may, but what stood on a commented line stays a line of its own."""
    present = set(values)
    tied: dict[str, list[Comment]] = {}  # by the first value of their line that is still there
    spans: dict[str, set[str]] = {}
    for note in notes:
        held = [value for value in note.values if value in present] if note.values else [values[0]]
        if held:
            tied.setdefault(held[0], []).append(note)
            spans.setdefault(held[0], set(held))
    run: list[str] = []
    of_run: list[Comment] = []
    span: set[str] | None = None
    for value in values:
        if run and (key in HOOKS or value in tied or (span is not None and value not in span)):
            yield run, of_run
            run, of_run, span = [], [], None
        if value in tied:
            of_run, span = tied.pop(value), spans[value]
        run.append(value)
    yield run, of_run
