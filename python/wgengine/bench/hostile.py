"""What comes from outside without being asked: handshakes by the thousand, and floods."""

import time
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path

from wgengine.bench import generator
from wgengine.bench.host import Host, HostError
from wgengine.bench.implementation import Implementation
from wgengine.bench.rows import LEGIT_SHARES
from wgengine.bench.scale import inner
from wgengine.bench.testbed import INTERFACE, PORT, STRANGE_VETH, device, stranger, tunnel, two_hosts
from wgengine.bench.traffic import stream, streaming
from wgengine.bench.uapi import ask, setting, to_hex

INITIATORS = 1000
OUTSTANDING = 32
RATE = 100_000
_INITIATORS_PORT = 40_000
_SINK_PORT = 9
_HEAD_START_S = 0.3
_TURN_S = 1.0


def handshakes(program: Path, implementation: Implementation, seconds: float) -> dict[str, float]:
    """A thousand real initiators in a closed loop, each with an address of its own."""
    with two_hosts(segmentation=True) as (a, b), device(b, implementation) as process:
        a.run("ip", "route", "add", "local", generator.STRANGERS, "dev", "lo")
        b.run("ip", "route", "add", generator.STRANGERS, "via", a.address)
        private = b.run("wg", "genkey").strip()
        b.run("wg", "set", INTERFACE, "listen-port", str(PORT), "private-key", "/dev/stdin", stdin=private)
        keys = generator.identities(program, b, INITIATORS)
        ask(b, setting(line for number, key in enumerate(keys) for line in _initiator_lines(number, key)))
        public = to_hex(b.run("wg", "pubkey", stdin=private))
        spent = -process.cpu_seconds()
        flags = {"to": f"{b.address}:{PORT}", "key": public, "count": INITIATORS, "outstanding": OUTSTANDING}
        words = ("handshakes", "--port", str(_INITIATORS_PORT), "--sources", generator.STRANGERS)
        with generator.running(program, a, *words, seconds=seconds, **flags) as load:
            said = generator.result(load, seconds=seconds)
        spent += process.cpu_seconds()
    if not said["answered"]:
        raise HostError("no handshake was answered")
    return {"handshakes_per_s": said["rate"], "handshake_cpu_us": 1e6 * spent / said["answered"]}


def _initiator_lines(number: int, key: str) -> tuple[str, ...]:
    """One initiator, with its endpoint: Tailscale's wireguard-go learns none by itself."""
    address = ip_network(generator.STRANGERS)[number + 1]
    return (f"public_key={key}", f"endpoint={address}:{_INITIATORS_PORT}", f"allowed_ip={inner(number)}")


def floods(
    program: Path, implementation: Implementation, wanted: Iterable[str], *, number: int, seconds: float
) -> dict[str, float]:
    """One TCP stream, while a stranger floods its receiver, and while the same goes to a socket that nobody reads."""
    asked = set(wanted)
    chosen = {name: kind for name, kind in LEGIT_SHARES.items() if name in asked}
    shares = {}
    with (
        two_hosts(segmentation=True) as (a, b),
        stranger(b) as (third, target),
        tunnel(a, b, implementation),
    ):
        b.run("ip", "route", "add", generator.STRANGERS, "dev", STRANGE_VETH, "via", third.address)
        # A peer that turns hostile is one that was let in.
        ask(b, setting((f"public_key={generator.identities(program, b, 1)[0]}", f"allowed_ip={inner(1)}")))
        stream(a, b, 1)
        for name, kind in chosen.items():
            shares[name] = _share_kept(program, kind, (a, b, third), target, seconds, device_first=number % 2 == 0)
    return shares


def _share_kept(
    program: Path, kind: str, hosts: tuple[Host, Host, Host], target: str, seconds: float, *, device_first: bool
) -> float:
    """What a stream carries while the third host floods its receiver's device, by what it carries while the same goes
    to an open socket there: by turns in one stream, since two streams differ by more than a flood takes.
    """
    a, b, third = hosts
    turns = 2 * max(1, round(seconds / _TURN_S))
    # As a, b, b, a, so that a machine that drifts favours neither.
    at_device = [((turn + 1) // 2 % 2 == 0) is device_first for turn in range(turns)]
    flags: dict[str, object] = {
        "rate": RATE,
        "key": to_hex(b.run("wg", "show", INTERFACE, "public-key")),
        "with": f"{target}:{PORT}",
    }
    spoofed = ("--sources", generator.STRANGERS) if kind in ("good-mac1", "bad-mac1", "bad-length") else ()
    lasts = turns * (_HEAD_START_S + _TURN_S + 1.0)
    carried = {True: 0.0, False: 0.0}
    with (
        generator.running(program, b, "sink", seconds=lasts + 5, at=f"{target}:{_SINK_PORT}"),
        streaming(a, b, lasts + 5),
    ):
        for device in at_device:
            to = f"{target}:{PORT if device else _SINK_PORT}"
            words = ("flood", kind, "--to", to, *spoofed)
            with generator.running(program, third, *words, seconds=_HEAD_START_S + _TURN_S, **flags) as load:
                time.sleep(_HEAD_START_S)
                carried[device] += _rate(b)
                said = generator.result(load, seconds=_TURN_S)
            if said["rate"] < RATE / 2:
                raise HostError(f"{kind}: only {said['rate']:.0f} datagrams a second were sent")
    return carried[True] / carried[False]


def _rate(b: Host) -> float:
    """Bytes a second that come out of the tunnel during a turn."""
    began, before = time.monotonic(), b.counters(INTERFACE)
    time.sleep(_TURN_S - 0.1)
    return (b.counters(INTERFACE) - before).rx_bytes / (time.monotonic() - began)
