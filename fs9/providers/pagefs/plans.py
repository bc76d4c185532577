"""What a write of an object's bytes is to commit, decided while the bytes are on their way.

A commit needs the checksums of the bytes and the new rows of the extents and of the inode. All
of that can be had before a thread has finished writing; what the commit rests on, the inode's
row and the view's lineage, is compared once more at the commit, and decided anew if it changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fs9.providers.pagefs import records
from fs9.providers.pagefs.pieces import Piece, extent_of, goes_on
from fs9.providers.pagefs.records import EXTENT_BYTES_MAX, Extent, Inode

if TYPE_CHECKING:
    from fs9.clock import Clock
    from fs9.providers.pagefs.content import Changes
    from fs9.providers.pagefs.core import Core, Known
    from fs9.providers.pagefs.view import View


class Target(NamedTuple):
    """A file that is written to, and what is known of it."""

    view: View
    number: int
    known: Known | None


class Placed(NamedTuple):
    """Pieces that follow one another, in the object `tail`; `began`: they are its first ones."""

    tail: int
    pieces: list[Piece]
    began: bool


class Plan(NamedTuple):
    """What to commit, as long as the inode's row is `before` and the view has this `lineage`.

    The inode's row becomes `after`, the file grows by `added` bytes and gets the `extents`, the
    first of them in the place of one that got `longer`. `appends`: behind all that was there.
    """

    before: bytes
    lineage: tuple[int, ...]
    changes: Changes
    after: bytes
    added: int
    inode: Inode
    extents: list[Extent]
    longer: bool
    appends: bool

    def holds(self, view: View, row: bytes) -> bool:
        """Is everything still as it was when this was decided?"""
        return self.before == row and self.lineage == view.lineage


def known_before(target: Target, row: bytes, inode: Inode, offset: int) -> list[Extent] | None:
    """The extent that a write behind all others may make longer; None: look for what it covers."""
    known = target.known
    if offset >= inode.size:
        if not offset % EXTENT_BYTES_MAX:
            return []
        if known is not None and known.stored == row:
            last = known.find(offset - 1, offset)
            if last is not None:
                return [last]
    return None


def plan(
    core: Core, target: Target, row: bytes, inode: Inode, placed: Placed, covered: list[Extent]
) -> Plan:
    """Decide on a write. `inode`, of the row, is the plan's afterwards.

    `covered`: the extents in the range, and before them the one that may get longer.
    """
    unit, (view, number, _) = core.unit_bytes, target
    tail, pieces, began = placed
    offset, end = pieces[0].offset, pieces[-1].end
    appends = offset >= inode.size
    last = covered[0] if covered and covered[0].end == offset else None
    if began or (last is not None and not goes_on(last, tail, pieces[0])):
        last = None
    changes: Changes = {}
    cut_out(target, changes, inode, covered, (offset, end), unit)
    if last is not None:
        view.delete(changes, records.extent_key(number, inode.content, offset))
    extents = [
        extent_of(tail, piece, None if place else last, unit) for place, piece in enumerate(pieces)
    ]
    for extent in extents:
        key = records.extent_key(number, inode.content, extent.end)
        view.put(changes, key, extent.encode())
    if began:
        view.put(changes, records.object_key(number, inode.content, tail), b"1")
    inode.tail, inode.tail_end = tail, pieces[-1].place + len(pieces[-1].data)
    inode.tail_generation = view.generation
    inode.stored += end - offset
    added = written(inode, offset, end, core.clock, core.serial())
    after = records.encode(inode)
    view.put(changes, records.inode_key(number), after)
    longer = last is not None
    return Plan(row, view.lineage, changes, after, added, inode, extents, longer, appends)


def written(inode: Inode, offset: int, end: int, clock: Clock, version: int) -> int:
    """Note in the inode that the range was written; how many bytes the file gained."""
    inode.sparse = inode.sparse or offset > inode.size
    added = max(0, end - inode.size)
    inode.size += added
    inode.mtime_ns = inode.ctime_ns = clock.now_ns()
    inode.version = version
    return added


def cut_out(
    target: Target,
    changes: Changes,
    inode: Inode,
    covered: list[Extent],
    span: tuple[int, int],
    unit: int,
) -> None:
    """Take a range, from its first byte to behind its last one, out of the extents."""
    view, number, _ = target
    start, end = span
    for extent in covered:
        if extent.end <= start or extent.start >= end:
            continue
        key = records.extent_key(number, inode.content, extent.end)
        if extent.end > end:
            view.put(changes, key, extent.part(end, extent.end, unit).encode())
        else:
            view.delete(changes, key)
        if extent.start < start:
            key = records.extent_key(number, inode.content, start)
            view.put(changes, key, extent.part(extent.start, start, unit).encode())
