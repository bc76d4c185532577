"""What every block store must do; see `fs9.providers.pagefs.store`.

A test module derives a class from `BlockStoreSuite` and gives it an `open_blocks` fixture: a
coroutine function without arguments that opens one and the same data again and again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import ClassVar, TypeAlias

import pytest

from fs9.providers.pagefs.store import BlockStore

OpenBlocks: TypeAlias = Callable[[], Awaitable[BlockStore]]


def name(epoch: int, number: int, inode: int = 7) -> str:
    """As the tree names objects: 16 hexadecimal digits of the object, 16 of the inode."""
    return f"{(epoch << 40) + number:016x}-{inode:016x}"


class BlockStoreSuite:
    persistent: ClassVar[bool] = True

    @pytest.fixture
    async def blocks(self, open_blocks: OpenBlocks):
        blocks = await open_blocks()
        yield blocks
        await blocks.aclose()

    async def test_what_was_put_is_there(self, blocks: BlockStore) -> None:
        """Whole, in part, in a place of the caller's, and no more than there is."""
        data = random.Random(1).randbytes(min(blocks.put_bytes_max, 100_000))
        await blocks.put(name(1, 1), 0, data)
        assert bytes(await blocks.get(name(1, 1), 0, len(data))) == data
        assert bytes(await blocks.get(name(1, 1), 100, 50)) == data[100:150]
        assert bytes(await blocks.get(name(1, 1), len(data) - 5, 50)) == data[-5:]
        assert bytes(await blocks.get(name(1, 1), len(data) + 5, 50)) == b""
        place = memoryview(bytearray(60))
        assert bytes(await blocks.get(name(1, 1), 100, 50, place[5:55])) == data[100:150]
        assert bytes(place) == bytes(5) + data[100:150] + bytes(5)
        assert bytes(await blocks.get(name(1, 1), len(data) - 5, 60, place)) == data[-5:]
        assert place[:5] == data[-5:]

    async def test_the_largest_piece(self, blocks: BlockStore) -> None:
        data = random.Random(2).randbytes(blocks.put_bytes_max)
        await blocks.put(name(1, 1), 0, memoryview(data))
        assert bytes(await blocks.get(name(1, 1), 0, len(data))) == data

    async def test_what_is_done_meanwhile(self, blocks: BlockStore) -> None:
        """Once at most, and before the put is over; where threads write, it is done."""
        done: list[int] = []
        for number, size in enumerate((100, min(blocks.put_bytes_max, 1024 * 1024))):
            await blocks.put(name(1, number), 0, b"x" * size, partial(done.append, size))
            assert len(await blocks.get(name(1, number), 0, size)) == size
            before = list(done)
            await asyncio.sleep(0)
            assert done == before
        assert len(done) == len(set(done)) <= 2

    async def test_an_object_grows_at_its_end(self, blocks: BlockStore) -> None:
        if not blocks.appends:
            pytest.skip("each object is one put")
        for offset, word in ((0, b"one"), (3, bytearray(b"two")), (6, b"three")):
            await blocks.put(name(1, 1), offset, word)
        assert bytes(await blocks.get(name(1, 1), 0, 99)) == b"onetwothree"
        await blocks.put(name(1, 1), 6, b"3")  # what a crash left unreferred is overwritten
        assert bytes(await blocks.get(name(1, 1), 0, 7)) == b"onetwo3"

    async def test_a_missing_object(self, blocks: BlockStore) -> None:
        with pytest.raises(FileNotFoundError):
            await blocks.get(name(1, 1), 0, 1)
        await blocks.delete([name(1, 1)])
        await blocks.sync([name(1, 1)])

    async def test_delete(self, blocks: BlockStore) -> None:
        for number in range(3):
            await blocks.put(name(1, number), 0, b"%d" % number)
        await blocks.delete([name(1, 0), name(1, 2), name(1, 9)])
        for number in (0, 2):
            with pytest.raises(FileNotFoundError):
                await blocks.get(name(1, number), 0, 1)
        assert bytes(await blocks.get(name(1, 1), 0, 1)) == b"1"

    async def test_list(self, blocks: BlockStore) -> None:
        """By prefix, sorted, in pages, with sizes."""
        assert await blocks.list("", "", 10) == []
        objects = [
            (name(epoch, number * 999), number + 1) for epoch in (1, 2) for number in range(12)
        ]
        for which, size in reversed(objects):
            await blocks.put(which, 0, b"x" * size)
        assert await blocks.list("", "", 100) == objects
        assert await blocks.list("000002", "", 100) == objects[12:]
        assert await blocks.list("000003", "", 100) == []
        for each in objects:
            assert await blocks.list(each[0], "", 1) == [each]
        joined: list[tuple[str, int]] = []
        while page := await blocks.list("", joined[-1][0] if joined else "", 5):
            assert len(page) <= 5
            joined += page
        assert joined == objects

    async def test_objects_outlive_the_store(self, open_blocks: OpenBlocks) -> None:
        if not self.persistent:
            pytest.skip("in memory")
        blocks = await open_blocks()
        await blocks.put(name(1, 1), 0, b"kept")
        await blocks.sync([name(1, 1)])
        await blocks.aclose()
        again = await open_blocks()
        assert bytes(await again.get(name(1, 1), 0, 9)) == b"kept"
        await again.aclose()

    async def test_space(self, blocks: BlockStore) -> None:
        total, free = await blocks.space()
        assert 0 <= free <= total
        assert total > 0
