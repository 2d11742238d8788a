"""The engine in mode tun, in namespaces: its interface is set up by differences, and nothing of it stays."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import lab as labs
import pytest
from wgengine import (
    Config,
    ConfigChanged,
    Event,
    LinkChanged,
    Peer,
    PrivateKey,
    ReconfigError,
    Resolved,
    StateError,
    TunLost,
    resolve,
    sync,
)
from wgengine.reconfig import AddAddress, AddRoute, SetMTU

if TYPE_CHECKING:
    from wgengine.bridge import Listener

OURS, THEIRS = PrivateKey.generate(), PrivateKey.generate()


def config(*allowed_ips: str, **fields: object) -> Config:
    peers = [Peer(public_key=THEIRS.public_key, allowed_ips=allowed_ips)]
    return Config(**{"private_key": OURS, "addresses": ["10.0.0.1/24"], "peers": peers, **fields})


@contextmanager
def running(host: labs.Host, config: Config | None = None, **options: object) -> Iterator[sync.Engine]:
    """An engine that lives in a namespace: its threads are born there."""
    engine = sync.Engine(config, **{"name": host.lab.interface(), **options})
    host.call(engine.__enter__)
    try:
        yield engine
    finally:
        engine.close()


def addresses(host: labs.Host, engine: sync.Engine) -> set[str]:
    lines = host.run("ip", "-o", "addr", "show", "dev", engine.name or "").splitlines()
    return {line.split()[3] for line in lines if " scope link" not in line}


def routes(host: labs.Host, engine: sync.Engine, table: str = "main") -> set[str]:
    """The routes on the engine's interface that the kernel did not make itself."""
    name = engine.name or ""
    said = "".join(
        host.run("ip", family, "route", "show", "table", table, "dev", name, check=False) for family in ("-4", "-6")
    )
    return {line.split()[0] for line in said.splitlines() if "proto kernel" not in line and not line.startswith("fe80")}


def wait_for(events: Listener[Event], kind: type[Event]) -> Event:
    while True:
        event = events.get(timeout=10)
        if isinstance(event, kind):
            return event


def refusals(call: Callable[[], object]) -> tuple[ReconfigError, list[OSError]]:
    with pytest.raises(ReconfigError) as caught:
        call()
    flat: list[OSError] = []
    caught.value.subgroup(lambda error: isinstance(error, OSError) and flat.append(error) is None)
    return caught.value, flat


def test_the_interface_is_set_up_and_nothing_stays(lab: labs.Lab) -> None:
    host = lab.host()
    before = host.snapshot()
    wanted = config("10.0.0.7/32", "10.2.0.0/16", "fd02::/64", addresses=["10.0.0.1/24", "fd00::1/64"], mtu=1380)
    with running(host, wanted) as engine:
        assert addresses(host, engine) == {"10.0.0.1/24", "fd00::1/64"}
        assert routes(host, engine) == {"10.2.0.0/16", "fd02::/64"}  # the first is on the link already
        said = host.run("ip", "link", "show", "dev", engine.name)
        assert "mtu 1380" in said
        assert ",UP" in said
        assert str(THEIRS.public_key) in host.run("wg", "show", engine.name)
    host.assert_clean(before)


def test_two_engines_carry_pings(lab: labs.Lab) -> None:
    a, b = lab.pair()
    with running(a, Config(private_key=OURS, addresses=["10.0.0.1/24", "fd00::1/64"])) as first:
        port = first.status().listen_port
        there = Peer(public_key=OURS.public_key, allowed_ips=["10.0.0.1", "fd00::1"], endpoint=f"{a.ipv4}:{port}")
        with running(b, Config(private_key=THEIRS, addresses=["10.0.0.2/24", "fd00::2/64"], peers=[there])):
            first.apply(config("10.0.0.2", "fd00::2", addresses=["10.0.0.1/24", "fd00::1/64"]))
            assert b.ping("10.0.0.1") == 1
            assert a.ping("fd00::2") == 1
            assert first.status().peers[0].rx_bytes > 0


def test_an_address_that_does_not_answer_makes_room_for_the_next(
    lab: labs.Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a host whose first address leads nowhere. A handshake is tried every 5 s (whitepaper 6.4)."""
    a, b = lab.pair()
    dead = a.ipv4.rpartition(".")[0] + ".99"
    found = [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (address, 4444)) for address in (dead, a.ipv4)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: [each for each in found if host != each[4][0]])
    monkeypatch.setattr(resolve, "TRIAL_S", 1.0)
    with running(a, config("10.0.0.2", listen_port=4444)):
        there = Peer(public_key=OURS.public_key, allowed_ips=["10.0.0.1"], endpoint="vpn.example:4444")
        with running(b, Config(private_key=THEIRS, addresses=["10.0.0.2/24"])) as engine, engine.events() as events:
            engine.apply(Config(private_key=THEIRS, addresses=["10.0.0.2/24"], peers=[there]))
            first = wait_for(events, Resolved)
            assert isinstance(first, Resolved)
            assert first.endpoint == f"{dead}:4444"
            assert b.ping("10.0.0.1", wait_s=10) == 1  # the packet waits for the session
            second = wait_for(events, Resolved)
            assert isinstance(second, Resolved)
            assert second.endpoint == f"{a.ipv4}:4444"


def test_only_differences_are_made_and_foreign_addresses_stay(lab: labs.Lab) -> None:
    host = lab.host()
    with running(host, config("10.2.0.0/16", addresses=["10.0.0.1/24", "10.0.0.2/24"])) as engine:
        host.run("ip", "addr", "add", "192.0.2.77/32", "dev", engine.name)
        changes = engine.apply(config("10.2.0.0/16", "10.3.0.0/16", addresses=["10.0.0.1/24", "10.0.0.2/24"]))
        assert [str(step) for step in changes.steps[1:]] == ["+ route 10.3.0.0/16"]
        # the first address of a subnet takes the others along, unless the kernel promotes them
        engine.apply(config("10.3.0.0/16", addresses=["10.0.0.2/24"]))
        assert addresses(host, engine) == {"10.0.0.2/24", "192.0.2.77/32"}
        assert routes(host, engine) == {"10.3.0.0/16"}
        # the last one takes all routes along
        host.run("ip", "addr", "del", "192.0.2.77/32", "dev", engine.name)
        engine.apply(config("10.3.0.0/16", addresses=["10.9.0.2/24"]))
        assert addresses(host, engine) == {"10.9.0.2/24"}
        assert routes(host, engine) == {"10.3.0.0/16"}


def test_table_off_and_a_number(lab: labs.Lab) -> None:
    host = lab.host()
    with running(host, config("10.2.0.0/16", "0.0.0.0/0", table="off")) as engine:
        assert routes(host, engine) == set()
        engine.apply(config("10.2.0.0/16", "0.0.0.0/0", table=1234))
        assert routes(host, engine) == set()
        assert routes(host, engine, "1234") == {"10.2.0.0/16", "default"}
        changes = engine.apply(config("10.2.0.0/16", "0.0.0.0/0"))
        assert routes(host, engine) == {"10.2.0.0/16"}
        assert routes(host, engine, "1234") == set()
        assert [skipped.what for skipped in changes.skipped] == ["route 0.0.0.0/0"]
        assert host.run("ip", "rule").count("\n") == 3


def test_a_thousand_routes_and_each_refusal_has_its_own(lab: labs.Lab) -> None:
    """They go to the kernel many at a time: what it says of each must not be mistaken for another's."""
    host, _ = lab.pair()
    wanted = [f"10.{number // 200}.{number % 200}.0/24" for number in range(1000)]
    wanted += [f"fd02:{number:x}::/32" for number in range(1, 200)]
    taken = {wanted[0], wanted[99], wanted[100], wanted[517], wanted[999]}
    for prefix in taken:
        host.run("ip", "route", "add", prefix, "dev", host.link)
    with running(host) as engine:
        error, refused = refusals(lambda: engine.apply(config(*wanted, addresses=["172.16.0.1/24", "fd00::1/64"])))
        assert {found[1] for each in refused if (found := re.search(r"route (\S+):", str(each)))} == taken
        assert len(refused) == len(taken)
        assert routes(host, engine) == set(wanted) - taken
        assert {step.prefix for step in error.changes.steps if isinstance(step, AddRoute)} == set(wanted) - taken
        # what is gone already is no refusal, and what another has is not taken from it
        host.run("ip", "route", "del", wanted[7], "dev", engine.name)
        engine.apply(config(*wanted[600:700], addresses=["172.16.0.1/24", "fd00::1/64"]))
        assert routes(host, engine) == set(wanted[600:700])
        for prefix in taken:
            assert host.run("ip", "route", "show", prefix, "dev", host.link)


def test_a_route_that_leads_elsewhere_is_not_touched_and_owed(lab: labs.Lab) -> None:
    host, _ = lab.pair()
    host.run("ip", "route", "add", "10.2.0.0/16", "dev", host.link)
    with running(host) as engine:
        wanted = config("10.2.0.0/16", "10.3.0.0/16")
        error, (refusal,) = refusals(lambda: engine.apply(wanted))
        assert refusal.errno == errno.EEXIST
        assert "10.2.0.0/16" in str(refusal)
        assert AddRoute("10.3.0.0/16", None) in error.changes.steps
        assert AddRoute("10.2.0.0/16", None) not in error.changes.steps
        assert routes(host, engine) == {"10.3.0.0/16"}
        assert "10.2.0.0/16" in host.run("ip", "route", "show", "dev", host.link)
        assert engine.plan(wanted).steps == (AddRoute("10.2.0.0/16", None),)
        host.run("ip", "route", "del", "10.2.0.0/16", "dev", host.link)
        assert engine.apply(wanted)
        assert routes(host, engine) == {"10.2.0.0/16", "10.3.0.0/16"}
        assert not engine.apply(wanted)


def test_an_mtu_without_room_for_ipv6_is_told_and_mended_later(lab: labs.Lab) -> None:
    host = lab.host()
    both = {"addresses": ["10.0.0.1/24", "fd00::1/64"]}
    with running(host, config("fd02::/64", **both)) as engine:
        error, found = refusals(lambda: engine.apply(config("fd02::/64", mtu=1200, **both)))
        assert all("1280" in str(refusal) for refusal in found)
        assert error.changes.steps == (SetMTU(None, 1200),)
        assert addresses(host, engine) == {"10.0.0.1/24"}
        assert AddAddress("fd00::1/64") in engine.apply(config("fd02::/64", mtu=1280, **both)).steps
        assert addresses(host, engine) == {"10.0.0.1/24", "fd00::1/64"}
        assert routes(host, engine) == {"fd02::/64"}


def test_wg_set_from_outside_is_seen_and_put_right(lab: labs.Lab) -> None:
    host = lab.host()
    wanted = config("10.2.0.0/16")
    with running(host, wanted) as engine, engine.events() as events:
        key = THEIRS.public_key.to_base64()
        host.run("wg", "set", engine.name, "peer", key, "allowed-ips", "10.9.0.0/16", "persistent-keepalive", "7")
        wait_for(events, ConfigChanged)
        (line,) = engine.plan(wanted)
        assert line == f"~ peer {key} allowed_ips -10.9.0.0/16, +10.2.0.0/16 persistent_keepalive off"
        engine.apply(wanted)
        assert host.run("wg", "show", engine.name, "allowed-ips").split() == [key, "10.2.0.0/16"]
        assert not engine.plan(wanted)


def test_a_lent_tun_is_set_up_and_given_back(lab: labs.Lab) -> None:
    host = lab.host()
    name = lab.interface()

    def make() -> int:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        iff_tun, iff_no_pi, iff_vnet_hdr, tunsetiff = 0x0001, 0x1000, 0x4000, 0x400454CA
        fcntl.ioctl(tun, tunsetiff, struct.pack("16sH22x", name.encode(), iff_tun | iff_no_pi | iff_vnet_hdr))
        return tun

    tun = host.call(make)
    try:
        with running(host, config("10.2.0.0/16"), name=None, tun_fd=tun) as engine:
            assert engine.name == name
            assert addresses(host, engine) == {"10.0.0.1/24"}
            assert routes(host, engine) == {"10.2.0.0/16"}
        assert name in host.links()
    finally:
        os.close(tun)
    labs.until(lambda: name not in host.links(), "the interface went with its last descriptor")


def test_an_interface_that_is_deleted_is_told_and_ends_in_order(lab: labs.Lab) -> None:
    host = lab.host()
    before = host.snapshot()
    with running(host, config("10.2.0.0/16")) as engine, engine.events() as events:
        host.run("ip", "link", "del", engine.name)
        wait_for(events, TunLost)
        status = engine.status()
        assert status.state == "failed"
        assert "gone" in (status.reason or "")
        with pytest.raises(StateError, match="gone"):
            engine.apply(config())
    host.assert_clean(before)


def test_what_a_lent_tun_has_already_is_taken_as_done(lab: labs.Lab) -> None:
    host = lab.host()
    name = lab.interface()
    host.run("ip", "tuntap", "add", "dev", name, "mode", "tun", "vnet_hdr")
    host.run("ip", "link", "set", name, "up")
    for address in ("10.0.0.1/24", "::ffff:10.7.0.1/128", "fd00::1/64"):
        host.run("ip", "addr", "add", address, "dev", name)
    host.run("ip", "route", "add", "10.2.0.0/16", "dev", name)
    wanted = config("10.2.0.0/16", addresses=["10.0.0.1/24", "::ffff:10.7.0.1/128", "fd00::1/64"])
    with running(host, wanted, name=name) as engine:
        assert not engine.plan(wanted)
        engine.apply(wanted.replace(mtu=1300))
        assert routes(host, engine) == {"10.2.0.0/16"}
    assert name in host.links()  # it was made to persist


def test_a_change_of_the_link_is_told(lab: labs.Lab) -> None:
    host = lab.host()
    with running(host, config()) as engine, engine.events() as events:
        host.run("ip", "link", "set", engine.name, "mtu", "1333")
        while True:
            event = wait_for(events, LinkChanged)
            assert isinstance(event, LinkChanged)
            if event.mtu == 1333:
                break


def test_a_name_in_use_is_told_and_the_other_lives_on(lab: labs.Lab) -> None:
    host = lab.host()
    with running(host, config()) as first:
        second = sync.Engine(config(), name=first.name)
        with pytest.raises(OSError, match=str(first.name)):
            host.call(second.__enter__)
        assert second.closed
        assert addresses(host, first) == {"10.0.0.1/24"}
        assert "listening port" in host.run("wg", "show", first.name)
