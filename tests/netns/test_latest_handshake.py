"""The time of the latest handshake that `wg` shows: case 16."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from peers.tunnel import between

if TYPE_CHECKING:
    from lab import Lab


def test_case_16_latest_handshake_is_a_time_since_1970(lab: Lab) -> None:
    tunnel = between(lab)
    a, b = tunnel.devices
    assert a.host.run("wg", "show", a.name, "latest-handshakes").split() == [b.public, "0"]
    assert "latest handshake" not in a.host.run("wg", "show", a.name)

    assert tunnel.ping() == 1
    now = time.time()
    shown = a.show()
    assert abs(shown.peers[b.public].latest_handshake - now) <= 2
    assert shown.public == a.public
    assert shown.listen_port == 51820
    said = a.host.run("wg", "show", a.name)
    line = next(line for line in said.splitlines() if "latest handshake" in line)
    assert line.split(": ")[1] in {"Now", *(f"{n} second{'s' if n > 1 else ''} ago" for n in range(1, 6))}

    _, peers = a.uapi_get()
    fields = dict(peers[next(iter(peers))])
    assert 0 <= int(fields["last_handshake_time_nsec"]) <= 999_999_999
    assert abs(int(fields["last_handshake_time_sec"]) - now) <= 2

    # the time is that of the handshake, not of the question
    time.sleep(2.5)
    assert a.peer(b).latest_handshake == shown.peers[b.public].latest_handshake
