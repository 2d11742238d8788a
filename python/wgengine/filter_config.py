"""What a packet filter is to let through: rules as a netmap has them, and what counts as ours."""

from __future__ import annotations

from dataclasses import dataclass

from wgengine.document import NOTHING, Raw

__all__ = ["FilterConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterConfig:
    """The defaults let nothing through: no address is ours."""

    rules: Raw = NOTHING  # a list of Tailscale's FilterRules
    local_nets: tuple[str, ...] = ()  # where packets may be for us, or for those whom we carry for
    log_nets: tuple[str, ...] = ()  # whose packets may be logged
    shields_up: bool = False  # nobody may begin anything, whatever the rules say
