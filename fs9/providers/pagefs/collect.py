"""Garbage: rows that no view sees, contents and objects that nothing refers to.

`sweep` looks at the objects of epochs that were not closed in order: what was put and never
committed. `collect` runs after a snapshot, a fork or the tree before a restore was given up:

1. of each key, keep the versions that some view sees, remove the others;
2. remove contents that no version of their inode has;
3. with no branch left, bring all keys to one generation, so that reads are single gets again.

Each step is many small batches under the lock; a crash in between loses nothing, and the mark
in the superblock makes the next start begin again.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from fs9.providers.pagefs import records
from fs9.providers.pagefs.core import PAGE_ROWS
from fs9.providers.pagefs.store import Batch
from fs9.providers.pagefs.view import SUFFIX_BYTES, TOMBSTONE, generation_of, suffix

if TYPE_CHECKING:
    from fs9.providers.pagefs.content import Changes, Content
    from fs9.providers.pagefs.core import Core
    from fs9.providers.pagefs.store import Item

#: The range of all versioned keys.
_FIRST, _END = b"C", b"Y"
_EPOCH_BITS = 40
#: Objects in one step of a sweep (3 ms), and the time between two steps.
_SWEEP_OBJECTS, _SWEEP_PAUSE_S = 100, 0.02


def _base(item: Item) -> bytes:
    return item[0][:-SUFFIX_BYTES]


class Collector:
    def __init__(self, core: Core, content: Content) -> None:
        self._core = core
        self._content = content
        self._running = False

    async def sweep(self, epoch: int) -> int:
        """Delete unreferred objects of `epoch` and later ones but the current; how many.

        In small steps, with pauses: a crash may have left many.
        """
        core = self._core
        assert core.blocks is not None
        after, removed = f"{epoch << _EPOCH_BITS:016x}", 0
        while page := await core.blocks.list("", after, _SWEEP_OBJECTS):
            after = page[-1][0]
            lost = []
            for name, _ in page:
                number, inode = records.object_of_name(name)
                if number >> _EPOCH_BITS >= core.store.epoch:
                    page = []
                    break
                if not await self.is_referred(number, inode):
                    lost.append(name)
            await core.blocks.delete(lost)
            removed += len(lost)
            if not page:
                break
            await core.pause(_SWEEP_PAUSE_S)
        return removed

    async def is_referred(self, number: int, inode: int) -> bool:
        """Does some version of some content have the object?"""
        async for key, _ in self._core.rows(*records.objects_of(inode)):
            if records.object_of(key)[2] == number:
                return True
        return False

    async def collect(self) -> None:
        """Remove what nothing sees any more; see above."""
        if self._running:
            return  # the one that runs begins again: the mark is still there
        self._running = True
        core = self._core
        try:
            # What open files of a replaced tree need is not removed: the last of them begins it.
            while core.superblock.collect and not core.replaced:
                async with core.lock:
                    await self._mark(collect=False)
                try:
                    await self._collect_rows()
                    await self._collect_contents()
                    if core.exclusive:
                        await self._flatten()
                except BaseException:
                    async with core.lock:
                        await self._mark(collect=True)
                    raise
        finally:
            self._running = False

    async def _mark(self, *, collect: bool) -> None:
        """In memory; the stored mark goes only with the last step."""
        core = self._core
        core.superblock = msgspec.structs.replace(core.superblock, collect=collect)
        if collect:
            await core.store.commit(Batch({records.SUPERBLOCK: records.encode(core.superblock)}))

    # -- rows -----------------------------------------------------------------------------------

    async def _collect_rows(self) -> None:
        first = _FIRST
        while first:
            async with self._core.lock:
                first = await self._collect_page(first)

    async def _page(self, first: bytes) -> tuple[list[tuple[bytes, list[Item]]], bytes]:
        """Whole groups of versions, and where the next page begins (b"": nowhere)."""
        limit = PAGE_ROWS
        while True:
            rows = await self._core.store.scan(first, _END, limit)
            groups = [(base, list(items)) for base, items in groupby(rows, _base)]
            if len(rows) < limit:
                return groups, b""
            if len(groups) > 1:
                return groups[:-1], groups[-1][1][0][0]
            limit *= 2

    async def _collect_page(self, first: bytes) -> bytes:
        core = self._core
        views = [core.head, *core.forks.values(), *core.snapshots.values(), *core.replaced]
        lineages = [set(view.lineage) for view in views]
        groups, following = await self._page(first)
        changes: Changes = {}
        for base, items in groups:
            seen = set()
            for lineage in lineages:
                for key, _ in items:
                    if generation_of(key) in lineage:
                        seen.add(key)
                        break
            kept = [(key, value) for key, value in items if key in seen]
            while kept and kept[-1][1] == TOMBSTONE:  # it hides nothing
                kept.pop()
            keys = {key for key, _ in kept}
            for key, _ in items:
                if key not in keys:
                    changes[key] = None
            if base[:1] == b"O" and not keys:  # nobody sees the object any more
                inode, _, number = records.object_of(base)
                changes[records.garbage_key(number, inode)] = b"1"
        if changes:
            await core.store.commit(Batch(changes))
            self._content.note_garbage(changes)
        return following

    # -- contents -------------------------------------------------------------------------------

    async def _collect_contents(self) -> None:
        for kind in (b"E", b"O"):
            first = kind
            end = bytes([kind[0] + 1])
            while True:
                rows = await self._core.store.scan(first, end, 1)
                if not rows:
                    break
                inode, content = records.two_of(rows[0][0])
                await self._collect_content(inode, content)
                first = kind + inode.to_bytes(8, "big") + (content + 1).to_bytes(8, "big")

    async def _collect_content(self, inode: int, content: int) -> None:
        core = self._core
        while True:
            async with core.lock:
                if await self._is_live(inode, content):
                    return
                changes: Changes = {}
                rows = await core.store.scan(*records.extents(inode, content, -1), PAGE_ROWS)
                rows += await core.store.scan(*records.objects(inode, content), PAGE_ROWS)
                if not rows:
                    return
                for key, _ in rows:
                    changes[key] = None
                    if key[:1] == b"O":
                        number = records.object_of(key)[2]
                        changes[records.garbage_key(number, inode)] = b"1"
                await core.store.commit(Batch(changes))
                self._content.note_garbage(changes)

    async def _is_live(self, inode: int, content: int) -> bool:
        """Does a version of the inode have it, or is a removal or a compaction at it?"""
        core = self._core
        key = records.inode_key(inode)
        rows = await core.store.scan(key, key + b"\xff" * 5, PAGE_ROWS)
        if any(v and records.decode_inode(v).content == content for _, v in rows):
            return True
        key = records.reaped_key(inode, content)
        return any(value for _, value in await core.store.scan(key, key + b"\xff" * 5, PAGE_ROWS))

    # -- one generation -------------------------------------------------------------------------

    async def _flatten(self) -> None:
        core, head = self._core, self._core.head
        first = _FIRST
        while first and len(head.lineage) > 1:
            async with core.lock:
                if not core.exclusive or core.head is not head:
                    return
                groups, first = await self._page(first)
                changes: Changes = {}
                for base, items in groups:
                    newest = items[0][1]
                    for key, _ in items:
                        changes[key] = None
                    if newest != TOMBSTONE:
                        changes[base + suffix(head.generation)] = newest
                await core.store.commit(Batch(changes))
        async with core.lock:
            if core.exclusive and core.head is head and not core.superblock.collect:
                superblock = msgspec.structs.replace(core.superblock, lineage=(head.generation,))
                await core.store.commit(Batch({records.SUPERBLOCK: records.encode(superblock)}))
                core.superblock = superblock
                head.move_to(superblock.lineage)
