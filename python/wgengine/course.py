"""The whole course of `wgengine up`: every step from the first hook to the last, and what it refuses to begin with.

Pure: it is told here, not done. The order is wg-quick's: hooks before the interface is made and after it is set up;
hooks before it goes and after it is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wgengine.errors import ConfigError
from wgengine.hooks import Phase, hooks_of
from wgengine.link import LINK_STEPS, BringUp, in_order
from wgengine.reconfig import diff

if TYPE_CHECKING:
    from wgengine.config import Config
    from wgengine.reconfig import LinkStep

__all__ = ["Course", "refusal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What happens to the interface `name` under a configuration; each step is a line that a person can read."""

    config: Config
    name: str

    def up(self) -> Iterator[str]:
        """From nothing to an interface that is up."""
        steps = diff(None, self.config).steps
        link: list[LinkStep | BringUp] = [step for step in steps if isinstance(step, LINK_STEPS)]
        yield from self._hooks("PreUp")
        yield f"+ interface {self.name}"
        yield from (str(step) for step in steps if not isinstance(step, LINK_STEPS))
        yield from map(str, in_order([*link, BringUp()]))
        yield from self._hooks("PostUp")

    def down(self) -> Iterator[str]:
        """And back again: what was on the interface goes with it."""
        yield from self._hooks("PreDown")
        yield f"- interface {self.name}, its addresses and its routes"
        yield from self._hooks("PostDown")

    def _hooks(self, phase: Phase) -> Iterator[str]:
        return (f"$ {hook}" for hook in hooks_of(self.config, phase, self.name))


def refusal(config: Config, file: str) -> ConfigError | None:
    """Why `up` does not even begin with this configuration: something in it would stay undone."""
    skipped = diff(None, config, can_run_hooks=True).skipped
    if not skipped:
        return None
    way = f"run it with: WG_QUICK_USERSPACE_IMPLEMENTATION=wgengine-device wg-quick up {file}"
    if any(each.what.startswith("route ") for each in skipped):
        way += "; or set Table to off or to a number, and make rules of your own"
    if config.save_config:
        way += "; or set SaveConfig to false"
    return ConfigError(
        f"`wgengine up` cannot do all of this yet ({', '.join(each.what for each in skipped)}); {way}", file=file
    )
