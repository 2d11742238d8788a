"""The comments of a configuration file, tied to what they speak of, so that they find their place again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

from wgengine.errors import ConfigError

if TYPE_CHECKING:
    from wgengine.keys import PublicKey

__all__ = ["EXTENSION", "Comment", "Comments"]

# A line that other tools take for a comment and we for `key = value`: what wg-quick has no key for.
EXTENSION = re.compile(r"[ \t\v\f]*wgengine:(?P<content>[ \t\v\f]*\w+[ \t\v\f]*=.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """One comment: the text after its `#`, and the line that it stood at."""

    text: str = field(repr=False)  # people comment keys out
    peer: PublicKey | None = None  # whose section; None: [Interface]
    key: str = ""  # which line of it; "": the section's header
    values: tuple[str, ...] = ()  # which one of several such lines: what it held
    where: Literal["above", "beside", "end"] = "above"  # end: after the section's last line

    def __post_init__(self) -> None:
        if any(c in self.text for c in "\n\r\0"):
            raise ConfigError("a comment is one line of text; write one Comment for each line", field="comments")
        if EXTENSION.fullmatch(self.text):
            raise ConfigError(
                "a comment such as `# wgengine: key = value` would be read as a field; set the field instead",
                field="comments",
            )
        object.__setattr__(self, "text", self.text.rstrip())


class Comments:
    """All comments of a configuration, in order. Opaque to `repr` and `asdict`, because a comment may hold a key."""

    __slots__ = ("_all",)
    _all: tuple[Comment, ...]

    def __init__(self, comments: Iterable[Comment] = ()) -> None:
        object.__setattr__(self, "_all", tuple(comments))

    def __iter__(self) -> Iterator[Comment]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, index: int) -> Comment: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Comment, ...]: ...
    def __getitem__(self, index: int | slice) -> Comment | tuple[Comment, ...]:
        return self._all[index]

    def __eq__(self, other: object) -> bool:
        return self._all == other._all if isinstance(other, Comments) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"comments are frozen: {name} cannot be set")

    def __copy__(self) -> Comments:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Comments:
        return self

    def __repr__(self) -> str:
        return f"<{len(self._all)} comments>"
