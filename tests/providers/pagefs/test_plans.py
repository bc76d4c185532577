"""What happens to a file while the bytes of a write are on their way."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from fs9.clock import ManualClock
from fs9.limits import Limits
from fs9.providers.pagefs.core import Core, Policy
from fs9.providers.pagefs.memory import Memory, MemoryBlocks, MemoryStore
from fs9.providers.pagefs.provider import PageFs
from fs9.types import MKDIR, READ, OpenFlags, StatChanges

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fs9.types import Buffer

CREATE = OpenFlags(read=True, write=True, create=True)
FIRST, SECOND = (random.Random(seed).randbytes(300_000) for seed in (1, 2))


class EventfulBlocks(MemoryBlocks):
    """Something happens once, when a put has begun: before or after what is done meanwhile."""

    def __init__(self) -> None:
        super().__init__({}, 2**30)
        self.before: Callable[[], Awaitable[object]] | None = None
        self.after: Callable[[], Awaitable[object]] | None = None
        self.called = 0

    async def put(
        self,
        name: str,
        offset: int,
        data: Buffer,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        if self.before is not None:
            await self.before()
        if meanwhile is not None:
            meanwhile()
            self.called += 1
        if self.after is not None:
            await self.after()
        await super().put(name, offset, data)


@pytest.fixture
async def blocks() -> EventfulBlocks:
    return EventfulBlocks()


@pytest.fixture
async def fs(blocks: EventfulBlocks):
    core = Core(MemoryStore(Memory()), blocks, Policy(inline_bytes=64), Limits(), ManualClock())
    fs = PageFs(core)
    await fs.start()
    yield fs
    await fs.aclose()


async def content(fs: PageFs, path: str) -> bytes:
    file, _ = await fs.open(path, READ)
    data = bytes(await fs.read(file, 0, 2_000_000))
    await fs.close(file)
    return data


async def write_two(fs: PageFs, blocks: EventfulBlocks, moment: str, event, at: int) -> None:
    """Write FIRST, then SECOND at the offset; the event happens during the second write."""
    file, _ = await fs.open("/f", CREATE)
    assert await fs.write(file, 0, FIRST) == len(FIRST)
    setattr(blocks, moment, event)
    assert await fs.write(file, at, SECOND) == len(SECOND)
    setattr(blocks, moment, None)
    await fs.close(file)
    assert blocks.called == 2


def expected(at: int) -> bytes:
    return FIRST[:at] + SECOND + FIRST[at + len(SECOND) :]


both_moments = pytest.mark.parametrize("moment", ["before", "after"])
#: The second write makes the extent longer; covers a part of it.
places = pytest.mark.parametrize("at", [300_000, 100_000])


@places
@both_moments
async def test_a_mode_that_is_set_during_a_write(
    fs: PageFs, blocks: EventfulBlocks, moment: str, at: int
) -> None:
    """Neither is lost: what was decided with the older inode is not committed."""
    await write_two(fs, blocks, moment, lambda: fs.wstat("/f", StatChanges(mode=0o600)), at)
    info = await fs.stat("/f")
    assert (info.mode, info.size) == (0o600, at + len(SECOND))
    assert await content(fs, "/f") == expected(at)


@places
@both_moments
async def test_a_snapshot_that_is_made_during_a_write(
    fs: PageFs, blocks: EventfulBlocks, moment: str, at: int
) -> None:
    """It has the file as it was before, and the live tree has what was written."""

    async def snapshot() -> None:
        file, _ = await fs.open("/.snapshots/one", MKDIR)
        await fs.close(file)

    await write_two(fs, blocks, moment, snapshot, at)
    assert await content(fs, "/.snapshots/one/f") == FIRST
    assert await content(fs, "/f") == expected(at)


async def test_a_file_that_is_removed_during_a_write(fs: PageFs, blocks: EventfulBlocks) -> None:
    """It is written to as long as it is open, and nothing of it is counted in the end."""
    await write_two(fs, blocks, "after", lambda: fs.remove("/f"), len(FIRST))
    assert fs.core.head.counters.bytes == 0
