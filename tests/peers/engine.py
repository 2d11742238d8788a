"""An Engine in a process of its own: `engine.py NAME FILE`, a wg-quick file.

Says a line of JSON for each thing that happened: what was applied or refused, and each event. SIGHUP reads the file
again and applies it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from wgengine import Config, Engine, Error


def say(what: str, **fields: object) -> None:
    print(json.dumps({"what": what, **fields}, default=str), flush=True)


async def tell(engine: Engine) -> None:
    async for event in engine.events():
        say("event", kind=type(event).__name__, text=str(event))


async def serve(name: str, path: Path) -> None:
    loop = asyncio.get_running_loop()
    stop, again = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    async with Engine(name=name) as engine:
        telling = asyncio.create_task(tell(engine))
        again.set()
        while not stop.is_set():
            if again.is_set():
                again.clear()
                try:
                    config = Config.from_file(path)
                    changes = await engine.apply(config)
                    say("applied", changes=list(changes), skipped=changes.skipped, warnings=config.warnings)
                except (Error, OSError) as refusal:
                    say("refused", error=type(refusal).__name__, text=str(refusal))
            waits = [asyncio.create_task(event.wait()) for event in (stop, again)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        telling.cancel()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2])))
