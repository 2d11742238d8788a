"""Who stands at the two ends of a scenario: ours and each real peer, on either side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from peers.tunnel import Tunnel, establish

if TYPE_CHECKING:
    from lab import Host, Lab

    from peers.device import Device, Program

OURS = "wgengine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The program of device a, and that of device b."""

    a: str
    b: str
    env: Mapping[str, str] = field(default_factory=dict, compare=False)  # for ours

    def __str__(self) -> str:
        return f"{self.a}+{self.b}"

    @property
    def names(self) -> tuple[str, str]:
        return self.a, self.b

    def device(self, lab: Lab, number: int, host: Host) -> Device:
        name = self.names[number]
        return lab.device(program_of(name), host, env=self.env if name == OURS else {})

    def devices(self, lab: Lab, a: Host, b: Host) -> tuple[Device, Device]:
        return self.device(lab, 0, a), self.device(lab, 1, b)

    def tunnel(self, lab: Lab, **options: Any) -> Tunnel:
        """A tunnel between two fresh hosts."""
        return establish(*self.devices(lab, *lab.pair()), **options)


def program_of(name: str) -> Program:
    import lab

    return lab.dut() if name == OURS else lab.program(name)


PAIRINGS = (
    Pairing(a=OURS, b=OURS),
    Pairing(a=OURS, b="wireguard-go"),
    Pairing(a="wireguard-go", b=OURS),
    Pairing(a=OURS, b="boringtun-cli"),
    Pairing(a="boringtun-cli", b=OURS),
)

every_pairing = pytest.mark.parametrize("pairing", PAIRINGS, ids=str)


def pairings(*, without: str = "", never_a: str = "", never_b: str = "") -> pytest.MarkDecorator:
    """All but those in which a program would have to do what it cannot; the test says what that is."""
    chosen = [p for p in PAIRINGS if without not in p.names and never_a != p.a and never_b != p.b]
    return pytest.mark.parametrize("pairing", chosen, ids=str)
