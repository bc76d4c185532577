"""fs9.threads: blocking calls in few threads, and no call left alone with its buffers."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fs9.threads import BlockingPool


async def test_result_and_arguments(pool: BlockingPool):
    assert await pool.run(divmod, 7, 2) == (3, 1)
    assert await pool.run(int, "ff", base=16) == 255


async def test_errors_come_back(pool: BlockingPool):
    with pytest.raises(ZeroDivisionError):
        await pool.run(divmod, 1, 0)


async def test_calls_run_outside_the_event_loop(pool: BlockingPool):
    assert await pool.run(threading.get_ident) != threading.get_ident()


async def test_no_more_threads_than_allowed():
    """The next call waits for one of the running ones."""
    pool = BlockingPool(2)
    gate, lock, begun = threading.Event(), threading.Lock(), threading.Semaphore(0)
    running, most = 0, 0

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        begun.release()
        gate.wait(5)
        with lock:
            running -= 1

    calls = [asyncio.create_task(pool.run(call)) for _ in range(6)]
    for _ in range(2):
        await asyncio.to_thread(begun.acquire, timeout=60)
    gate.set()
    await asyncio.gather(*calls)
    assert most == 2
    pool.shutdown()


async def test_a_cancelled_caller_waits_for_its_running_call(pool: BlockingPool):
    """The call may be using the caller's buffer, so the caller does not go before it ends."""
    started, gate = threading.Event(), threading.Event()
    ended = []

    def call() -> None:
        started.set()
        gate.wait(5)
        ended.append(True)

    caller = asyncio.create_task(pool.run(call))
    await asyncio.to_thread(started.wait, 5)
    caller.cancel()
    await asyncio.sleep(0.01)
    assert not caller.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == [True]


async def test_a_cancelled_call_that_has_not_begun_never_begins():
    pool = BlockingPool(1)
    gate, ran = threading.Event(), []
    first = asyncio.create_task(pool.run(gate.wait, 5))
    second = asyncio.create_task(pool.run(ran.append, 1))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    await first
    pool.shutdown()
    assert ran == []


async def test_the_error_of_a_call_whose_caller_is_cancelled_is_dropped(pool: BlockingPool):
    """The cancellation is what the caller sees, and nobody complains about the other."""
    started, gate = threading.Event(), threading.Event()

    def call() -> None:
        started.set()
        gate.wait(5)
        raise ValueError("late")

    caller = asyncio.create_task(pool.run(call))
    await asyncio.to_thread(started.wait, 5)
    caller.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_running_and_waiting_calls_are_told() -> None:
    """Also of callers that went away, until their call is over."""
    pool = BlockingPool(2)
    gate = threading.Event()
    tasks = [asyncio.create_task(pool.run(gate.wait)) for _ in range(5)]
    await asyncio.sleep(0)
    assert (pool.calls, pool.waiting) == (5, 3)
    tasks[0].cancel()
    await asyncio.sleep(0)
    assert pool.calls == 5
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (pool.calls, pool.waiting) == (0, 0)
    pool.shutdown()


async def test_calls_in_turn_are_never_two_at_once(pool: BlockingPool):
    """Also after one that failed; others pass them."""
    running, most, gate = 0, 0, threading.Event()

    def call(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        gate.wait(30)
        running -= 1
        return 12 // number

    calls = [asyncio.create_task(pool.run_in_turn(call, number)) for number in range(4)]
    assert await pool.run(divmod, 7, 2) == (3, 1)
    gate.set()
    with pytest.raises(ZeroDivisionError):
        await calls[0]
    assert await asyncio.gather(*calls[1:]) == [12, 6, 4]
    assert most == 1
