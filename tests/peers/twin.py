"""The seed's twin: Tailscale's engine of the version that wgengine answers to, driven from here (see twin/).

Its TUN, router, DNS configurator, BIRD client and clock are ours; what it did to them comes with each answer. Engines
are made one after the other in one process (`new`), so that thousands of sequences cost little.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from peers import build
from peers.conversation import Conversation
from peers.process import LabError

NO_CHANGES = "no changes made to Engine config"

Command = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One thing that the engine did: `router.set`, `router.clear`, `dns.set`, `vpn`, `bird.enable`, `device.set`, …

    `device.set` has how many peers the device gets, `of` how many; `device.flush` how many lose their session before.
    """

    what: str
    config: Mapping[str, Any] | None = field(default=None, hash=False)
    peers: int = 0
    of: int = 0
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.what}!" if self.failed else self.what


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command led to: a value, what was done on the way, and the engine's refusal if there was one."""

    value: Any = None
    calls: tuple[Call, ...] = ()
    error: str = ""

    @property
    def no_changes(self) -> bool:
        return self.error == NO_CHANGES

    @property
    def order(self) -> list[str]:
        """The calls by name, a failed one with `!`."""
        return [str(call) for call in self.calls]

    def configs(self, what: str) -> list[Mapping[str, Any] | None]:
        return [call.config for call in self.calls if call.what == what]


class TwinError(LabError):
    """A command that the twin does not understand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose an address is."""

    key: str
    is_self: bool
    route: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    peers: tuple[str, ...]
    derps: int


def free_port() -> int:
    """A UDP port that nobody has."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::", 0))
        port: int = probe.getsockname()[1]
    return port


class Twin:
    """One process, for as long as the block runs."""

    def __init__(self) -> None:
        self._conversation = Conversation([build.path("twin")], name="the seed's twin")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._conversation.end()

    @property
    def pid(self) -> int:
        return self._conversation.pid

    def ask(self, command: Command) -> Answer:
        return _answer(command, self._conversation.ask(command))

    def ask_all(self, commands: Sequence[Command]) -> list[Answer]:
        """Many commands in one line: one turn of the two processes for all of them."""
        said = self._conversation.ask(commands)
        return [_answer(command, one) for command, one in zip(commands, said, strict=True)]

    def derive(self, netmap: Mapping[str, Any], prefs: Mapping[str, Any]) -> dict[str, Any]:
        """What Tailscale's client makes of a netmap and preferences: `wg`, `router`, `dns`. It needs no engine.

        All by Go's names; of preferences RouteAll, ExitNodeID, ExitNodeAllowLANAccess, CorpDNS, AdvertiseRoutes,
        NoSNAT, NoStatefulFiltering. The machine's own interfaces are looked at when there is an exit node.
        """
        derived: dict[str, Any] = self._unless_refused({"do": "derive", "netmap": netmap, "prefs": prefs}).value
        return derived

    # -- one engine ---------------------------------------------------------------------------------------------------

    def new(self, *, listen_port: int = 0, bird: bool = False, fail: Sequence[str] = ()) -> Answer:
        """Closes the engine that is there and makes another; the value is the port that it has bound.

        `fail` names calls that are to fail on the way; then there is no engine, and the answer is its refusal.
        """
        command = {"do": "new", "listen_port": listen_port, "bird": bird, "fail": list(fail)}
        return self.ask(command) if fail else self._unless_refused(command)

    def reconfig(
        self,
        wg: Mapping[str, Any] | None = None,
        router: Mapping[str, Any] | None = None,
        dns: Mapping[str, Any] | None = None,
        *,
        fail: Sequence[str] = (),
    ) -> Answer:
        """Configurations by Go's names; one left out is as it was. `fail` names calls that are to fail once."""
        return self.ask(reconfig(wg, router, dns, fail=fail))

    def netmap(self, netmap: Mapping[str, Any] | None) -> Answer:
        """`SelfNode` and `Peers` as Tailscale's JSON has them."""
        return self.ask({"do": "netmap", "netmap": netmap})

    def knob(self, name: str, on: bool) -> None:
        """`keep_full_wg_config`, `randomize_client_port` or `peer_mtu_enable`."""
        self.ask({"do": "knob", "name": name, "on": on})

    def env(self, name: str, text: str) -> None:
        """An environment switch, until the next `new`."""
        self.ask({"do": "env", "name": name, "text": text})

    def advance(self, seconds: float) -> None:
        self.ask({"do": "time", "advance_ms": round(seconds * 1000)})

    def sent(self, ip: str) -> Answer:
        """A packet to this address goes through the TUN."""
        return self.ask({"do": "sent", "ip": ip})

    def received(self, key: str) -> Answer:
        """A datagram of this peer arrives; the value is whether the transport told the engine (every 10 s at most)."""
        return self.ask({"do": "received", "key": key})

    def link_change(self, *, major: bool, up: bool) -> Answer:
        """Returns when the engine is done with it."""
        return self.ask({"do": "link_change", "major": major, "up": up})

    def peer_for_ip(self, ip: str) -> Owner | None:
        return owner(self.ask({"do": "peer_for_ip", "ip": ip}))

    def device_peers(self) -> dict[str, int]:
        """The peers in the device, each with how many times it was put there: a session lasts as long as that."""
        peers: dict[str, int] = self.ask({"do": "device_peers"}).value
        return peers

    def port(self) -> int:
        port: int = self.ask({"do": "port"}).value
        return port

    def status(self) -> Status:
        return _status(self._unless_refused({"do": "status"}))

    def reset_and_stop(self) -> tuple[Status, Answer]:
        answer = self._unless_refused({"do": "reset_and_stop"})
        return _status(answer), answer

    def close(self) -> Answer:
        """Closes the engine; the process stays."""
        return self.ask({"do": "close"})

    def _unless_refused(self, command: Command) -> Answer:
        answer = self.ask(command)
        if answer.error:
            raise LabError(f"the twin refused {command['do']}: {answer.error}")
        return answer


def reconfig(
    wg: Mapping[str, Any] | None,
    router: Mapping[str, Any] | None,
    dns: Mapping[str, Any] | None,
    *,
    fail: Sequence[str] = (),
) -> Command:
    parts = {"wg": wg, "router": router, "dns": dns}
    return {"do": "reconfig", "fail": list(fail)} | {name: part for name, part in parts.items() if part is not None}


def owner(answer: Answer) -> Owner | None:
    found = answer.value
    return found and Owner(key=found["key"], is_self=found["self"], route=found["route"])


def _status(answer: Answer) -> Status:
    return Status(peers=tuple(answer.value["peers"]), derps=answer.value["derps"])


def _answer(command: Command, said: Mapping[str, Any]) -> Answer:
    if fault := said.get("fault"):
        raise TwinError(f"the twin does not understand {command.get('do')!r}: {fault}")
    calls = said.get("calls", ())
    return Answer(
        value=said.get("value"),
        error=said.get("error", ""),
        calls=tuple(
            Call(
                what=call["call"],
                config=call.get("config"),
                peers=call.get("peers", 0),
                of=call.get("of", 0),
                failed=call.get("failed", False),
            )
            for call in calls
        ),
    )
