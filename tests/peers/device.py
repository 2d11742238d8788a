"""A running userspace WireGuard device: one handle for every program that speaks UAPI."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers.process import LabError, Process, until

if TYPE_CHECKING:
    from lab import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """An implementation and how it is started; the interface's name is its last argument."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    tidy: bool = True  # takes its socket file with it when it is asked to end
    roams: bool = True  # learns its peer's endpoint from what the peer sends


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRow:
    """One peer of `wg show IF dump`."""

    public: str
    preshared: str
    endpoint: str | None
    allowed_ips: frozenset[str]
    latest_handshake: int
    rx_bytes: int
    tx_bytes: int
    keepalive: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """`wg show IF dump`, read."""

    public: str
    listen_port: int
    fwmark: str
    peers: Mapping[str, PeerRow]


def genkey() -> str:
    return subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout.strip()


def genpsk() -> str:
    return subprocess.run(["wg", "genpsk"], capture_output=True, text=True, check=True).stdout.strip()


def pubkey(private: str) -> str:
    return subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout.strip()


def to_hex(base64_key: str) -> str:
    """A key as UAPI writes it."""
    import base64

    return base64.b64decode(base64_key, validate=True).hex()


@dataclass(slots=True, kw_only=True)
class Device:
    """One WireGuard interface and the process behind it."""

    program: Program
    host: Host
    name: str
    env: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()
    private: str = field(default_factory=genkey, repr=False)
    public: str = ""
    process: Process | None = None
    killed: bool = False

    def __post_init__(self) -> None:
        self.public = pubkey(self.private)

    @property
    def command(self) -> tuple[str, ...]:
        return (*self.program.command, self.name)

    @property
    def socket_path(self) -> Path:
        return Path("/var/run/wireguard") / f"{self.name}.sock"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return self.process.log if self.process else ""

    @property
    def rss_bytes(self) -> int:
        assert self.process is not None
        return self.process.rss_bytes

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the program and waits until `wg` would reach it."""
        self.process = process = self.host.spawn(
            *self.command, env={**self.program.env, **self.env}, pass_fds=self.pass_fds
        )

        def ready() -> bool:
            if not process.running:
                raise LabError(f"{process.name}: exit {process.wait()}: {process.log}")
            return self.answers() and self.has_link()

        until(ready, f"{self.program.name} serves {self.name}; it says: {process.log}")

    def answers(self) -> bool:
        """Whether somebody accepts on the UAPI socket."""
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.socket_path))
            except OSError:
                return False
            return True

    def has_link(self) -> bool:
        return f"{self.name}:" in Path(f"/proc/{self.pid}/net/dev").read_text()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        return self.process.stop()

    def kill9(self) -> None:
        assert self.process is not None
        self.killed = True
        self.process.stop(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    # -- configuration ------------------------------------------------------------------------------------------------

    def setconf(self, text: str) -> None:
        """The whole configuration in one request (boringtun-cli panics when a peer it knows is changed)."""
        self.host.run("wg", "setconf", self.name, "/dev/stdin", stdin=text)

    def wg_set(self, *words: str, stdin: str | None = None) -> None:
        """`wg set IF …`; a secret goes through `/dev/stdin`."""
        self.host.run("wg", "set", self.name, *words, stdin=stdin)

    def interface_section(self, listen_port: int = 51820) -> str:
        return f"[Interface]\nPrivateKey = {self.private}\nListenPort = {listen_port}\n"

    def address(self, *prefixes: str) -> None:
        for prefix in prefixes:
            extra = ["nodad"] if ":" in prefix else []
            self.host.run("ip", "address", "add", prefix, "dev", self.name, *extra)

    def up(self, mtu: int = 1420) -> None:
        self.host.run("ip", "link", "set", self.name, "mtu", str(mtu), "up")

    def down(self) -> None:
        self.host.run("ip", "link", "set", self.name, "down")

    # -- looking ------------------------------------------------------------------------------------------------------

    def show(self) -> Dump:
        first, *rest = self.host.run("wg", "show", self.name, "dump").splitlines()
        _, public, port, fwmark = first.split("\t")
        peers = {}
        for line in rest:
            key, preshared, endpoint, allowed, handshake, rx, tx, keepalive = line.split("\t")
            peers[key] = PeerRow(
                public=key,
                preshared=preshared,
                endpoint=None if endpoint == "(none)" else endpoint,
                allowed_ips=frozenset(() if allowed == "(none)" else allowed.split(",")),
                latest_handshake=int(handshake),
                rx_bytes=int(rx),
                tx_bytes=int(tx),
                keepalive=keepalive,
            )
        return Dump(public=public, listen_port=int(port), fwmark=fwmark, peers=peers)

    def peer(self, other: Device | str) -> PeerRow:
        return self.show().peers[other if isinstance(other, str) else other.public]

    def uapi(self, request: str, timeout_s: float = 60) -> str:
        """One UAPI request (its empty last line is added here); an answer cut short is returned as it is."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout_s)
            client.connect(str(self.socket_path))
            client.sendall(request.rstrip("\n").encode() + b"\n\n")
            answer = b""
            while not answer.endswith(b"\n\n") and (more := client.recv(65536)):
                answer += more
        return answer.decode()

    def uapi_get(self) -> tuple[dict[str, str], dict[str, list[tuple[str, str]]]]:
        """`get=1` as the device's own lines, and the lines of each peer by its hexadecimal key."""
        device: dict[str, str] = {}
        peers: dict[str, list[tuple[str, str]]] = {}
        lines: list[tuple[str, str]] | None = None
        for line in self.uapi("get=1").splitlines():
            key, _, value = line.partition("=")
            if key == "public_key":
                lines = peers.setdefault(value, [])
            elif key == "errno":
                device[key] = value
            elif lines is not None:
                lines.append((key, value))
            elif key:
                device[key] = value
        return device, peers

    def report(self) -> dict[str, Any]:
        """What a watched device of ours says of itself (see watched.py)."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(self.env["WATCHED"])
            said = b""
            while more := client.recv(65536):
                said += more
        answer: dict[str, Any] = json.loads(said)
        return answer

    def drops(self) -> dict[str, int]:
        """The reasons for which this watched device has dropped something."""
        return {reason: count for reason, count in self.report()["drops"].items() if count}

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [fields for what, _, fields in self.report()["events"] if what == kind]

    def udp_inodes(self) -> set[str]:
        """The sockets that are bound to the listening port: the same set means that nothing was bound anew."""
        port = f":{self.show().listen_port:04X}"
        rows = self.host.run("cat", "/proc/net/udp", "/proc/net/udp6").splitlines()
        return {row.split()[9] for row in rows if row.split()[1].endswith(port)}
