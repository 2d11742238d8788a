"""Who wants to be told the status, and when: at most one look at a time, and none older than the request for it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from wgengine.errors import Error

if TYPE_CHECKING:
    from wgengine.status import EngineStatus

__all__ = ["StatusCallback", "StatusRequests"]

log = logging.getLogger("wgengine.status_requests")

StatusCallback: TypeAlias = Callable[["EngineStatus | None", Exception | None], Any]


class StatusRequests:
    """Requests while one is served lead to one more, however many they are."""

    def __init__(self, look: Callable[[], Awaitable[EngineStatus]]) -> None:
        self._look = look
        self._listeners: dict[object, StatusCallback] = {}
        self._wanted = False
        self._serving: asyncio.Task[None] | None = None

    def listen(self, told: StatusCallback) -> Callable[[], None]:
        """Tell of each status from now on, on the event loop: it and None, or None and what was wrong. The result ends
        it.
        """
        token = object()
        self._listeners[token] = told
        return lambda: self._forget(token)

    def _forget(self, token: object) -> None:
        self._listeners.pop(token, None)

    def request(self) -> None:
        """Someone should look."""
        self._wanted = True
        if self._serving is None:
            self._serving = asyncio.get_running_loop().create_task(self._serve(), name="wgengine-status")

    async def _serve(self) -> None:
        try:
            while self._wanted:
                self._wanted = False
                status: EngineStatus | None = None
                failure: Exception | None = None
                try:
                    status = await self._look()
                except Error as error:
                    failure = error
                for told in tuple(self._listeners.values()):
                    await _tell(told, status, failure)
        finally:
            self._serving = None

    async def close(self) -> None:
        """Wait for what is under way; nobody is told anything afterwards."""
        self._wanted = False
        if self._serving is not None and self._serving is not asyncio.current_task():
            await asyncio.wait({self._serving})
        self._listeners.clear()


async def _tell(told: StatusCallback, status: EngineStatus | None, failure: Exception | None) -> None:
    try:
        answer = told(status, failure)
        if inspect.isawaitable(answer):
            await answer
    except Exception:
        log.exception("a status callback raised; the engine goes on")
