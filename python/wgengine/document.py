"""JSON documents, read strictly: a value of the wrong type is refused, and the error names where it stands.

`Peers[3].Addresses[0]: 12 is not text; write …`: a path that a person can follow in the file. An absent value, `null`
and the type's empty value are the same, as they are to the programs that write these documents.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NewType, NoReturn, TypeVar

from wgengine.errors import ConfigError, quoted

__all__ = ["NOTHING", "Fields", "Raw", "data_of", "loads", "raw"]

T = TypeVar("T")

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


# JSON data that we only keep: as their canonical text, which is small, cannot change, and is equal where the data are.
Raw = NewType("Raw", str)
NOTHING = Raw("")


def raw(value: object) -> Raw:
    """Whatever JSON can say, as its text; None and what is empty are all the same."""
    try:
        return Raw(_encode(value)) if value else NOTHING
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"this cannot be written as JSON ({error}); write plain data") from None


def data_of(kept: Raw) -> Any:
    """The data again, a copy; None if there are none."""
    return json.loads(kept) if kept else None


def loads(data: str | bytes, source: str) -> Any:
    """The data of a JSON text. A key written twice is refused, and so is what is no JSON, such as NaN."""
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data.removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError("this is not UTF-8; save the file as UTF-8", file=source, line=line) from None
    twice: list[tuple[dict[str, Any], str]] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            names = [name for name, _ in pairs]
            twice.append((made, next(name for i, name in enumerate(names) if name in names[:i])))
        return made

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        message = f"this is no JSON ({error.msg}, column {error.colno}); mend it there"
        raise ConfigError(message, file=source, line=error.lineno) from None
    except RecursionError:
        raise ConfigError("too many levels of braces and brackets; write fewer", file=source) from None
    except ValueError as error:
        raise ConfigError(f"this is no JSON ({error})", file=source) from None
    if twice:
        made, name = twice[0]
        path = next((path for path, part in _walk(value, "") if part is made), "")
        message = "this key is written twice; keep one of the two"
        raise ConfigError(message, file=source, field=_below(path, name))
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    stack = [(path, value)]
    while stack:
        path, value = stack.pop()
        yield path, value
        if isinstance(value, dict):
            stack += ((_below(path, name), part) for name, part in value.items())
        elif isinstance(value, list):
            stack += ((f"{path}[{i}]", part) for i, part in enumerate(value))


_PLAIN_NAME = re.compile(r"\w{1,40}")  # shorter than any key


def _below(path: str, name: str) -> str:
    if not _PLAIN_NAME.fullmatch(name):
        return f"{path}[{quoted(name)}]"
    return f"{path}.{name}" if path else name


def shown(value: object) -> str:
    """A refused value as errors show it: short, and never a key."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, (Mapping, list, tuple)):
        return "an object" if isinstance(value, Mapping) else "a list"
    return quoted("null" if value is None else str(value).lower() if isinstance(value, bool) else str(value))


class Fields:
    """One object of a document while it is read: each value is asked for by name and checked."""

    __slots__ = ("_at", "_data", "_parent")

    def __init__(self, data: object, parent: Fields | None = None, at: str | tuple[str, int] = "") -> None:
        self._parent, self._at = parent, at
        if not isinstance(data, Mapping):
            raise ConfigError(f"{shown(data)} is not an object; write {{…}}", field=self.path() or None)
        self._data = data

    def path(self, name: str = "", index: int | None = None) -> str:
        """Where this object stands, or its value `name`, or that one's entry `index`. Only errors ask."""
        path = self._parent.path() if self._parent is not None else ""
        if self._at:
            at, place = self._at if isinstance(self._at, tuple) else (self._at, None)
            path = _below(path, at) + (f"[{place}]" if place is not None else "")
        if name:
            path = _below(path, name)
        return path if index is None else f"{path}[{index}]"

    def error(self, message: str, name: str = "", index: int | None = None) -> ConfigError:
        return ConfigError(message, field=self.path(name, index) or None)

    def _wrong(self, value: object, wanted: str, name: str, index: int | None = None) -> ConfigError:
        return self.error(f"{shown(value)} is not {wanted}", name, index)

    def has(self, name: str) -> bool:
        return self._data.get(name) is not None

    def text(self, name: str) -> str:
        value = self._data.get(name)
        if value is None:
            return ""
        if type(value) is not str:
            raise self._wrong(value, 'text; write it in quotes, as in "abc"', name)
        if not value.isascii():
            self._check_unicode(value, name)
        return value

    def _check_unicode(self, value: str, name: str, index: int | None = None) -> None:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error("this holds half a character (a lone surrogate); write whole ones", name, index) from None

    def time(self, name: str) -> str:
        """A time of RFC 3339, kept as its text. The year 1 is how these documents say never."""
        value = self.text(name)
        if not value or value.startswith("0001-01-01T00:00:00"):
            return ""
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise self._wrong(value, "a time; write one such as 2026-01-31T12:00:00Z", name)
        return value

    def integer(self, name: str, low: int = 0, high: int = 2**63 - 1, default: int = 0) -> int:
        value = self._data.get(name)
        if value is None:
            return default
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(value, f"a whole number from {low} to {high}; write one without quotes", name)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._data.get(name)
        if value is None:
            return default
        if type(value) is not bool:
            raise self._wrong(value, "true or false; write one of them, without quotes", name)
        return value

    def entries(self, name: str) -> list[Any]:
        value = self._data.get(name)
        if value is None:
            return []
        if isinstance(value, tuple):  # from Python, not from a text
            return list(value)
        if type(value) is not list:
            raise self._wrong(value, "a list; write […]", name)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.entries(name)
        for index, value in enumerate(values):
            if type(value) is not str:
                raise self._wrong(value, 'text; write it in quotes, as in "abc"', name, index)
            if not value.isascii():
                self._check_unicode(value, name, index)
        return tuple(values)

    def integers(self, name: str) -> tuple[int, ...]:
        values = self.entries(name)
        for index, value in enumerate(values):
            if type(value) is not int:
                raise self._wrong(value, "a whole number; write it without quotes", name, index)
        return tuple(values)

    def read(self, name: str, read: Callable[[str], T]) -> T | None:
        """What `read` makes of a text; None where there is none."""
        value = self.text(name)
        if not value:
            return None
        try:
            return read(value)
        except ConfigError as error:
            raise self.error(error.message, name) from None

    def reads(self, name: str, read: Callable[[str], T]) -> tuple[T, ...]:
        """What `read` makes of each text of a list."""
        values = self.texts(name)
        try:
            return tuple(map(read, values))
        except ConfigError:
            for index, value in enumerate(values):
                try:
                    read(value)
                except ConfigError as error:
                    raise self.error(error.message, name, index) from None
            raise

    def checked(self, name: str, read: Callable[[str], T]) -> T:
        """What `read` makes of a name that is itself data."""
        try:
            return read(name)
        except ConfigError as error:
            raise self.error(error.message, name) from None

    def part(self, name: str) -> Fields | None:
        value = self._data.get(name)
        return None if value is None else Fields(value, self, name)

    def parts(self, name: str) -> Iterator[Fields]:
        for index, value in enumerate(self.entries(name)):
            yield Fields(value, self, (name, index))

    def raw_list(self, name: str) -> Raw:
        """A list that is kept without a look at what it holds."""
        values = self.entries(name)
        return self._kept(values, name) if values else NOTHING

    def raw_lists(self, name: str) -> Raw:
        """An object of lists that are kept without a look at what they hold."""
        lists = self.part(name)
        if lists is None:
            return NOTHING
        return self._kept({each: lists.entries(each) for each in lists.names()}, name)

    def _kept(self, value: object, name: str) -> Raw:
        try:
            return raw(value)
        except ConfigError as error:
            raise self.error(error.message, name) from None

    def names(self) -> Iterable[str]:
        for name in self._data:
            if not isinstance(name, str):
                raise self.error(f"{shown(name)} is not text; write the keys of an object in quotes")
        return self._data.keys()

    def rest(self, known: frozenset[str]) -> Raw:
        """What has none of the known names, kept as it is."""
        unknown = self._data.keys() - known
        if not unknown:
            return NOTHING
        self.names()
        return self._kept({name: self._data[name] for name in unknown}, "")

    def refuse_others(self, known: Iterable[str]) -> None:
        """An error for a name that is not known: of a document that is ours alone, a slip of the pen."""
        known = tuple(known)
        for name in self.names():
            if name not in known:
                near = difflib.get_close_matches(name[:60], known, 1)
                advice = f"write {near[0]}" if near else "write one of " + ", ".join(known)
                raise self.error(f"there is no such field; {advice}", name)
