"""Both stores in memory, for tests and for namespaces that need not last.

`Memory` is the data; a store object is one opening of it, with its epoch. So the contract's
fencing can be seen in one process, and a test can open the same data again.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from fs9.errors import OwnerUnavailable
from fs9.providers.pagefs.store import Batch, ChecksFailed, Item, put_into

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from fs9.types import Buffer


class Table:
    """Items in the order of their keys."""

    __slots__ = ("items", "keys")

    def __init__(self) -> None:
        self.items: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []

    def copy(self) -> Table:
        other = Table()
        other.items, other.keys = self.items.copy(), self.keys.copy()
        return other

    def apply(self, changes: dict[bytes, bytes | None]) -> None:
        items, keys = self.items, self.keys
        for key, value in changes.items():
            if value is None:
                if items.pop(key, None) is not None:
                    del keys[bisect_left(keys, key)]
            else:
                if key not in items:
                    insort(keys, key)
                items[key] = value

    def scan(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        keys, items = self.keys, self.items
        start = bisect_left(keys, first)
        stop = min(bisect_left(keys, end, start), start + limit)
        return [(key, items[key]) for key in keys[start:stop]]


class Memory:
    """The data of a `MemoryStore`: a table, the ids of applied batches, the newest epoch."""

    __slots__ = ("epoch", "ids", "table")

    def __init__(self) -> None:
        self.table = Table()
        self.ids: dict[bytes, None] = {}
        self.epoch = 0


class TableSnapshot:
    def __init__(self, table: Table) -> None:
        self._table = table

    async def get(self, key: bytes) -> bytes | None:
        return self._table.items.get(key)

    async def scan(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        return self._table.scan(first, end, limit)

    async def aclose(self) -> None:
        return None


class MemoryStore:
    """A `MetaStore` that never suspends."""

    volatile = True
    wants_sync = False

    #: Ids of batches that are remembered.
    IDS_MAX = 1000

    def __init__(self, memory: Memory) -> None:
        memory.epoch += 1
        self.epoch = memory.epoch
        self._memory = memory

    async def get(self, key: bytes) -> bytes | None:
        return self._memory.table.items.get(key)

    async def scan(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        return self._memory.table.scan(first, end, limit)

    async def snapshot(self) -> TableSnapshot:
        return TableSnapshot(self._memory.table.copy())

    async def commit(self, batch: Batch, *, sync: bool = False) -> None:
        self._check_epoch()
        memory = self._memory
        if batch.id and batch.id in memory.ids:
            return
        items = memory.table.items
        for key, expected in batch.checks.items():
            if items.get(key) != expected:
                raise ChecksFailed(key)
        memory.table.apply(batch.changes)
        if batch.id:
            memory.ids[batch.id] = None
            if len(memory.ids) > self.IDS_MAX:
                del memory.ids[next(iter(memory.ids))]

    async def sync(self, before: Callable[[], Awaitable[None]] | None = None) -> None:
        self._check_epoch()
        if before is not None:
            await before()

    async def erase(self) -> None:
        return None

    async def aclose(self) -> None:
        return None

    def _check_epoch(self) -> None:
        if self.epoch != self._memory.epoch:
            raise OwnerUnavailable("another writer has taken over the storage")


class MemoryBlocks:
    """A `BlockStore` of at most `bytes_max` bytes; `objects` is the data."""

    appends = True
    volatile = True
    put_bytes_max = 1024 * 1024

    def __init__(self, objects: dict[str, bytearray], bytes_max: int) -> None:
        self._objects = objects
        self._bytes_max = bytes_max

    async def put(
        self,
        name: str,
        offset: int,
        data: Buffer,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        held = self._objects.setdefault(name, bytearray())
        held[offset:] = data

    async def get(
        self, name: str, offset: int, size: int, into: memoryview | None = None
    ) -> Buffer:
        held = self._objects.get(name)
        if held is None:
            raise FileNotFoundError(name)
        return put_into(into, bytes(memoryview(held)[offset : offset + size]))

    async def trim(self, name: str) -> None:
        """Nothing was taken."""

    def adopt(self, names: Collection[str]) -> None:
        """No other process can have put anything."""

    async def sync(self, names: Collection[str]) -> None:
        return None

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._objects.pop(name, None)

    async def list(self, prefix: str, after: str, limit: int) -> list[tuple[str, int]]:
        names = sorted(n for n in self._objects if n.startswith(prefix) and n > after)
        return [(name, len(self._objects[name])) for name in names[:limit]]

    async def space(self) -> tuple[int, int]:
        used = sum(map(len, self._objects.values()))
        return self._bytes_max, max(0, self._bytes_max - used)

    async def aclose(self) -> None:
        return None
