"""What all parts share: which bytes a sync makes durable, and what reads remember."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from fs9.clock import ManualClock
from fs9.limits import Limits
from fs9.providers.pagefs import checksums, records
from fs9.providers.pagefs import content as content_module
from fs9.providers.pagefs import core as core_module
from fs9.providers.pagefs.core import Core, Policy
from fs9.providers.pagefs.memory import Memory, MemoryBlocks, MemoryStore
from fs9.providers.pagefs.provider import PageFs
from fs9.types import MKDIR, READ, OpenFlags
from tests.providers.pagefs.scenario import BIG, write

if TYPE_CHECKING:
    from collections.abc import Collection

CREATE = OpenFlags(read=True, write=True, create=True)


class SlowBlocks(MemoryBlocks):
    """Notes what is synced; a sync waits for `go`."""

    def __init__(self) -> None:
        super().__init__({}, 2**30)
        self.synced: list[set[str]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def sync(self, names: Collection[str]) -> None:
        self.synced.append(set(names))
        await self.go.wait()


async def start() -> tuple[PageFs, SlowBlocks]:
    blocks = SlowBlocks()
    core = Core(
        MemoryStore(Memory()), blocks, Policy(inline_bytes=64), Limits(), ManualClock(), None
    )
    fs = PageFs(core)
    await fs.start()
    return fs, blocks


async def object_of(fs: PageFs, path: str) -> str:
    number, inode = await fs.tree.find(fs.core.head, path)
    return records.object_name(inode.tail, number)


async def test_what_was_removed_is_not_synced() -> None:
    """Nobody will read it, not even after a loss of power: the removal is durable, too."""
    fs, blocks = await start()
    await write(fs, "/a", BIG, sync=False)
    await write(fs, "/b", BIG, sync=False)
    kept = await object_of(fs, "/b")
    await fs.remove("/a")
    await fs.core.sync()
    await fs.core.tidy()
    assert blocks.synced == [{kept}]
    await fs.aclose()


async def test_a_sync_that_is_older_than_the_removal_syncs_it() -> None:
    """It promises a state that has the file, and may be the last one before the power fails."""
    fs, blocks = await start()
    await write(fs, "/a", BIG, sync=False)
    blocks.go.clear()
    first = asyncio.ensure_future(fs.core.sync())
    await asyncio.sleep(0)
    await write(fs, "/a", BIG, len(BIG), sync=False)
    name = await object_of(fs, "/a")
    second = asyncio.ensure_future(fs.core.sync())  # waits for the first one
    await asyncio.sleep(0)
    await fs.remove("/a")
    third = asyncio.ensure_future(fs.core.sync())
    await asyncio.sleep(0)
    blocks.go.set()
    await asyncio.gather(first, second, third)
    assert blocks.synced == [{name}, {name}]
    await fs.aclose()


@pytest.mark.parametrize("ahead", [2, 16])
async def test_reads_in_order_are_what_was_written(ahead: int, monkeypatch) -> None:
    """With holes, pieces of many sizes, and writes in between: however far reads look ahead."""
    monkeypatch.setattr(content_module, "_AHEAD", ahead)
    fs, _ = await start()
    dice = random.Random(ahead)
    model = bytearray()
    file, _ = await fs.open("/f", CREATE)
    for _ in range(60):
        offset = dice.randrange(400_000)
        data = dice.randbytes(dice.choice([10, 5_000, 40_000]))
        model.extend(bytes(max(0, offset + len(data) - len(model))))
        model[offset : offset + len(data)] = data
        while data:
            count = await fs.write(file, offset, data)
            offset, data = offset + count, data[count:]
    for size in (1_000, 9_999, 150_000):
        again, _ = await fs.open("/f", READ)
        for turn in range(2):
            for offset in range(0, len(model), size):
                assert await fs.read(again, offset, size) == model[offset : offset + size]
            if not turn:
                assert await fs.write(file, 77, b"changed") == 7
                model[77:84] = b"changed"
        await fs.close(again)
    await fs.close(file)
    await fs.aclose()


async def test_what_is_known_of_closed_files_is_bounded(monkeypatch) -> None:
    """The files that were closed last are remembered; a write in between is seen."""
    monkeypatch.setattr(core_module, "CLOSED_EXTENTS_MAX", 3)
    fs, _ = await start()
    for number in range(5):
        await write(fs, f"/{number}", BIG, sync=False)
        await write(fs, f"/{number}", BIG, len(BIG), sync=False)
    assert len(fs.core._closed_inodes) == 3
    assert fs.core._closed_extents == 3
    for number in range(5):
        file, _ = await fs.open(f"/{number}", READ)
        assert await fs.read(file, 0, 2 * len(BIG)) == 2 * BIG
        await write(fs, f"/{number}", b"changed", 5)
        await write(fs, f"/{number}", b"behind", 2 * len(BIG))
        await fs.close(file)
        file, _ = await fs.open(f"/{number}", READ)
        expected = BIG[:5] + b"changed" + BIG[12:] + BIG + b"behind"
        assert await fs.read(file, 0, len(expected)) == expected
        await fs.close(file)
    assert fs.core._closed_extents == sum(len(k.ends) for k in fs.core._closed_inodes.values()) <= 3
    await fs.aclose()


async def test_a_directory_of_many_is_listed_whole_and_can_be_emptied() -> None:
    """More entries than any one scan of a store gives."""
    fs, _ = await start()
    names = [f"{number:05}" for number in range(10_300)]
    await fs.open("/d", MKDIR)
    for name in names:
        opened, _ = await fs.open(f"/d/{name}", CREATE)
        await fs.close(opened)
    assert [info.path for info in await fs.readdir("/d", "", 20_000)] == [
        f"/d/{name}" for name in names
    ]
    assert len(await fs.readdir("/d", "10239", 20_000)) == 60
    for name in names:
        await fs.remove(f"/d/{name}")
    await fs.remove("/d")
    await fs.aclose()


@pytest.mark.parametrize("size", [70_000, 1_044_481, records.EXTENT_BYTES_MAX])
async def test_extents_end_at_multiples_of_their_size(size: int) -> None:
    """In whatever pieces a file is written in order: a large read is one extent, verified at once.

    Also behind a beginning that is in the metadata store.
    """
    fs, blocks = await start()
    largest = records.EXTENT_BYTES_MAX
    data = random.Random(size).randbytes(3 * largest + 5)
    for path, offset in (("/a", 0), ("/b", 10)):
        file, _ = await fs.open(path, CREATE)
        if offset:
            assert await fs.write(file, 0, data[:offset]) == offset
        while offset < len(data):
            offset += await fs.write(file, offset, data[offset : offset + size])
        number, inode = await fs.tree.find(fs.core.head, path)
        found = await fs.content.extents(fs.core.head, number, inode, 0, len(data))
        assert [each.end for each in found if each.data is None] == [
            largest,
            2 * largest,
            3 * largest,
            len(data),
        ]
        assert [each.whole is not None for each in found[-3:]] == [True, True, False]
        for each in (found, fs.core.opened(fs.core.head, number).known.extents):
            for extent in each:
                if extent.data is None:
                    name = records.object_name(extent.number, number)
                    stored = await blocks.get(name, extent.offset, extent.stored)
                    assert checksums.of_units(stored, fs.core.unit_bytes) == extent.checksums
        for at in range(0, len(data), largest):
            assert await fs.read(file, at, largest) == data[at : at + largest]
        await fs.close(file)
    await fs.aclose()
