"""Endpoints by name, looked up past the tunnel: the name server lies in a prefix that we route into it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from wgengine import Config, Peer, PrivateKey, Resolved, ResolveFailed, outside, sync

if TYPE_CHECKING:
    import lab as labs

OURS, THEIRS = PrivateKey.generate(), PrivateKey.generate()
SERVER = "10.53.0.53"


class NameServer:
    """A name server on SERVER in a host; it notes what it was asked. What is long it says over TCP only."""

    def __init__(self, host: labs.Host, answers: dict[str, list[str]], *, long: bool) -> None:
        self.asked: list[str] = []
        self._host = host
        self._answers = answers
        self._long = long

    def __enter__(self) -> Self:
        self._host.run("ip", "addr", "add", f"{SERVER}/32", "dev", "lo")
        self._udp = self._host.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._udp.bind((SERVER, 53))
        self._tcp = self._host.call(lambda: socket.create_server((SERVER, 53)))
        self._threads = [threading.Thread(target=self._serve_udp), threading.Thread(target=self._serve_tcp)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for listening in (self._udp, self._tcp):
            with contextlib.suppress(OSError):  # an unconnected socket says so, and wakes its reader
                listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while True:
            data, client = self._udp.recvfrom(4096)
            if not data:
                return
            answer = self._answer(data, "UDP")
            if self._long:
                answer.answer.clear()
                answer.flags |= dns.flags.TC
            self._udp.sendto(answer.to_wire(), client)

    def _serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._tcp.accept()
                with connection, connection.makefile("rwb") as stream:
                    (length,) = struct.unpack("!H", stream.read(2))
                    wire = self._answer(stream.read(length), "TCP").to_wire()
                    stream.write(struct.pack("!H", len(wire)) + wire)

    def _answer(self, data: bytes, over: str) -> dns.message.Message:
        question = dns.message.from_wire(data)
        name, kind = question.question[0].name, question.question[0].rdtype
        self.asked.append(f"{name} {kind.name} {over}")
        answer = dns.message.make_response(question)
        found = self._answers.get(f"{name} {kind.name}")
        if found is not None:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *found))
        elif not any(key.startswith(f"{name} ") for key in self._answers):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer


@pytest.mark.parametrize(("fwmark", "long"), [(0, False), (51820, False), (51820, True)])
def test_the_query_goes_past_the_tunnel(
    lab: labs.Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fwmark: int, long: bool
) -> None:
    client, gate = lab.pair()
    (tmp_path / "resolv.conf").write_text(f"nameserver {SERVER}\n")
    monkeypatch.setattr(outside, "RESOLV_CONF", tmp_path / "resolv.conf")
    client.run("ip", "route", "add", "10.53.0.0/24", "via", gate.ipv4)
    client.nft(f"""table inet lab {{
        counter marked {{}}
        chain out {{
            type filter hook output priority 0
            meta mark {fwmark} oifname {client.link} th dport 53 ct state new counter name marked
        }}
    }}""")
    peer = Peer(public_key=THEIRS.public_key, allowed_ips=[f"{SERVER}/32"])
    config = Config(private_key=OURS, addresses=["10.9.0.1/24"], fwmark=fwmark, peers=[peer])
    answers = {"vpn.example. A": [gate.ipv4], "vpn.example. AAAA": ["2001:db8:dead::1"]}
    engine = sync.Engine(config, name=lab.interface())
    client.call(engine.__enter__)
    try:
        with NameServer(gate, answers, long=long) as server, engine.events() as events:
            assert f"dev {engine.name} " in client.run("ip", "route", "get", SERVER)  # the system would go there
            engine.apply(config.with_peer(peer.replace(endpoint="vpn.example:4444")))
            resolved = events.get(timeout=20)
            assert isinstance(resolved, Resolved)
            # both families were asked; the one that no route leads to comes last
            asked = {f"vpn.example. {kind} {over}" for kind in ("A", "AAAA") for over in ("UDP", "TCP")[: 1 + long]}
            assert set(server.asked) == asked
            assert resolved.endpoint == f"{gate.ipv4}:4444"
            assert client.counted("marked") == len(asked)
            engine.apply(config.with_peer(peer.replace(endpoint="gone.example:4444")))
            failed = events.get(timeout=20)
            assert isinstance(failed, ResolveFailed)
            assert "gone.example" in failed.error
    finally:
        engine.close()
