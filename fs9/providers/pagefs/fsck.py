"""fsck checks whether a tree is consistent, scrub whether its bytes are what was written.

The check reads everything, of the live tree and every branch, and compares: entries with
inodes, inodes with entries (link counts), sizes with extents, extents with objects, counters
with sums. What belongs to an operation that a crash interrupted is not a fault: opening the
storage finishes those (`Tree.recover`), so a check opens it first.

`repair` mends what can be mended without inventing anything: entries without an inode are
removed, inodes without an entry get one in `/lost+found`, counts and counters are set right,
bytes that are lost become errors of their file, not of the tree. While rows are damaged nothing
is mended: what seems to be too much then may belong to them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fs9.errors import Fs9Error, Internal
from fs9.providers.pagefs import checksums, damagedrows, records
from fs9.providers.pagefs.core import PAGE_ROWS
from fs9.providers.pagefs.damagedrows import SoundRows
from fs9.providers.pagefs.pathnames import paths_of
from fs9.providers.pagefs.records import DIRECTORY, REGULAR, ROOT, SYMLINK, Extent, Inode
from fs9.providers.pagefs.store import Batch, Inspectable
from fs9.providers.pagefs.tree import DIRECTORY_MODE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fs9.providers.pagefs.content import Changes
    from fs9.providers.pagefs.core import Core
    from fs9.providers.pagefs.provider import PageFs
    from fs9.providers.pagefs.view import View

LOST_FOUND = "lost+found"


@dataclass(slots=True)
class Report:
    """What a check found: `faults` are wrong; `garbage` are objects that only take space."""

    files: int = 0
    bytes: int = 0
    blocks: int = 0
    faults: list[str] = field(default_factory=list)
    #: Fault (by its place) -> the inode whose bytes it is about.
    damaged: dict[int, int] = field(default_factory=dict)
    mended: list[str] = field(default_factory=list)
    garbage: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return len(self.faults) == len(self.mended)

    def damage(self, inode: int, text: str) -> None:
        """A fault of an inode's bytes."""
        self.damaged[len(self.faults)] = inode
        self.faults.append(text)

    async def name_damaged(self, core: Core, view: View) -> None:
        """Add the paths to the faults since the last call."""
        if self.damaged:
            paths = await paths_of(core, view, set(self.damaged.values()))
            for place, inode in self.damaged.items():
                if inode in paths:
                    self.faults[place] += f" ({paths[inode]})"
            self.damaged.clear()


class Checker:
    """One check of one storage that nobody else changes meanwhile."""

    def __init__(self, provider: PageFs, *, repair: bool = False) -> None:
        self._provider = provider
        self._core = provider.core
        self._repair = repair
        self.report = Report()

    async def check(self) -> Report:
        """The whole check of the structure. Raises what the stores raise."""
        core = self._core
        await core.settle()
        if isinstance(core.store, Inspectable):
            self.report.faults += [f"the metadata: {text}" for text in await core.store.faults()]
        damaged = await self._leave_out_damaged_rows()
        repair = self._repair and not damaged
        if self._repair and damaged:
            self.report.faults.append("nothing is mended while rows are damaged: restore those")
        for view in self._views:
            await _ViewCheck(self._provider, view, self.report, repair=repair).run()
        if not damaged:  # else objects that these rows refer to would be taken for garbage
            await self._check_objects()
        return self.report

    @property
    def _views(self) -> list[View]:
        core = self._core
        return [core.head, *core.forks.values(), *core.snapshots.values()]

    async def _leave_out_damaged_rows(self) -> bool:
        """Report the rows that are damaged; the views read around them then. Are there any?"""
        rows, views = SoundRows(self._core.store), self._views
        await rows.find_all(PAGE_ROWS)
        if not rows.damaged:
            return False
        found: dict[View | None, list[tuple[int, str]]] = {}
        for key in sorted(rows.damaged):
            view, inode = damagedrows.owner(key, views)
            found.setdefault(view, []).append((inode, damagedrows.fault(key)))
        for view, damages in found.items():
            for inode, text in damages:
                where = view.name or "live" if view is not None else "the metadata"
                self.report.damage(inode, f"{where}: {text}")
            if view is not None:
                view.read_through(rows)
                await self.report.name_damaged(self._core, view)
        for view in views:
            view.read_through(rows)
        return True

    async def _check_objects(self) -> None:
        """Objects that nothing refers to and that no collection will find by itself."""
        core = self._core
        if core.blocks is None:
            return
        waiting = {records.object_name(*each) for each in core.garbage}
        after = ""
        while page := await core.blocks.list("", after, PAGE_ROWS):
            after = page[-1][0]
            for name, _ in page:
                number, inode = records.object_of_name(name)
                if name in waiting or core.superblock.collect:
                    continue
                if not await self._provider.branches.collector.is_referred(number, inode):
                    self.report.garbage.append(name)
        if self._repair:
            await core.blocks.delete(self.report.garbage)

    async def scrub(self) -> Report:
        """Read every block of every tree and verify its checksum."""
        core = self._core
        await self._leave_out_damaged_rows()
        for view in self._views:
            async for key, value in core.rows(records.INODES, b"J", view):
                number, inode = int.from_bytes(key[1:9], "big"), records.decode_inode(value)
                if inode.kind == REGULAR:
                    self.report.files += 1
                    await self._scrub_file(view, number, inode)
            await self.report.name_damaged(core, view)
        return self.report

    async def _scrub_file(self, view: View, number: int, inode: Inode) -> None:
        core = self._core
        first, end = records.extents(number, inode.content, -1)
        async for key, value in core.rows(first, end, view):
            stop = int.from_bytes(key[17:25], "big")
            try:
                extent = records.decode_extent(key, value)
                data = await self._provider.content.read_inode(
                    view, number, inode, extent.start, stop - extent.start
                )
                self.report.bytes += len(data)
                combined = checksums.combined(extent.checksums, core.unit_bytes)
                if extent.whole not in (None, combined):
                    raise Internal("the checksums of a block do not match one another")
            except (Fs9Error, OSError) as error:
                where = f"{view.name or 'live'}: inode {number:x}, before byte {stop}"
                self.report.damage(number, f"{where}: {error}")
            self.report.blocks += 1


class _ViewCheck:
    """The check of one tree: two passes over its rows, memory for its inodes' link counts."""

    def __init__(self, provider: PageFs, view: View, report: Report, *, repair: bool) -> None:
        self._provider = provider
        self._core = provider.core
        self._view = view
        self._report = report
        self._repair = repair and view.writable
        #: inode -> entries found; of directories, subdirectories are counted apart.
        self._names: Counter[int] = Counter()
        self._below: Counter[int] = Counter()

    def _fault(self, text: str) -> None:
        self._report.faults.append(f"{self._view.name or 'live'}: {text}")

    def _damage(self, inode: int, text: str) -> None:
        self._report.damage(inode, f"{self._view.name or 'live'}: {text}")

    async def _mend(self, text: str, changes: Changes) -> None:
        if self._repair:
            await self._core.store.commit(Batch(changes))
            self._report.mended.append(text)

    def _rows(self, first: bytes, end: bytes) -> AsyncIterator[tuple[bytes, bytes]]:
        return self._core.rows(first, end, self._view)

    async def run(self) -> None:
        await self._check_entries()
        bytes_, files = await self._check_inodes()
        await self._check_contents()
        await self._report.name_damaged(self._core, self._view)
        if self._repair:
            await self._provider.tree.recover(self._view)
        counters = await self._core.read_counters(self._view)
        if (counters.bytes, counters.files) != (bytes_, files):
            text = (
                f"the counters say {counters.bytes} bytes in {counters.files} files, "
                f"there are {bytes_} in {files}"
            )
            self._fault(text)
            counters.bytes, counters.files = bytes_, files
            changes: Changes = {}
            self._view.put(changes, records.COUNTERS, records.encode(counters))
            await self._mend(text, changes)
            self._view.counters = counters
        if self._view is self._core.head:
            self._report.files, self._report.bytes = files, bytes_

    async def _check_entries(self) -> None:
        async for key, value in self._rows(b"D", b"E"):
            parent, name = int.from_bytes(key[1:9], "big"), records.entry_name(key)
            number, kind = records.unpack_entry(value)
            stored = await self._view.get(records.inode_key(number))
            above = await self._view.get(records.inode_key(parent))
            wrong = ""
            if stored is None:
                wrong = f"the entry {name!r} of inode {parent:x} leads nowhere"
            elif above is None or records.decode_inode(above).kind != DIRECTORY:
                wrong = f"the entry {name!r} is in inode {parent:x}, which is no directory"
            elif records.decode_inode(stored).kind != kind:
                wrong = f"the entry {name!r} of inode {parent:x} has the wrong kind"
            if not wrong:
                self._names[number] += 1
                self._below[parent] += kind == DIRECTORY
                continue
            self._fault(wrong)
            changes: Changes = {}
            self._view.delete(changes, key)
            if stored is not None and above is not None and wrong.endswith("kind"):
                found = records.decode_inode(stored)
                self._view.put(changes, key, records.pack_entry(number, found.kind))
                self._names[number] += 1
                self._below[parent] += found.kind == DIRECTORY
            await self._mend(wrong, changes)

    async def _check_inodes(self) -> tuple[int, int]:
        bytes_ = files = 0
        lost: list[tuple[int, Inode]] = []
        async for key, value in self._rows(records.INODES, b"J"):
            number, inode = int.from_bytes(key[1:9], "big"), records.decode_inode(value)
            bytes_, files = bytes_ + inode.size, files + 1
            names = self._names[number] + (number == ROOT)
            links = names + (1 + self._below[number] if inode.kind == DIRECTORY else 0)
            if not names:
                if await self._view.get(records.orphan_key(number)) is None:
                    lost.append((number, inode))
                continue
            if inode.kind == DIRECTORY and names > 1:
                self._fault(f"the directory {number:x} has {names} names")
            if inode.nlink != links:
                text = f"inode {number:x} says it has {inode.nlink} links, it has {links}"
                self._fault(text)
                inode.nlink = links
                changes: Changes = {}
                self._view.put(changes, key, records.encode(inode))
                await self._mend(text, changes)
            if inode.kind == SYMLINK and inode.size != len((inode.target or "").encode()):
                self._fault(f"the link {number:x} has the wrong size")
        for number, inode in lost:
            files += await self._found(number, inode)
        if await self._view.get(records.inode_key(ROOT)) is None:
            self._fault("there is no root")
        return bytes_, files

    async def _found(self, number: int, inode: Inode) -> int:
        """An inode that no entry leads to gets one in `/lost+found`; how many inodes more."""
        text = f"inode {number:x} is in no directory"
        self._fault(text)
        if not self._repair:
            return 0
        view, tree = self._view, self._provider.tree
        changes: Changes = {}
        made = 0
        place = await tree.entry(view, ROOT, LOST_FOUND)
        if place is None:
            made = 1
            place = tree.new_inode(DIRECTORY, DIRECTORY_MODE)[0], DIRECTORY
            _, new = tree.new_inode(DIRECTORY, DIRECTORY_MODE)
            view.put(changes, records.inode_key(place[0]), records.encode(new))
            await tree.enter(view, changes, ROOT, LOST_FOUND, place[0], DIRECTORY)
            await self._core.store.commit(Batch(changes))
            changes = {}
        await tree.enter(view, changes, place[0], f"{number:x}", number, inode.kind)
        inode.nlink = 2 + self._below[number] if inode.kind == DIRECTORY else 1
        view.put(changes, records.inode_key(number), records.encode(inode))
        await self._mend(text, changes)
        return made

    async def _check_contents(self) -> None:
        """Extents do not overlap, end within their file, and lie in objects that exist."""
        number = content = last = -1
        inode: Inode | None = None
        async for key, value in self._rows(b"E", b"F"):
            owner, of = records.two_of(key)
            if (owner, of) != (number, content):
                number, content, last = owner, of, 0
                inode = await self._owner(number, content)
            if inode is None:
                continue
            try:
                extent = records.decode_extent(key, value)
            except Internal as error:
                self._damage(number, f"inode {number:x}: {error}")
                last = int.from_bytes(key[17:25], "big")
                continue
            if extent.start < last:
                self._damage(number, f"inode {number:x}: extents overlap at {extent.start}")
            if extent.end > inode.size:
                self._damage(
                    number, f"inode {number:x}: an extent ends at {extent.end} > {inode.size}"
                )
            if extent.data is None and not await self._is_stored(number, content, extent):
                self._damage(
                    number, f"inode {number:x}: no object for the bytes from {extent.start} on"
                )
            last = extent.end

    async def _owner(self, number: int, content: int) -> Inode | None:
        """The inode with this content; None: it is being removed, or a snapshot's."""
        view = self._view
        if await view.get(records.reaped_key(number, content)) is not None:
            return None
        value = await view.get(records.inode_key(number))
        inode = None if value is None else records.decode_inode(value)
        if inode is not None and inode.content == content:
            return inode
        if self._core.exclusive and not self._core.superblock.collect:
            text = f"the content {content:x} of inode {number:x} belongs to nobody"
            self._fault(text)
            changes: Changes = {}
            view.put(changes, records.reaped_key(number, content), records.encode(0))
            await self._mend(text, changes)  # and `recover` removes it
        return None

    async def _is_stored(self, number: int, content: int, extent: Extent) -> bool:
        blocks = self._core.blocks
        if blocks is None:
            return False
        key = records.object_key(number, content, extent.number)
        if await self._view.get(key) is None:
            return False
        name = records.object_name(extent.number, number)
        found = await blocks.list(name, "", 1)
        return bool(found) and found[0][1] >= extent.offset + extent.stored
