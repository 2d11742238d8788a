"""What the user of this node wants of a netmap: which exit node, whose routes, what to offer to others."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from wgengine.address import prefix
from wgengine.document import Fields
from wgengine.errors import ConfigError, quoted

__all__ = ["Prefs"]

log = logging.getLogger("wgengine.prefs")

_FLAGS = ("allow_lan", "accept_routes", "accept_dns", "snat", "shields_up", "stateful_filtering")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefs:
    """The defaults take nothing from others but their names, and offer nothing."""

    exit_node: str | None = None  # its StableID, an address of it, or its name; it carries all traffic that is not ours
    allow_lan: bool = False  # our own network stays reachable while there is an exit node
    accept_routes: bool = False  # the subnets behind other nodes are reached through them
    accept_dns: bool = True
    advertise_routes: tuple[str, ...] = ()  # what we carry for others; 0.0.0.0/0 and ::/0: we are an exit node
    snat: bool = True  # what we carry bears our own address there
    shields_up: bool = False  # nobody may begin anything with us
    stateful_filtering: bool = False

    def __post_init__(self) -> None:
        if self.exit_node is not None and not isinstance(self.exit_node, str):
            raise ConfigError("write a StableID, an address or a name", field="exit_node")
        object.__setattr__(self, "exit_node", self.exit_node or None)
        object.__setattr__(self, "advertise_routes", _prefixes(self.advertise_routes))
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise ConfigError("write True or False", field=name)

    def replace(self, **changes: Any) -> Prefs:
        """These preferences with some of them changed."""
        return replace(self, **changes)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Prefs:
        """Read what `to_dict` writes. A name that is no preference and a value of the wrong type are refused."""
        read = Fields(data)
        read.refuse_others(field.name for field in fields(cls))
        default = cls()
        return cls(
            exit_node=read.text("exit_node") or None,
            advertise_routes=read.reads("advertise_routes", _masked),
            **{name: read.flag(name, getattr(default, name)) for name in _FLAGS},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without what is the default."""
        default = Prefs()
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value != getattr(default, name)
        }


def _prefixes(values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):  # it would be read letter by letter
        raise ConfigError(f"{quoted(values)} is one text; write a list of texts", field="advertise_routes")
    try:
        return tuple(dict.fromkeys(map(_masked, values)))
    except ConfigError as error:
        raise error.at(field="advertise_routes") from None


def _masked(text: str) -> str:
    taken_as, had_host_bits = prefix(text)
    if had_host_bits:
        log.warning("advertise_routes: %s has host bits set; it is taken as %s", text, taken_as)
    return taken_as
