"""workers.bus: real sockets and processes; whatever dies or is lost, all hear the same."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from typing import TYPE_CHECKING

import pytest
import uvloop

from router.messages import (
    Done,
    FleetStatus,
    Joined,
    LogLevel,
    LogLevelRequest,
    NamespaceChanged,
    Ready,
    StatusRequest,
)
from router.view import SlotState
from tests.workers.fix_bus import BrokerProcess, Listener, until
from workers.asking import NoBroker, bus_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.slots import RunDirectory


def announce(listener: Listener, first: int, last: int) -> list[str]:
    names = [f"n{number}" for number in range(first, last)]
    for name in names:
        listener.client.report(NamespaceChanged(name))
    return names


async def _all_hear_all(listen: Callable[..., Listener]) -> None:
    one, other = listen(0), listen(1)
    await one.start()
    await other.start()
    names = announce(one, 0, 500)
    await until(lambda: len(other.names) >= 500 and len(one.names) >= 500)
    assert one.names == other.names == names
    assert await one.client.flush()
    assert one.client.in_sync
    assert (one.client.outstanding, one.client.gaps, other.client.gaps) == (0, 0, 0)


async def test_all_hear_all_in_order(
    broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    await _all_hear_all(listen)


def test_it_works_on_uvloop(broker: BrokerProcess, listen: Callable[..., Listener]) -> None:
    uvloop.run(_all_hear_all(listen))


@pytest.mark.parametrize("seed", range(3))
async def test_with_a_third_of_all_messages_lost_all_hear_all_in_order(
    broker: BrokerProcess, listen: Callable[..., Listener], seed: int
) -> None:
    dice = random.Random(seed)
    one, other = (listen(slot, lambda: dice.random() < 0.3) for slot in (0, 1))
    await one.start()
    await other.start()
    names: list[str] = []
    for first in range(0, 200, 10):
        names += announce(one, first, first + 10)
        await asyncio.sleep(0.01)
    await until(lambda: len(other.names) >= 200 and len(one.names) >= 200)
    assert one.names == other.names == names
    assert other.client.gaps > 0


async def test_who_comes_late_hears_everything_from_then_on(
    broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    speaker = listen(0)
    await speaker.start()
    late: list[Listener] = []
    for first in range(0, 500, 50):
        announce(speaker, first, first + 50)
        late.append(listen(1))
        await late[-1].start()
    announce(speaker, 500, 550)
    for listener in late:
        await until(lambda heard=listener.names: heard or True)
        await until(lambda each=listener: each.names and each.names[-1] == "n549")
        begin = int(listener.names[0][1:])
        assert listener.names == [f"n{number}" for number in range(begin, 550)]
        assert listener.client.gaps == 0


async def test_a_killed_broker_is_not_missed_and_its_successor_knows_all(
    run_directory: RunDirectory, broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    one, other = listen(0), listen(1)
    await one.start()
    await other.start()
    one.client.report(Joined(0))
    one.client.report(Ready(0))
    await until(lambda: other.client.view and other.client.view.serving == (0,))
    view, epoch = other.client.view, other.client.epoch
    assert view is not None
    broker.end(signal.SIGKILL)
    names = announce(one, 0, 50)
    assert other.client.view == view, "the last view stays"
    broker.start()
    await until(lambda: other.client.epoch != epoch and other.client.in_sync)
    await until(lambda: one.client.outstanding == 0)
    names += announce(one, 50, 51)
    await until(lambda: other.names[-1:] == names[-1:])
    # Who was told of another broker reads everything anew, and then hears what comes after.
    assert other.names == names[len(names) - len(other.names) :]
    assert other.client.view is not None
    assert other.client.view.number > view.number
    assert other.client.view.slots == view.slots
    assert len(other.views) == 2
    assert other.views[-1].serving == (0,)


async def test_a_stopped_listener_holds_nobody_up_and_is_whole_again_after(
    run_directory: RunDirectory, broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    """More than its queue holds: it gets the whole view, and goes on from there."""
    one, stopped = listen(0), listen(1)
    await one.start()
    await stopped.start()
    loop = asyncio.get_running_loop()
    for sock in stopped.client._sockets:
        loop.remove_reader(sock.FD)
    assert stopped.client._timer is not None
    stopped.client._timer.cancel()
    for first in range(0, 20_000, 1000):
        announce(one, first, first + 1000)
        await until(lambda upto=first + 1000: len(one.names) >= upto)
    assert one.client.gaps == 0
    for sock in stopped.client._sockets:
        loop.add_reader(sock.FD, stopped.client._pump)
    stopped.client._tick()
    await until(lambda: stopped.client.in_sync and stopped.client.gaps > 0)
    announce(one, 20_000, 20_010)
    await until(lambda: stopped.names[-1:] == ["n20009"])
    assert stopped.names[-10:] == [f"n{number}" for number in range(20_000, 20_010)]
    assert stopped.views, "it was told to read everything anew"


async def test_without_a_broker_a_client_waits_and_loses_no_report(
    run_directory: RunDirectory, listen: Callable[..., Listener]
) -> None:
    one = listen(0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(one.client.start(one.heard.append, one.views.append), 0.1)
    one.client.report(Joined(0))
    assert not one.client.in_sync
    assert not await one.client.flush(0.05)
    broker = BrokerProcess(run_directory)
    await until(lambda: one.client.in_sync and not one.client.outstanding)
    assert broker.end() == 0


async def test_a_message_that_cannot_be_followed_does_not_stop_the_next(
    broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    one = listen(0)
    heard: list[object] = []

    def stumble(message: object) -> None:
        heard.append(message)
        raise ValueError

    await asyncio.wait_for(one.client.start(stumble, one.views.append), 10)
    announce(one, 0, 3)
    await until(lambda: len(heard) == 3)


async def test_a_report_from_within_a_callback_is_fine(
    broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    one = listen(0)

    def echo(message: object) -> None:
        assert isinstance(message, NamespaceChanged)
        one.heard.append(message)
        if len(one.heard) < 100:
            one.client.report(NamespaceChanged(f"n{len(one.heard)}"))

    await asyncio.wait_for(one.client.start(echo, one.views.append), 10)
    announce(one, 0, 1)
    await until(lambda: len(one.heard) == 100)
    assert one.names == [f"n{number}" for number in range(100)]


# -- Requests -------------------------------------------------------------------------------


async def test_an_operator_asks_and_is_answered(
    run_directory: RunDirectory, broker: BrokerProcess, listen: Callable[..., Listener]
) -> None:
    one = listen(0)
    await one.start()
    one.client.report(Joined(0))
    await one.client.flush()
    status = await asyncio.to_thread(bus_request, run_directory, StatusRequest(), 5.0)
    assert isinstance(status, FleetStatus)
    assert status.slots[0].pid == os.getpid()
    assert [each.state for each in status.slots] == [SlotState.JOINING] * 2
    answer = await asyncio.to_thread(bus_request, run_directory, LogLevelRequest("debug"), 5.0)
    assert answer == Done()
    await until(lambda: LogLevel("debug") in one.heard)


def test_a_fleet_that_does_not_run_is_named(run_directory: RunDirectory) -> None:
    with pytest.raises(NoBroker, match=r"no fleet answers in .*run: it is not running"):
        bus_request(run_directory, StatusRequest(), 0.1)
