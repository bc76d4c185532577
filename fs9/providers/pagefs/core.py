"""What all parts of one pagefs share: the stores, the lock, serial numbers, usage, syncing.

Rules of concurrency: whoever reads, decides and commits holds `lock` from the first of these to
the last; with stores that do not suspend it is never waited for. Bytes are put into the block
store before the commit that refers to them, without the lock; objects are deleted after the
commit that forgets them is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fs9.errors import Fs9Error, OwnerUnavailable, QuotaExceeded, Transient
from fs9.providers.pagefs import records
from fs9.providers.pagefs.lease import TAKEN_OVER
from fs9.providers.pagefs.records import Counters, Superblock
from fs9.providers.pagefs.store import SYNC_FAILED, Batch, Inheriting
from fs9.providers.pagefs.view import View

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from fs9.clock import Clock
    from fs9.limits import Limits
    from fs9.providers.pagefs.records import Extent, Inode
    from fs9.providers.pagefs.store import BlockStore, Item, MetaStore
    from fs9.quota import Quota
    from fs9.types import Buffer

log = logging.getLogger("fs9.pagefs")

#: Seconds after a change until it is synced and tidied up anyway.
TIDY_AFTER_S = 5.0
#: Rows read, and changed in one batch, by operations on many.
PAGE_ROWS = 400
#: Extents of an open file that are remembered, about 400 bytes each.
KNOWN_EXTENTS_MAX = 512
#: The same of files that were closed lately, all together.
CLOSED_EXTENTS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Policy:
    """Which bytes go where, and who owns new files.

    Files up to `inline_bytes` are kept in the metadata store; all are when there is no block
    store. `control_file`: may snapshots be restored and forked by writing to a file?
    """

    uid: int = 0
    gid: int = 0
    inline_bytes: int = 4096
    trash_retention_s: float = 0.0
    control_file: bool = True


class OpenInode:
    """An inode that is open, or being changed: its writers take turns by `lock`.

    `known`: where its bytes are, as far as reads have asked.
    """

    __slots__ = ("known", "lock", "opens")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.opens = 0
        self.known = Known()


class Known:
    """Extents of one version of an inode: those in objects, by their ends, in order.

    `stored` is the inode's row. Whatever changes the bytes of a file gives its inode a new
    version, hence another row, and what is known of the old one is forgotten. `looked`: up to
    which offset it was looked; a read that goes on there is one of a sequence.
    """

    __slots__ = ("ends", "extents", "inode", "looked", "stored")

    def __init__(self) -> None:
        self.stored = b""
        self.inode: Inode | None = None
        self.looked = 0
        self.ends: list[int] = []
        self.extents: list[Extent] = []

    def of(self, stored: bytes) -> Inode:
        """The inode of the row."""
        inode = self.inode
        if inode is None or stored != self.stored:
            inode = self.inode = records.decode_inode(stored)
            self.stored = stored
            self.looked = 0
            self.forget()
        return inode

    def find(self, start: int, end: int) -> Extent | None:
        """The extent that has all bytes of the range, if it is known."""
        place = bisect_right(self.ends, start)
        if place < len(self.ends):
            extent = self.extents[place]
            if extent.start <= start and extent.end >= end:
                return extent
        return None

    def add(self, extent: Extent) -> None:
        ends, end = self.ends, extent.end
        if len(ends) >= KNOWN_EXTENTS_MAX:
            self.forget()
            ends = self.ends
        if not ends or ends[-1] < end:
            ends.append(end)
            self.extents.append(extent)
        else:
            place = bisect_left(ends, end)
            if ends[place] != end:
                ends.insert(place, end)
                self.extents.insert(place, extent)

    def appended(
        self, before: bytes, stored: bytes, inode: Inode, new: list[Extent], *, longer: bool
    ) -> None:
        """Extents were added behind all others, the first in the place of one that got `longer`.

        `before`: the inode's row until then; `stored`, `inode`: now.
        """
        if before != self.stored:
            self.forget()
        elif longer and self.extents and self.extents[-1].start == new[0].start:
            del self.ends[-1], self.extents[-1]
        self.stored, self.inode = stored, inode
        for extent in new:
            self.add(extent)

    def forget(self) -> None:
        self.ends, self.extents = [], []


class Core:
    """`start` first; `aclose` last. `blocks` is None: all bytes are in the metadata store."""

    def __init__(
        self,
        store: MetaStore,
        blocks: BlockStore | None,
        policy: Policy,
        limits: Limits,
        clock: Clock,
        quota: Quota | None = None,
    ) -> None:
        self.store = store
        self.blocks = blocks
        self.policy = policy
        self.limits = limits
        self.clock = clock
        self.quota = quota
        self.lock = asyncio.Lock()
        self.head = View(store, (1,))
        self.forks: dict[str, View] = {}
        self.snapshots: dict[str, View] = {}
        #: What restores replaced, as long as files of it are open.
        self.replaced: list[View] = []
        self.superblock = Superblock(records.FORMAT, records.UNIT_BYTES, 1, (1,))
        #: (view's name, inode) -> what is open.
        self.opens: dict[tuple[str, int], OpenInode] = {}
        #: What is known of inodes that were closed, the last one last.
        self._closed_inodes: OrderedDict[tuple[str, int], Known] = OrderedDict()
        self._closed_extents = 0
        #: Objects that nothing refers to, once the last commit is durable.
        self.garbage: list[tuple[int, int]] = []
        self._serial = store.epoch << 40
        self._dirty: set[str] = set()
        self._syncing_blocks = asyncio.Lock()
        self._failure: OSError | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tidying: asyncio.Task[None] | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._closed = False
        #: Does somebody wait for what is to happen later?
        self._hurried = asyncio.Event()
        #: An object may have been left behind that only a sweep can find.
        self._leaked = False
        #: Is it known what a process that was killed has put and not synced?
        self._adopted = False

    @property
    def unit_bytes(self) -> int:
        return self.superblock.unit_bytes

    @property
    def exclusive(self) -> bool:
        """Does nothing but the live tree refer to its contents?"""
        return not (self.snapshots or self.forks or self.replaced)

    @property
    def views(self) -> list[View]:
        """The writable trees."""
        return [self.head, *self.forks.values()]

    def serial(self) -> int:
        self._serial += 1
        return self._serial

    # -- committing -----------------------------------------------------------------------------

    async def commit(
        self, view: View, changes: dict[bytes, bytes | None], bytes_: int = 0, files: int = 0
    ) -> None:
        """Commit what was decided under the lock; `bytes_` and `files`: what the tree gains.

        Raises QuotaExceeded, OSError, Transient (a restore came in between), what the store
        raises; nothing was changed then.
        """
        self.check_current(view)
        counters, quota = view.counters, self.quota
        if bytes_ or files:
            if quota is not None:
                quota.charge(bytes_, files)
            counters.bytes += bytes_
            counters.files += files
            view.put(changes, records.COUNTERS, records.encode(counters))
        try:
            await self.store.commit(Batch(changes))
        except BaseException as error:
            await self._not_committed(view, bytes_, files, error)
            if self.store.wants_sync:  # on a full disk that may make room for the next one
                await self._flush()
            raise
        if self.store.wants_sync:
            await self._flush()
        elif self._tidying is None and not self._closed:
            self._tidying = asyncio.ensure_future(self._tidy_later())

    def check_current(self, view: View) -> None:
        """Raise Transient when a restore replaced the tree since it was looked up."""
        if view.replaced:
            raise Transient("a snapshot was restored meanwhile")

    async def _not_committed(
        self, view: View, bytes_: int, files: int, error: BaseException
    ) -> None:
        if not (bytes_ or files):
            return
        found = Counters(view.counters.bytes - bytes_, view.counters.files - files)
        if isinstance(error, asyncio.CancelledError):  # then it may have happened
            found = await asyncio.shield(self.read_counters(view))
        if self.quota is not None:
            self.quota.found(found.bytes - view.counters.bytes, found.files - view.counters.files)
        view.counters = found

    def charged(self, view: View) -> tuple[int, int]:
        """Bytes and files of a tree that the quota counts; the root of the live one is no file."""
        return view.counters.bytes, view.counters.files - (view is self.head)

    async def read_counters(self, view: View) -> Counters:
        value = await view.get(records.COUNTERS)
        return Counters() if value is None else records.decode_counters(value)

    # -- syncing --------------------------------------------------------------------------------

    async def put(
        self,
        number: int,
        inode: int,
        offset: int,
        data: Buffer,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Put bytes into an object; they are synced before the commits that refer to them.

        `meanwhile`: as `BlockStore.put` has it.
        """
        assert self.blocks is not None
        name = records.object_name(number, inode)
        await self.blocks.put(name, offset, data, meanwhile)
        self._dirty.add(name)

    def lost(self, number: int, inode: int, error: BaseException) -> None:
        """An object was begun, and what should refer to it failed: it is garbage.

        Unless the commit may have happened: then the next start looks.
        """
        if isinstance(error, OSError | QuotaExceeded):
            self.garbage.append((number, inode))
        elif isinstance(error, OwnerUnavailable) and error.detail == TAKEN_OVER:
            # Refused for certain. Nobody else would find it: the new owner has looked already.
            assert self.blocks is not None
            self.spawn(self.blocks.delete([records.object_name(number, inode)]))
        else:
            self._leaked = True

    async def sync(self, garbage: Sequence[tuple[int, int]] = ()) -> None:
        """What was committed so far survives a loss of power.

        All of it, in the order of the commits, so the bytes of other files are synced as well;
        not those of `garbage`, and of what waits to be deleted: these commits forget them.
        """
        forgotten = {records.object_name(*each) for each in (*garbage, *self.garbage)}
        await self.store.sync(lambda: self._sync_blocks(forgotten))

    async def _sync_blocks(self, forgotten: set[str]) -> None:
        if self.blocks is None:
            return
        async with self._syncing_blocks:
            if self._failure is not None:
                raise self._failure
            if not self._adopted:
                await self._adopt(self.blocks)
            names = self._dirty - forgotten
            if not names:
                return
            # Those that are forgotten stay: an older sync, which refers to them, may come yet.
            self._dirty -= names
            try:
                await self.blocks.sync(names)
            except OSError as error:
                # What the kernel could not write it forgets: no later sync can be believed.
                self._failure = error
                log.error("pagefs: %s; %s", error, SYNC_FAILED)
                raise
            except BaseException:
                self._dirty |= names
                raise

    async def _adopt(self, blocks: BlockStore) -> None:
        """Sync from now on also what the process did not that was killed, and left its commits."""
        if isinstance(self.store, Inheriting):
            for count, row in enumerate(self.store.inherited(), 1):
                found = records.object_of_row(*row)
                if found is not None:
                    self._dirty.add(records.object_name(*found))
                if not count % PAGE_ROWS:  # others take their turn
                    await asyncio.sleep(0)
            blocks.adopt(self._dirty)
        self._adopted = True

    async def _flush(self) -> None:
        """Start a sync that moves the journal; wait for one that has not kept up."""
        if self._flushing is not None and not self._flushing.done():
            if not self.store.wants_sync:
                return
            await asyncio.wait([self._flushing])
        if self.store.wants_sync and not self._closed:
            self._flushing = self.spawn(self.tidy())

    async def _tidy_later(self) -> None:
        try:
            await asyncio.sleep(TIDY_AFTER_S)
        finally:
            self._tidying = None
        self.spawn(self.tidy())

    async def tidy(self) -> None:
        """Sync, then delete the objects that nothing refers to any more."""
        garbage, self.garbage = self.garbage, []
        try:
            await self.sync(garbage)
            while garbage:
                await self._delete(garbage[:PAGE_ROWS])
                del garbage[:PAGE_ROWS]
        finally:
            self.garbage = garbage + self.garbage

    async def _delete(self, garbage: Sequence[tuple[int, int]]) -> None:
        assert self.blocks is not None
        names = [records.object_name(*each) for each in garbage]
        await self.blocks.delete(names)
        self._dirty.difference_update(names)
        await self.store.commit(Batch({records.garbage_key(*each): None for each in garbage}))

    def spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[None]:
        """Do it in the background; an error is logged. `aclose` waits for it."""
        task = asyncio.ensure_future(self._quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _quietly(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except (OSError, Fs9Error) as error:  # tried again later, at the latest by the next start
            log.warning("pagefs: tidying up failed: %s", error)

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it to the end, even when the caller is cancelled; `aclose` waits for it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def pause(self, seconds: float) -> None:
        """Let so much time pass, unless somebody waits for what happens in the background."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()

    async def settle(self) -> None:
        """Wait until nothing happens in the background, and everything is durable and tidy."""
        self._hurried.set()
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._hurried.clear()
        await self.tidy()

    async def aclose(self) -> None:
        """Sync, note that all is in order, release. An error is raised after the release."""
        self._closed = True
        self._hurried.set()
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.wait([self._tidying])
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self.quota is not None:
            for bytes_, files in map(self.charged, self.views):
                self.quota.found(-bytes_, -files)
        try:
            await self.tidy()
            if not self._leaked:
                epoch = records.encode(self.store.epoch)
                await self.store.commit(Batch({records.CLEAN: epoch}), sync=True)
        finally:
            try:
                await self.store.aclose()
            finally:
                if self.blocks is not None:
                    await self.blocks.aclose()

    # -- looking --------------------------------------------------------------------------------

    async def rows(self, first: bytes, end: bytes, view: View | None = None) -> AsyncIterator[Item]:
        """All items of the range, of a view or raw, read in pages."""
        source = self.store if view is None else view
        while True:
            page = await source.scan(first, end, PAGE_ROWS)
            for item in page:
                yield item
            if len(page) < PAGE_ROWS:
                return
            last = page[-1][0]
            first = last + b"\0" if view is None else last + b"\xff" * 5

    def opened(self, view: View, inode: int) -> OpenInode:
        key = (view.name, inode)
        found = self.opens.get(key)
        if found is None:
            found = self.opens[key] = OpenInode()
            known = self._closed_inodes.pop(key, None)
            if known is not None:
                self._closed_extents -= len(known.ends)
                found.known = known
        return found

    def let_go(self, view: View, inode: int) -> None:
        """Nobody has the inode open any more; what is known of it may be asked again soon."""
        key = (view.name, inode)
        known = self.opens.pop(key).known
        if known.ends and not view.replaced:
            self._closed_inodes[key] = known
            self._closed_extents += len(known.ends)
            while self._closed_extents > CLOSED_EXTENTS_MAX:
                _, oldest = self._closed_inodes.popitem(last=False)
                self._closed_extents -= len(oldest.ends)
