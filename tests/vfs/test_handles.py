"""fs9.vfs.handles: ids, idle times, closing while something is in progress."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fs9.errors import Internal, InvalidHandle, OwnerUnavailable, QuotaExceeded
from fs9.limits import Limits
from fs9.provider import BaseProvider, OpenFile
from fs9.types import READ, Capability, FileInfo, FileType, OpenFlags
from fs9.vfs.handles import File, HandleTable, close_files
from fs9.vfs.inuse import InUse
from fs9.vfs.mounts import Mount

if TYPE_CHECKING:
    from fs9.clock import ManualClock

INFO = FileInfo("/f", 0, FileType.REGULAR, 0o644, 0, 0, 0, 0, 0)
LIMITS = Limits(handle_close_timeout_s=0.05)


class Recorder(BaseProvider):
    """Remembers what was closed; `gate` holds every close until it is set."""

    name = "recorder"

    def __init__(self) -> None:
        self.closed: list[tuple[bool, bool]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def close(self, file: OpenFile, *, sync: bool = False, discard: bool = False) -> None:
        await self.gate.wait()
        self.closed.append((sync, discard))
        if self.error is not None:
            raise self.error


@pytest.fixture
async def provider() -> Recorder:
    return Recorder()


@pytest.fixture
def in_use() -> InUse:
    return InUse()


@pytest.fixture
def table(clock: ManualClock) -> HandleTable:
    return HandleTable(LIMITS, clock)


async def settle() -> None:
    """Let every task go on as far as it can."""
    for _ in range(200):
        await asyncio.sleep(0)


def make_file(provider: BaseProvider, in_use: InUse, flags: OpenFlags = READ) -> File:
    in_use.files += 1
    return File(Mount.of("/", provider), OpenFile(), flags, INFO, in_use, 0.0)


async def test_register_get_pop(table: HandleTable, provider: Recorder, in_use: InUse):
    """An id leads to its file until it is popped; then its text says so."""
    file = make_file(provider, in_use)
    handle_id = table.register(file)
    assert table.get(handle_id, "") is file
    assert len(table) == 1
    assert table.pop(handle_id) is file
    for ask in (lambda: table.get(handle_id, ""), lambda: table.pop(handle_id)):
        with pytest.raises(InvalidHandle, match=f"invalid handle: {handle_id}"):
            ask()


async def test_ids_are_long_and_never_alike(clock: ManualClock, provider: Recorder, in_use: InUse):
    """No two tables, as before and after a restart, give one id; an id has 128 random bits."""
    ids = {HandleTable(LIMITS, clock).register(make_file(provider, in_use)) for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(handle_id) for handle_id in ids} == {22}


async def test_the_limit_leaves_the_file_to_the_caller(
    clock: ManualClock, provider: Recorder, in_use: InUse
):
    table = HandleTable(Limits(handles_per_namespace_max=2), clock)
    first = table.register(make_file(provider, in_use))
    table.register(make_file(provider, in_use))
    with pytest.raises(QuotaExceeded, match="2 handles"):
        table.register(make_file(provider, in_use))
    assert provider.closed == []
    table.pop(first)
    table.register(make_file(provider, in_use))


async def test_sweep_closes_the_idle_ones(
    table: HandleTable, provider: Recorder, in_use: InUse, clock: ManualClock
):
    """Idle for the time to live means closed without sync; used since then means kept."""
    idle, used = (table.register(make_file(provider, in_use)) for _ in range(2))
    clock.advance(299)
    table.get(used, "")
    clock.advance(1)
    assert await table.sweep() == 1
    assert provider.closed == [(False, False)]
    with pytest.raises(InvalidHandle):
        table.get(idle, "")
    table.get(used, "")
    assert in_use.files == 1


async def test_a_handle_used_between_the_phases_survives(
    table: HandleTable, provider: Recorder, in_use: InUse, clock: ManualClock
):
    handle_id = table.register(make_file(provider, in_use))
    clock.advance(301)
    collected = table.idle()
    assert collected == [handle_id]
    table.get(handle_id, "")
    assert table.take(collected) == []
    table.get(handle_id, "")


async def test_a_handle_with_an_operation_in_progress_is_not_idle(
    table: HandleTable, provider: Recorder, in_use: InUse, clock: ManualClock
):
    """A read that takes longer than the time to live keeps its handle."""
    file = make_file(provider, in_use)
    table.register(file)
    with file:
        clock.advance(301)
        assert table.idle() == []
    assert len(table.idle()) == 1


async def test_an_unfinished_replacement_is_discarded(
    table: HandleTable, provider: Recorder, in_use: InUse, clock: ManualClock
):
    """Neither a sweep nor the shutdown swaps a half-written version in."""
    replace = OpenFlags(write=True, replace=True)
    table.register(make_file(provider, in_use, replace))
    clock.advance(301)
    await table.sweep()
    table.register(make_file(provider, in_use, replace))
    await table.close_all(sync=True)
    assert provider.closed == [(False, True), (True, True)]


async def test_close_all_is_synced_and_complete(
    table: HandleTable, provider: Recorder, in_use: InUse
):
    for _ in range(100):
        table.register(make_file(provider, in_use))
    assert await table.close_all(sync=True) == 100
    assert provider.closed == [(True, False)] * 100
    assert (len(table), in_use.files) == (0, 0)


async def test_an_error_of_one_close_stops_no_other(
    table: HandleTable, provider: Recorder, in_use: InUse, caplog: pytest.LogCaptureFixture
):
    provider.error = Internal("disk on fire")
    for _ in range(40):
        table.register(make_file(provider, in_use))
    await table.close_all(sync=True)
    assert len(provider.closed) == 40
    assert "disk on fire" in caplog.text
    assert in_use.files == 0


async def test_a_hanging_provider_holds_nobody_up(provider: Recorder, in_use: InUse):
    """Others are closed, the caller goes on after the timeout, the slow ones end by themselves."""
    slow = Recorder()
    slow.gate.clear()
    slow_files = [make_file(slow, in_use) for _ in range(50)]
    files = slow_files + [make_file(provider, in_use) for _ in range(50)]
    await asyncio.wait_for(close_files(files, timeout_s=0.01), 5)
    assert len(provider.closed) == 50
    assert slow.closed == []
    assert in_use.files == 50
    slow.gate.set()
    await settle()
    assert len(slow.closed) == 50


async def test_close_waits_for_operations_in_progress(provider: Recorder, in_use: InUse):
    """The provider's close comes after the last operation, and no new one begins."""
    file = make_file(provider, in_use)
    with file:
        closing = asyncio.create_task(file.close())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert provider.closed == []
        with pytest.raises(InvalidHandle), file:
            pass
    await closing
    assert provider.closed == [(False, False)]


async def test_closing_twice_is_an_invalid_handle(provider: Recorder, in_use: InUse):
    file = make_file(provider, in_use)
    await file.close()
    with pytest.raises(InvalidHandle):
        await file.close()
    assert (len(provider.closed), in_use.files) == (1, 0)


async def test_a_cancelled_caller_does_not_stop_a_waiting_close(provider: Recorder, in_use: InUse):
    """The file of a vanished client is closed all the same, once its operation ends."""
    file = make_file(provider, in_use)
    with file:
        closing = asyncio.create_task(file.close(sync=True))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    await settle()
    assert (provider.closed, in_use.files) == ([(True, False)], 0)


async def test_in_use_refuses_after_closing(in_use: InUse):
    """wait_none returns when the last operation has ended; new ones are sent elsewhere."""
    with in_use:
        in_use.closed = True
        waiting = asyncio.create_task(in_use.wait_none())
        await asyncio.sleep(0)
        assert not waiting.done()
        with pytest.raises(OwnerUnavailable), in_use:
            pass
    await asyncio.wait_for(waiting, 60)


def test_message_like_means_streaming(in_use: InUse):
    class Stream(BaseProvider):
        def capabilities(self) -> Capability:
            return Capability.STREAMING | Capability.WRITE

    assert make_file(Stream(), in_use).message_like
    assert not make_file(BaseProvider(), in_use).message_like
