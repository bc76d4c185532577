"""A fleet that is drained, scaled, reloaded and hit keeps serving: no request fails, nothing that
was acknowledged is lost, open handles go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.e2e.load import Tally, Tenant
from tests.workers.wire_client import WireClient, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.fix_fleet import Fleet

TENANTS = 12


def fs9_fleet(fleet: Fleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fs9.cli.main", "fleet", *arguments]
    command += ["--data-dir", str(fleet.data_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


async def change(fleet: Fleet, *arguments: str) -> None:
    done = await asyncio.to_thread(fs9_fleet, fleet, *arguments)
    assert done.returncode == 0, (arguments, done.stderr)


async def status(fleet: Fleet) -> dict[int, dict[str, Any]]:
    done = await asyncio.to_thread(fs9_fleet, fleet, "status", "--json")
    assert done.returncode == 0, done.stderr
    return {slot["slot"]: slot for slot in json.loads(done.stdout)["slots"]}


async def until(reached: Callable[[], Awaitable[bool]], within_s: float = 60) -> None:
    async with asyncio.timeout(within_s):
        while not await reached():  # noqa: ASYNC110 - another process is what changes
            await asyncio.sleep(0.1)


async def readyz(fleet: Fleet, slot: int) -> int:
    path = fleet.run_directory / f"slot-{slot}.front"
    client = WireClient(*await asyncio.open_unix_connection(str(path)))
    await client.send(request("GET", "/readyz"))
    answer = await client.response()
    await client.close()
    return answer.status


class Running:
    """The load while it runs."""

    def __init__(self, fleet: Fleet, *, forgiving: bool) -> None:
        self.tally = Tally()
        self._stop = asyncio.Event()
        self._tasks = [
            asyncio.create_task(
                Tenant(fleet.port, f"t{number}", self.tally, forgiving=forgiving).run(self._stop)
            )
            for number in range(TENANTS)
        ]

    async def grow(self, requests: int) -> None:
        """Until so many more requests are done."""
        wanted = self.tally.done + requests
        async with asyncio.timeout(60):
            while self.tally.done < wanted:
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.05)

    async def end(self) -> Tally:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        return self.tally


@pytest.fixture
async def four(start_fleet: Callable[..., Fleet]) -> AsyncIterator[Fleet]:
    fleet = start_fleet(workers=4)

    async def all_ready() -> bool:
        return [slot["state"] for slot in (await status(fleet)).values()] == ["ready"] * 4

    await until(all_ready)
    yield fleet
    assert fleet.stop() == 0


async def test_drain_and_undrain_under_load(four: Fleet) -> None:
    running = Running(four, forgiving=False)
    await running.grow(200)
    await change(four, "drain", "1")
    slots = await status(four)
    assert (slots[1]["state"], slots[1]["namespaces"], slots[1]["ring_share"]) == ("drained", 0, 0)
    assert [await readyz(four, slot) for slot in range(4)] == [200, 503, 200, 200]
    await running.grow(200)
    await change(four, "undrain", "1")
    await running.grow(200)
    tally = await running.end()
    assert tally.failures == []
    slots = await status(four)
    assert slots[1]["state"] == "ready"
    assert await readyz(four, 1) == 200


async def test_a_rolling_reload_under_load_replaces_every_process(four: Fleet) -> None:
    before = {slot: info["pid"] for slot, info in (await status(four)).items()}
    running = Running(four, forgiving=False)
    await running.grow(200)
    await change(four, "reload")
    await running.grow(200)
    tally = await running.end()
    assert tally.failures == []
    after = {slot: info["pid"] for slot, info in (await status(four)).items()}
    assert after.keys() == before.keys()
    assert all(after[slot] != before[slot] for slot in before)


async def test_the_only_worker_reloads_and_no_request_fails(
    start_fleet: Callable[..., Fleet],
) -> None:
    """What it has accepted it answers, and says that it is the last; what comes waits."""
    fleet = start_fleet(workers=1)
    before, done, count = fleet.pid_of(0), False, 0

    async def ask(*, keep_alive: bool) -> None:
        nonlocal count
        limits = httpx2.Limits(max_keepalive_connections=1 if keep_alive else 0)
        async with httpx2.AsyncClient(base_url=fleet.url, limits=limits, timeout=90) as client:
            while not done:
                (await client.get("/api/v1/stat?path=/")).raise_for_status()
                count += 1
                await asyncio.sleep(0.01)

    asking = [asyncio.create_task(ask(keep_alive=kept)) for kept in (True, True, False, False)]
    for _ in range(3):
        await change(fleet, "reload")
    done = True
    await asyncio.gather(*asking)
    assert count > 20
    assert fleet.pid_of(0) != before


async def test_scaling_up_and_down_under_load(four: Fleet) -> None:
    running = Running(four, forgiving=False)
    await running.grow(100)
    await change(four, "scale", "6")
    slots = await status(four)
    assert {slot for slot, info in slots.items() if info["state"] == "ready"} == set(range(6))
    await running.grow(200)
    await change(four, "scale", "3")
    await running.grow(200)
    tally = await running.end()
    assert tally.failures == []
    slots = await status(four)
    assert {slot for slot, info in slots.items() if info["state"] == "ready"} == {0, 1, 2}


def of_process(pid: int) -> tuple[int, int]:
    """How the kernel schedules it: policy and nice value."""
    return os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid)


async def test_a_killed_worker_costs_only_what_was_in_flight_on_it(four: Fleet) -> None:
    running = Running(four, forgiving=True)
    await running.grow(200)
    for slot in (0, 2):
        four.kill_worker(slot, signal.SIGKILL)
        await running.grow(200)
    tally = await running.end()
    assert tally.failures == [], "no acknowledged write is lost, open handles go on"
    usual = of_process(four.pid_of(1))

    async def all_compete() -> bool:
        """Those that have started while others served gave way to them, for a while."""
        return {of_process(four.pid_of(slot)) for slot in range(4)} == {usual}

    await until(all_compete)


async def test_a_broker_that_dies_is_replaced_and_nobody_notices(four: Fleet) -> None:
    running = Running(four, forgiving=False)
    await running.grow(100)
    four.kill_broker()
    await running.grow(200)

    async def drained() -> bool:
        done = await asyncio.to_thread(fs9_fleet, four, "drain", "3")
        return done.returncode == 0

    await until(drained)
    await running.grow(100)
    tally = await running.end()
    assert tally.failures == []


async def test_what_cannot_be_done_is_refused_with_the_reason(
    start_fleet: Callable[..., Fleet],
) -> None:
    fleet = start_fleet(workers=1)
    done = await asyncio.to_thread(fs9_fleet, fleet, "drain", "0")
    assert done.returncode == 1
    assert "last" in done.stderr
    done = await asyncio.to_thread(fs9_fleet, fleet, "drain", "7")
    assert done.returncode == 1
    done = await asyncio.to_thread(fs9_fleet, fleet, "scale", "0")
    assert done.returncode == 2
    fleet.stop()
    done = await asyncio.to_thread(fs9_fleet, fleet, "status", "--timeout", "1")
    assert done.returncode == 7
    assert "fs9 serve" in done.stderr
