"""The Engine in mode tun: it sets up its own interface, shows itself to stock `wg`, and leaves nothing."""

from __future__ import annotations

import json
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lab import dut, is_wgengine, until
from peers import engine as engine_script
from peers.device import Device, genkey, pubkey
from peers.tunnel import PORT

if TYPE_CHECKING:
    from lab import Host, Lab, Process

pytestmark = pytest.mark.skipif(not is_wgengine(), reason="wgengine's library")

FIRST = "nxr4xDJF6xdur1OqnndnQlgwwl2Y6TpNA3tzkNdOd2U="
SECOND = "E2n+4goIysa+phcqj9b8RkZd+SxoCA3mghUSBYxSSQI="


@dataclass(slots=True, kw_only=True)
class Running:
    """A process with an Engine, the file it was given, and what it said."""

    device: Device  # its face towards wg
    process: Process
    path: Path

    def said(self, what: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.process.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["what"] == what]

    def wait(self, what: str, count: int = 1) -> dict[str, Any]:
        until(
            lambda: len(self.said(what)) >= count or not self.process.running,
            f"the engine says {what!r}; it said: {self.process.log}",
        )
        said = self.said(what)
        assert len(said) >= count, self.process.log
        return said[count - 1]

    def rewrite(self, text: str) -> None:
        self.path.write_text(text)
        self.process.send_signal(signal.SIGHUP)


def start(lab: Lab, host: Host, text: str, private: str = "") -> Running:
    """An engine with this file, in which OWN stands for its private key."""
    device = Device(program=dut(), host=host, name=lab.interface(), private=private or genkey())
    path = lab.scratch / f"{device.name}.conf"
    path.touch(mode=0o600)
    path.write_text(text.replace("OWN", device.private))
    process = host.spawn(sys.executable, str(Path(engine_script.__file__)), device.name, path)
    device.process = process
    return Running(device=device, process=process, path=path)


def peer_text(public: str, rest: str) -> str:
    return f"[Peer]\nPublicKey = {public}\n{rest}\n"


def test_it_sets_up_its_interface_and_moves_packets(lab: Lab) -> None:
    a, b = lab.pair()
    other = lab.wgengine(b)
    before = a.snapshot()
    private = genkey()
    other.setconf(
        f"{other.interface_section(PORT)}" + peer_text(pubkey(private), "AllowedIPs = 10.9.0.1/32, fd00:9::1/128")
    )
    other.address("10.9.0.2/24", "fd00:9::2/64")
    other.up()
    running = start(
        lab,
        a,
        "[Interface]\nPrivateKey = OWN\nAddress = 10.9.0.1/24, fd00:9::1/64\nMTU = 1380\n"
        + peer_text(
            other.public, f"Endpoint = {b.ipv4}:{PORT}\nAllowedIPs = 10.9.0.0/24, fd00:9::/64, 10.44.0.0/16, ::/0"
        ),
        private,
    )
    applied = running.wait("applied")
    assert any("::/0" in str(skipped) for skipped in applied["skipped"]), "a default route needs a router"
    name = running.device.name
    assert "mtu 1380" in a.run("ip", "link", "show", name)
    assert f"dev {name}" in a.run("ip", "route", "get", "10.44.1.1")
    assert a.ping("10.9.0.2", "-f", count=50) == 50
    assert a.ping("fd00:9::2", "-f", count=50) == 50
    session = running.wait("event")
    assert session["kind"] in ("LinkChanged", "SessionUp")
    until(lambda: any(e["kind"] == "SessionUp" for e in running.said("event")), "SessionUp is told")

    # one address and one prefix fewer: the session stays
    handshake = running.device.peer(other).latest_handshake
    running.rewrite(
        f"[Interface]\nPrivateKey = {running.device.private}\nAddress = 10.9.0.1/24\nMTU = 1380\n"
        + peer_text(other.public, f"Endpoint = {b.ipv4}:{PORT}\nAllowedIPs = 10.9.0.0/24")
    )
    running.wait("applied", 2)
    assert "fd00:9::1" not in a.run("ip", "address", "show", "dev", name)
    assert "10.44.0.0/16" not in a.run("ip", "route", "show", "table", "all")
    assert running.device.peer(other).allowed_ips == {"10.9.0.0/24"}
    assert a.ping("10.9.0.2") == 1
    assert running.device.peer(other).latest_handshake == handshake

    # again the same: nothing to do
    running.process.send_signal(signal.SIGHUP)
    assert running.wait("applied", 3)["changes"] == []

    assert running.process.stop() == 0
    assert not running.device.socket_path.exists()
    a.assert_clean(before)


def test_a_refused_file_changes_nothing(lab: Lab) -> None:
    a = lab.host()
    running = start(
        lab, a, "[Interface]\nPrivateKey = OWN\nListenPort = 51820\n" + peer_text(FIRST, "AllowedIPs = 10.9.1.0/24")
    )
    running.wait("applied")
    before, links = running.device.show(), a.snapshot()
    running.rewrite(
        "[Interface]\nPrivateKey = OWN\nListenPort = 51821\n" + peer_text(FIRST, "AllowedIPs = 10.9.1.0/33")
    )
    refused = running.wait("refused")
    assert refused["error"] == "ConfigError"
    assert re.search(rf"{re.escape(str(running.path))}.*6", refused["text"]), refused
    assert running.device.show() == before
    a.assert_clean(links)


def test_a_change_by_wg_is_told_and_put_right(lab: Lab) -> None:
    a = lab.host()
    text = "[Interface]\nPrivateKey = OWN\nListenPort = 51820\n" + peer_text(FIRST, "AllowedIPs = 10.9.1.0/24")
    running = start(lab, a, text)
    running.wait("applied")
    running.device.wg_set("peer", SECOND, "allowed-ips", "10.9.2.0/24", "peer", FIRST, "allowed-ips", "10.9.3.0/24")
    until(
        lambda: any(e["kind"] == "ConfigChanged" for e in running.said("event")), "ConfigChanged is told", timeout_s=3
    )
    running.process.send_signal(signal.SIGHUP)
    assert running.wait("applied", 2)["changes"]
    shown = running.device.show()
    assert set(shown.peers) == {FIRST}
    assert shown.peers[FIRST].allowed_ips == {"10.9.1.0/24"}


@pytest.mark.parametrize(
    ("fwmark", "port", "keepalive", "shown"),
    [
        ("0x64", "51820", "off", ("0x64", 51820, "off")),
        ("off", "0", "0", ("off", None, "off")),
        ("4294967295", "65535", "65535", ("0xffffffff", 65535, "65535")),
        ("0xFFFFFFFF", "51820", "25", ("0xffffffff", 51820, "25")),
    ],
)
def test_case_07_numbers_as_stock_wg_shows_them(
    lab: Lab, fwmark: str, port: str, keepalive: str, shown: tuple[str, int | None, str]
) -> None:
    text = f"[Interface]\nPrivateKey = OWN\nFwMark = {fwmark}\nListenPort = {port}\n"
    running = start(lab, lab.host(), text + peer_text(FIRST, f"PersistentKeepalive = {keepalive}"))
    running.wait("applied")
    dump = running.device.show()
    assert dump.fwmark == shown[0]
    assert dump.listen_port == shown[1] if shown[1] is not None else dump.listen_port != 0
    assert dump.peers[FIRST].keepalive == shown[2]


def test_case_11_two_claims_as_stock_wg_shows_them(lab: Lab) -> None:
    running = start(
        lab,
        lab.host(),
        "[Interface]\nPrivateKey = OWN\nAddress = 10.9.0.1/24\n"
        + peer_text(FIRST, "AllowedIPs = 0.0.0.0/0, 10.9.0.2/32")
        + peer_text(SECOND, "AllowedIPs = 0.0.0.0/0, 10.9.0.0/24"),
    )
    (warning,) = running.wait("applied")["warnings"]
    assert all(word in warning for word in ("0.0.0.0/0", FIRST, SECOND))
    shown = running.device.show()
    assert shown.peers[FIRST].allowed_ips == {"10.9.0.2/32"}
    assert shown.peers[SECOND].allowed_ips == {"0.0.0.0/0", "10.9.0.0/24"}


def test_killed_it_leaves_only_a_socket_file_that_the_next_one_replaces(lab: Lab) -> None:
    a = lab.host()
    before = a.snapshot()
    text = "[Interface]\nPrivateKey = OWN\nAddress = 10.9.0.1/24\n" + peer_text(FIRST, "AllowedIPs = 10.44.0.0/16")
    running = start(lab, a, text)
    running.wait("applied")
    running.process.stop(signal.SIGKILL)
    a.assert_clean(before)
    again = a.spawn(sys.executable, str(Path(engine_script.__file__)), running.device.name, running.path)
    until(lambda: '"applied"' in again.log or not again.running, "the next one starts")
    assert again.running, again.log
    assert again.stop() == 0
    assert not running.device.socket_path.exists()
    a.assert_clean(before)
