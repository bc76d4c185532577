"""The one bounded executor for calls that block, so that the event loop never does."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class BlockingPool:
    """Runs blocking calls in at most `threads_max` threads, first come, first served."""

    def __init__(self, threads_max: int) -> None:
        self._executor = ThreadPoolExecutor(threads_max, thread_name_prefix="fs9-blocking")
        self._threads_max = threads_max
        #: Calls running or waiting; counted on the event loop alone.
        self.calls = 0
        self._turn = asyncio.Semaphore(1)

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return max(0, self.calls - self._threads_max)

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `call(...)`, made in a thread.

        A cancelled caller still waits until the call is over, because the call may be using
        the caller's buffers and descriptors; the cancellation is raised then.
        """
        future = self._executor.submit(call, *args, **kwargs)
        self.calls += 1
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel():
                waiter = asyncio.wrap_future(future)
                await _wait_whatever_comes(waiter)
                if not waiter.cancelled():
                    waiter.exception()  # seen: the cancellation matters more
            raise
        finally:
            self.calls -= 1

    async def run_in_turn(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `run`, after the calls that wait for their turn already.

        For what is mostly work for the processor, and may be wanted for many things at once: in
        several threads it would take no less time, and every core from whoever answers requests.
        """
        async with self._turn:
            return await self.run(call, *args, **kwargs)

    def shutdown(self) -> None:
        """Wait for the running calls, start no more. Blocks."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def aclose(self) -> None:
        """As `shutdown`, without holding up the event loop."""
        loop = asyncio.get_running_loop()
        over = asyncio.Event()

        def wait() -> None:
            self.shutdown()
            with suppress(RuntimeError):  # abandoned: the loop is closed by now
                loop.call_soon_threadsafe(over.set)

        threading.Thread(target=wait, name="fs9-shutdown", daemon=True).start()
        await over.wait()


async def _wait_whatever_comes(waiter: asyncio.Future[T]) -> None:
    """Wait for the end even if cancelled repeatedly."""
    while not waiter.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([waiter])
