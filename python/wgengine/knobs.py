"""How an engine works, as far as anyone may turn it: never what it does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from wgengine.errors import ConfigError, quoted

__all__ = ["Knobs"]

_ON = {"1", "true", "yes", "on"}
_OFF = {"0", "false", "no", "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """The defaults are right nearly everywhere; an offload that the kernel cannot do switches itself off."""

    shards: int | None = None  # packet threads; None: by the number of cores
    tun_offload: bool = True  # 64 KiB super-packets to and from the TUN (TSO, USO)
    udp_gso: bool = True  # many datagrams in one send
    udp_gro: bool = True  # many datagrams in one receive
    event_queue: int = 1024  # events that wait for a slow subscriber before the oldest are dropped

    def __post_init__(self) -> None:
        if self.shards is not None:
            _bounded(self.shards, 1, 256, "shards")
        _bounded(self.event_queue, 1, 1_000_000, "event_queue")
        for name in ("tun_offload", "udp_gso", "udp_gro"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError("write True or False", field=name)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Knobs:
        """Read `WGENGINE_SHARDS`, `WGENGINE_TUN_OFFLOAD` and so on: one variable for each knob, empty is unset."""
        environ = os.environ if environ is None else environ
        values: dict[str, int | bool] = {}
        for knob in fields(cls):
            variable = f"WGENGINE_{knob.name.upper()}"
            word = environ.get(variable, "").strip().lower()
            if word:
                values[knob.name] = _switch(word, variable) if knob.type == "bool" else _integer(word, variable)
        try:
            return cls(**values)  # type: ignore[arg-type]
        except ConfigError as error:
            raise error.at(field=f"WGENGINE_{(error.field or '').upper()}") from None


def _bounded(value: object, low: int, high: int, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{quoted(str(value))} is out of range; write a number from {low} to {high}", field=name)


def _switch(word: str, variable: str) -> bool:
    if word not in _ON | _OFF:
        raise ConfigError(f"{quoted(word)} is neither on nor off; write 1 or 0", field=variable)
    return word in _ON


def _integer(word: str, variable: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 9):
        raise ConfigError(f"{quoted(word)} is not a number; write one such as 2", field=variable)
    return int(word)
