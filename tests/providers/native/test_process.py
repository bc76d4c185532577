"""A plugin in its own process: what it does to itself costs nobody else anything."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import BackendUnavailable, InvalidArgument, InvalidHandle, NotFound
from fs9.limits import Limits
from fs9.providers.native import provider
from fs9.providers.native.process import PluginProcess, Restarts
from fs9.providers.registry import ProviderContext
from fs9.types import READ, OpenFlags
from tests.fix_plugins import compiled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.providers.native.provider import NativeFs
    from fs9.threads import BlockingPool

_RW = OpenFlags(read=True, write=True, create=True)


@pytest.fixture
def context(tmp_path: Path, limits: Limits, clock: ManualClock, pool: BlockingPool):
    return ProviderContext("acme", tmp_path, limits, clock, pool)


@asynccontextmanager
async def mounted(
    context: ProviderContext, name: str = "odd", /, **config: Any
) -> AsyncIterator[NativeFs]:
    made = await provider.create(name, compiled(name), config, context, lambda: None)
    try:
        yield made
    finally:
        await made.aclose()


def pid_of(made: NativeFs) -> int:
    assert isinstance(made.calls, PluginProcess)
    assert made.calls.pid is not None
    return made.calls.pid


async def gone(pid: int) -> None:
    """Wait until there is no such process."""
    async with asyncio.timeout(60):
        while os.path.exists(f"/proc/{pid}"):  # noqa: ASYNC110, ASYNC240  nobody tells us
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("death", ["/abort", "/segv", "/exit"])
async def test_a_crash_costs_a_503_and_a_restart(context, clock, death) -> None:
    """Calls in progress and until the delay is over fail alike; then all is new and empty.

    Watchers are told that nobody knows what is there, once; not at the end of the mount.
    """
    told: list[str] = []
    async with mounted(context) as made:
        made.tell_departures(SimpleNamespace(lost=lambda: told.append("lost")))
        before = pid_of(made)
        file, _ = await made.open("/f", _RW)
        slow = asyncio.ensure_future(made.stat("/hang"))
        with pytest.raises(BackendUnavailable, match="ended unexpectedly"):
            await made.stat(death)
        with pytest.raises(BackendUnavailable, match="ended unexpectedly"):
            await slow
        with pytest.raises(BackendUnavailable, match=r"started again in 0\.2 s"):
            await made.stat("/")
        clock.advance(0.3)
        assert await made.readdir("/", "", 10) == []
        assert pid_of(made) != before
        for call in (made.read(file, 0, 1), made.write(file, 0, b"x"), made.close(file)):
            with pytest.raises(InvalidHandle, match="started again"):
                await call
        await gone(before)
    assert told == ["lost"]


async def test_many_callers_start_one_process(context, clock) -> None:
    async with mounted(context) as made:
        os.kill(pid_of(made), signal.SIGKILL)
        with pytest.raises(BackendUnavailable):
            await made.stat("/abort")
        clock.advance(1)
        await asyncio.gather(*(made.stat("/") for _ in range(8)))
        assert made.calls.generation == 2


async def test_a_call_that_hangs_is_ended(context, clock) -> None:
    """The process is killed at the deadline, whatever it is in, and started again."""
    context = replace(context, limits=replace(Limits(), plugin_call_timeout_s=0.5))
    async with mounted(context) as made:
        before = pid_of(made)
        file, _ = await made.open("/hang-read", READ)
        with pytest.raises(BackendUnavailable):
            await made.read(file, 0, 1)
        await gone(before)
        clock.advance(1)
        await made.stat("/")


async def test_calls_go_on_while_others_wait(context) -> None:
    """A slow call holds one thread, not the mount."""
    async with mounted(context) as made:
        hanging = [asyncio.ensure_future(made.stat("/hang")) for _ in range(3)]
        await made.stat("/")
        os.kill(pid_of(made), signal.SIGKILL)
        for call in hanging:
            with pytest.raises(BackendUnavailable):
                await call


async def test_the_deadline_is_of_one_call(context) -> None:
    """Calls that wait for those before them are not late, and nothing is killed."""
    limits = replace(Limits(), plugin_call_timeout_s=3, plugin_threads_max=1)
    async with mounted(replace(context, limits=limits)) as made:
        calls = [asyncio.ensure_future(made.stat("/slow")) for _ in range(12)]
        for call in calls:
            with pytest.raises(NotFound):
                await call


async def test_a_process_stopped_from_outside_is_ended_too(context, clock) -> None:
    """SIGSTOP and a plugin that eats all of its threads look alike."""
    context = replace(context, limits=replace(Limits(), plugin_call_timeout_s=0.5))
    async with mounted(context) as made:
        before = pid_of(made)
        os.kill(before, signal.SIGSTOP)
        with pytest.raises(BackendUnavailable):
            await made.stat("/")
        await gone(before)


async def test_signals_to_the_group_do_not_reach_the_plugin(context) -> None:
    """Ctrl-C and a service manager's SIGTERM are the worker's; it ends the process in order."""
    async with mounted(context) as made:
        before = pid_of(made)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(before, number)
        await made.stat("/")
        assert pid_of(made) == before
    await gone(before)


async def test_a_cancelled_open_leaves_no_handle(context) -> None:
    """Whoever cancels waits until the plugin has answered; the file is closed then."""
    async with mounted(context) as made:
        for _ in range(3):
            opening = asyncio.ensure_future(made.open("/f", _RW))
            await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
        file, _ = await made.open("/counts", READ)
        _, _, handles, closed, *_ = map(int, bytes(await made.read(file, 0, 200)).split())
        assert handles == closed + 1


async def test_a_megabyte_and_a_lot_of_small_ones(context) -> None:
    """Frames larger and smaller than the receiving buffer, all at once, none mixed up."""
    async with mounted(context, "memory") as made:
        file, _ = await made.open("/f", _RW)
        whole = bytes(range(256)) * 8192
        assert await made.write(file, 0, memoryview(whole)) == len(whole)
        sizes = [1, 100, 4096, 65_000, 65_536, 65_560, 70_000, 1 << 20, 2 << 20] * 3
        answers = await asyncio.gather(*(made.read(file, n, size) for n, size in enumerate(sizes)))
        for number, (size, answer) in enumerate(zip(sizes, answers, strict=True)):
            assert bytes(answer) == whole[number : number + size]
        await made.close(file)


async def test_what_the_plugin_is_given(context) -> None:
    """Its own keys, and the namespace; ours is not among them, and a wrong one is refused."""
    text = provider.plugin_config({"isolation": "process", "a": [1]}, "acme")
    assert text == b'{"a":[1],"ns":"acme"}'
    with pytest.raises(InvalidArgument, match="`process` or `inline`, not 'thread'"):
        await provider.create("odd", compiled("odd"), {"isolation": "thread"}, context, int)
    with pytest.raises(InvalidArgument, match="does not accept its config"):
        async with mounted(context, mode="refuse"):
            pass
    with pytest.raises(BackendUnavailable):
        async with mounted(context, mode="crash"):
            pass


async def test_capabilities_are_what_can_be_kept(context) -> None:
    """Unknown bits and those without a call are masked off."""
    async with mounted(context) as odd, mounted(context, "memory") as memory:
        assert odd.capabilities() == memory.capabilities()
        assert memory.volatile


def test_restarts_take_longer_and_longer() -> None:
    """Doubled up to 30 s; a process that lived for a minute is a good one again."""
    restarts, now_s, waits = Restarts(), 100.0, []
    for _ in range(10):
        restarts.started(now_s)
        restarts.died(now_s)
        waits.append(restarts.wait_s(now_s))
    assert waits[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert waits[-1] == 30.0
    assert restarts.wait_s(now_s + 30) == 0
    restarts.started(now_s + 30)
    restarts.died(now_s + 90)
    assert restarts.wait_s(now_s + 90) == pytest.approx(0.2)


_WORKER = """
import asyncio, sys
from pathlib import Path
from fs9.clock import SystemClock
from fs9.limits import Limits
from fs9.providers.native import provider
from fs9.providers.registry import ProviderContext
from fs9.threads import BlockingPool

async def main():
    limits = Limits(plugin_call_timeout_s=2)
    context = ProviderContext("ns", Path("."), limits, SystemClock(), BlockingPool(1))
    made = await provider.create("odd", Path(sys.argv[1]), {}, context, lambda: None)
    hanging = asyncio.ensure_future(made.stat("/hang"))
    await made.stat("/")
    print(made.calls.pid, flush=True)
    if sys.argv[2] == "exit":
        return
    await hanging

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["kill", "exit"])
def test_it_dies_with_its_worker(tmp_path: Path, how: str) -> None:
    """However the worker ends, and though a call hangs in the plugin."""
    script = tmp_path / "worker.py"
    script.write_text(_WORKER)
    worker = subprocess.Popen(
        [sys.executable, script, compiled("odd"), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert worker.stdout is not None
    pid = int(worker.stdout.readline())
    if how == "kill":
        worker.kill()
    worker.stdout.close()
    assert worker.wait(60) is not None
    asyncio.run(gone(pid))
