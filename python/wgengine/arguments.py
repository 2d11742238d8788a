"""What an engine may be given."""

from __future__ import annotations

from wgengine.config import Config
from wgengine.errors import ConfigError
from wgengine.netmap import NetMap

__all__ = ["check_arguments", "check_config", "check_type"]


def check_arguments(
    config: Config | NetMap | None, mode: str, name: str | None, tun_fd: int | None, listen_port: int
) -> None:
    if mode == "userspace":
        raise ConfigError("this comes with a later version; write tun, or memory for tests", field="mode")
    if mode not in ("auto", "tun", "memory", "fake"):
        raise ConfigError(f"{mode!r} is no mode; write auto, tun or memory", field="mode")
    if tun_fd is not None and (name is not None or mode in ("memory", "fake")):
        raise ConfigError("a lent TUN has its own name and is a tun; leave name and mode out", field="tun_fd")
    if not 0 <= listen_port <= 65535:
        raise ConfigError(f"{listen_port!r} is not a port; write a number from 0 to 65535", field="listen_port")
    if config is not None:
        check_config(config)


def check_config(config: object) -> None:
    if not isinstance(config, Config | NetMap):
        wanted = "a Config or a NetMap is wanted"
        raise TypeError(
            f"{wanted}, not {type(config).__name__}; Config.from_file(path) and NetMap.from_file(path) read them"
        )


def check_type(value: object, wanted: type) -> None:
    if not isinstance(value, wanted):
        raise TypeError(f"a {wanted.__name__} is wanted, not {type(value).__name__}")
