"""The control socket of a device on a host, asked from outside of it and by the clock."""

import base64
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from wgengine.bench.host import Host, HostError
from wgengine.bench.testbed import INTERFACE

_PATIENCE_S = 120.0


def ask(where: Host, request: str) -> float:
    """Sends one request over a connection of its own; the seconds until it was answered.

    Raises:
        HostError: when the device refuses it, does not answer, or cuts the answer short.
    """
    # Each host hides /var/run under a file system of its own; this is the way in.
    path = Path(f"/proc/{where.pid}/root/run/wireguard/{INTERFACE}.sock")
    begun = time.perf_counter()
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_PATIENCE_S)
            client.connect(str(path))
            client.sendall(request.encode())
            answer = b""
            while not answer.endswith(b"\n\n") and (more := client.recv(4096)):
                answer += more
    except OSError as error:
        raise HostError(f"the control socket: {error}") from None
    taken = time.perf_counter() - begun
    if answer != b"errno=0\n\n":
        raise HostError(f"the control socket answered {answer[-100:]!r} to {request[:100]!r}…")
    return taken


def to_hex(key: str) -> str:
    """A key that `wg` has printed, as UAPI writes it."""
    return base64.b64decode(key.strip(), validate=True).hex()


def setting(lines: Iterable[str]) -> str:
    """A request that sets something."""
    return "\n".join(("set=1", *lines, "", ""))
