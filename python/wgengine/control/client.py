"""Asks a running engine, without an event loop: for commands and scripts."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from wgengine.control import wire
from wgengine.control.values import changes_of
from wgengine.control.wire import Request
from wgengine.errors import PrivilegeError

if TYPE_CHECKING:
    from wgengine.changes import Changes

__all__ = ["Client"]

_PATIENCE_S: Final = 10.0
_MANY_PEERS_S: Final = 60.0
_CONFIGURING_S: Final = 600.0
_LONGEST_ANSWER: Final = 1 << 30


class Client:
    """One connection to the control socket at `path`. Errors of the engine are raised as the engine raised them.

    A `ConnectionError` says that the engine does not answer; `FileNotFoundError` and `ConnectionRefusedError` that
    there is none.
    """

    def __init__(self, path: str, *, patience: float = _PATIENCE_S) -> None:
        self.path: Final = path
        self._number = 0
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.settimeout(patience)
        try:
            self._connection.connect(path)
        except OSError as error:
            self._connection.close()
            if isinstance(error, PermissionError):
                raise PrivilegeError(f"{path} is closed to this user; run this as root (sudo)") from None
            raise OSError(error.errno, error.strerror, path) from None
        self._reader = self._connection.makefile("rb")
        try:
            self.interface: Final = wire.read_greeting(self._line())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hang up."""
        self._reader.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- Verbs.

    def status(self) -> dict[str, Any]:
        """`EngineStatus.as_dict`."""
        return self._object(self.ask("status", patience=_MANY_PEERS_S))

    def ping(self, host: str, *, kind: str = "auto", size: int = 0, timeout: float = 5) -> dict[str, Any]:
        """The `PingResult` of one ping to an address or a node's name."""
        args = {"host": host, "kind": kind, "size": size, "timeout": timeout}
        return self._object(self.ask("ping", args, patience=timeout + _PATIENCE_S))

    def whois(self, ip: str) -> dict[str, Any] | None:
        """Who owns an address; None: nobody."""
        answer = self.ask("whois", {"ip": ip})
        return None if answer is None else self._object(answer)

    def metrics_text(self) -> str:
        """The metrics as Prometheus reads them."""
        return str(self.ask("metrics"))

    def events(self) -> Iterator[dict[str, Any]]:
        """What happens from now on. While it runs, this connection can ask nothing else."""
        self._ask("events", {}, b"")
        self._connection.settimeout(None)
        return self._stream()

    def reconfigure(
        self, text: str, *, document: str = "netmap", prefs: Mapping[str, Any] | None = None, dry_run: bool = False
    ) -> Changes:
        """Have a netmap's JSON, or a wg-quick file's text (`document="conf"`), applied; what it changes."""
        args = {"document": document, "dry_run": dry_run, "prefs": prefs}
        return changes_of(self._object(self.ask("reconfigure", args, text.encode(), patience=_CONFIGURING_S)))

    def ask(
        self, verb: str, args: Mapping[str, Any] | None = None, body: bytes = b"", *, patience: float = _PATIENCE_S
    ) -> Any:
        """The answer to any verb that has one."""
        self._ask(verb, args or {}, body)
        self._connection.settimeout(patience)
        return self._answer()[1]

    # -- Lines.

    def _ask(self, verb: str, args: Mapping[str, Any], body: bytes) -> None:
        self._number += 1
        line = wire.request_line(Request(id=self._number, verb=verb, args=args, body=len(body)))
        self._connection.settimeout(_PATIENCE_S)
        try:
            self._connection.sendall(line)
            self._connection.settimeout(_CONFIGURING_S)  # for the whole of it, as `sendall` counts
            self._connection.sendall(body)
        except TimeoutError:
            raise ConnectionError(f"{self.interface} takes no request") from None
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have said why

    def _stream(self) -> Iterator[dict[str, Any]]:
        while True:
            ended, event = self._answer()
            if ended:
                return
            yield self._object(event)

    def _answer(self) -> tuple[bool, Any]:
        return wire.read_answer(self._line(), self._number)

    def _line(self) -> bytes:
        try:
            line = self._reader.readline(_LONGEST_ANSWER)
        except TimeoutError:
            raise ConnectionError(f"{self.path}: the engine does not answer; see its log") from None
        except ConnectionResetError:
            line = b""
        if not line.endswith(b"\n"):
            raise ConnectionError(f"{self.path}: the engine broke off; see its log")
        return line

    @staticmethod
    def _object(answer: object) -> dict[str, Any]:
        if not isinstance(answer, dict):
            raise ConnectionError(f"the engine gives {json.dumps(answer)[:60]} where an object is wanted")
        return answer
