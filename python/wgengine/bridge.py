"""What carries `wgengine.sync`: an event loop in a thread of its own, and calls from other threads into it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from wgengine.errors import ClosedError, StateError, TimedOutError
from wgengine.forks import Owner

__all__ = ["Listener", "LoopThread"]

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread. Who waits for it reacts to Ctrl-C: signals interrupt the wait for a lock."""

    def __init__(self) -> None:
        self._owner = Owner()
        self._lock = threading.Lock()  # so that nothing is handed over after the order to stop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self) -> None:
        """Start the thread; StateError when it was started before."""
        self._owner.check()
        with self._lock:
            if self._loop is not None:
                raise StateError("an engine is started once; make another Engine")
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_serve, args=(self._loop,), name="wgengine-sync", daemon=True)
            self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine over there and wait for it. Whoever stops waiting cancels it."""
        try:
            future = self._hand_over(coroutine)
        except StateError:
            coroutine.close()
            raise
        return _wait(future, timeout)

    def call(self, function: Callable[[], T]) -> T:
        """Call a plain function over there and wait for it."""

        async def there() -> T:
            return function()

        return self.run(there())

    @property
    def is_ours(self) -> bool:
        """False in a forked child, which has the object but not the thread."""
        return self._owner.is_here

    def finish(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the last coroutine, then end the loop and its thread. Again: waits for the same end."""
        if self.is_ours and self._loop is None:
            self.start()
        try:
            self.run(close())
        except ClosedError:
            pass  # another thread is at it
        with self._lock:
            loop, thread = self._loop, self._thread
            if not self._stopping and loop is not None:
                self._stopping = True
                loop.call_soon_threadsafe(loop.stop)
        if thread is not None:
            thread.join()

    def outlast(self, wait: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for what ends with the engine itself; the loop's end will do."""
        try:
            self.run(wait())
        except ClosedError:
            pass

    def _hand_over(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        self._owner.check()
        with self._lock:
            if self._loop is None:
                raise StateError("the engine is not started; write: with Engine(...) as engine")
            if self._thread is threading.current_thread():
                raise StateError("this thread serves the engine and must not wait for it; call from another one")
            if self._stopping:
                raise ClosedError("the engine is closed; make another Engine")
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(_cancel_rest())
    finally:
        loop.close()


async def _cancel_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def _wait(future: Future[T], timeout: float | None) -> T:
    try:
        return future.result(timeout)
    except CancelledError:
        raise ClosedError("the engine was closed meanwhile") from None
    except TimeoutError:
        if future.done() and not future.cancelled():
            raise  # the coroutine's own error
        future.cancel()
        raise TimedOutError(f"nothing came within {timeout} s") from None
    except BaseException:
        future.cancel()
        raise


class Listener(Generic[T]):
    """A blocking iterator over an asynchronous one: `for event in listener`. It ends when the engine is closed."""

    def __init__(self, thread: LoopThread, source: AsyncIterator[T], close: Callable[[], None]) -> None:
        self._thread = thread
        self._source = source
        self._close = close

    def get(self, timeout: float | None = None) -> T:
        """The next item. `TimedOutError` when none comes within `timeout` seconds, `ClosedError` after the last."""
        try:
            return self._thread.run(_next(self._source), timeout)
        except StopAsyncIteration:
            raise ClosedError("nothing more will come") from None

    def close(self) -> None:
        """Take no more items."""
        try:
            self._thread.call(self._close)
        except ClosedError:
            pass  # so did the engine

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return self.get()
        except ClosedError:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_ours:
            self.close()


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)
