"""Where a key may show itself: every form it is written in, looked for in texts and in the memory of a process."""

from __future__ import annotations

import base64
import re
from pathlib import Path


def forms(key: str) -> tuple[bytes, ...]:
    """A key, given in base64, as it may stand somewhere: as it is, in base64, in hexadecimal."""
    raw = base64.b64decode(key)
    return (raw, key.rstrip("=").encode(), raw.hex().encode(), raw.hex().upper().encode())


def found_in(text: bytes, *keys: str) -> list[str]:
    """What of the keys is in there, by its number and form; not the key itself, which a report would show."""
    names = ("raw", "base64", "hexadecimal", "upper-case hexadecimal")
    return [
        f"key {number} {name}"
        for number, key in enumerate(keys)
        for name, form in zip(names, forms(key), strict=True)
        if form in text
    ]


def found_in_memory(pid: int, *keys: str) -> list[str]:
    """The same in all that a process may write: its heap, stacks and data, as in a core file."""
    hits = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if not found:
                continue
            begin, end = int(found[1], 16), int(found[2], 16)
            memory.seek(begin)
            try:
                content = memory.read(end - begin)
            except OSError:  # a mapping that cannot be read this way, such as a device's
                continue
            hits += [f"{hit} in {line.split()[-1]}" for hit in found_in(content, *keys)]
    return hits
