"""Work spread over tasks or threads: bounded, complete, stopped by the first failure."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from fs9.client.colour import AsyncColour, Stopped, SyncColour

if TYPE_CHECKING:
    from collections.abc import Iterable


def tree(number: int) -> list[int]:
    """The children of a node in a tree of 63 nodes."""
    return [2 * number, 2 * number + 1] if number < 32 else []


async def test_async_spread_does_everything_once_and_no_more_than_limit_at_a_time() -> None:
    done, running, most = [], 0, 0

    async def work(number: int) -> Iterable[int]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(number)
        return tree(number)

    await AsyncColour().spread(work, [1], 4)
    assert sorted(done) == list(range(1, 64))
    assert 1 < most <= 4


async def test_async_spread_stops_at_the_first_failure() -> None:
    cancelled = asyncio.Event()

    async def work(number: int) -> Iterable[int]:
        if number == 2:
            raise LookupError
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ()

    with pytest.raises(LookupError):
        await AsyncColour().spread(work, [1, 2], 2)
    assert cancelled.is_set()


def test_sync_spread_does_everything_once_and_no_more_than_limit_at_a_time() -> None:
    done, running, most, lock = [], 0, 0, threading.Lock()
    together = threading.Barrier(4)

    def work(number: int) -> Iterable[int]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if 8 <= number < 12:
            together.wait(10)  # passes only when four run at once
        with lock:
            running -= 1
            done.append(number)
        return tree(number)

    SyncColour().spread(work, [1], 4)
    assert sorted(done) == list(range(1, 64))
    assert most == 4


def test_sync_spread_stops_at_the_first_failure() -> None:
    """A thread that waits or asks `checkpoint` is told; items not begun are left."""
    colour, begun, stopped = SyncColour(), [], []
    waiting = threading.Event()

    def work(number: int) -> Iterable[int]:
        begun.append(number)
        if number == 9:
            waiting.set()
            try:
                colour.sleep(60)
            except Stopped:
                stopped.append(number)
                raise
        waiting.wait(10)
        raise LookupError

    with pytest.raises(LookupError):
        colour.spread(work, range(10), 2)
    assert stopped == [9]
    assert len(begun) < 10
    colour.checkpoint()  # the colour can be used again
