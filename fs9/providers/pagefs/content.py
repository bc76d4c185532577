"""The bytes of files: extents in order, read, written, cut off, removed.

Nothing that was written is changed: a write adds an extent, and cuts out of older ones what it
covers. Where the bytes go:

- small files, and everything without a block store, into pages in the metadata store, which
  are merged, so that a page of a file is one extent;
- all else to the end of the file's newest object, then the commit that refers to them. A write
  that goes on where the last one ended makes the last extent longer.

Each unit (64 KiB) has a checksum that every read verifies. What is overwritten stays in the
object until the file is compacted (`Compaction`) or gone.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import TYPE_CHECKING

from fs9.errors import Internal, InvalidHandle
from fs9.providers.pagefs import checksums, plans, records
from fs9.providers.pagefs.buffers import buffers
from fs9.providers.pagefs.core import PAGE_ROWS, Known
from fs9.providers.pagefs.pieces import part
from fs9.providers.pagefs.plans import Placed, Plan, Target
from fs9.providers.pagefs.records import EXTENT_BYTES_MAX, PAGE_BYTES, Extent, Inode

if TYPE_CHECKING:
    from fs9.providers.pagefs.core import Core
    from fs9.providers.pagefs.view import View
    from fs9.types import Buffer

#: Reads are tried again when a compaction took the object away meanwhile.
_READ_TRIES = 3

#: Extents that a read looks for that goes on where the last one ended.
_AHEAD = 16

#: Pages of the metadata store that one write fills at once.
PAGES_MAX = 16


Changes = dict[bytes, bytes | None]


class Content:
    """Operations on the bytes of one tree's files. Writers of a file take turns (`core.opened`)."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def extents(
        self, view: View, number: int, inode: Inode, start: int, end: int, limit: int = PAGE_ROWS
    ) -> list[Extent]:
        """The extents with bytes in the range, in order; `limit` of them at most."""
        found: list[Extent] = []
        first, last = records.extents(number, inode.content, start)
        page = 2 if end - start <= EXTENT_BYTES_MAX else 16
        while True:
            rows = await view.scan(first, last, page)
            for key, value in rows:
                extent = records.decode_extent(key, value)
                if extent.start >= end:
                    return found
                found.append(extent)
                if len(found) == limit:
                    return found
            if len(rows) < page:
                return found
            first = rows[-1][0] + b"\xff" * 5
            page = min(4 * page, limit)

    # -- reading --------------------------------------------------------------------------------

    async def read(
        self, view: View, number: int, offset: int, size: int, known: Known | None = None
    ) -> Buffer:
        """At most `size` bytes; short at the end. Raises Internal for damaged bytes."""
        known = known or Known()
        for _ in range(_READ_TRIES):
            value = await view.get(records.inode_key(number))
            if value is None:
                raise InvalidHandle("the file is gone")
            inode = known.of(value)
            end = min(offset + size, inode.size)
            extent = known.find(offset, end) if end > offset else None
            try:
                if extent is not None:
                    if extent.whole is not None and end - offset == extent.stored:
                        return await self._units(number, extent, 0, extent.stored)
                    return await self._bytes(number, extent, offset, end)
                return await self.read_inode(view, number, inode, offset, size, known)
            except FileNotFoundError:
                continue
        raise Internal("a block is missing")

    async def read_inode(
        self,
        view: View,
        number: int,
        inode: Inode,
        offset: int,
        size: int,
        known: Known | None = None,
    ) -> Buffer:
        """The same of an inode that is known. Raises FileNotFoundError: some of it is missing."""
        end = min(offset + size, inode.size)
        if end <= offset:
            return b""
        if known is None or known.inode is not inode:
            extents = await self.extents(view, number, inode, offset, end, 1 << 30)
        else:
            extents = await self._look(view, number, inode, offset, end, known)
        if len(extents) == 1 and extents[0].start <= offset and extents[0].end >= end:
            return await self._bytes(number, extents[0], offset, end)
        if not inode.sparse and _has_gap(extents, offset, end):
            raise FileNotFoundError("an extent is missing")
        return await self._joined(number, extents, offset, end)

    async def _joined(
        self, number: int, extents: list[Extent], offset: int, end: int
    ) -> memoryview:
        """The bytes of several extents, and zeros where there is none."""
        unit = self._core.unit_bytes
        # Objects are read in whole units: there is room for those that reach over both ends.
        margin = 0 if all(extent.data is not None for extent in extents) else unit
        # In the same place of a page as in the object: see `buffers`.
        shift = offset % mmap.PAGESIZE + margin - offset if margin else -offset
        view = memoryview(buffers.take(end + shift + margin))
        at = offset
        for extent in extents:
            start, stop = max(offset, extent.start), min(end, extent.end)
            if start > at:
                view[at + shift : start + shift] = bytes(start - at)
            at = stop
            if extent.data is None:
                skipped = extent.skip + start - extent.start
                lowest, highest = extent.units(skipped, skipped + stop - start, unit)
                if start == offset or lowest == skipped:  # else it reaches over what is there
                    place = start + shift - (skipped - lowest)
                    into = view[place : place + highest - lowest]
                    await self._units(number, extent, lowest, highest, into)
                    continue
            view[start + shift : stop + shift] = await self._bytes(number, extent, start, stop)
        if end > at:
            view[at + shift : end + shift] = bytes(end - at)
        return view[offset + shift : end + shift]

    async def _look(
        self, view: View, number: int, inode: Inode, offset: int, end: int, known: Known
    ) -> list[Extent]:
        """The extents of the range; notes them, and in a sequence of reads also the next ones."""
        extents: list[Extent] = []
        if offset == known.looked:
            extents = await self.extents(view, number, inode, offset, inode.size, _AHEAD)
        if not extents or extents[-1].end < end:
            extents = await self.extents(view, number, inode, offset, end, 1 << 30)
        for extent in extents[:PAGE_ROWS]:
            if extent.data is None:  # the others are in memory already, or LMDB's
                known.add(extent)
        known.looked = extents[-1].end if extents else end
        return [extent for extent in extents if extent.start < end]

    async def read_own(
        self, view: View, number: int, inode: Inode, offset: int, size: int
    ) -> Buffer:
        """`read_inode` by who has the file's turn: nothing can have moved meanwhile."""
        try:
            return await self.read_inode(view, number, inode, offset, size)
        except FileNotFoundError:
            raise Internal("a block is missing") from None

    async def _bytes(self, number: int, extent: Extent, start: int, end: int) -> Buffer:
        """The bytes of the extent from `start` to `end`, verified."""
        if extent.data is not None:
            if end - start == len(extent.data):
                return extent.data
            return memoryview(extent.data)[start - extent.start : end - extent.start]
        at = extent.skip + start - extent.start
        lowest, highest = extent.units(at, at + end - start, self._core.unit_bytes)
        data = await self._units(number, extent, lowest, highest)
        if highest - lowest == end - start:
            return data
        return memoryview(data)[at - lowest : at - lowest + end - start]

    async def _units(
        self,
        number: int,
        extent: Extent,
        lowest: int,
        highest: int,
        into: memoryview | None = None,
    ) -> Buffer:
        """Whole units of what the extent has in its object, verified."""
        core, size = self._core, highest - lowest
        blocks = core.blocks
        assert blocks is not None
        name = records.object_name(extent.number, number)
        data = await blocks.get(name, extent.offset + lowest, size, into)
        if len(data) != size or not checksums.verify(extent, data, lowest, core.unit_bytes):
            raise Internal("a block is damaged: its checksum does not match")
        return data

    # -- writing --------------------------------------------------------------------------------

    async def write(
        self, view: View, number: int, offset: int, data: Buffer, known: Known | None = None
    ) -> int:
        """Write at the offset; how much was written, less than all of `data` perhaps.

        The caller has the file's turn and has checked the size. Raises QuotaExceeded, OSError.
        """
        core = self._core
        row = await self._row(view, number)
        inode = records.decode_inode(row)
        size = max(inode.size, offset + len(data))
        if core.blocks is None or size <= core.policy.inline_bytes:
            return await self._write_pages(view, number, offset, data)
        view_of = memoryview(data)[: min(EXTENT_BYTES_MAX, core.blocks.put_bytes_max)]
        if offset < inode.size:
            covered = await self.extents(view, number, inode, offset, offset + len(view_of))
            if len(covered) == PAGE_ROWS:  # more would be too much for one batch
                view_of = view_of[: covered[-1].start - offset]
        target = Target(view, number, known)
        return await self._write_object(target, row, inode, offset, view_of)

    async def inode_of(self, view: View, number: int) -> Inode:
        return records.decode_inode(await self._row(view, number))

    async def _row(self, view: View, number: int) -> bytes:
        value = await view.get(records.inode_key(number))
        if value is None:  # a snapshot was restored, or the fork deleted
            raise InvalidHandle("the file is gone")
        return value

    async def _write_pages(self, view: View, number: int, offset: int, data: Buffer) -> int:
        """Into the metadata store: whole pages, in one batch, merged with what they held."""
        page = offset - offset % PAGE_BYTES
        piece = memoryview(data)[: page + PAGES_MAX * PAGE_BYTES - offset]
        end = offset + len(piece)
        core = self._core
        async with core.lock:
            inode = await self.inode_of(view, number)
            last = end + -end % PAGE_BYTES
            covered = await self.extents(view, number, inode, page, last)
            if len(covered) == PAGE_ROWS:  # more would be too much for one batch
                last = page + PAGE_BYTES
                piece, end = piece[: last - offset], min(end, last)
                covered = await self.extents(view, number, inode, page, last, PAGE_BYTES)
            held = min(max((extent.end for extent in covered), default=page), last)
            merged = piece
            if offset != page or end < held:
                whole = bytearray(max(held, end) - page)
                old = await self.read_own(view, number, inode, page, held - page)
                whole[: len(old)] = old
                whole[offset - page : end - page] = piece
                merged = memoryview(whole)
            changes: Changes = {}
            target, span = Target(view, number, None), (page, page + len(merged))
            plans.cut_out(target, changes, inode, covered, span, core.unit_bytes)
            for at in range(0, len(merged), PAGE_BYTES):
                new = merged[at : at + PAGE_BYTES]
                start = page + at
                key = records.extent_key(number, inode.content, start + len(new))
                view.put(changes, key, Extent(start, start + len(new), data=new).encode())
            inode.stored += len(merged)
            added = plans.written(inode, offset, end, core.clock, core.serial())
            view.put(changes, records.inode_key(number), records.encode(inode))
            await core.commit(view, changes, added)
        return len(piece)

    async def _write_object(
        self, target: Target, row: bytes, inode: Inode, offset: int, data: memoryview
    ) -> int:
        core, (view, number, known) = self._core, target
        assert core.blocks is not None
        began = not (
            core.blocks.appends and inode.tail and inode.tail_generation == view.generation
        )
        tail, place = (core.serial(), 0) if began else (inode.tail, inode.tail_end)
        last = None if began or known is None else known.find(offset - 1, offset)
        decided: list[tuple[Placed, Plan | None]] = []

        def decide() -> None:
            placed = Placed(tail, part(offset, data, place, last, core.unit_bytes), began)
            covered = plans.known_before(target, row, inode, offset)
            plan = None
            if covered is not None:
                plan = plans.plan(core, target, row, inode, placed, covered)
            decided.append((placed, plan))

        try:
            await core.put(tail, number, place, data, decide)
            if not decided:
                decide()
            async with core.lock:
                await self._refer(target, *decided[0])
        except BaseException as error:
            if began:
                core.lost(tail, number, error)
            raise
        return len(data)

    async def _refer(self, target: Target, placed: Placed, plan: Plan | None) -> None:
        """Commit that the pieces are where they were put; as planned, if that still holds."""
        view, number, known = target
        row = await self._row(view, number)
        if plan is None or not plan.holds(view, row):
            inode = records.decode_inode(row)
            start, end = placed.pieces[0].offset, placed.pieces[-1].end
            covered = plans.known_before(target, row, inode, start)
            if covered is None:
                covered = await self.extents(view, number, inode, max(0, start - 1), end)
            plan = plans.plan(self._core, target, row, inode, placed, covered)
        await self._core.commit(view, plan.changes, plan.added)
        if known is not None and plan.appends:
            known.appended(row, plan.after, plan.inode, plan.extents, longer=plan.longer)

    async def trim(self, number: int, inode: Inode) -> None:
        """Give back what was taken for writes that do not come; the caller has the file's turn."""
        if inode.tail and self._core.blocks is not None:
            with contextlib.suppress(OSError):  # it is only space
                await self._core.blocks.trim(records.object_name(inode.tail, number))

    # -- sizes ----------------------------------------------------------------------------------

    async def resize(
        self, view: View, changes: Changes, number: int, inode: Inode, size: int
    ) -> bool:
        """Put into `changes` what a new size needs, and set it in the inode, for one commit.

        True: the rest is for `reap`, after the commit and before anything else is written.
        """
        old, inode.size = inode.size, size
        inode.sparse = size > 0 and (inode.sparse or size > old)
        if size >= old or not inode.stored:
            return False
        if size == 0:
            return await self.forget(view, changes, number, inode)
        covered = await self.extents(view, number, inode, size, old)
        target, span = Target(view, number, None), (size, 1 << 63)
        plans.cut_out(target, changes, inode, covered, span, self._core.unit_bytes)
        if len(covered) < PAGE_ROWS:
            return False
        view.put(changes, records.reaped_key(number, inode.content), records.encode(size))
        return True

    async def forget(self, view: View, changes: Changes, number: int, inode: Inode) -> bool:
        """Give the inode a new, empty content; True: the old one is for `reap`."""
        if not inode.stored:
            return False
        content = inode.content
        inode.content, inode.stored, inode.tail = self._core.serial(), 0, 0
        return await self.drop(view, changes, number, content)

    async def drop(self, view: View, changes: Changes, number: int, content: int) -> bool:
        """Remove a content's rows, if they are few; True: the rest is for `reap`.

        What a snapshot may refer to stays for `collect`. Objects become garbage.
        """
        if not self._core.exclusive:
            return False
        rows = await view.scan(*records.extents(number, content, -1), PAGE_ROWS)
        held = await view.scan(*records.objects(number, content), PAGE_ROWS)
        if len(rows) + len(held) >= PAGE_ROWS:
            view.put(changes, records.reaped_key(number, content), records.encode(0))
            return True
        for key, _ in rows:
            view.delete(changes, key)
        for key, _ in held:
            self._discard_object(view, changes, key)
        return False

    def _discard_object(self, view: View, changes: Changes, key: bytes) -> None:
        inode, _, number = records.object_of(key)
        view.delete(changes, key)
        changes[records.garbage_key(number, inode)] = b"1"

    async def reap(self, view: View, number: int, content: int) -> None:
        """Go on with a removal that was too much for one batch, to its end."""
        core = self._core
        mark = records.reaped_key(number, content)
        while True:
            async with core.lock:
                value = await view.get(mark)
                if value is None:
                    return
                cut = records.decode_number(value)
                changes: Changes = {}
                rows = await view.scan(*records.extents(number, content, cut or -1), PAGE_ROWS)
                for key, _ in rows:
                    view.delete(changes, key)
                if not rows and not cut:
                    rows = await view.scan(*records.objects(number, content), PAGE_ROWS)
                    for key, _ in rows:
                        self._discard_object(view, changes, key)
                if not rows:
                    view.delete(changes, mark)
                await core.commit(view, changes)
                self.note_garbage(changes)

    def note_garbage(self, changes: Changes) -> None:
        """After the commit: remember the objects that it made garbage."""
        garbage = [records.garbage_of(key) for key in changes if key[:2] == records.GARBAGE]
        self._core.garbage += garbage


def _has_gap(extents: list[Extent], offset: int, end: int) -> bool:
    """Is there a part of the range that none of the extents has, which are in order?"""
    for extent in extents:
        if extent.start > offset:
            return True
        offset = extent.end
    return offset < end
