"""Asks the UAPI sockets of this machine for their state. Any implementation answers: ours, wireguard-go, boringtun."""

import os
import socket
import time
from typing import Any, Final

from wgengine.cli import interface as places
from wgengine.cli.outcome import NotRunningError, describe
from wgengine.errors import PrivilegeError
from wgengine.keys import PrivateKey, PublicKey
from wgengine.status import EngineStatus, PeerStatus

_PATIENCE: Final = 10.0


def interfaces() -> list[str]:
    """The names that have a UAPI socket, served or not."""
    try:
        names = os.listdir(places.SOCKETS)
    except FileNotFoundError:
        return []
    except PermissionError:
        raise PrivilegeError(f"{places.SOCKETS} is closed to this user; run this as root (sudo)") from None
    return sorted(name.removesuffix(places.SUFFIX) for name in names if name.endswith(places.SUFFIX))


def ask(interface: str) -> EngineStatus:
    """The state of one interface, as far as the UAPI tells it. `NotRunningError` when nobody serves it.

    Of the private key in the answer only the public half is kept.
    """
    return parse(interface, _exchange(interface, "get=1\n\n"))


def _exchange(interface: str, request: str) -> str:
    path = places.socket_path(places.check_name(interface))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(path)
        except FileNotFoundError:
            raise NotRunningError(
                f"{interface} is not running: there is no {path}; start it with `wgengine device {interface}`"
            ) from None
        except ConnectionRefusedError:
            raise NotRunningError(
                f"{interface} is not running: {path} was left behind; start it with `wgengine device {interface}`"
            ) from None
        except PermissionError:
            raise PrivilegeError(f"{path} is closed to this user; run this as root (sudo)") from None
        try:
            connection.sendall(request.encode())
            return _until_blank_line(connection)
        except TimeoutError:
            raise ConnectionError(f"{interface} did not answer within {_PATIENCE:.0f} s") from None
        except OSError as error:
            raise ConnectionError(f"{interface} broke off: {describe(error)}") from None


def _until_blank_line(connection: socket.socket) -> str:
    chunks: list[bytes] = []
    tail = b""
    while not tail.endswith(b"\n\n"):
        chunk = connection.recv(1 << 16)
        if not chunk:
            break
        chunks.append(chunk)
        tail = (tail + chunk)[-2:]
    return b"".join(chunks).decode("ascii", "replace")


def parse(interface: str, answer: str) -> EngineStatus:
    """Reads the answer to `get=1`. `ConnectionError` when it is none, or carries an errno."""
    device: dict[str, str] = {}
    peers: list[dict[str, Any]] = []
    for line in answer.splitlines():
        name, separator, value = line.partition("=")
        if not separator:
            continue
        if name == "public_key":
            peers.append({"public_key": value, "allowed_ips": []})
        elif name == "allowed_ip" and peers:
            peers[-1]["allowed_ips"].append(value)
        elif name in ("errno", "private_key", "listen_port", "fwmark"):
            device[name] = value
        elif peers:
            peers[-1][name] = value
    try:
        errno = int(device["errno"])
        if errno != 0:
            raise ConnectionError(f"{interface} answers: {os.strerror(abs(errno))}")
        private = device.get("private_key")
        return EngineStatus(
            name=interface,
            mode="tun",  # who serves a UAPI socket has a TUN behind it
            state="running",
            time=time.time(),
            public_key=PrivateKey.from_hex(private).public_key if private and set(private) != {"0"} else None,
            listen_port=int(device.get("listen_port", 0)),
            fwmark=int(device.get("fwmark", "0"), 0),
            peers=tuple(_peer(values) for values in peers),
        )
    except (KeyError, ValueError) as error:
        raise ConnectionError(f"{interface} gives an answer that is not UAPI ({type(error).__name__})") from None


def _peer(values: dict[str, Any]) -> PeerStatus:
    seconds = int(values.get("last_handshake_time_sec", 0))
    nanoseconds = int(values.get("last_handshake_time_nsec", 0))
    return PeerStatus(
        public_key=PublicKey.from_hex(values["public_key"]),
        has_preshared_key=bool(set(values.get("preshared_key", "0")) - {"0"}),
        endpoint=values.get("endpoint"),
        allowed_ips=tuple(values["allowed_ips"]),
        last_handshake=seconds + nanoseconds / 1e9 if seconds or nanoseconds else None,
        rx_bytes=int(values.get("rx_bytes", 0)),
        tx_bytes=int(values.get("tx_bytes", 0)),
        persistent_keepalive=int(values.get("persistent_keepalive_interval", 0)),
    )
