"""workers.broker: the process: it ends when told, saves its view, and notices deaths at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from router.gathering import TOGETHER_S
from router.messages import (
    Done,
    Joined,
    Ready,
    Refused,
    ReloadRequest,
    ScaleRequest,
    StatusRequest,
)
from router.view import SlotState
from tests.workers.fix_bus import BrokerProcess, Listener, until
from workers.asking import bus_request
from workers.broker import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.messages import Answer, Request
    from workers.slots import RunDirectory


async def joined(listener: Listener, slot: int, pid: int = 0) -> None:
    await listener.start()
    listener.client.report(Joined(slot, pid))
    listener.client.report(Ready(slot, pid))
    assert await listener.client.flush(10)


def states(run_directory: RunDirectory) -> dict[int, SlotState]:
    saved = load(run_directory)
    return {} if saved is None else saved.view.slots


async def test_a_death_is_noticed_at_once_and_forgiven_for_the_grace(
    run_directory: RunDirectory, broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE
    )
    one, other = listen(0), listen(1)
    await joined(one, 0)
    await joined(other, 1, process.pid)
    process.kill()
    await process.wait()
    await until(lambda: load(run_directory).pids.keys() == {0, 1})
    status = await asyncio.to_thread(bus_request, run_directory, StatusRequest(), 5.0)
    assert [each.pid for each in status.slots] == [os.getpid(), 0]
    assert states(run_directory)[1] is SlotState.READY
    await until(lambda: states(run_directory)[1] is SlotState.GONE)
    await until(lambda: one.client.view.serving == (0,))


async def test_the_next_broker_goes_on_with_the_saved_view(
    run_directory: RunDirectory, broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    one = listen(0)
    await joined(one, 0)
    await joined(listen(1), 1)
    both = {0: SlotState.READY, 1: SlotState.READY}
    assert states(run_directory) == both
    epoch = one.client.epoch
    assert broker.end() == 0
    broker.start()
    await until(lambda: one.client.epoch not in {"", epoch} and one.client.in_sync)
    assert states(run_directory) == both


async def test_a_disk_that_is_full_for_a_while_ends_no_broker(
    run_directory: RunDirectory, listen: Callable[..., Listener]
) -> None:
    """The fleet goes on without a saved view; the last one is saved when there is room."""
    in_the_way = run_directory.view_file.with_name("view.json.new")
    in_the_way.mkdir()
    broker = BrokerProcess(run_directory)
    try:
        one = listen(0)
        await joined(one, 0)
        await until(lambda: one.client.view.serving == (0,))
        status = await asyncio.to_thread(bus_request, run_directory, StatusRequest(), 5.0)
        assert status.slots[0].pid == os.getpid()
        assert load(run_directory) is None
        in_the_way.rmdir()
        await until(lambda: states(run_directory).get(0) is SlotState.READY)
    finally:
        assert broker.end() == 0


async def test_the_wanted_number_is_left_for_the_arbiter(
    run_directory: RunDirectory, broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    await joined(listen(0), 0)
    # The first slots begin together, but for a late one they wait only so long.
    assert states(run_directory) == {0: SlotState.JOINING, 1: SlotState.JOINING}
    await until(lambda: states(run_directory)[0] is SlotState.READY, TOGETHER_S + 10)
    assert run_directory.wanted() is None
    answer = await asyncio.to_thread(bus_request, run_directory, ScaleRequest(1, 5.0), 8.0)
    assert answer == Done()
    assert run_directory.wanted() == 1
    assert states(run_directory) == {0: SlotState.READY, 1: SlotState.GONE}
    assert broker.end() == 0  # it may be about to save the end of the operation
    run_directory.forget_fleet()
    assert load(run_directory) is None
    assert run_directory.wanted() is None


async def test_what_cannot_be_written_for_the_arbiter_is_refused_and_the_broker_lives(
    run_directory: RunDirectory, broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    """A full disk is told to who asked; when there is room the same is done."""
    for slot in range(2):
        await joined(listen(slot), slot)

    def ask(request: Request) -> Answer:
        return bus_request(run_directory, request, 8.0)

    for path, request in (
        (run_directory.wanted_file, ScaleRequest(3)),
        (run_directory.renewal_file, ReloadRequest()),
    ):
        in_the_way = path.with_name(f"{path.name}.new")
        in_the_way.mkdir()
        answer = await asyncio.to_thread(ask, request)
        assert isinstance(answer, Refused)
        assert f"{path} cannot be written (Is a directory)" in answer.reason
        in_the_way.rmdir()
    assert (run_directory.wanted(), run_directory.renewal()) == (None, "")
    assert await asyncio.to_thread(ask, ScaleRequest(2)) == Done("there are 2 workers already")
    assert run_directory.wanted() == 2
    assert broker.end() == 0


def test_a_saved_view_that_cannot_be_read_is_as_none(run_directory: RunDirectory) -> None:
    for data in (b"", b"{", b'{"view": 3}', b"\xff\xfe"):
        run_directory.view_file.write_bytes(data)
        assert load(run_directory) is None


async def test_it_survives_nonsense(
    run_directory: RunDirectory, broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    one = listen(0)
    await one.start()
    for data in (b"", b"nonsense", b"\xff" * 2000):
        one.client._sockets[1].send(data)
    one.client.report(Joined(0))
    assert await one.client.flush(10)


async def test_it_goes_on_after_it_was_stopped_for_a_while(
    run_directory: RunDirectory, broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    one = listen(0)
    await joined(one, 0)
    await joined(listen(1), 1)
    await until(lambda: one.client.view.serving == (0, 1))
    broker.send(signal.SIGSTOP)
    await until(lambda: not one.client.in_sync)
    assert one.client.lag_s >= 0.9
    assert one.client.view.serving == (0, 1), "the worker serves on"
    broker.send(signal.SIGCONT)
    await until(lambda: one.client.in_sync)
    assert one.client.gaps == 0
