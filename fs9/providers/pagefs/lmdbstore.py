"""The embedded metadata store: LMDB below, the newest changes in a journal and in memory.

LMDB alone would cost an fsync at each commit, or (MDB_NOSYNC) be destroyed by a loss of power,
because ext4 keeps no order among writes. So a commit is one write at the end of a journal and
an update of a sorted table in memory (3 us); reads look there first and then in LMDB (0.5 us).
When the journal has grown, `sync` moves its table into LMDB in one synced transaction, in a
thread, and drops the file; after a crash the first `sync` does that with the journals that are
found, so that opening is short, after its `before` has synced the blocks that their records
refer to. A synced commit costs one fdatasync of the journal, shared by all that wait for one
(group commit). LMDB's file is only ever written with fsync, so it is whole whatever happens; the
journal is a prefix (see `journal`).

Fencing: the epoch is in LMDB and, for a look at each commit, in a small mapped file. A writer
looks after it has written its record: if the epoch is still its own then, a new opener, which
raises the epoch before it reads the journal, has seen the record; else nothing is acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import mmap
import os
from typing import TYPE_CHECKING, Any, TypeAlias

import lmdb

from fs9.durable import sync_directory
from fs9.errors import OwnerUnavailable
from fs9.providers.pagefs import journal
from fs9.providers.pagefs.journal import Journal, OldJournal, OldJournals, Record
from fs9.providers.pagefs.lmdbenvironment import SEALED, Environment, items
from fs9.providers.pagefs.memtable import Memtable, merged
from fs9.providers.pagefs.store import SYNC_FAILED, Batch, ChecksFailed, Item

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from fs9.threads import BlockingPool

    Changes: TypeAlias = dict[bytes, bytes | None]

log = logging.getLogger("fs9.pagefs")

#: A journal of this size, or with so many keys, is moved into LMDB (10-50 ms in a thread).
#: More keys make each insertion into the sorted table slower than LMDB would be.
JOURNAL_BYTES_MAX = 16 * 1024 * 1024
JOURNAL_KEYS_MAX = 16_384
#: Items in one call into LMDB, which holds the interpreter's lock meanwhile.
_PUT_ITEMS = 256
_IDS_MAX = 1000
_EPOCH_FILE, _LOCK_FILE, _DATA = "epoch", "lock", "meta"
_EPOCH, _APPLIED, _ID = b"epoch", b"applied", b"id"
_NONE = object()
#: What a batch that makes room may add.
_ROOM_BYTES = 1024
#: A disk with less than this is full. LMDB says so, or it calls a short write an I/O error.
_FULL_BYTES = 1024 * 1024
_FULL = os.strerror(errno.ENOSPC)
#: With more than this, what a crash left in journals can stay there for a while.
_ROOMY_BYTES = 64 * 1024 * 1024


class LmdbSnapshot:
    """One moment: a transaction of LMDB and copies of the tables above it."""

    def __init__(self, store: LmdbStore, tables: list[Memtable]) -> None:
        self._store = store
        self._tables = [table.copy() for table in tables]
        self._reader = store.environment.env.begin(db=store.environment.data)

    async def get(self, key: bytes) -> bytes | None:
        for table in self._tables:
            if key in table.changes:
                return table.changes[key]
        return self._store.environment.read(self._reader, key)

    async def scan(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        with self._reader.cursor() as cursor:
            rows = self._store.environment.range(cursor, first, end)
            return merged(self._tables, first, end, limit, rows)

    async def aclose(self) -> None:
        self._reader.abort()
        self._store.snapshot_closed()


class LmdbStore:
    """A `MetaStore` below a directory; made by `open_store`."""

    volatile = False

    def __init__(self, directory: Path, pool: BlockingPool, boot: str) -> None:
        """Opens; blocks. Raises OSError, lmdb.Error (not a database)."""
        self._directory = directory
        self._pool = pool
        #: The table that is on its way into LMDB, with its journal.
        self._frozen: tuple[Memtable, Journal | OldJournals] | None
        self._boot = boot
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            lock = os.open(directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            opened.callback(os.close, lock)
            with contextlib.suppress(BlockingIOError):  # only tools respect it: see `in_use`
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (directory / _DATA).mkdir(exist_ok=True)
            self.environment = Environment.acquire(str(directory / _DATA))
            opened.callback(self.environment.release)
            self._shared_epoch = _map_epoch(directory / _EPOCH_FILE)
            opened.callback(self._shared_epoch.close)
            roomy = _free_bytes(directory) >= _ROOMY_BYTES
            self.epoch, left = self._take_epoch(roomy=roomy)
            records, same_boot = journal.replay(left, boot)
            table, self._ids, unmarked = self._load(records)
            #: Changes for which no `before` was completed, as far as is known.
            self._inherited = unmarked if same_boot else []
            # First: what LMDB takes on a full disk, it keeps.
            self._journal = Journal(directory, self._number + 1, boot)
            # One of the same name had no record, and is gone.
            old = OldJournals(left, but=self._journal.path)
            # In LMDB their names are durable, so their bytes have to be before.
            must_wait = bool(self._inherited)
            can_wait = same_boot and roomy and _is_short(left, table)
            waits = table.last and (must_wait or can_wait)
            self._frozen = (table, old) if waits else self._moved(table, old)
            if self._frozen is None:  # else the first sync sees to it
                sync_directory(directory)
            self._closing = opened.pop_all()
        self._active = Memtable()
        self._moving: asyncio.Task[None] | None = None
        self._durable = self._safe = 0 if self._frozen is not None else self._number
        self._syncing = asyncio.Lock()
        self._snapshots = 0
        self._no_snapshots = asyncio.Event()
        self._no_snapshots.set()
        self._failure: OSError | None = None
        #: The disk is full, or what was found is much: the journal should be moved soon.
        self._pressed = must_wait and not can_wait
        self._closed = False

    def _take_epoch(self, *, roomy: bool) -> tuple[int, list[OldJournal]]:
        """The new epoch, and what earlier writers left in their journals. Blocks."""
        environment = self.environment
        with environment.env.begin(db=environment.system) as transaction:
            held = _number(transaction.get(_EPOCH))
        epoch = max(held, _number(self._shared_epoch[:8])) + 1
        # From here on nothing that another writer adds to its journal counts.
        self._shared_epoch[:8] = epoch.to_bytes(8, "little")
        left = journal.read(self._directory)
        if not roomy:
            journal.trim(left)  # LMDB may need the space
        with environment.env.begin(write=True, db=environment.system) as transaction:
            transaction.put(_EPOCH, epoch.to_bytes(8, "little"))
            if environment.sealed:
                transaction.put(SEALED, b"1")
        return epoch, left

    def _load(self, records: list[Record]) -> tuple[Memtable, dict[bytes, None], list[Changes]]:
        """Those of the records that LMDB has not; the ids of applied batches. Blocks.

        And the changes of those records that no mark covers.
        """
        environment = self.environment
        with environment.env.begin(db=environment.system) as transaction:
            self._number = _number(transaction.get(_APPLIED))
            with transaction.cursor() as cursor:
                ids = dict.fromkeys(value for _, value in items(cursor, _ID, b"ie"))
        table = Memtable()
        newer = [record for record in records if record.number > self._number]
        mark = max((record.mark for record in newer), default=0)
        unmarked = [record.changes for record in newer if record.number > mark and record.changes]
        if newer:
            table.fill(record.changes for record in newer)
            self._number = table.last = newer[-1].number
            table.ids = [record.id for record in newer if record.id]
            ids |= dict.fromkeys(table.ids)
        return table, ids, unmarked

    def _moved(self, table: Memtable, left: OldJournals) -> tuple[Memtable, OldJournals] | None:
        """Move it into LMDB; on a full disk that is yet to be done. Blocks."""
        while table.last:
            try:
                self._move(table)
                break
            except lmdb.MapFullError:
                self.environment.grow()
            except lmdb.Error as error:
                if not self._is_full(error):
                    raise
                return table, left
        self.environment.forget()
        left.remove()
        return None

    # -- reading --------------------------------------------------------------------------------

    @property
    def _tables(self) -> list[Memtable]:
        return [self._active] if self._frozen is None else [self._active, self._frozen[0]]

    async def get(self, key: bytes) -> bytes | None:
        found: Any = self._active.changes.get(key, _NONE)
        if found is _NONE and self._frozen is not None:
            found = self._frozen[0].changes.get(key, _NONE)
        if found is _NONE:
            return self.environment.get(key)
        value: bytes | None = found
        return value

    async def scan(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        base = self.environment.items(first, end)
        tables = self._tables
        if any(table.touches(first, end) for table in tables):
            return merged(tables, first, end, limit, base)
        return [item for _, item in zip(range(limit), base, strict=False)]

    def inherited(self) -> list[Item]:
        rows = (row for changes in self._inherited for row in changes.items())
        return [(key, value) for key, value in rows if value is not None]

    async def snapshot(self) -> LmdbSnapshot:
        self._snapshots += 1
        self._no_snapshots.clear()
        return LmdbSnapshot(self, self._tables)

    def snapshot_closed(self) -> None:
        self._snapshots -= 1
        if not self._snapshots:
            self._no_snapshots.set()

    async def faults(self) -> list[str]:
        """See `Inspectable`."""
        self._snapshots += 1
        self._no_snapshots.clear()
        try:
            return await self._pool.run(self.environment.faults)
        finally:
            self.snapshot_closed()

    # -- writing --------------------------------------------------------------------------------

    @property
    def wants_sync(self) -> bool:
        return (
            self._pressed
            or self._journal.size_bytes >= JOURNAL_BYTES_MAX
            or len(self._active.keys) >= JOURNAL_KEYS_MAX
        )

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed or _number(self._shared_epoch[:8]) != self.epoch:
            raise OwnerUnavailable("another writer has taken over the storage")

    async def commit(self, batch: Batch, *, sync: bool = False) -> None:
        self._check()
        if not (batch.id and batch.id in self._ids):
            for key, expected in batch.checks.items():
                if await self.get(key) != expected:
                    raise ChecksFailed(key)
            self._append(batch)
            self._number += 1
            self._check()  # only now is it certain that the record was not too late
            self._active.apply(batch.changes)
            self._active.last = self._number
            if batch.id:
                self._active.ids.append(batch.id)
                self._remember(batch.id)
        if sync:
            await self.sync()

    def _append(self, batch: Batch) -> None:
        record = Record(self._number + 1, 0, batch.id, batch.changes)
        try:
            self._journal.append(record, makes_room=_makes_room(batch.changes))
        except OSError as error:
            # What LMDB has takes less, and there the space of removed items is used again.
            self._pressed = error.errno == errno.ENOSPC
            raise

    def _remember(self, batch_id: bytes) -> None:
        self._ids[batch_id] = None
        if len(self._ids) > _IDS_MAX:
            del self._ids[next(iter(self._ids))]

    async def sync(self, before: Callable[[], Awaitable[None]] | None = None) -> None:
        self._check()
        target = self._number
        if self.wants_sync and self._frozen is None:
            try:
                self._rotate()
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                # The journal grows a little longer: what is to be made durable may make room.
        if before is not None:
            await before()
            self._inherited.clear()
        self._safe = max(self._safe, target)
        if self._durable < target or self._frozen is not None:
            async with self._syncing:
                self._check()
                if self._durable < target:
                    await self._sync_journals()
        self._start_moving()

    def _rotate(self) -> None:
        fresh = Journal(self._directory, self._number + 1, self._boot)
        self._frozen = (self._active, self._journal)
        self._active, self._journal = Memtable(), fresh
        self._pressed = False

    async def _sync_journals(self) -> None:
        """One fdatasync for all who wait: everything up to `_safe` is durable afterwards."""
        safe = self._safe
        self._journal.append(Record(self._number + 1, safe, b"", {}), makes_room=True)
        self._number += 1
        frozen = self._frozen
        old = frozen[1] if frozen is not None and frozen[0].last > self._durable else None
        try:
            await self._pool.run(_sync_files, self._directory, old, self._journal)
        except OSError as error:
            # What the kernel could not write it forgets, so no later sync can be believed.
            self._fail(error)
            raise
        self._durable = max(self._durable, safe)

    def _fail(self, error: OSError) -> None:
        """Nothing more is committed: raised by `_check` from now on."""
        self._failure = error
        log.error("pagefs: %s: %s; %s", self._directory, error, SYNC_FAILED)

    # -- from the journal into LMDB -------------------------------------------------------------

    def _start_moving(self) -> None:
        frozen = self._frozen
        if frozen is not None and self._moving is None and frozen[0].last <= self._durable:
            self._moving = asyncio.ensure_future(self._move_frozen(*frozen))

    async def _move_frozen(self, table: Memtable, old: Journal | OldJournals) -> None:
        try:
            await self._move_growing(table)
            self._frozen = None
            self.environment.forget()
            old.close()
            await self._pool.run(old.remove)
        except OSError as error:
            self._fail(error)
        except (lmdb.Error, OwnerUnavailable) as error:
            # LMDB has nothing of it then. On a full disk the next sync tries again.
            if not self._is_full(error):
                self._fail(OSError(errno.EIO, str(error)))
        finally:
            self._moving = None

    def _is_full(self, error: Exception) -> bool:
        full = _free_bytes(self._directory) < _FULL_BYTES
        return _FULL in str(error) or (os.strerror(errno.EIO) in str(error) and full)

    async def _move_growing(self, table: Memtable) -> None:
        while True:
            try:
                return await self._pool.run(self._move, table)
            except lmdb.MapFullError:
                await self._no_snapshots.wait()
                self.environment.grow()

    def _move(self, table: Memtable) -> None:
        """Blocks; LMDB's transaction makes it happen at once, and durably."""
        environment = self.environment
        with environment.env.begin(write=True, db=environment.data) as transaction:
            if _number(transaction.get(_EPOCH, db=environment.system)) != self.epoch:
                raise OwnerUnavailable("another writer has taken over the storage")
            with transaction.cursor() as cursor:
                for start in range(0, len(table.keys), _PUT_ITEMS):
                    _put_items(environment, cursor, table, table.keys[start : start + _PUT_ITEMS])
            applied = table.last.to_bytes(8, "little")
            transaction.put(_APPLIED, applied, db=environment.system)
            for place, batch_id in enumerate(table.ids):
                key = _ID + (table.last + place).to_bytes(8, "big")
                transaction.put(key, batch_id, db=environment.system)
            _trim_ids(transaction, environment)

    async def erase(self) -> None:
        """Its directory is removed by who asked for this."""

    async def aclose(self) -> None:
        if self._closed:
            return
        try:
            self._check()
            if self._inherited:  # nobody has synced the bytes: the next start goes on from here
                return
            await self.sync()
            while self._moving is not None:
                await self._moving
            self._check()
            self._rotate()
            assert self._frozen is not None
            await self._move_frozen(*self._frozen)
            self._check()
            if self._frozen is not None:
                raise OSError(errno.ENOSPC, _FULL)  # the next start goes on with the journals
            await self._pool.run(self._journal.remove)
        finally:
            if self._moving is not None:
                await self._moving
            self._closed = True
            self._journal.close()
            await self._no_snapshots.wait()
            self._closing.close()


def _makes_room(changes: dict[bytes, bytes | None]) -> bool:
    """Does it remove something, and add hardly anything?"""
    added = sum(map(len, filter(None, changes.values())))
    return added <= _ROOM_BYTES and not all(changes.values())


def _put_items(
    environment: Environment, cursor: lmdb.Cursor, table: Memtable, keys: list[bytes]
) -> None:
    present = []
    for key in keys:
        value = table.changes[key]
        if value is not None:
            present.append((key, value))
        elif cursor.set_key(key):
            cursor.delete()
    cursor.putmulti(environment.closed(present))


def _trim_ids(transaction: lmdb.Transaction, environment: Environment) -> None:
    with transaction.cursor(db=environment.system) as cursor:
        held = [key for key, _ in items(cursor, _ID, b"ie")]
    for key in held[:-_IDS_MAX]:
        transaction.delete(key, db=environment.system)


def _free_bytes(directory: Path) -> int:
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


def _is_short(left: list[OldJournal], table: Memtable) -> bool:
    """Is it no more than one process has in its journal before it is moved?"""
    size_bytes = sum(old.end for old in left)
    return size_bytes < JOURNAL_BYTES_MAX and len(table.keys) < JOURNAL_KEYS_MAX


def _number(data: bytes | None) -> int:
    return int.from_bytes(data or b"", "little")


def _map_epoch(path: Path) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, mmap.PAGESIZE)  # a hole is SIGBUS on a full disk
        return mmap.mmap(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)


def _sync_files(directory: Path, old: Journal | OldJournals | None, current: Journal) -> None:
    if old is not None:
        old.sync()
        sync_directory(directory)
    current.sync()


def in_use(directory: Path) -> bool:
    """Does a living process have the store open? Blocks. Raises OSError."""
    try:
        fd = os.open(directory / _LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


async def open_store(directory: Path, pool: BlockingPool, boot: str | None = None) -> LmdbStore:
    """The store below the directory, which is made when missing. Raises OSError, lmdb.Error."""
    return await pool.run_in_turn(_open, directory, pool, boot)


def _open(directory: Path, pool: BlockingPool, boot: str | None) -> LmdbStore:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return LmdbStore(directory, pool, journal.boot_id() if boot is None else boot)
