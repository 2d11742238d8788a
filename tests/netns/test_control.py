"""`wgengine up` and the verbs that ask it, over its control socket, with a real peer at the other end."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lab import is_wgengine, until
from peers.tunnel import PORT
from peers.up import WGENGINE, Up, up
from wgengine.control import place
from wgengine.control.client import Client
from wgengine.errors import ConfigError
from wgengine.keys import PrivateKey, PublicKey

if TYPE_CHECKING:
    from lab import Lab

pytestmark = pytest.mark.skipif(not is_wgengine(), reason="verbs of wgengine")


class Pair:
    """A tunnel by `up` on one host, and one at its far end."""

    def __init__(self, lab: Lab) -> None:
        self.a, self.b = lab.pair()
        self.near, self.far = up(lab, self.a, ""), up(lab, self.b, "")
        self.near.write(self.text(self.near, self.far, 1, 2, self.b.ipv4))
        self.far.write(self.text(self.far, self.near, 2, 1, self.a.ipv4))
        self.near.start()
        self.far.start()

    @staticmethod
    def text(own: Up, other: Up, number: int, others: int, endpoint: str) -> str:
        return (
            f"[Interface]\nPrivateKey = {own.device.private}\nListenPort = {PORT}\nAddress = 10.9.0.{number}/24\n"
            f"[Peer]\nPublicKey = {other.device.public}\nAllowedIPs = 10.9.0.{others}/32\n"
            f"Endpoint = {endpoint}:{PORT}\n"
        )

    def ask(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run([WGENGINE, *arguments], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    @property
    def socket(self) -> str:
        return place.socket_path(self.near.name, place.RUN)


def test_every_verb_works_against_a_running_engine(lab: Lab) -> None:
    pair = Pair(lab)
    near = ("--interface", pair.near.name)
    for kind in ("--tsmp", "--icmp"):
        said = pair.ask("ping", kind, "10.9.0.2", *near)
        assert f"pong from 10.9.0.2 (10.9.0.2) via {pair.b.ipv4}:{PORT} in " in said
        assert "1 sent, 1 received, 0% loss" in said
    table = pair.ask("status", pair.near.name)
    assert f"{pair.far.device.public[:12]}…  10.9.0.2  direct" in table
    assert json.loads(pair.ask("status", pair.near.name, "--json"))[0]["listen_port"] == PORT
    assert pair.far.device.public in pair.ask("whois", "10.9.0.2", *near)
    assert "192.0.2.9 is nobody's here" in pair.ask("whois", "192.0.2.9", *near, code=1)
    assert "wgengine_handshakes_completed_total" in pair.ask("metrics", *near)
    assert "say which by --interface" in pair.ask("metrics", code=2)  # the far one is running, too
    assert pair.near.device.private not in table
    assert pair.near.stop() == 0
    assert not os.path.exists(pair.socket)
    assert "no engine of wgengine serves" in pair.ask("metrics", *near, code=4)


class NetMapUp(Up):
    """The same by a netmap."""

    @property
    def file(self) -> Path:
        return self.lab.scratch / f"{self.name}.json"


class NetMapPair(Pair):
    """A tunnel by a netmap, in which the peer is called far."""

    def __init__(self, lab: Lab) -> None:
        self.a, self.b = lab.pair()
        self.near, self.far = NetMapUp(lab=lab, host=self.a, name=lab.interface()), up(lab, self.b, "")
        self.near.write(self.netmap(revision=5, private_key=True))
        self.far.write(
            f"[Interface]\nPrivateKey = {self.far.device.private}\nListenPort = {PORT}\nAddress = 100.64.0.2/32\n"
            f"[Peer]\nPublicKey = {self.near.device.public}\nAllowedIPs = 100.64.0.1/32\n"
        )
        self.far.start()
        self.near.start()

    def netmap(self, *others: dict[str, Any], revision: int, private_key: bool = False) -> str:
        private = PrivateKey.from_base64(self.near.device.private)
        return json.dumps(
            {
                **({"PrivateKey": f"privkey:{private.to_hex()}"} if private_key else {}),
                "SelfNode": node(1, "near", private.public_key),
                "Peers": [
                    {
                        **node(2, "far", PublicKey.from_base64(self.far.device.public)),
                        "Endpoints": [f"{self.b.ipv4}:{PORT}"],
                        "IsWireGuardOnly": True,
                    },
                    *others,
                ],
                "revision": revision,
            }
        )


def node(number: int, name: str, key: PublicKey) -> dict[str, Any]:
    addresses = [f"100.64.0.{number}/32", f"fd7a:115c:a1e0::{number}/128"]
    return {
        "ID": number,
        "Name": f"{name}.example.net.",
        "Key": f"nodekey:{key.to_hex()}",
        "Addresses": addresses,
        "AllowedIPs": addresses,
    }


def test_a_netmap_is_brought_up_and_its_nodes_are_known_by_name(lab: Lab) -> None:
    pair = NetMapPair(lab)
    near = ("--interface", pair.near.name)
    assert f"(100.64.0.2) via {pair.b.ipv4}:{PORT} in " in pair.ask("ping", "far", *near)
    assert "(100.64.0.2) via" in pair.ask("ping", "--tsmp", "FAR.example.net", *near)
    assert "is local" in pair.ask("ping", "near", *near)
    assert "\nfar " in pair.ask("status", pair.near.name)
    assert "Name:       far.example.net\n" in pair.ask("whois", "100.64.0.2", *near)
    assert "100.64.0.2" in pair.a.run("ip", "route", "show")
    assert pair.near.stop() == 0


def test_a_netmap_by_the_socket_succeeds_the_one_before(lab: Lab) -> None:
    pair = NetMapPair(lab)
    other = node(3, "third", PrivateKey.generate().public_key)
    with Client(pair.socket) as client:
        client.reconfigure(pair.netmap(other, revision=6), dry_run=True)
        assert client.whois("100.64.0.3") is None
        client.reconfigure(pair.netmap(other, revision=6))  # without the private key: it is known
        found = client.whois("100.64.0.3")
        assert found is not None
        assert found["node"]["name"] == "third.example.net."
        with pytest.raises(ConfigError, match="revision"):
            client.reconfigure(pair.netmap(revision=4))
        assert client.whois("100.64.0.3") is not None
        with pytest.raises(ConfigError) as caught:
            client.reconfigure(pair.netmap({**other, "Addresses": [7]}, revision=7))
        assert caught.value.field == "Peers[1].Addresses[0]"
        assert client.ping("far", kind="tsmp")["error"] is None
    assert pair.near.stop() == 0


def test_a_netmap_that_is_read_again_changes_what_differs(lab: Lab) -> None:
    pair = NetMapPair(lab)
    pair.near.write(pair.netmap(node(3, "third", PrivateKey.generate().public_key), revision=6, private_key=True))
    pair.near.signal(signal.SIGHUP)
    pair.near.wait_for("its file is read again")
    assert "third.example.net" in pair.ask("whois", "100.64.0.3", "--interface", pair.near.name)
    assert pair.near.stop() == 0


def test_a_ping_that_nobody_answers_has_its_result(lab: Lab) -> None:
    pair = Pair(lab)
    assert pair.far.stop() == 0
    said = pair.ask("ping", "--tsmp", "--count", "2", "--timeout", "0.3", "10.9.0.2", code=1)
    assert said.splitlines()[:2] == ['ping "10.9.0.2" timed out'] * 2
    assert said.endswith("100% loss; no reply\n")


def test_events_are_followed_until_the_tunnel_is_down(lab: Lab) -> None:
    pair = Pair(lab)
    command = [str(WGENGINE), "events", "--json", "--interface", pair.near.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        with Client(pair.socket) as client:
            mtu = 1300
            while not select.select([following.stdout], [], [], 0.1)[0]:  # it does not listen yet
                mtu += 1
                client.reconfigure(
                    pair.near.file.read_text().replace("[Peer]", f"MTU = {mtu}\n[Peer]"), document="conf"
                )
        assert pair.near.stop() == 0
        events = [json.loads(line) for line in following.stdout]
        assert following.wait(10) == 0
    assert {event["event"] for event in events} <= {"LinkChanged", "SessionUp"}
    assert any(event.get("mtu", 0) > 1300 for event in events)


def test_a_document_changes_only_what_differs_and_a_dry_run_nothing(lab: Lab) -> None:
    pair = Pair(lab)
    assert pair.a.ping("10.9.0.2") == 1
    handshake = pair.near.device.peer(pair.far.device).latest_handshake
    text = (
        pair.near.file.read_text() + f"[Peer]\nPublicKey = {lab.wgengine(pair.b).public}\nAllowedIPs = 10.20.0.0/16\n"
    )
    with Client(pair.socket) as client:
        planned = client.reconfigure(text, document="conf", dry_run=True)
        assert len(pair.near.device.show().peers) == 1
        done = client.reconfigure(text, document="conf")
    assert list(planned) == list(done)
    assert len(pair.near.device.show().peers) == 2
    assert "10.20.0.0/16" in pair.a.run("ip", "route", "show")
    assert pair.near.device.peer(pair.far.device).latest_handshake == handshake


def test_another_user_is_told_what_helps(lab: Lab) -> None:
    pair = Pair(lab)
    code = (
        "import os, sys, wgengine.control.client; from wgengine.cli import main, metrics;"
        "os.setgid(65534); os.setuid(65534); sys.exit(main.main(['metrics', '--interface', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, pair.near.name], capture_output=True, text=True, timeout=30)
    assert (done.returncode, "run this as root (sudo)" in done.stderr) == (3, True)


def test_what_a_killed_one_left_is_no_engine_and_is_replaced(lab: Lab) -> None:
    pair = Pair(lab)
    process = pair.near.device.process
    assert process is not None
    process.send_signal(signal.SIGKILL)
    until(lambda: not process.running, "it is gone")
    assert os.path.exists(pair.socket)
    assert "no engine of wgengine serves" in pair.ask("metrics", "--interface", pair.near.name, code=4)
    pair.near.start()
    assert "1 received" in pair.ask("ping", "10.9.0.2", "--interface", pair.near.name)
    assert pair.near.stop() == 0
