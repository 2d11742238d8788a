"""The commands that a configuration wants run as its interface comes and goes: which, when, and by which shell.

Here it is decided as wg-quick decides it: every command is a line for bash, `%i` stands for the interface's name, and
a command that fails ends the coming up. Nothing is run here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from wgengine.errors import Error

if TYPE_CHECKING:
    from wgengine.config import Config

__all__ = ["ENVIRONMENT", "SHELL", "Hook", "HookError", "Phase", "hooks_of", "shell"]

# before the interface is made, once it is set up, while it is still there, after it is gone
Phase: TypeAlias = Literal["PreUp", "PostUp", "PreDown", "PostDown"]

SHELL: Final = "bash"
# What wg-quick's own `set -e -o pipefail; shopt -s extglob; export LC_ALL=C` make of the shell that a hook runs in.
_SHELL_OPTIONS: Final = ("-O", "extglob", "-e", "-o", "pipefail", "-c")
# The command comes through a pipe: everyone on the machine reads arguments, and a command may hold a key.
_SCRIPT: Final = 'hook=$(</dev/fd/{fd}); exec {fd}<&-; eval "$hook"'
ENVIRONMENT: Final = {"LC_ALL": "C"}

# A key in base64 or hex: a hook may hold one, and is shown before it runs.
_KEY: Final = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=|\b[0-9A-Fa-f]{64}\b")


class HookError(Error):
    """A hook failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One command, with the interface's name filled in."""

    phase: Phase
    command: str

    @property
    def shown(self) -> str:
        """The command without any key in it."""
        return _KEY.sub("(hidden key)", self.command)

    def __str__(self) -> str:
        return f"{self.phase} {self.shown}"

    def failure(self, code: int) -> HookError:
        """What to say when it ended with `code`; negative: the signal that ended it."""
        how = f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
        return HookError(f"{self.phase} {how}: {self.shown}")


def shell(fd: int) -> tuple[str, ...]:
    """The shell that runs the command which it reads from descriptor `fd`."""
    return (SHELL, *_SHELL_OPTIONS, _SCRIPT.format(fd=fd))


def hooks_of(config: Config, phase: Phase, name: str) -> tuple[Hook, ...]:
    """The hooks of one phase for the interface `name`, in their order."""
    commands = {
        "PreUp": config.pre_up,
        "PostUp": config.post_up,
        "PreDown": config.pre_down,
        "PostDown": config.post_down,
    }[phase]
    return tuple(Hook(phase=phase, command=command.replace("%i", name)) for command in commands)
