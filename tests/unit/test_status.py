"""Status: what it holds, shows and hides."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from wgengine.config import Endpoint, Peer
from wgengine.keys import PresharedKey, PrivateKey, PublicKey
from wgengine.status import EngineStatus, PeerStatus, ago, size

OURS = PrivateKey.generate().public_key
THEIRS = PrivateKey.generate().public_key
PSK = PresharedKey.generate()


@dataclass
class Seen:
    """A peer as the native module describes it."""

    public_key: PublicKey = THEIRS
    preshared_key: PresharedKey | None = None
    endpoint: str | None = None
    last_handshake: float | None = None
    tx_bytes: int = 0
    rx_bytes: int = 0
    persistent_keepalive: int = 0
    allowed_ips: tuple[str, ...] = ()


def engine(**values: object) -> EngineStatus:
    return EngineStatus(**{"name": "wg0", "mode": "tun", "state": "running", "time": 1000.0, **values})


def test_a_peer_is_what_the_device_says_and_its_name_as_configured() -> None:
    configured = Peer(public_key=THEIRS, endpoint="vpn.example:51820")
    seen = Seen(preshared_key=PSK, endpoint="192.0.2.1:51820", allowed_ips=("10.0.0.0/8",), rx_bytes=3, tx_bytes=4)
    peer = PeerStatus.of(seen, configured)
    assert (peer.endpoint, peer.endpoint_name) == ("192.0.2.1:51820", "vpn.example:51820")
    assert peer.has_preshared_key
    assert (peer.rx_bytes, peer.tx_bytes, peer.allowed_ips) == (3, 4, ("10.0.0.0/8",))


def test_a_literal_endpoint_has_no_name() -> None:
    peer = PeerStatus.of(Seen(), Peer(public_key=THEIRS, endpoint=Endpoint("192.0.2.1", 1)))
    assert peer.endpoint_name is None


def test_as_dict_is_json_without_a_secret() -> None:
    peer = PeerStatus.of(Seen(preshared_key=PSK, allowed_ips=("::/0",)), None)
    status = engine(public_key=OURS, peers=(peer,), drops={"no_peer": 2})
    text = json.dumps(status.as_dict())
    read = json.loads(text)
    assert read["public_key"] == OURS.to_base64()
    assert read["peers"][0]["public_key"] == THEIRS.to_base64()
    assert read["peers"][0]["allowed_ips"] == ["::/0"]
    assert read["drops"] == {"no_peer": 2}
    assert PSK.to_base64() not in text
    assert PSK.to_base64() not in repr(status)


def test_the_text_reads_like_wg_show() -> None:
    peer = PeerStatus(
        public_key=THEIRS,
        has_preshared_key=True,
        endpoint="192.0.2.1:51820",
        allowed_ips=("10.0.0.2/32", "fd00::/64"),
        last_handshake=875.0,
        rx_bytes=1536,
        tx_bytes=10,
        persistent_keepalive=25,
    )
    status = engine(public_key=OURS, listen_port=51820, fwmark=0xCA6C, peers=(peer,))
    assert status.render(1000.0).splitlines() == [
        "interface: wg0",
        f"  public key: {OURS}",
        "  private key: (hidden)",
        "  listening port: 51820",
        "  fwmark: 0xca6c",
        "",
        f"peer: {THEIRS}",
        "  preshared key: (hidden)",
        "  endpoint: 192.0.2.1:51820",
        "  allowed ips: 10.0.0.2/32, fd00::/64",
        "  latest handshake: 2 minutes, 5 seconds ago",
        "  transfer: 1.50 KiB received, 10 B sent",
        "  persistent keepalive: every 25 seconds",
    ]


def test_the_latest_handshake_comes_first_and_trouble_is_shown() -> None:
    silent = PeerStatus(public_key=OURS)
    lively = PeerStatus(public_key=THEIRS, last_handshake=999.0)
    status = engine(
        state="failed",
        reason="wg0 is gone",
        peers=(silent, lively),
        drops={"a": 0, "no_peer": 3},
        offloads={"gso": False},
    )
    lines = status.render(1000.0).splitlines()
    assert lines.index(f"peer: {THEIRS}") < lines.index(f"peer: {OURS}")
    assert "  state: failed (wg0 is gone)" in lines
    assert "  dropped: 3 no_peer" in lines
    assert "  offloads off: gso" in lines
    assert "  allowed ips: (none)" in lines


def test_a_name_that_is_not_resolved_yet_is_said() -> None:
    peer = PeerStatus(public_key=THEIRS, endpoint_name="vpn.example:1")
    assert "  endpoint: (not resolved yet) (vpn.example:1)" in engine(peers=(peer,)).render(0).splitlines()


def test_a_peer_is_found_by_its_key() -> None:
    peer = PeerStatus(public_key=THEIRS)
    assert engine(peers=(peer,)).peer(THEIRS) is peer
    assert engine(peers=(peer,)).peer(OURS) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "now"),
        (1, "1 second ago"),
        (3600, "1 hour ago"),
        (90061, "1 day, 1 hour, 1 minute, 1 second ago"),
        (-5, "(the clock was set back)"),
    ],
)
def test_ago(seconds: float, text: str) -> None:
    assert ago(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1 << 20, "1.00 MiB"),
        (3 << 30, "3.00 GiB"),
        (5 << 40, "5.00 TiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text
