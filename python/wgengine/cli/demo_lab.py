"""The demo's two ends and the wire between them, made as well as this machine allows.

Real TUN devices in private network namespaces, as root or through a user namespace; where neither is allowed, in-memory
devices over loopback. Every attempt that fails is taken down whole and its reason is kept for the reader.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Self

from wgengine.cli import outcome

Mode = Literal["tun", "memory"]

INSIDE: Final = ("10.9.0.1", "10.9.0.2")
_OUTSIDE: Final = ("192.0.2.1", "192.0.2.2")  # TEST-NET-1, RFC 5737; only in namespaces of our own
_TUN_PORT: Final = 51820
_TUN_DEVICE: Final = "/dev/net/tun"
_PATIENCE: Final = 20.0  # seconds for one command; a slow machine, not a hanging one


class EndError(Exception):
    """An end of the demo could not do what it was told."""


class End:
    """One `demo_end` process, and how to speak with it."""

    def __init__(self, namespace: str | None = None) -> None:
        arguments = [namespace] if namespace else []
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "wgengine.cli.demo_end", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the demo, which then closes its ends in order
        )
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def hello(self) -> int:
        """Waits until the end lives in its namespace; returns its process id."""
        return int(self.answer()["pid"])

    def tell(self, verb: str, **arguments: Any) -> None:
        """Gives a command and does not wait."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps({"do": verb, **arguments}) + "\n").encode())
        except BrokenPipeError:
            raise EndError("an end of the demo died") from None

    def answer(self, note: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
        """Waits for a command to end. `EndError` when it failed."""
        while True:
            message = json.loads(self._line(time.monotonic() + _PATIENCE))
            if "error" in message:
                raise EndError(message["error"])
            if "ok" in message:
                result: dict[str, Any] = message["ok"]
                return result
            if note is not None:
                note(message["note"])

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Gives a command and waits for it."""
        self.tell(verb, **arguments)
        return self.answer()

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise EndError(f"an end of the demo did not answer within {_PATIENCE:.0f} s")
            if not (read := os.read(self._process.stdout.fileno(), 1 << 16)):
                raise EndError("an end of the demo died")
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """Two engines that know each other."""

    near: End
    far: End
    mode: Mode
    kind: str  # the devices, in words
    notes: tuple[str, ...]  # what was tried first, and why it did not do


@contextmanager
def build(*, memory: bool) -> Iterator[Lab]:
    """The best lab that this machine allows; it is gone when the block ends."""
    notes: list[str] = []
    for builder in [_in_memory] if memory else [*_tun_builders(notes), _in_memory]:
        stack = ExitStack()
        try:
            near, far, mode, kind = builder(stack)
        except EndError as error:
            stack.close()
            if builder is _in_memory:
                raise
            if str(error) not in notes:
                notes.append(str(error))
        except BaseException:
            stack.close()
            raise
        else:
            break
    with stack:
        yield Lab(near=near, far=far, mode=mode, kind=kind, notes=tuple(notes))


_Built = tuple[End, End, Mode, str]


def _tun_builders(notes: list[str]) -> list[Callable[[ExitStack], _Built]]:
    """The ways to have real TUN devices that are worth a try here."""
    if sys.platform != "linux":
        notes.append("private network namespaces are a feature of Linux")
        return []
    try:
        os.close(os.open(_TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        notes.append(f"no TUN devices: {outcome.describe(error)}")
        return []
    return [_as_root, _as_user] if os.geteuid() == 0 else [_as_user]


def _as_root(stack: ExitStack) -> _Built:
    near, far = stack.enter_context(End("new")), stack.enter_context(End("new"))
    near.hello()
    _wire(near, far)
    return near, far, "tun", "TUN devices in two private network namespaces"


def _as_user(stack: ExitStack) -> _Built:
    near = stack.enter_context(End("new-user"))
    far = stack.enter_context(End(str(near.hello())))
    _wire(near, far)
    return near, far, "tun", "TUN devices in two private network namespaces of a user namespace"


def _wire(near: End, far: End) -> None:
    near.ask("wire", peer_pid=far.hello())
    for end, address in zip((near, far), _OUTSIDE, strict=True):
        end.ask("outside", address=address)
    _introduce(near, far, "tun", _OUTSIDE, _TUN_PORT)


def _in_memory(stack: ExitStack) -> _Built:
    near, far = stack.enter_context(End()), stack.enter_context(End())
    near.hello()
    far.hello()
    _introduce(near, far, "memory", ("127.0.0.1", "127.0.0.1"), 0)
    return near, far, "memory", "in-memory devices, UDP over loopback"


def _introduce(near: End, far: End, mode: Mode, outside: tuple[str, str], port: int) -> None:
    """Starts both engines and tells each about the other."""
    for end, inside in zip((near, far), INSIDE, strict=True):
        end.tell("start", mode=mode, inside=inside, listen_port=port)
    facts = near.answer(), far.answer()
    for own, other in ((0, 1), (1, 0)):
        (near, far)[own].ask(
            "connect",
            mode=mode,
            inside=INSIDE[own],
            other=INSIDE[other],
            peer=facts[other]["public_key"],
            endpoint=f"{outside[other]}:{facts[other]['listen_port']}",
        )
