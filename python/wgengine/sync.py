"""The engine for code without an event loop: `with Engine(config) as engine:`. A thread of its own serves it.

Written by tools/gen_sync.py from engine.py; change that one and run `python tools/gen_sync.py`.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from wgengine.bridge import Listener, LoopThread
from wgengine.engine import Engine as _Engine
from wgengine.knobs import Knobs

if TYPE_CHECKING:
    from wgengine.config import Config
    from wgengine.engine import Mode
    from wgengine.events import Event
    from wgengine.reconfig import Changes
    from wgengine.status import EngineStatus

__all__ = ["Engine"]


class Engine:
    """A WireGuard engine: `with Engine(config) as engine:`.

    `mode` is "tun" (a kernel interface, set up by the engine), "memory" (no interface: packets go through `memory_fd`)
    or "auto" (tun). `name` names the interface, or `tun_fd` lends one that is open already. `listen_port` serves where
    the configuration leaves the port open. With `uapi` the tools `wg` and `wg-quick` work on a tun engine.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        mode: Mode = "auto",
        name: str | None = None,
        tun_fd: int | None = None,
        listen_port: int = 0,
        uapi: bool = True,
        knobs: Knobs = Knobs(),  # noqa: B008 (frozen)
    ) -> None:
        self._engine = _Engine(
            config, mode=mode, name=name, tun_fd=tun_fd, listen_port=listen_port, uapi=uapi, knobs=knobs
        )
        self._thread = LoopThread()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._thread.run(self._engine.__aenter__())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_ours:
            self.close()

    @property
    def name(self) -> str | None:
        """The interface's name: the one asked for, and once the engine runs the one it has."""
        return self._engine.name

    @property
    def mode(self) -> str:
        """How packets are carried: "tun" or "memory"."""
        return self._engine.mode

    @property
    def knobs(self) -> Knobs:
        """The knobs it was made with."""
        return self._engine.knobs

    @property
    def tun_fd(self) -> int | None:
        """The descriptor of its TUN, not to be closed; before the engine runs, the one that is lent to it."""
        return self._engine.tun_fd

    @property
    def memory_fd(self) -> int | None:
        """In mode memory the far end of the device: each message is a 10-byte virtio-net header and an IP packet."""
        return self._engine.memory_fd

    @property
    def closed(self) -> bool:
        return self._engine.closed

    def close(self) -> None:
        """Stop and take everything down: the interface, its addresses and routes. Again: waits for the same end."""
        self._thread.finish(self._engine.close)

    def wait_closed(self) -> None:
        """Wait until the engine is closed."""
        self._thread.outlast(self._engine.wait_closed)

    def apply(self, config: Config) -> Changes:
        """Make the engine be as `config` says, by the differences only; sessions of unchanged peers go on.

        A device error, such as a port in use, is raised as it is, and nothing was changed. What the interface refuses
        comes joined in a `ReconfigError`, after everything else was done; the next `apply` tries it again.
        """
        return self._thread.run(self._engine.apply(config))

    def plan(self, config: Config) -> Changes:
        """What `apply` would do, not done."""
        return self._engine.plan(config)

    def status(self) -> EngineStatus:
        """What the engine and its peers are doing."""
        return self._thread.run(self._engine.status())

    def events(self) -> Listener[Event]:
        """What happens from now on, in a bounded queue of the caller's own: `for event in engine.events()`."""
        subscription = self._thread.call(lambda: self._engine.events())
        return Listener(self._thread, subscription, subscription.close)
