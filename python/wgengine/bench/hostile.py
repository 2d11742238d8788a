"""What comes from outside without being asked: handshakes by the thousand, and floods."""

import time
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path

from wgengine.bench import generator
from wgengine.bench.host import Host, HostError
from wgengine.bench.implementation import Implementation
from wgengine.bench.rows import FLOODS, LEGIT_SHARE
from wgengine.bench.scale import inner
from wgengine.bench.testbed import INTERFACE, PORT, STRANGE_VETH, device, stranger, tunnel, two_hosts
from wgengine.bench.traffic import stream
from wgengine.bench.uapi import ask, setting, to_hex

INITIATORS = 1000
OUTSTANDING = 32
RATE = 100_000
_INITIATORS_PORT = 40_000
_SINK_PORT = 9
_HEAD_START_S = 0.3


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
    names = {f"{LEGIT_SHARE}_{kind.replace('-', '_')}": kind for kind in FLOODS}
    asked = set(wanted)
    chosen = names if LEGIT_SHARE in asked else {name: kind for name, kind in names.items() if name in asked}
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
            # Every second round begins with the other half, so that a machine that drifts favours neither.
            halves = (False, True) if number % 2 == 0 else (True, False)
            kept = {at: _under_flood(program, kind, (a, b, third), target, seconds, device=at) for at in halves}
            shares[name] = kept[True] / kept[False]
    return shares | {LEGIT_SHARE: min(shares.values())}


def _under_flood(
    program: Path, kind: str, hosts: tuple[Host, Host, Host], target: str, seconds: float, *, device: bool
) -> float:
    """Gbit/s of a stream from the first host to the second while the third floods its device, or its open socket."""
    a, b, third = hosts
    lasts = seconds + 2 * _HEAD_START_S + 1.0
    flags: dict[str, object] = {
        "rate": RATE,
        "key": to_hex(b.run("wg", "show", INTERFACE, "public-key")),
        "with": f"{target}:{PORT}",
    }
    spoofed = ("--sources", generator.STRANGERS) if kind in ("good-mac1", "bad-mac1", "bad-length") else ()
    to = f"{target}:{PORT if device else _SINK_PORT}"
    with (
        generator.running(program, b, "sink", seconds=lasts + 5, at=f"{target}:{_SINK_PORT}"),
        generator.running(program, third, "flood", kind, "--to", to, *spoofed, seconds=lasts, **flags) as load,
    ):
        time.sleep(_HEAD_START_S)
        carried = stream(a, b, seconds)
        said = generator.result(load, seconds=lasts)
    if said["rate"] < RATE / 2:
        raise HostError(f"{kind}: only {said['rate']:.0f} datagrams a second were sent")
    return carried
