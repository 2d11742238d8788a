"""One tunnel in the foreground, from its first hook to its last.

    PreUp → the interface, whole → PostUp → served; SIGHUP: the file is read again → PreDown → it goes → PostDown

A hook that fails on the way up ends it, and the interface goes, as with wg-quick. On the way down nothing stops it:
what fails is told, and the rest is done all the same. A second signal does not wait for a hook.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Literal, TypeAlias

from wgengine import Changes, Config, Engine, Error, Failed, Knobs, ReconfigError, Subscription, TunLost, UapiRemoved
from wgengine.cli import interface, outcome
from wgengine.cli.desk import Wanted, served
from wgengine.cli.hook_runner import HookRunner
from wgengine.hooks import Hook, Phase, hooks_of
from wgengine.prefs import Prefs

Wish: TypeAlias = Literal["end", "reload", "lost"]


class Tunnel:
    """`reread` reads the configuration or the netmap anew, and what its user wants of it."""

    def __init__(
        self,
        wanted: Wanted,
        prefs: Prefs,
        name: str,
        *,
        knobs: Knobs,
        reread: Callable[[], tuple[Wanted, Prefs]],
        as_json: bool,
    ) -> None:
        self._wanted = wanted  # whose hooks count
        self._prefs = prefs
        self._name = name
        self._knobs = knobs
        self._reread = reread
        self._as_json = as_json
        self._hooks = HookRunner(to_stderr=as_json)
        self._wishes: asyncio.Queue[Wish] = asyncio.Queue()
        self._ending = False
        self._had_terminal = os.isatty(0)

    async def run(self) -> int:
        """The whole of it; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        if not await self._hooks.run(self._of("PreUp")):
            return outcome.OK  # asked to end, and there is nothing yet
        config = self._wanted if isinstance(self._wanted, Config) else None
        engine = Engine(config, name=self._name, knobs=self._knobs)
        watching = asyncio.create_task(self._watch(engine.events()))
        try:
            async with engine:
                if not isinstance(self._wanted, Config):
                    self._tell_skipped(await engine.apply(self._wanted, prefs=self._prefs))
                async with served(engine, self._name, lambda *wanted: self._apply(engine, *wanted)) as control:
                    well = await self._serve(engine, control)
                    well &= await self._hooks.run_regardless(self._of("PreDown"))
        finally:
            watching.cancel()
        well &= await self._hooks.run_regardless(self._of("PostDown"))
        self._say("down", f"{self._name} is down")
        return outcome.OK if well else outcome.FAILED

    def _of(self, phase: Phase) -> tuple[Hook, ...]:
        return hooks_of(self._wanted, phase, self._name) if isinstance(self._wanted, Config) else ()

    async def _serve(self, engine: Engine, control: str | None) -> bool:
        """Until it shall end; whether that was asked for."""
        if self._ending or not await self._hooks.run(self._of("PostUp")):
            return True
        status = await engine.status()
        self._say(
            "up",
            f"{self._name} is up; Ctrl-C or SIGTERM takes it down, SIGHUP reads its file again",
            mtu=status.mtu,
            listen_port=status.listen_port,
            pid=os.getpid(),
            # root of a user namespace may have a TUN without one
            socket=interface.socket_path(self._name) if interface.is_served(self._name) else None,
            control=control,
        )
        while True:
            match await self._wishes.get():
                case "end":
                    return True
                case "lost":
                    return False
                case "reload":
                    await self._reload(engine)

    async def _reload(self, engine: Engine) -> None:
        """Change what differs in the file; a bad file changes nothing. Its hooks count when the tunnel goes down."""
        try:
            changes = await self._apply(engine, *await asyncio.to_thread(self._reread))
        except ReconfigError as error:  # the rest of it was done
            changes = error.changes
            outcome.complain(f"{self._name}: {outcome.describe(error)}")
        except (Error, OSError) as error:
            outcome.complain(f"{self._name} goes on as it was: {outcome.describe(error)}")
            return
        count = f"{len(changes)} changes" if len(changes) != 1 else "1 change"
        self._say("reloaded", f"{self._name}: its file is read again, {count}", changes=list(changes))

    async def _apply(self, engine: Engine, wanted: Wanted, prefs: Prefs) -> Changes:
        """Its hooks are those that will run on the way down."""
        try:
            changes = await engine.apply(wanted, prefs=prefs)
        except ReconfigError:  # the rest of it was done
            self._wanted, self._prefs = wanted, prefs
            raise
        self._wanted, self._prefs = wanted, prefs
        self._tell_skipped(changes)
        return changes

    def _tell_skipped(self, changes: Changes) -> None:
        """What of a netmap nobody here carries out. (Of a wg-quick file nothing is: that one is refused.)"""
        if isinstance(self._wanted, Config):
            return
        for each in changes.skipped:
            outcome.complain(f"{self._name}: {each.what} is not done; it needs {each.needs}")

    async def _watch(self, events: Subscription) -> None:
        """What happens to the engine by itself; the engine's log says it in words."""
        async for event in events:
            match event:
                case Failed() | TunLost():
                    self._wishes.put_nowait("lost")
                case UapiRemoved():  # so wg-quick takes a userspace device down where it cannot delete the link
                    self._end()

    def _end(self) -> None:
        self._ending = True
        self._hooks.interrupt()
        self._wishes.put_nowait("end")

    def _hang_up(self) -> None:
        if self._had_terminal and not os.isatty(0):  # it is gone, and with it whoever could end us
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            self._end()
        else:
            self._wishes.put_nowait("reload")

    def _say(self, event: str, text: str, **fields: object) -> None:
        """Tell what happened. That nobody listens any more is no reason to end a tunnel."""
        if not self._as_json:
            outcome.complain(text)
            return
        try:
            print(json.dumps({"event": event, "interface": self._name, **fields}, ensure_ascii=False), flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
