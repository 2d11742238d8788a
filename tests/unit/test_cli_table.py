"""The table of `status`."""

from __future__ import annotations

from typing import Any

import pytest
from wgengine.cli.table import render

NOW = 1_700_000_000.0
KEY = "a" * 43 + "="


def column(status: dict[str, Any], heading: str) -> list[str]:
    """The cells under a heading."""
    _, _, head, *rows = render(status, NOW).splitlines()
    start = head.index(heading)
    end = min((head.index(word) for word in head.split() if head.index(word) > start), default=None)
    return [row[start:end].rstrip() for row in rows if row]


def test_whole_table() -> None:
    status = {
        "name": "wg0",
        "mode": "tun",
        "state": "running",
        "listen_port": 51820,
        "self": {"name": "here.example.net.", "addresses": ["100.64.0.1/32"]},
        "peers": [
            {
                "public_key": KEY,
                "name": "bob.example.net.",
                "addresses": ["100.64.0.3/32"],
                "endpoint": "192.0.2.1:51820",
                "last_handshake": NOW - 90,
                "rx_bytes": 2048,
                "tx_bytes": 100,
                "latency": 0.0123,
            },
            {"public_key": KEY, "name": "alice.example.net.", "addresses": ["100.64.0.2/32"]},
            {"public_key": KEY, "allowed_ips": ["10.0.0.0/8"], "last_handshake": NOW - 7200, "state": "unreachable"},
        ],
        "offloads": {"udp_gso": False, "udp_gro": True},
        "drops": {"no_peer": 3, "bad_tag": 0},
        "health": ["DNS: no server answers; name another one"],
    }
    assert render(status, NOW) == (
        "wg0: running, mode tun, port 51820\n"
        "\n"
        "NAME           ADDRESS     STATE        ENDPOINT         HANDSHAKE  RECEIVED  SENT   RTT\n"
        "here           100.64.0.1  this node    -                -          -         -      -\n"
        "alice          100.64.0.2  -            -                -          0 B       0 B    -\n"
        "bob            100.64.0.3  direct       192.0.2.1:51820  1 min ago  2.00 KiB  100 B  12.3 ms\n"
        "aaaaaaaaaaaa…  10.0.0.0/8  unreachable  -                2 h ago    0 B       0 B    -\n"
        "\n"
        "offloads off: udp_gso\n"
        "dropped: 3 no_peer\n"
        "# Health check:\n"
        "#     - DNS: no server answers; name another one"
    )


@pytest.mark.parametrize(
    ("peer", "state"),
    [
        ({}, "-"),
        ({"tx_bytes": 1}, "idle"),
        ({"trimmed": True}, "idle"),
        ({"last_handshake": NOW - 179}, "direct"),
        ({"last_handshake": NOW - 181}, "idle"),
        ({"last_handshake": NOW - 1, "state": "relay"}, "relay"),
        ({"exit_node": True}, "exit node"),
        ({"exit_node_option": True, "online": False}, "offers exit node; offline"),
        ({"online": True}, "-"),
    ],
)
def test_state_is_the_engines_else_the_handshakes(peer: dict[str, Any], state: str) -> None:
    assert column({"name": "wg0", "peers": [{"public_key": KEY, **peer}]}, "STATE") == [state]


@pytest.mark.parametrize(
    ("age", "text"),
    [(0.5, "now"), (-5, "now"), (1, "1 s ago"), (119, "1 min ago"), (7200, "2 h ago"), (1e6, "11 d ago")],
)
def test_age_is_in_one_unit(age: float, text: str) -> None:
    assert column({"name": "wg0", "peers": [{"public_key": KEY, "last_handshake": NOW - age}]}, "HANDSHAKE") == [text]


def test_engine_without_peers_or_notes_is_one_line() -> None:
    assert render({"name": "wg0", "state": "failed", "reason": "gone", "fwmark": 16}, NOW) == (
        "wg0: failed (gone), fwmark 0x10"
    )


def test_names_of_others_give_the_terminal_no_orders() -> None:
    text = render({"name": "wg0", "peers": [{"public_key": KEY, "name": "\x1b[2J\n"}], "health": ["\x1b"]}, NOW)
    assert "\x1b" not in text
