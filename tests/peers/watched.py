"""A device of ours that can be looked into: `watched.py IF`, with the report's socket path in WATCHED.

The same native device as `wgengine device`, configured over UAPI. Whoever connects to the socket gets one JSON object:
drops, counters, offloads, and all events so far. SIGUSR1 switches all offloads off; SIGUSR2 blocks the interpreter;
SIGHUP makes a new session with every peer.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import sys
from typing import Any

from wgengine._native import Device

BLOCKED_S = 3


def serve(name: str, path: str) -> None:
    wake, woken = socket.socketpair()
    wake.setblocking(False)
    caught: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, lambda number, _: caught.append(number))
    signal.set_wakeup_fd(wake.fileno())
    events: list[list[Any]] = []
    with contextlib.ExitStack() as stack:
        # Before the device answers at its control socket, by which a test knows that all is there.
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(path)
        server.listen()
        device = stack.enter_context(contextlib.closing(Device(name=name, uapi=True)))
        ready = stack.enter_context(selectors.DefaultSelector())
        for source in (server, woken, device.event_fd):
            ready.register(source, selectors.EVENT_READ)
        while signal.SIGTERM not in caught:
            for key, _ in ready.select():
                if key.fileobj is woken:
                    woken.recv(64)
                elif key.fileobj is server:
                    client, _ = server.accept()
                    with client:
                        client.sendall(json.dumps(report(device, events)).encode())
            events += [[kind, when, words(fields)] for kind, when, fields in device.drain()]
            if signal.SIGUSR1 in caught:
                caught.remove(signal.SIGUSR1)
                device.set_offloads(tun_offload=False, udp_gso=False, udp_gro=False)
            if signal.SIGHUP in caught:
                caught.remove(signal.SIGHUP)
                for peer in device.state().peers:
                    device.rekey(peer.public_key)
            if signal.SIGUSR2 in caught:
                caught.remove(signal.SIGUSR2)
                ctypes.PyDLL(None).sleep(BLOCKED_S)


def words(fields: dict[str, object]) -> dict[str, object]:
    return {key: value if isinstance(value, (int, float, bool)) else str(value) for key, value in fields.items()}


def report(device: Device, events: list[list[Any]]) -> dict[str, Any]:
    events += [[kind, when, words(fields)] for kind, when, fields in device.drain()]
    return {
        "drops": device.drops(),
        "counters": device.counters(),
        "offloads": device.offloads(),
        "events": events,
    }


if __name__ == "__main__":
    serve(sys.argv[1], os.environ["WATCHED"])
