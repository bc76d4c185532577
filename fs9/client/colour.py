"""The few things that differ between the asynchronous and the synchronous client.

Everything else is written once, in the `aio` files, and generated for the other colour by
`tools/async_to_sync.py`. Both classes have the same methods:

- `run(call, ...)`: the result of a call that may block (files of this host);
- `sleep(seconds)`: wait;
- `spread(work, items, limit)`: at most `limit` calls of `work` at a time; an item's work
  returns further items, which are done before the older ones (so the pile stays small). The
  first exception stops the rest and is raised when the running ones have ended;
- `checkpoint()`: raises when the work is to stop; called between the pieces of a body;
- `lock()`: a lock for the short changes of shared values that contain a wait.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from fs9.threads import BlockingPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

P = ParamSpec("P")
T = TypeVar("T")

#: Threads that read and write the files of this host for one asynchronous client.
_BLOCKING_THREADS = 4


class AsyncColour:
    """Tasks on an event loop."""

    def __init__(self) -> None:
        self._pool: BlockingPool | None = None

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self._pool is None:
            self._pool = BlockingPool(_BLOCKING_THREADS)
        return await self._pool.run(call, *args, **kwargs)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def checkpoint(self) -> None:
        """A task is stopped by cancelling it."""

    async def spread(
        self, work: Callable[[T], Awaitable[Iterable[T]]], items: Iterable[T], limit: int
    ) -> None:
        pile = list(items)
        running: set[asyncio.Task[Iterable[T]]] = set()
        try:
            while pile or running:
                while pile and len(running) < limit:
                    running.add(asyncio.ensure_future(_call(work, pile.pop())))
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    pile.extend(task.result())
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


async def _call(work: Callable[[T], Awaitable[Iterable[T]]], item: T) -> Iterable[T]:
    return await work(item)


#: How long an interrupted crew waits for each of its threads.
_PATIENCE_S = 0.3


class Stopped(Exception):
    """Another part of the same work has failed, or the user has interrupted it."""


class SyncColour:
    """Threads."""

    def __init__(self) -> None:
        self._stopping = threading.Event()

    def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return call(*args, **kwargs)

    def sleep(self, seconds: float) -> None:
        """Wait, or less when the work is to stop."""
        self._stopping.wait(seconds)
        self.checkpoint()

    def checkpoint(self) -> None:
        if self._stopping.is_set():
            raise Stopped

    def spread(self, work: Callable[[T], Iterable[T]], items: Iterable[T], limit: int) -> None:
        _Crew(work, list(items), self._stopping).run(limit)

    def close(self) -> None:
        """Nothing is held."""


class _Crew:
    """The threads of one `spread`. `_lock` protects everything but `_work`."""

    def __init__(
        self, work: Callable[[T], Iterable[T]], pile: list[T], stopping: threading.Event
    ) -> None:
        self._work = work
        self._pile = pile
        self._stopping = stopping
        self._lock = threading.Condition()
        self._busy = 0
        self._error: BaseException | None = None

    def run(self, limit: int) -> None:
        threads = [
            threading.Thread(target=self._serve, name="fs9-client", daemon=True)
            for _ in range(limit)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            # Ctrl-C: let the pieces in progress end, and leave what waits for the server.
            self._stop(None)
            for thread in threads:
                thread.join(_PATIENCE_S)
            raise
        self._stopping.clear()
        if self._error is not None:
            raise self._error

    def _stop(self, error: BaseException | None) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
            self._stopping.set()
            self._lock.notify_all()

    def _serve(self) -> None:
        while True:
            with self._lock:
                while not self._pile and self._busy and not self._stopping.is_set():
                    self._lock.wait()
                if self._stopping.is_set() or not self._pile:
                    self._lock.notify_all()
                    return
                item = self._pile.pop()
                self._busy += 1
            try:
                more = list(self._work(item))
            except BaseException as error:
                self._stop(error)
                more = []
            with self._lock:
                self._busy -= 1
                self._pile.extend(more)
                self._lock.notify_all()
