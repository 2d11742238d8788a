"""Tailscale's engine as a live peer in one host of a lab (see tsengine/): what tailscaled is without its client.

It learns its peers from a netmap. A device of ours is, until it speaks disco, a plain WireGuard node in it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peers import build
from peers.conversation import Conversation
from peers.device import genkey, pubkey, to_hex
from peers.process import LabError, until

if TYPE_CHECKING:
    from lab import Host


def node(
    number: int, public: str, addresses: Sequence[str], *, endpoint: str = "", allowed: Sequence[str] = ()
) -> dict[str, Any]:
    """A node of a netmap, its key as `wg` writes it; with an endpoint it is a plain WireGuard peer."""
    plain = {"IsWireGuardOnly": True, "Endpoints": [endpoint]} if endpoint else {}
    return {
        "ID": number,
        "StableID": f"n{number}",
        "Name": f"n{number}.tail.example.",
        "ComputedName": f"n{number}",
        "Key": f"nodekey:{to_hex(public)}",
        "Addresses": list(addresses),
        "AllowedIPs": [*addresses, *allowed],
    } | plain


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    rx_bytes: int
    tx_bytes: int
    handshaken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Keys as `wg` writes them. A peer that has not been used may be missing."""

    disco: str
    advertised: Mapping[str, str]  # the disco keys that peers have told through the tunnel, by their address
    peers: Mapping[str, PeerStatus]


def from_text(key: str) -> str:
    """`nodekey:…` or `discokey:…` as `wg` writes a key."""
    return base64.b64encode(bytes.fromhex(key.partition(":")[2])).decode()


@dataclass(slots=True, kw_only=True)
class TailscaleEngine:
    """One engine on its TUN, with an address and a port."""

    host: Host
    name: str
    addresses: tuple[str, ...]
    private: str = field(repr=False)
    port: int = 0
    conversation: Conversation

    @property
    def public(self) -> str:
        return pubkey(self.private)

    def set_peers(self, *peers: Mapping[str, Any]) -> None:
        self._ask(do="netmap", netmap=self._netmap(peers))

    def ping(self, ip: str, kind: str, timeout_s: float = 10) -> dict[str, Any]:
        """The result of a `TSMP`, `ICMP` or `disco` ping, by Tailscale's names; no result is an error."""
        result: dict[str, Any] = self._ask(do="ping", ip=ip, type=kind, timeout_ms=round(timeout_s * 1000))
        return result

    def status(self) -> Status:
        said = self._ask(do="status")
        return Status(
            disco=from_text(said["disco_key"]),
            advertised={address: from_text(key) for address, key in said["advertised"].items()},
            peers={
                from_text(key): PeerStatus(
                    rx_bytes=peer["RxBytes"],
                    tx_bytes=peer["TxBytes"],
                    handshaken=not peer["LastHandshake"].startswith("0001-"),
                )
                for key, peer in said["peers"].items()
            },
        )

    def start(self, port: int, peers: Sequence[Mapping[str, Any]]) -> None:
        self.port = self._ask(
            do="start",
            tun=self.name,
            listen_port=port,
            private_key=f"privkey:{to_hex(self.private)}",
            netmap=self._netmap(peers),
        )
        until(lambda: self.name in self.host.links(), f"{self.name} is there")
        for address in self.addresses:
            self.host.run("ip", "address", "add", address, "dev", self.name, *(["nodad"] if ":" in address else []))
        self.host.run("ip", "link", "set", self.name, "up")

    def _netmap(self, peers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"SelfNode": node(1, self.public, self.addresses), "Peers": list(peers)}

    def _ask(self, **command: Any) -> Any:
        answer = self.conversation.ask(command)
        if error := answer.get("error"):
            raise LabError(f"Tailscale's engine, asked to {command['do']}: {error}")
        return answer.get("value")


@contextmanager
def tailscale_engine(
    host: Host,
    name: str,
    *addresses: str,
    port: int = 51820,
    peers: Sequence[Mapping[str, Any]] = (),
    private: str = "",
) -> Iterator[TailscaleEngine]:
    """An engine in this host for as long as the block runs. `addresses` have their prefix lengths."""
    command = ["ip", "netns", "exec", host.name, "setpriv", "--pdeathsig", "TERM", str(build.path("tsengine"))]
    with Conversation(command, name=f"Tailscale's engine in {host.name}") as conversation:
        engine = TailscaleEngine(
            host=host, name=name, addresses=addresses, private=private or genkey(), conversation=conversation
        )
        engine.start(port, peers)
        yield engine
