"""Endpoints by name, looked up past the tunnel: the name server lies in a prefix that we route into it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dns.message
import dns.rcode
import dns.rrset
import pytest
from wgengine import Config, Peer, PrivateKey, Resolved, ResolveFailed, outside, sync

if TYPE_CHECKING:
    import lab as labs

OURS, THEIRS = PrivateKey.generate(), PrivateKey.generate()
SERVER = "10.53.0.53"


@contextmanager
def name_server(host: labs.Host, answers: dict[str, list[str]]) -> Iterator[list[str]]:
    """A name server on SERVER in that host; it notes what it was asked."""
    asked: list[str] = []
    host.run("ip", "addr", "add", f"{SERVER}/32", "dev", "lo")

    def open_socket() -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((SERVER, 53))
        return opened

    listening = host.call(open_socket)

    def serve() -> None:
        while True:
            data, client = listening.recvfrom(4096)
            if not data:
                return
            question = dns.message.from_wire(data)
            name, kind = question.question[0].name, question.question[0].rdtype
            asked.append(f"{name} {kind.name}")
            answer = dns.message.make_response(question)
            found = answers.get(f"{name} {kind.name}")
            if found is not None:
                answer.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *found))
            elif not any(key.startswith(f"{name} ") for key in answers):
                answer.set_rcode(dns.rcode.NXDOMAIN)
            listening.sendto(answer.to_wire(), client)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:

        def wake() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closing:
                closing.sendto(b"", (SERVER, 53))

        host.call(wake)
        thread.join()
        listening.close()


@pytest.mark.parametrize("fwmark", [0, 51820])
def test_the_query_goes_past_the_tunnel(
    lab: labs.Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fwmark: int
) -> None:
    client, gate = lab.pair()
    (tmp_path / "resolv.conf").write_text(f"nameserver {SERVER}\n")
    monkeypatch.setattr(outside, "RESOLV_CONF", tmp_path / "resolv.conf")
    client.run("ip", "route", "add", "10.53.0.0/24", "via", gate.ipv4)
    client.nft(f"""table inet lab {{
        counter marked {{}}
        chain out {{
            type filter hook output priority 0
            meta mark {fwmark} oifname {client.link} udp dport 53 counter name marked
        }}
    }}""")
    peer = Peer(public_key=THEIRS.public_key, allowed_ips=[f"{SERVER}/32"])
    config = Config(private_key=OURS, addresses=["10.9.0.1/24"], fwmark=fwmark, peers=[peer])
    answers = {"vpn.example. A": [gate.ipv4], "vpn.example. AAAA": ["2001:db8:dead::1"]}
    engine = sync.Engine(config, name=lab.interface())
    client.call(engine.__enter__)
    try:
        with name_server(gate, answers) as asked, engine.events() as events:
            assert f"dev {engine.name} " in client.run("ip", "route", "get", SERVER)  # the system would go there
            engine.apply(config.with_peer(peer.replace(endpoint="vpn.example:4444")))
            resolved = events.get(timeout=20)
            assert isinstance(resolved, Resolved)
            # both families were asked; the one that no route leads to comes last
            assert sorted(asked) == ["vpn.example. A", "vpn.example. AAAA"]
            assert resolved.endpoint == f"{gate.ipv4}:4444"
            assert client.counted("marked") == 2
            engine.apply(config.with_peer(peer.replace(endpoint="gone.example:4444")))
            failed = events.get(timeout=20)
            assert isinstance(failed, ResolveFailed)
            assert "gone.example" in failed.error
    finally:
        engine.close()
