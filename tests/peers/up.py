"""`wgengine up` in a namespace: a file, and the process that keeps its tunnel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from peers.device import Device, Program
from peers.process import LabError, until

if TYPE_CHECKING:
    from lab import Host, Lab

WGENGINE = Path(sys.executable).parent / "wgengine"


@dataclass(slots=True, kw_only=True)
class Up:
    """A wg-quick file that bears the interface's name, and what came of it."""

    lab: Lab
    host: Host
    name: str
    env: Mapping[str, str] = field(default_factory=dict)
    device: Device = field(init=False)

    def __post_init__(self) -> None:
        program = Program(name="wgengine up", command=(str(WGENGINE), "up", str(self.file), "--name"))
        self.device = Device(program=program, host=self.host, name=self.name, env=self.env)
        self.lab.devices.append(self.device)

    @property
    def file(self) -> Path:
        return self.lab.scratch / f"{self.name}.conf"

    def write(self, text: str) -> None:
        self.file.touch(mode=0o600)
        self.file.write_text(text)

    @property
    def log(self) -> str:
        return self.device.log

    def said(self, words: str) -> bool:
        return words in self.log

    def begin(self) -> None:
        """Start it, and wait for nothing."""
        self.device.process = self.host.spawn(*self.device.command, env=self.env)

    def start(self, timeout_s: float = 10) -> None:
        """Start it; it says when the tunnel is up."""
        self.begin()
        self.wait_for(f"{self.name} is up", timeout_s)

    def wait_for(self, words: str, timeout_s: float = 10) -> None:
        process = self.device.process
        assert process is not None

        def there() -> bool:
            if self.said(words):
                return True
            if not process.running:
                raise LabError(f"wgengine up ended with {process.wait()}: {process.log}")
            return False

        until(there, f"{words!r} in: {process.log}", timeout_s)

    def signal(self, number: int) -> None:
        assert self.device.process is not None
        self.device.process.send_signal(number)

    def stop(self) -> int:
        return self.device.stop()

    def attempt(self, *options: str) -> subprocess.CompletedProcess[str]:
        """A run that is to end by itself."""
        return self.host.attempt(*self.device.command, *options, timeout_s=20)


def up(lab: Lab, host: Host, text: str, *, env: Mapping[str, str] | None = None) -> Up:
    """A tunnel of this file, not started yet."""
    made = Up(lab=lab, host=host, name=lab.interface(), env=env or {})
    made.write(text)
    return made
