"""A state directory against a dictionary: whatever is saved, damaged, opened again, in whichever order."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from wgengine.errors import DamagedError
from wgengine.keys import PublicKey
from wgengine.state import StateDir

KEYS = [PublicKey.from_bytes(bytes([number]) * 32) for number in range(1, 5)]
FILES = {"node.key": "key", "timestamps": "newest", "netmap": "netmap"}
NOTHING = {"key": None, "newest": {}, "netmap": None}


class Kept(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.place = Path(self.folder.name) / "state"
        self.model: dict[str, Any] = dict(NOTHING)
        self.damaged: set[str] = set()
        self.key_aside = False
        self.fsync, os.fsync = os.fsync, lambda descriptor: None  # a disk's time is not what this is about

    @initialize()
    def start(self) -> None:
        self.state = StateDir(self.place)

    def teardown(self) -> None:
        os.fsync = self.fsync
        self.state.close()
        self.folder.cleanup()

    @rule(newest=st.dictionaries(st.sampled_from(KEYS), st.binary(min_size=12, max_size=12)))
    def save_newest(self, newest: dict[PublicKey, bytes]) -> None:
        self.state.save_newest_timestamps(newest)
        self.model["newest"] = newest
        self.damaged.discard("newest")

    @rule(text=st.text(), revision=st.integers())
    def save_netmap(self, text: str, revision: int) -> None:
        self.state.save_cached_netmap(text, revision)
        self.model["netmap"] = (text, revision)
        self.damaged.discard("netmap")

    @rule()
    def open_again(self) -> None:
        self.state.close()
        self.state = StateDir(self.place)

    @rule(name=st.sampled_from(sorted(FILES)), at=st.integers(0, 10**6), bit=st.integers(0, 7))
    def flip(self, name: str, at: int, bit: int) -> None:
        """One bit, so that a second one does not set it right: a damaged file is let be."""
        file = self.place / name
        if FILES[name] in self.damaged or not file.exists():
            return
        content = bytearray(file.read_bytes())
        if name == "node.key":  # a key has no checksum: what is no key must be seen
            content[at % 43] = ord("!")
        else:
            content[at % len(content)] ^= 1 << bit
        file.write_bytes(content)
        self.damaged.add(FILES[name])

    @rule(name=st.sampled_from(sorted(FILES)), length=st.integers(0, 10**6))
    def cut(self, name: str, length: int) -> None:
        file = self.place / name
        if FILES[name] in self.damaged or not file.exists():
            return
        content = file.read_bytes()
        if name == "node.key":
            content = content[:44]  # its newline may go
        file.write_bytes(content[: length % len(content)])
        self.damaged.add(FILES[name])

    def load(self, what: str, create: bool = False) -> Any:
        match what:
            case "key":
                return self.state.node_key(create=create)
            case "newest":
                return self.state.newest_timestamps()
        cached = self.state.cached_netmap()
        return None if cached is None else (cached.text, cached.revision)

    @rule(what=st.sampled_from(sorted(NOTHING)))
    def look(self, what: str) -> None:
        try:
            found = self.load(what)
        except DamagedError:
            assert what in self.damaged
            self.damaged.remove(what)
            self.model[what] = NOTHING[what]
            self.key_aside |= what == "key"
        else:
            assert what not in self.damaged
            assert found == self.model[what]

    @rule()
    def create_key(self) -> None:
        try:
            found = self.load("key", create=True)
        except DamagedError:
            assert "key" in self.damaged or (self.key_aside and self.model["key"] is None)
            self.damaged.discard("key")
            self.model["key"], self.key_aside = None, True
        else:
            assert "key" not in self.damaged
            assert found is not None
            assert self.model["key"] in (None, found)
            self.model["key"] = found

    @precondition(lambda self: self.key_aside)
    @rule()
    def give_the_old_key_up(self) -> None:
        (self.place / "node.key.corrupt").unlink()
        self.key_aside = False


Kept.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestKept = Kept.TestCase
