"""Under which names a node's traffic is logged."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from wgengine.errors import ConfigError

__all__ = ["NetworkLogging"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLogging:
    """Under which names traffic is logged. Who knows an id may write into that log, so `repr` shows none."""

    node_id: str = field(repr=False)  # 32 bytes in hex
    domain_id: str = field(repr=False)
    log_exit_flows: bool = False

    def __post_init__(self) -> None:
        for name in ("node_id", "domain_id"):
            object.__setattr__(self, name, _log_id(getattr(self, name), name))
        if not isinstance(self.log_exit_flows, bool):
            raise ConfigError("write True or False", field="log_exit_flows")


_LOG_ID = re.compile(r"(?!0{64})[0-9a-f]{64}")


def _log_id(value: object, name: str) -> str:
    if not isinstance(value, str) or not _LOG_ID.fullmatch(value.lower()):
        # not shown: who knows it may write into that log
        raise ConfigError("this is no log id; write its 32 bytes in hex, not all of them zero", field=name)
    return value.lower()
