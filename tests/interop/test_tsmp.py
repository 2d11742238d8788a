"""What engines say to each other inside the tunnel, with Tailscale's own engine at the other end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import pytest
from lab import Host, Lab, is_wgengine, need, until
from peers import build
from peers.tsengine import TailscaleEngine, node, tailscale_engine
from wgengine import PrivateKey, PublicKey
from wgengine._native import Device, PeerPlan, Plan
from wgengine.events import DiscoKeyAdvertised, Event, PeerWoke, Pong, from_native

pytestmark = pytest.mark.skipif(not is_wgengine(), reason="wgengine's library")

OURS = ("100.64.0.1", "fd7a:115c:a1e0::1")
THEIRS = ("100.64.0.2", "fd7a:115c:a1e0::2")

both_families = pytest.mark.parametrize("family", [0, 1], ids=["v4", "v6"])


def whole(addresses: tuple[str, str]) -> tuple[str, str]:
    return f"{addresses[0]}/32", f"{addresses[1]}/128"


@dataclass(slots=True, kw_only=True)
class Ends:
    """A device of this process in one namespace, Tailscale's engine in the other."""

    ours: Device
    theirs: TailscaleEngine
    host: Host
    told: list[Event] = field(default_factory=list)

    @property
    def peer(self) -> PublicKey:
        return PublicKey.from_base64(self.theirs.public)

    def commit(self, **what: object) -> None:
        # sockets belong to the namespace of the thread that makes them
        self.host.call(lambda: self.ours.commit(Plan(**what)))

    def event(self, kind: type[Event]) -> Event:
        """The first event of this kind."""

        def told() -> list[Event]:
            self.told += [from_native(word, when, fields) for word, when, fields in self.ours.drain()]
            return [event for event in self.told if isinstance(event, kind)]

        return until(told, f"{kind.__name__} is told")[0]


@pytest.fixture
def ends(lab: Lab) -> Iterator[Ends]:
    need(build.path("tsengine").exists(), "it is not built: python tests/peers/build.py tsengine")
    a, b = lab.pair()
    private, name = PrivateKey.generate(), lab.interface()
    with closing(a.call(lambda: Device(name=name))) as ours:
        a.call(lambda: ours.commit(Plan(private_key=private, listen_port=0)))
        for address in whole(OURS):
            a.run("ip", "address", "add", address, "dev", name)
        a.run("ip", "link", "set", name, "up")
        ours.set_own_addresses(OURS)
        us = node(2, private.public_key.to_base64(), whole(OURS), endpoint=f"{a.ipv4}:{ours.state().listen_port}")
        with tailscale_engine(b, lab.interface(), *whole(THEIRS), peers=[us]) as theirs:
            for host, dev, prefixes in ((a, name, whole(THEIRS)), (b, theirs.name, whole(OURS))):
                for prefix in prefixes:
                    host.run("ip", "route", "add", prefix, "dev", dev)
            made = Ends(ours=ours, theirs=theirs, host=a)
            plan = PeerPlan(made.peer, allowed_ips=whole(THEIRS), endpoint=f"{b.ipv4}:{theirs.port}")
            made.commit(peers=[plan])
            yield made


@both_families
@pytest.mark.parametrize("kind", ["tsmp", "icmp"])
def test_it_answers_our_ping(ends: Ends, kind: str, family: int) -> None:
    token = ends.ours.ping(kind, OURS[family], THEIRS[family], 10)
    pong = ends.event(Pong)
    assert isinstance(pong, Pong)
    assert (pong.token, pong.peer, pong.kind, pong.peer_api_port) == (token, ends.peer, kind, None)
    assert 0 < pong.latency < 10


@both_families
@pytest.mark.parametrize("kind", ["TSMP", "ICMP"])
def test_we_answer_its_ping(ends: Ends, kind: str, family: int) -> None:
    result = ends.theirs.ping(OURS[family], kind)
    assert (result["Err"], result["NodeName"], result["NodeIP"]) == ("", "n2", OURS[family])
    assert 0 < result["LatencySeconds"] < 10


@both_families
def test_its_disco_key_comes_with_its_tsmp_ping(ends: Ends, family: int) -> None:
    ends.theirs.ping(OURS[family], "TSMP")
    advertised = ends.event(DiscoKeyAdvertised)
    assert isinstance(advertised, DiscoKeyAdvertised)
    assert (advertised.peer, advertised.source) == (ends.peer, THEIRS[family])
    assert advertised.key.to_base64() == ends.theirs.status().disco


@both_families
def test_it_hears_of_our_disco_key(ends: Ends, family: int) -> None:
    disco = PrivateKey.generate().public_key
    assert ends.ours.advertise_disco_key(OURS[family], THEIRS[family], disco)
    until(lambda: ends.theirs.status().advertised, "the key has come")
    assert ends.theirs.status().advertised == {OURS[family]: disco.to_base64()}


@both_families
def test_its_ping_wakes_a_peer_that_we_have_trimmed(ends: Ends, family: int) -> None:
    ends.theirs.ping(OURS[family], "TSMP")
    ends.event(DiscoKeyAdvertised)  # it comes right after, and would wake the peer
    ends.commit(peers=[PeerPlan(ends.peer, trimmed=True)])
    state = ends.ours.peer_state(ends.peer)
    assert state is not None
    assert state.trimmed
    assert ends.theirs.ping(OURS[family], "TSMP")["Err"] == ""
    woke = ends.event(PeerWoke)
    assert isinstance(woke, PeerWoke)
    assert (woke.peer, woke.by) == (ends.peer, "received")
