"""The control socket: who may connect, and what is answered."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from served import KEY, NETMAP, Fake, Raw, Serving, open_folder, serving
from wgengine.control import place, server, verbs, wire
from wgengine.control.client import Client
from wgengine.errors import (
    ConfigError,
    PrivilegeError,
    StateError,
    TimedOutError,
)


def test_socket_is_for_its_user_only(served: Serving) -> None:
    assert stat.S_IMODE(os.stat(served.path).st_mode) == 0o600


def test_greeting_names_protocol_interface_and_version(served: Serving) -> None:
    with Raw(served.path) as client:
        greeting = client.read()
    assert set(greeting) == {"wgengine", "interface", "version"}
    assert (greeting["wgengine"], greeting["interface"]) == (1, "wg0")


def test_socket_is_gone_after_close_and_its_clients_are_told_by_the_end(served: Serving, client: Client) -> None:
    served.close()
    assert not os.path.exists(served.path)
    with pytest.raises(ConnectionError, match="broke off"):
        client.status()


def test_close_leaves_a_socket_that_took_its_place(served: Serving) -> None:
    os.unlink(served.path)
    Path(served.path).write_text("another's")
    served.close()
    assert Path(served.path).read_text() == "another's"


def test_dead_socket_is_replaced(folder: Path) -> None:
    path = str(folder / "wg0.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with serving(path), Client(path) as client:
        assert client.interface == "wg0"


def test_live_socket_is_an_error(served: Serving) -> None:
    with pytest.raises(StateError, match="served by another engine"), serving(served.path):
        pass
    with Client(served.path) as client:
        assert client.interface == "wg0"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_refused_though_the_mode_let_it_in() -> None:
    code = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
        "s.connect(sys.argv[1]); s.settimeout(10); print(s.makefile().read())"
    )
    with open_folder() as folder, serving(str(folder / "wg0.sock")) as served:
        os.chmod(served.path, 0o666)
        done = subprocess.run([sys.executable, "-c", code, served.path], capture_output=True, text=True, timeout=30)
    assert json.loads(done.stdout) == {
        "id": None,
        "error": {
            "type": "PrivilegeError",
            "message": "this engine answers its own user and root; run this as one of them",
            "field": None,
        },
    }


def test_root_is_answered_by_an_engine_of_a_user(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "peer_uid", lambda connection: 0)
    monkeypatch.setattr(server.os, "geteuid", lambda: 1000)
    with Client(served.path) as client:
        assert client.interface == "wg0"
    monkeypatch.setattr(place, "peer_uid", lambda connection: 1001)
    with pytest.raises(PrivilegeError):
        Client(served.path)


def test_seventeenth_client_is_told_and_served_when_another_leaves(served: Serving) -> None:
    clients = [Client(served.path) for _ in range(16)]
    with pytest.raises(StateError, match="16 clients are connected"):
        Client(served.path)
    clients.pop().close()
    while True:
        try:
            clients.append(Client(served.path))
            break
        except StateError:
            continue  # it has not noticed yet
    assert clients[0].metrics_text()
    assert clients[-1].metrics_text()
    for client in clients:
        client.close()


def test_status_is_told_as_plain_values(served: Serving, client: Client) -> None:
    served.fake.status_told = {"name": "wg0", "peers": ({"public_key": KEY, "latency": float("nan")},)}
    assert client.status() == {"name": "wg0", "peers": [{"public_key": str(KEY), "latency": None}]}


def test_large_status_comes_whole(served: Serving, client: Client) -> None:
    told = {"peers": [{"public_key": "x" * 44, "number": number} for number in range(50_000)]}
    served.fake.status_told = told
    assert client.status() == told


@pytest.mark.parametrize(
    ("host", "ip"),
    [
        ("100.64.0.9", "100.64.0.9"),
        ("::ffff:100.64.0.9", "100.64.0.9"),
        ("FD7A:0::9", "fd7a::9"),
        ("alice", "100.64.0.2"),
        ("ALICE.example.net", "100.64.0.2"),
        ("alice.example.net.", "100.64.0.2"),
        ("bob.other.net", "100.64.0.4"),
        ("localhost", "127.0.0.1"),
    ],
)
def test_ping_takes_addresses_and_names(served: Serving, client: Client, host: str, ip: str) -> None:
    served.fake.pongs = [{"latency": 0.5}]
    told = client.ping(host, kind="tsmp", size=100, timeout=2.5)
    assert told["ip"] in (ip, "::1" if host == "localhost" else ip)
    assert served.fake.asked == [("ping", told["ip"], "tsmp", 100, 2.5)]


def test_name_of_several_nodes_is_refused_with_their_names(client: Client) -> None:
    with pytest.raises(
        ConfigError, match=r'args\.host: .*2 nodes; write which: "bob\.example\.net", "bob\.other\.net"'
    ):
        client.ping("bob")


def test_name_of_nothing_is_refused(client: Client) -> None:
    with pytest.raises(ConfigError, match="no node and no host"):
        client.ping("nobody.invalid")


def test_dns_that_does_not_answer_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    monkeypatch.setattr(verbs, "_DNS_S", 0.01)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: told.wait(10))
    with pytest.raises(TimedOutError, match='no node is called "slow", and DNS does not answer'):
        client.ping("slow")
    told.set()


def test_whois_and_metrics(client: Client) -> None:
    found = client.whois("100.64.0.2")
    assert found is not None
    alice = NETMAP.peers[0]
    assert (found["node"]["key"], found["node"]["addresses"]) == (str(alice.key), list(alice.addresses))
    assert (found["user"]["login_name"], found["capabilities"]) == ("alice@example.net", {"cap/ssh": ["root"]})
    assert client.whois("192.0.2.1") is None
    assert client.metrics_text().endswith("wgengine_up 1\n")


def test_netmap_of_ten_megabytes_is_taken_as_a_body(served: Serving, client: Client) -> None:
    text = '{"Peers": "' + "ä" * 5_000_000 + '"}'
    changes = client.reconfigure(text, prefs={"accept_routes": True}, dry_run=True)
    assert served.fake.asked == [("reconfigure", text, "netmap", {"accept_routes": True}, True)]
    assert list(changes) == ["~ listen_port 0 → 51820"]
    assert [str(each) for each in changes.skipped] == ["! dns: not done, it needs a dns object"]
    assert client.whois("192.0.2.1") is None  # and the next request begins where the body ended


def test_large_bodies_are_taken_one_after_the_other(served: Serving, raw: Raw, client: Client) -> None:
    """So that sixteen clients do not fill the memory with netmaps."""
    raw.socket.sendall(b'{"id": 1, "verb": "reconfigure", "body": 8}\n{"a"')
    while not served.server._one_body.locked():
        client.metrics_text()
    with Raw(served.path) as second:
        second.read()
        second.socket.sendall(b'{"id": 1, "verb": "reconfigure", "body": 8}\n{"b": 2}')
        for _ in range(20):
            client.metrics_text()
        raw.socket.sendall(b": 1}")
        assert raw.read()["result"]
        assert second.read()["result"]
    assert [asked[1] for asked in served.fake.asked] == ['{"a": 1}', '{"b": 2}']


def test_verbs_answer_while_a_large_body_is_on_its_way(served: Serving, raw: Raw, client: Client) -> None:
    raw.socket.sendall(b'{"id": 1, "verb": "reconfigure", "body": 1000000}\n{"Peers"')
    assert client.metrics_text()


async def test_server_runs_on_the_engines_own_loop(folder: Path) -> None:
    """And never blocks it: the client here is on the same loop."""
    fake = Fake(status_told={"name": "wg0"})
    async with server.ControlServer(fake, "wg0", path=str(folder / "wg0.sock")) as control:
        reader, writer = await asyncio.open_unix_connection(control.path)
        assert wire.read_greeting(await reader.readline()) == "wg0"
        writer.write(wire.request_line(wire.Request(id=1, verb="status")))
        assert wire.read_answer(await reader.readline(), 1) == (True, {"name": "wg0"})
        writer.close()
        await writer.wait_closed()
