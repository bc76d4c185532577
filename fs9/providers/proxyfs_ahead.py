"""Reads ahead: requests the next piece of a file while the client takes the previous one.

Without it a download is one call of the upstream after another, each waiting for the client. At
most one piece is read ahead. It may be as old as cached data, but no older than the last change
made through the mount; for a client that takes longer than that nothing more is read ahead, because
it would be read twice.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from fs9.errors import Fs9Error
from fs9.limits import KIB

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

#: Smaller reads cost more calls than bytes, and are seldom followed by the next ones.
_SIZE_MIN = 256 * KIB


class _Asked(NamedTuple):
    offset: int
    size: int
    epoch: int
    at_s: float
    task: asyncio.Task[bytes]


class ReadAhead:
    """The read-ahead of one open file."""

    __slots__ = ("_ask", "_asked", "_end", "_fresh_s", "_next", "_now")

    def __init__(
        self,
        ask: Callable[[int, int], Coroutine[Any, Any, bytes]],
        now: Callable[[], tuple[int, float]],
        end: int,
        fresh_s: float,
    ) -> None:
        """`ask` reads (offset, size); `now` tells the number of changes and the time; `end` is the
        file's, as far as we know."""
        self._ask = ask
        self._now = now
        self._end = end
        self._fresh_s = fresh_s
        self._next = 0
        self._asked: _Asked | None = None

    async def read(self, offset: int, size: int) -> bytes:
        data = await self._taken(offset, size)
        if data is None:
            data = await self._ask(offset, size)
        after = offset + len(data)
        if offset == self._next and len(data) == size >= _SIZE_MIN:
            self._begin(after, min(size, self._end - after))
        self._next = after
        return data

    async def _taken(self, offset: int, size: int) -> bytes | None:
        """The piece that was read ahead, if it is the wanted one and not too old."""
        asked, self._asked = self._asked, None
        if asked is None:
            return None
        epoch, now_s = self._now()
        current = asked.epoch == epoch and now_s - asked.at_s < self._fresh_s
        if not current:
            self._fresh_s = 0.0
        if not current or (asked.offset, asked.size) != (offset, size):
            asked.task.cancel()
            return None
        try:
            return await asked.task
        except Fs9Error:  # asked for itself it says why, or does not fail
            return None

    def _begin(self, offset: int, size: int) -> None:
        if size <= 0 or self._fresh_s <= 0 or self._asked is not None:
            return
        task = asyncio.get_running_loop().create_task(self._ask(offset, size))
        task.add_done_callback(_seen)
        self._asked = _Asked(offset, size, *self._now(), task)

    def close(self) -> None:
        if self._asked is not None:
            self._asked.task.cancel()


def _seen(task: asyncio.Task[bytes]) -> None:
    if not task.cancelled():
        task.exception()
