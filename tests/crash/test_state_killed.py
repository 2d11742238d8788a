"""What is kept outlives a process that is killed while it writes: the old content or the new one, never a mixture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from wgengine.state import StateDir

WRITER = """
import sys
from wgengine.keys import PublicKey
from wgengine.state import StateDir

key = PublicKey.from_bytes(bytes(range(32)))
with StateDir(sys.argv[1]) as state:
    revision = int(sys.argv[2])
    while True:
        revision += 1
        state.save_cached_netmap(f'{{"revision": {revision}}}' + " " * 100_000, revision)
        state.save_newest_timestamps({key: revision.to_bytes(12)})
        print(revision, flush=True)
"""


def test_killed_while_it_writes_the_last_content_is_whole(tmp_path: Path) -> None:
    place, least = tmp_path / "state", 0
    for written in (1, 2, 3, 5, 8, 13, 21, 34):
        command = [sys.executable, "-c", WRITER, str(place), str(least)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(written):
                least = int(writer.stdout.readline())
            writer.kill()
        with StateDir(place) as state:  # the lock went with the process
            cached, newest = state.cached_netmap(), state.newest_timestamps()
        assert cached is not None
        assert cached.revision >= least
        assert cached.text.rstrip() == f'{{"revision": {cached.revision}}}'
        assert int.from_bytes(*newest.values()) in (cached.revision, cached.revision - 1)
        assert not list(place.glob("*.corrupt"))
        least = cached.revision
