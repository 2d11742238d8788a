"""What the host's routing is to be while the engine is up: our interface's addresses, what goes into it, what not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias, get_args

from wgengine.address import interface_address, prefix
from wgengine.document import Fields
from wgengine.errors import ConfigError, quoted

__all__ = ["NetfilterKind", "NetfilterMode", "RouterConfig"]

log = logging.getLogger("wgengine.router_config")

# "nodivert": our chains are made and kept, and whether packets go through them is the administrator's to say
NetfilterMode: TypeAlias = Literal["off", "nodivert", "on"]
NetfilterKind: TypeAlias = Literal["", "auto", "iptables", "nftables"]  # "": as "auto"

_LARGEST_MTU = 65535


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class RouterConfig:
    """Prefixes in canonical text, in the order that they were given. Without arguments: nothing, all is taken down."""

    local_addrs: tuple[str, ...]  # of our interface
    routes: tuple[str, ...]  # what goes into it
    local_routes: tuple[str, ...]  # what does not, even where `routes` cover it
    new_mtu: int  # 0: as it is
    subnet_routes: tuple[str, ...]  # what we carry for others
    snat_subnet_routes: bool  # that traffic bears our own address there
    stateful_filtering: bool  # what is forwarded into the tunnel must answer something
    netfilter_mode: NetfilterMode
    netfilter_kind: NetfilterKind

    def __init__(
        self,
        *,
        local_addrs: Iterable[str] = (),
        routes: Iterable[str] = (),
        local_routes: Iterable[str] = (),
        new_mtu: int = 0,
        subnet_routes: Iterable[str] = (),
        snat_subnet_routes: bool = False,
        stateful_filtering: bool = False,
        netfilter_mode: NetfilterMode = "off",
        netfilter_kind: NetfilterKind = "",
    ) -> None:
        _set = object.__setattr__
        _set(self, "local_addrs", _each(interface_address, local_addrs, "local_addrs"))
        _set(self, "routes", _each(_masked, routes, "routes"))
        _set(self, "local_routes", _each(_masked, local_routes, "local_routes"))
        _set(self, "new_mtu", _mtu(new_mtu))
        _set(self, "subnet_routes", _each(_masked, subnet_routes, "subnet_routes"))
        for name, flag in (("snat_subnet_routes", snat_subnet_routes), ("stateful_filtering", stateful_filtering)):
            if not isinstance(flag, bool):
                raise ConfigError("write True or False", field=name)
            _set(self, name, flag)
        _set(self, "netfilter_mode", _word(netfilter_mode, get_args(NetfilterMode), "netfilter_mode"))
        _set(self, "netfilter_kind", _word(netfilter_kind, get_args(NetfilterKind), "netfilter_kind"))

    def replace(self, **changes: Any) -> RouterConfig:
        """This configuration with some fields changed."""
        return replace(self, **changes)

    def with_canonical_routes(self, routes: Iterable[str]) -> RouterConfig:
        """A twin with other routes, whose text is known to be canonical: ten thousand of them are not read again."""
        twin = object.__new__(RouterConfig)
        for field in fields(RouterConfig):
            object.__setattr__(twin, field.name, getattr(self, field.name))
        object.__setattr__(twin, "routes", tuple(routes))
        return twin

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RouterConfig:
        """Read what `to_dict` writes. A name that is no field and a value of the wrong type are refused."""
        read = Fields(data)
        read.refuse_others(field.name for field in fields(cls))
        made: dict[str, Any] = {
            "local_addrs": read.reads("local_addrs", interface_address),
            "new_mtu": read.integer("new_mtu", 0, _LARGEST_MTU),
            "netfilter_mode": read.text("netfilter_mode") or "off",
            "netfilter_kind": read.text("netfilter_kind"),
            **{name: read.reads(name, _masked) for name in ("routes", "local_routes", "subnet_routes")},
            **{name: read.flag(name) for name in ("snat_subnet_routes", "stateful_filtering")},
        }
        return cls(**made)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without what is the default."""
        default = RouterConfig()
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value != getattr(default, name)
        }


def _masked(text: str) -> str:
    taken_as, had_host_bits = prefix(text)
    if had_host_bits:
        log.warning("%s has host bits set; it is taken as %s", text, taken_as)
    return taken_as


def _each(read: Callable[[str], str], values: Iterable[str], name: str) -> tuple[str, ...]:
    if isinstance(values, str):  # it would be read letter by letter
        raise ConfigError(f"{quoted(values)} is one text; write a list of texts", field=name)
    try:
        return tuple(map(read, values))
    except ConfigError as error:
        raise error.at(field=name) from None


def _mtu(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_MTU:
        raise ConfigError(f"{quoted(str(value))} is no MTU; write 0 to {_LARGEST_MTU}", field="new_mtu")
    return value


def _word(value: str, words: tuple[str, ...], name: str) -> str:
    if value not in words:
        known = ", ".join(f'"{word}"' for word in words)
        raise ConfigError(f"{quoted(str(value))} is unknown; write one of {known}", field=name)
    return value
