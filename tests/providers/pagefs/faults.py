"""Named fault points around both stores: a crash, a loss of power or an error at each step.

`FaultyMeta` and `FaultyBlocks` stand between the tree and any stores and call `FaultPoints.hit`
before, amid and after each step that changes something. After a crash every call raises, so
nothing that the dying code still tries has an effect. A loss of power also takes what was not
synced: of the metadata all commits after the last sync, of the objects, by the dice, all, a part
or nothing of the bytes.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fs9.providers.pagefs.fileblocks import FileBlocks
from fs9.providers.pagefs.journal import Record, _encode
from fs9.providers.pagefs.lmdbstore import LmdbStore
from fs9.providers.pagefs.memory import Memory, MemoryStore, Table
from fs9.providers.pagefs.store import Inheriting

if TYPE_CHECKING:
    from fs9.providers.pagefs.store import Batch, BlockStore, Item, MetaStore, Snapshot
    from fs9.types import Buffer


class Crash(Exception):
    """The process is gone."""


class FaultPoints:
    """Counts the steps of an operation; at one of them something goes wrong."""

    def __init__(self) -> None:
        self.armed = False
        self.dead = False
        self.hits: list[str] = []
        self.fail_at: str | None = None
        self.error: Exception = Crash()
        self._counts: dict[str, int] = {}

    def arm(self, fail_at: str | None = None, error: Exception | None = None) -> None:
        """From now on count; at the step `fail_at` raise the error, or crash."""
        self.armed, self.fail_at = True, fail_at
        self.error = Crash() if error is None else error
        self.hits.clear()
        self._counts.clear()

    def hit(self, step: str) -> None:
        if self.dead:
            raise Crash
        if not self.armed:
            return
        number = self._counts[step] = self._counts.get(step, 0) + 1
        name = f"{step}#{number}"
        self.hits.append(name)
        if name == self.fail_at:
            self.dead = isinstance(self.error, Crash)
            raise self.error


class FaultyMeta:
    """A metadata store with fault points."""

    def __init__(self, inner: MetaStore, memory: Memory | None, points: FaultPoints) -> None:
        self.inner = inner
        self._memory = memory
        self._points = points
        self.durable = memory.table.copy() if memory is not None else Table()
        self.epoch = inner.epoch
        self.volatile = inner.volatile

    @property
    def wants_sync(self) -> bool:
        return self.inner.wants_sync

    async def get(self, key: bytes) -> bytes | None:
        return await self.inner.get(key)

    async def scan(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        return await self.inner.scan(first, end, limit)

    def inherited(self) -> Sequence[Item]:
        return self.inner.inherited() if isinstance(self.inner, Inheriting) else ()

    async def snapshot(self) -> Snapshot:
        return await self.inner.snapshot()

    async def commit(self, batch: Batch, *, sync: bool = False) -> None:
        self._points.hit("commit.before")
        if isinstance(self.inner, LmdbStore):
            try:
                self._points.hit("commit.torn")
            except Exception:
                self._tear(self.inner, batch)
                raise
        await self.inner.commit(batch)
        if not isinstance(self._points.error, OSError):  # it has happened: no error any more
            self._points.hit("commit.after")
        if sync:
            await self.sync()

    def _tear(self, store: LmdbStore, batch: Batch) -> None:
        payload = _encode(Record(store._number + 1, 0, b"", batch.changes))
        end = store._journal._end
        store._journal._write(payload[: len(payload) // 2])
        store._journal._end = end

    async def sync(self, before: Callable[[], Awaitable[None]] | None = None) -> None:
        self._points.hit("sync.before")
        synced = self._memory.table.copy() if self._memory is not None else None

        async def then() -> None:
            if before is not None:
                await before()
            self._points.hit("sync.between")

        await self.inner.sync(then)
        if synced is not None:
            self.durable = synced
        if not isinstance(self._points.error, OSError):
            self._points.hit("sync.after")

    async def aclose(self) -> None:
        await self.inner.aclose()


class FaultyBlocks:
    """A block store with fault points, and a memory of what was not synced."""

    def __init__(
        self, inner: BlockStore, objects: dict[str, bytearray] | None, points: FaultPoints
    ) -> None:
        self.inner = inner
        self._objects = objects
        self._points = points
        #: object -> how many of its bytes are synced.
        self.unsynced: dict[str, int] = {}
        self.appends = inner.appends
        self.put_bytes_max = inner.put_bytes_max
        self.volatile = inner.volatile

    async def put(
        self,
        name: str,
        offset: int,
        data: Buffer,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        self._points.hit("put.before")
        self.unsynced.setdefault(name, offset)
        self.unsynced[name] = min(self.unsynced[name], offset)
        try:
            self._points.hit("put.torn")
        except Exception:
            await self.inner.put(name, offset, memoryview(data)[: len(data) // 2])
            raise
        await self.inner.put(name, offset, data, meanwhile)
        if not isinstance(self._points.error, OSError):
            self._points.hit("put.after")

    async def get(
        self, name: str, offset: int, size: int, into: memoryview | None = None
    ) -> Buffer:
        return await self.inner.get(name, offset, size, into)

    async def trim(self, name: str) -> None:
        await self.inner.trim(name)

    def adopt(self, names: Collection[str]) -> None:
        self.inner.adopt(names)

    async def sync(self, names: Collection[str]) -> None:
        self._points.hit("blocks.sync")
        await self.inner.sync(names)
        for name in names:
            self.unsynced.pop(name, None)

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._points.hit("delete.before")
            await self.inner.delete([name])
            self.unsynced.pop(name, None)

    async def list(self, prefix: str, after: str, limit: int) -> list[tuple[str, int]]:
        return await self.inner.list(prefix, after, limit)

    async def space(self) -> tuple[int, int]:
        return await self.inner.space()

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def lose(self, dice: random.Random) -> None:
        """The power fails: what was not synced is there, or in part, or wrong, or not at all."""
        for name, synced in self.unsynced.items():
            chance = dice.random()
            if chance < 0.3:
                continue
            if synced == 0 and chance < 0.5:
                await self.inner.delete([name])
                continue
            held = bytes(await self.inner.get(name, 0, 1 << 30))
            lost = held[synced:]
            kept = lost[: dice.randrange(len(lost) + 1)] if lost else b""
            if chance > 0.8:
                kept += bytes(len(lost) - len(kept))  # the length was written, the bytes not
            if isinstance(self.inner, FileBlocks):
                _overwrite(self.inner._path(name), held[:synced] + kept)
            elif self._objects is not None:
                self._objects[name] = bytearray(held[:synced] + kept)


def _overwrite(path: str, data: bytes) -> None:
    Path(path).write_bytes(data)


class Machine:
    """One machine with its disks: pagefs on it can be started, killed, cut off, started again."""

    def __init__(self, open_stores: OpenStores, seed: int = 0) -> None:
        self._open_stores = open_stores
        self._dice = random.Random(seed)
        self.points = FaultPoints()
        self.boot = 1
        #: Of the objects on the disk: what no process of this boot has synced.
        self.unsynced: dict[str, int] = {}
        self.memory = Memory()
        self.objects: dict[str, bytearray] = {}
        self.meta: Any = None
        self.blocks: Any = None

    async def stores(self) -> tuple[FaultyMeta, FaultyBlocks | None]:
        self.points = FaultPoints()
        meta, blocks = await self._open_stores(self)
        memory = self.memory if isinstance(meta, MemoryStore) else None
        self.meta = FaultyMeta(meta, memory, self.points)
        self.blocks = None if blocks is None else FaultyBlocks(blocks, self.objects, self.points)
        if isinstance(blocks, FileBlocks):
            self.blocks.unsynced = self.unsynced
        return self.meta, self.blocks

    async def die(self, *, power: bool) -> None:
        """End the process, or the power; what follows is `stores` again."""
        self.points.dead = True
        inner = self.meta.inner
        if isinstance(inner, LmdbStore):
            if inner._moving is not None:
                await inner._moving
            inner._journal.close()
            inner._closing.close()
            inner._closed = True
        if power:
            self.boot += 1
            if isinstance(inner, MemoryStore):
                self.memory.table = self.meta.durable
            if self.blocks is not None:
                await self.blocks.lose(self._dice)
                self.unsynced.clear()
        if self.blocks is not None:
            await self.blocks.inner.aclose()


OpenStores = Callable[[Machine], Awaitable[tuple[Any, Any]]]
