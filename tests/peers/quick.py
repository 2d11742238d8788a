"""Stock wg-quick with a userspace program behind it, as on a machine whose kernel has no WireGuard."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from peers.process import until
from peers.tunnel import PORT
from peers.wire import Wire

if TYPE_CHECKING:
    from lab import Lab

    from peers.device import Device

INSIDE = ("10.9.0.1", "10.9.0.2")
BEYOND = ("198.51.100.7", "2001:db8:beef::7")  # hosts of the internet that a full tunnel leads to


@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    """A copy of wg-quick in a folder of its own: it looks there first for what it calls, and finds our `ip`."""

    path: Path

    def __call__(self, client: Device, verb: str, config: Path) -> None:
        """`wg-quick up` or `down`, which starts the client's program by itself."""
        program = client.program
        # wg-quick wants one word, and what it starts goes to the background
        name = "wgengine-device" if program.name == "wgengine" else program.command[0]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = [f"{key}={value}" for key, value in program.env.items()]
        environment += [f"PATH={path}", f"WG_QUICK_USERSPACE_IMPLEMENTATION={name}"]
        done = client.host.attempt("env", *environment, self.path, verb, config)
        assert done.returncode == 0, f"wg-quick {verb}: {done.stdout}{done.stderr}"


def copied(lab: Lab) -> Quick:
    from lab import need

    stock = shutil.which("wg-quick")
    need(stock, "wg-quick is missing: apt-get install wireguard-tools")
    need(shutil.which("sysctl"), "sysctl is missing: apt-get install procps")
    copy = lab.scratch / "wg-quick"
    shutil.copy(str(stock), copy)
    ip = lab.scratch / "ip"
    ip.write_text(
        f'#!/bin/sh\ncase "$*" in *"type wireguard"*) echo "Error: Unknown device type." >&2; exit 2;; esac\n'
        f'exec {shutil.which("ip")} "$@"\n'
    )
    ip.chmod(0o755)
    return Quick(path=copy)


def configuration(lab: Lab, client: Device, server: Device, allowed: str) -> Path:
    """The client's file; the server is configured here too."""
    server.address(f"{INSIDE[1]}/24", "fd00:9::2/64")
    server.up()
    server.setconf(
        f"{server.interface_section(PORT)}[Peer]\nPublicKey = {client.public}\n"
        f"AllowedIPs = {INSIDE[0]}/32, fd00:9::1/128\n"
    )
    path = lab.scratch / f"{client.name}.conf"
    path.touch(mode=0o600)
    path.write_text(
        f"[Interface]\nPrivateKey = {client.private}\nAddress = {INSIDE[0]}/24, fd00:9::1/64\n\n"
        f"[Peer]\nPublicKey = {server.public}\nAllowedIPs = {allowed}\nEndpoint = {server.host.ipv4}:{PORT}\n"
    )
    return path


def gone(device: Device) -> bool:
    """No link, no socket, no process."""
    return device.name not in device.host.links() and not device.socket_path.exists() and not device.host.pids()


def assert_full_tunnel(lab: Lab, quick: Quick, client: Device, server: Device) -> None:
    """Everything goes through the tunnel but the tunnel itself, and `down` takes all of it back."""
    a, b = client.host, server.host
    a.cut_batches()  # each ping is to be seen
    for address in BEYOND:
        b.run("ip", "address", "add", address, "dev", "lo")
    config = configuration(lab, client, server, "0.0.0.0/0, ::/0")
    before = a.snapshot()
    quick(client, "up", config)
    mark = a.run("wg", "show", client.name, "fwmark").strip()
    assert re.fullmatch(r"0x[0-9a-f]+", mark), "wg-quick's policy routing hangs on the mark"
    with Wire(b) as wire:
        for address in BEYOND:
            assert a.ping(address, "-i", "0.002", count=100) == 100
        assert len(wire.datagrams(source=a.ipv4)) >= 200, "the pings did not go through the tunnel"
    quick(client, "down", config)
    until(lambda: gone(client), "the device ends with its link", timeout_s=5)
    a.assert_clean(before)
