"""Names of DNS: whole, in lower case, with their final dot, so that equal text is the same name."""

from __future__ import annotations

from wgengine.errors import ConfigError, quoted

__all__ = ["ROOT", "covers", "fqdn", "label_count", "parent"]

ROOT = "."
LONGEST_LABEL = 63  # RFC 1035 2.3.4, in bytes
LONGEST_NAME = 254  # with its final dot


def fqdn(text: str) -> str:
    """The canonical text of a name. Labels may hold any byte but zero, as DNS has it; nothing is looked up."""
    if text in ("", ROOT):
        return ROOT
    name = text.removeprefix(".").removesuffix(".").lower() + "."
    try:
        labels = [len(label.encode()) for label in name[:-1].split(".")]
    except UnicodeEncodeError:
        labels = [0]
    if "\0" in name or not all(0 < length <= LONGEST_LABEL for length in labels):
        raise ConfigError(
            f"{quoted(text)} is no domain; write labels of 1 to {LONGEST_LABEL} bytes with dots between them, "
            "as in corp.example"
        )
    if sum(labels) + len(labels) > LONGEST_NAME:
        raise ConfigError(f"{quoted(text)} is longer than a domain may be; write {LONGEST_NAME} bytes at the most")
    return name


def label_count(name: str) -> int:
    return 0 if name == ROOT else name.count(".")


def parent(name: str) -> str | None:
    """The name without its first label; None where that would be the root."""
    return name.partition(".")[2] or None


def covers(suffix: str, name: str) -> bool:
    """Whether `name` is `suffix` or lies below it."""
    return suffix == ROOT or name == suffix or name.endswith(f".{suffix}")
