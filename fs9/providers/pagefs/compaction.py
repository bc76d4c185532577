"""Compaction: a file of which much was overwritten is written anew, and its objects are deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.errors import Fs9Error, Internal
from fs9.providers.pagefs import checksums, records
from fs9.providers.pagefs.records import EXTENT_BYTES_MAX, Extent, Inode
from fs9.providers.pagefs.store import Batch

if TYPE_CHECKING:
    from fs9.providers.pagefs.content import Changes, Content
    from fs9.providers.pagefs.core import Core
    from fs9.providers.pagefs.view import View

#: A file is written anew when its objects hold this many times its size, and so much more.
COMPACT_FACTOR = 2
COMPACT_BYTES = 8 * 1024 * 1024


class Compaction:
    """Of the files of one tree, over their `Content`."""

    def __init__(self, core: Core, content: Content) -> None:
        self._core = core
        self._content = content

    def is_sparse(self, inode: Inode) -> bool:
        """Do the objects hold so much that was overwritten that the file is to be compacted?"""
        return self._core.blocks is not None and inode.stored > (
            COMPACT_FACTOR * inode.size + COMPACT_BYTES
        )

    async def run(self, view: View, number: int) -> None:
        """Write the file's bytes into a new content, and forget the old one.

        The caller has the file's turn. A crash leaves the old content, and garbage.
        """
        core, content = self._core, self._content
        if core.blocks is None:  # pages are merged as they are written
            return
        inode = await content.inode_of(view, number)
        copy = records.decode_inode(records.encode(inode))
        copy.content, copy.stored, copy.tail = core.serial(), 0, 0
        try:
            await self._copy_all(view, number, inode, copy)
        except (OSError, Fs9Error):
            await content.reap(view, number, copy.content)
            raise
        async with core.lock:
            inode = await content.inode_of(view, number)
            old = inode.content
            inode.content, inode.stored = copy.content, copy.stored
            inode.tail, inode.tail_end = copy.tail, copy.tail_end
            inode.tail_generation = copy.tail_generation
            changes: Changes = {}
            more = await content.drop(view, changes, number, old)
            view.put(changes, records.inode_key(number), records.encode(inode))
            view.delete(changes, records.reaped_key(number, inode.content))
            await core.commit(view, changes)
        content.note_garbage(changes)
        await content.trim(number, inode)
        if more:
            await content.reap(view, number, old)

    async def _copy_all(self, view: View, number: int, inode: Inode, copy: Inode) -> None:
        offset = 0
        while offset < inode.size:
            covered = await self._content.extents(view, number, inode, offset, inode.size, 1)
            if not inode.sparse and not (covered and covered[0].start <= offset):
                raise Internal("a block is missing")
            if not covered:
                return
            offset = max(offset, covered[0].start)
            data = await self._content.read_own(view, number, inode, offset, EXTENT_BYTES_MAX)
            await self._copy(view, number, copy, offset, memoryview(data))
            offset += len(data)

    async def _copy(
        self, view: View, number: int, copy: Inode, offset: int, data: memoryview
    ) -> None:
        core = self._core
        assert core.blocks is not None
        began = not (core.blocks.appends and copy.tail)
        if began:
            copy.tail, copy.tail_end, copy.tail_generation = core.serial(), 0, view.generation
        sums = checksums.of_units(data, core.unit_bytes)
        new = Extent(
            offset,
            offset + len(data),
            number=copy.tail,
            offset=copy.tail_end,
            stored=len(data),
            checksums=sums,
            whole=checksums.whole(len(data), sums, core.unit_bytes),
        )
        copy.tail_end += len(data)
        copy.stored += len(data)
        changes: Changes = {}
        view.put(changes, records.extent_key(number, copy.content, new.end), new.encode())
        if began:
            view.put(changes, records.object_key(number, copy.content, copy.tail), b"1")
        # Until the copy is complete it is marked for removal, so a crash leaves nothing of it.
        view.put(changes, records.reaped_key(number, copy.content), records.encode(0))
        try:
            await core.put(copy.tail, number, new.offset, data)
            await core.store.commit(Batch(changes))
        except BaseException as error:
            if began:
                core.lost(copy.tail, number, error)
            raise
