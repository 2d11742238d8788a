"""How an engine works, as far as anyone may turn it: never what it does."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from wgengine.errors import ConfigError, quoted

__all__ = ["Knobs", "MetricsPrefix", "NetfilterKind"]

NetfilterKind: TypeAlias = Literal["iptables", "nftables"]
MetricsPrefix: TypeAlias = Literal["wgengine_", "tailscaled_"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """The defaults are right nearly everywhere; an offload that the kernel cannot do switches itself off."""

    # -- The packet path.
    shards: int | None = None  # packet threads; None: by the number of cores
    tun_offload: bool = True  # 64 KiB super-packets to and from the TUN (TSO, USO)
    udp_gso: bool = True  # many datagrams in one send
    udp_gro: bool = True  # many datagrams in one receive
    nice: int = 0  # nice value of the packet threads, where that is allowed; 0: as everything else
    event_queue: int = 1024  # events that wait for a slow subscriber before the oldest are dropped

    # -- Lazy peers.
    trim_wireguard: bool | None = None  # whether idle peers are trimmed; None: unless keep_full_wg_config
    keep_full_wg_config: bool = False  # every peer stays in the device
    trim_subnet_peers: bool = True  # also peers that serve whole subnets
    trim_sweep: bool = True  # idle peers are trimmed by the clock, too, not only when something else happens

    # -- What a netmap becomes.
    randomize_client_port: bool = False  # the UDP port is drawn anew, whatever was asked for
    one_cgnat: bool | None = None  # one route for all of 100.64.0.0/10; None: from 10,000 addresses on
    netfilter_kind: NetfilterKind | None = None  # which firewall the router writes; None: what the host has
    seamless_key_renewal: bool = False  # sessions go on while a new node key is taken up
    use_cached_netmap: bool = False  # begin with the netmap of the last run

    # -- Paths and dialling.
    peer_mtu_enable: bool = False  # find out each path's MTU
    silent_disco: bool = False  # no heartbeats on idle paths
    user_dial_routes: bool = False  # a dialler of the engine asks the route table

    # -- Watching.
    debug_connect_failures: bool = True  # say why a TCP connection through the tunnel does not open
    no_logs_no_support: bool = False  # no network log, whatever a netmap wants
    watchdog: bool = False  # tell of calls that hang
    watchdog_limit: float = 45.0  # seconds until a call counts as hanging
    fake_health_error: str = ""  # a warning with this text, to try an alarm
    metrics_prefix: MetricsPrefix = "wgengine_"  # how the names begin that tailscaled's dashboards know
    metrics_per_peer: bool | None = None  # series of each peer; None: up to 100 peers
    metrics_children: int = 1000  # series that one metric may have; the rest goes to `other`

    # -- What is built in.
    has_lazy_wg: bool = True
    has_bird: bool = True
    has_netlog: bool = True
    has_dns: bool = True
    has_advertise_routes: bool = True
    has_capture: bool = True
    has_debug: bool = True

    def __post_init__(self) -> None:
        for knob in fields(self):
            _KINDS[str(knob.type)].check(getattr(self, knob.name), knob.name)

    @property
    def trims(self) -> bool:
        """Whether idle peers are trimmed: it must be built in; then the explicit switch decides."""
        if not self.has_lazy_wg:
            return False
        return not self.keep_full_wg_config if self.trim_wireguard is None else self.trim_wireguard

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Knobs:
        """Read `WGENGINE_SHARDS`, `WGENGINE_TUN_OFFLOAD` and so on: one variable for each knob, empty is unset."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for knob in fields(cls):
            variable = f"WGENGINE_{knob.name.upper()}"
            word = environ.get(variable, "").strip()
            if word:
                values[knob.name] = _KINDS[str(knob.type)].read(word, variable)
        try:
            return cls(**values)
        except ConfigError as error:
            raise error.at(field=f"WGENGINE_{(error.field or '').upper()}") from None

    def overridden_by(self, node_attributes: Container[str]) -> Knobs:
        """What a netmap's attributes of our own node make of these knobs: a mapping by name, or just the names.

        An attribute that is not there leaves its knob alone, so these knobs, not the result, are what the next netmap
        overrides. Of two that contradict each other the one further up in `_ATTRIBUTES` holds. Unknown ones belong to
        somebody else.
        """
        changed = {knob: value for name, knob, value in reversed(_ATTRIBUTES) if name in node_attributes}
        return dataclasses.replace(self, **changed) if changed else self


_ATTRIBUTES: tuple[tuple[str, str, Any], ...] = (
    ("debug-no-wg-trim", "keep_full_wg_config", True),
    ("randomize-client-port", "randomize_client_port", True),
    ("peer-mtu-enable", "peer_mtu_enable", True),
    ("user-dial-routes", "user_dial_routes", True),
    ("silent-disco", "silent_disco", True),
    ("linux-netfilter?v=iptables", "netfilter_kind", "iptables"),
    ("linux-netfilter?v=nftables", "netfilter_kind", "nftables"),
    ("one-cgnat?v=true", "one_cgnat", True),
    ("one-cgnat?v=false", "one_cgnat", False),
    ("seamless-key-renewal", "seamless_key_renewal", True),
    ("disable-seamless-key-renewal", "seamless_key_renewal", False),
)

_ON = {"1", "t", "true", "y", "yes", "on"}
_OFF = {"0", "f", "false", "n", "no", "off"}
_RANGES = {
    "shards": (1, 256),
    "nice": (-20, 19),
    "event_queue": (1, 1_000_000),
    "watchdog_limit": (0.001, 86_400),
    "metrics_children": (1, 1_000_000),
}
_LONGEST_TEXT = 500


def _check_switch(value: object, name: str) -> None:
    if not isinstance(value, bool):
        raise ConfigError("write True or False", field=name)


def _check_number(value: object, name: str) -> None:
    low, high = _RANGES[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # type: ignore[operator]
        wanted = f"write a number from {low:,} to {high:,}".replace(",", "")
        raise ConfigError(f"{quoted(str(value))} is out of range; {wanted}", field=name)


def _check_integer(value: object, name: str) -> None:
    _check_number(value if isinstance(value, int) else None, name)


def _check_text(value: object, name: str) -> None:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not (value.isprintable() or value == ""):
        raise ConfigError(f"write one line of at most {_LONGEST_TEXT} characters", field=name)


def _check_word(*words: str) -> Callable[[object, str], None]:
    def check(value: object, name: str) -> None:
        if value not in words:
            raise ConfigError(f"{quoted(str(value))} is none of them; write {' or '.join(words)}", field=name)

    return check


def _read_switch(word: str, variable: str) -> bool:
    if word.lower() not in _ON | _OFF:
        raise ConfigError(f"{quoted(word)} is neither on nor off; write 1 or 0", field=variable)
    return word.lower() in _ON


def _read_integer(word: str, variable: str) -> int:
    digits = word.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        raise ConfigError(f"{quoted(word)} is not a number; write one such as 2", field=variable)
    return int(word)


def _read_number(word: str, variable: str) -> float:
    try:
        return float(word[:40])
    except ValueError:
        raise ConfigError(f"{quoted(word)} is not a number; write one such as 2.5", field=variable) from None


def _read_text(word: str, variable: str) -> str:
    return word


@dataclass(frozen=True, slots=True)
class _Kind:
    """How knobs of one type are checked, and read from a variable."""

    check: Callable[[Any, str], None]
    read: Callable[[str, str], Any]

    def optional(self) -> _Kind:
        def check(value: object, name: str) -> None:
            if value is not None:
                self.check(value, name)

        return _Kind(check, self.read)


_SWITCH = _Kind(_check_switch, _read_switch)
_INTEGER = _Kind(_check_integer, _read_integer)
# by the annotation, as text
_KINDS: dict[str, _Kind] = {
    "bool": _SWITCH,
    "bool | None": _SWITCH.optional(),
    "int": _INTEGER,
    "int | None": _INTEGER.optional(),
    "float": _Kind(_check_number, _read_number),
    "str": _Kind(_check_text, _read_text),
    "NetfilterKind | None": _Kind(_check_word("iptables", "nftables"), _read_text).optional(),
    "MetricsPrefix": _Kind(_check_word("wgengine_", "tailscaled_"), _read_text),
}
