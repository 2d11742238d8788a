"""Values and errors as JSON has them, and errors back again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, cast

from wgengine import errors
from wgengine.address import Endpoint
from wgengine.changes import Changes, Skipped, Step
from wgengine.errors import ConfigError, Error, ReconfigError
from wgengine.events import Event
from wgengine.keys import PresharedKey, PrivateKey, PublicKey

__all__ = ["error_of", "plain", "plain_error"]

_PUBLIC: Final = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, Error) and kind is not ReconfigError
}


def plain(value: Any) -> Any:
    """A value as `json.dumps` takes it. A secret never is: that one raises."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case PrivateKey() | PresharedKey():
            raise TypeError("a secret key is told to nobody")
        case PublicKey():
            return value.to_base64()
        case Endpoint() | IPv4Address() | IPv6Address() | IPv4Network() | IPv6Network():
            return str(value)
        case Enum():
            return plain(value.value)
        case Changes():
            return {"changes": list(value), "skipped": [plain(each) for each in value.skipped]}
        case Event():
            return {"event": type(value).__name__, **_fields(value)}
        case Mapping():
            return {_name(name): plain(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
    if hasattr(value, "as_dict"):
        return plain(value.as_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: plain(getattr(value, f.name)) for f in fields(value) if not f.name.startswith("_")}


def _name(value: Any) -> str:
    name = plain(value)
    return name if isinstance(name, str) else str(name)


def plain_error(error: BaseException) -> dict[str, Any]:
    """An error as the other end of the socket is told of it. A fault of ours is named, not explained: the log is."""
    match error:
        case ReconfigError():
            told = {"type": "ReconfigError", "message": error.message, "field": None}
            return {**told, "errors": [plain_error(each) for each in error.exceptions], **plain(error.changes)}
        case ConfigError():
            place = {"file": error.file, "line": error.line}
            return {
                "type": "ConfigError",
                "message": error.message,
                "field": error.field,
                **{name: part for name, part in place.items() if part is not None},
            }
        case Error():
            known = next(kind.__name__ for kind in type(error).__mro__ if _PUBLIC.get(kind.__name__) is kind)
            return {"type": known, "message": str(error), "field": None}
        case OSError():
            text = error.strerror or str(error)
            return {"type": "OSError", "message": text, "field": None, "errno": error.errno}
    fault = f"a fault of wgengine ({type(error).__name__}); its log has more"
    return {"type": "Error", "message": fault, "field": None}


def error_of(told: object) -> Exception:
    """The error that was told of, of the same type. A type that this version does not know is an `Error`."""
    if not isinstance(told, Mapping):
        return Error("the engine tells of an error in a way that is not its protocol")
    kind, message, field = told.get("type"), str(told.get("message")), told.get("field")
    match kind:
        case "ConfigError":
            return ConfigError(message, file=told.get("file"), line=told.get("line"), field=field)
        case "OSError" if isinstance(told.get("errno"), int):
            return OSError(told["errno"], message)
        case "ReconfigError" if told.get("errors"):
            return ReconfigError(message, [error_of(each) for each in told["errors"]], changes_of(told))
    return _PUBLIC.get(str(kind), Error)(message)


def changes_of(told: Mapping[str, Any]) -> Changes:
    """The changes that were told of. Their steps are lines: all that a reader of `Changes` sees."""
    lines = cast("tuple[Step, ...]", tuple(map(str, told.get("changes", ()))))
    return Changes(lines, tuple(Skipped(str(each["what"]), str(each["needs"])) for each in told.get("skipped", ())))
