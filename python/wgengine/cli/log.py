"""The library's log on standard error, as far as `LOG_LEVEL` asks for it: one line for each record."""

import logging
from collections.abc import Mapping
from typing import Final

from wgengine.cli import outcome

_LEVELS: Final = {
    "silent": logging.CRITICAL + 1,
    "error": logging.WARNING,
    "info": logging.INFO,
    "verbose": logging.INFO,
    "debug": logging.DEBUG,
}


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        word = "warning: " if record.levelno == logging.WARNING else ""
        outcome.complain(f"{word}{record.getMessage()}")


def log_to_stderr(environment: Mapping[str, str]) -> None:
    """From here on the library is heard: warnings and errors, or what `LOG_LEVEL` says. Raises `UsageError`."""
    level = environment.get("LOG_LEVEL", "").lower() or "error"
    if level not in _LEVELS:
        raise outcome.UsageError(f"LOG_LEVEL={level}: write silent, error or verbose")
    logger = logging.getLogger("wgengine")
    logger.setLevel(_LEVELS[level])
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())
