"""A host program with engines in it: a script of a test's own in a process and a namespace of its own.

Its other end is a device of ours. The script finds `config` and `name`, says a word with `step(word)` and waits there
until the test lets it go on.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers.device import genkey, genpsk, pubkey
from peers.process import LabError, until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab import Host, Lab

    from peers.device import Device
    from peers.process import Process

PORT = 51820
INNER = "10.9.0.1"  # the program's; .2 is the device's

PRELUDE = """
import asyncio, gc, json, os, signal, sys, threading, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
import wgengine, wgengine.sync
name, path = sys.argv[1:]
config = wgengine.Config.from_file(path)

def say(**fields):
    print(json.dumps(fields), flush=True)

def step(word):
    say(step=word)
    signal.sigwait({signal.SIGUSR1})

def refused(call):
    try:
        outcome = call()
        if hasattr(outcome, "send"):
            outcome.send(None)
    except wgengine.ForkedError:
        return True
    except StopIteration:
        pass
    return False

"""


@dataclass(slots=True, kw_only=True)
class Program:
    """The program as it runs, and the device at the other end of its tunnel."""

    process: Process
    host: Host
    name: str
    far: Device
    path: Path
    keys: tuple[str, str] = field(repr=False)  # private and preshared

    @property
    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.process.log.splitlines() if line.startswith('{"')]

    def reaches(self, word: str, timeout_s: float = 20) -> None:
        """Wait until the script waits at this step."""

        def there() -> bool:
            if any(fields.get("step") == word for fields in self.said):
                return True
            if not self.process.running:
                raise LabError(f"exit {self.process.wait()} before {word!r}: {self.process.log}")
            return False

        until(there, f"the program reaches {word!r}; it said: {self.process.log}", timeout_s)

    @property
    def whole(self) -> Path:
        """A file for `wg setconf` with both keys."""
        return Path(f"{self.path}.whole")

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGUSR1)

    def ends(self, timeout_s: float = 30) -> dict[str, Any]:
        """All that it said, once it ended with 0 and without a word beside."""
        code, log = self.process.wait(timeout_s), self.process.log
        beside = [line for line in log.splitlines() if not line.startswith("{")]
        if code or beside:
            raise LabError(f"exit {code}: {log[-4000:]}")
        return {key: value for fields in self.said for key, value in fields.items()}

    def start_pings(self, count: int, interval_s: float = 0.01) -> Pings:
        """Echo requests through the tunnel at a steady pace, from the far device's host."""
        return Pings(
            process=self.far.host.spawn(
                "ping", "-n", "-q", "-c", str(count), "-i", f"{interval_s:g}", "-W", "5", INNER
            ),
            count=count,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pings:
    """Echo requests under way."""

    process: Process
    count: int

    def assert_all_answered(self, timeout_s: float = 60) -> float:
        """The longest round trip in milliseconds."""
        self.process.wait(timeout_s)
        said = self.process.log
        assert f"{self.count} received" in said, said
        found = re.search(r"= [\d.]+/[\d.]+/([\d.]+)/", said)
        assert found, said
        return float(found[1])


def start(
    lab: Lab,
    script: str,
    *,
    python: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    keys_apart: bool = False,
) -> Program:
    """Starts the script on one of two fresh hosts and the device on the other; they know each other.

    With `keys_apart` the tunnel has a preshared key too, and both keys are in files beside `path`: `PATH.private`,
    `PATH.preshared`, and as `wg setconf` takes them `PATH.whole`; `config` has another private key, no preshared one.
    """
    a, b = lab.pair()
    private, preshared, name = genkey(), genpsk(), lab.interface()
    far = lab.wgengine(b)
    path = lab.scratch / f"{name}.conf"
    peer = f"[Peer]\nPublicKey = {far.public}\nAllowedIPs = 10.9.0.2/32\nEndpoint = {b.ipv4}:{PORT}\n"
    used = genkey() if keys_apart else private
    texts = {
        "": f"[Interface]\nPrivateKey = {used}\nListenPort = {PORT}\nAddress = {INNER}/24\n{peer}",
        ".private": private,
        ".preshared": preshared,
        ".whole": f"[Interface]\nPrivateKey = {private}\nListenPort = {PORT}\n{peer}PresharedKey = {preshared}\n",
    }
    for suffix, text in texts.items():
        file = Path(f"{path}{suffix}")
        file.touch(mode=0o600)
        file.write_text(text)
    far.setconf(
        f"{far.interface_section(PORT)}[Peer]\nPublicKey = {pubkey(private)}\nAllowedIPs = {INNER}/32\n"
        f"Endpoint = {a.ipv4}:{PORT}\n" + (f"PresharedKey = {preshared}\n" if keys_apart else "")
    )
    far.address("10.9.0.2/24")
    far.up()
    process = a.spawn(sys.executable, *python, "-X", "faulthandler", "-c", PRELUDE + script, name, path, env=env)
    return Program(process=process, host=a, name=name, far=far, path=path, keys=(private, preshared))
