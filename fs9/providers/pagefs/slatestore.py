"""The metadata store in object storage: a SlateDB database for each namespace's mount.

SlateDB is a log-structured tree whose files are objects; only its newest writer can add to it,
because each opening takes the next number of a manifest by a conditional put. That is our
fencing; the epoch that the contract wants is kept as an item besides. A write is in memory
first and in the object storage some milliseconds later, which each commit here waits for. So
that hosts do not fence one another all the time, who opens it has a lease (`s3lease`).

The binding takes the object storage's address and credentials from the process's environment
(`AWS_ENDPOINT`, `AWS_ACCESS_KEY_ID`, …) and from nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any, TypeVar

from slatedb import uniffi as slate

from fs9.errors import (
    BackendUnavailable,
    Fs9Error,
    Internal,
    InvalidArgument,
    OwnerUnavailable,
    Timeout,
)
from fs9.providers.pagefs import lease as leases
from fs9.providers.pagefs.store import Batch, ChecksFailed, Item

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import TypeAlias

    from fs9.providers.pagefs.s3lease import S3Lease
    from fs9.providers.pagefs.store import BlockStore

    #: The binding has no types that a checker could use.
    Source: TypeAlias = Any
    Database: TypeAlias = Any
    WriteBatch: TypeAlias = Any

T = TypeVar("T")

#: How long SlateDB collects writes before it puts them into the object storage together.
_FLUSH_EVERY = '"5ms"'
_DATA, _EPOCH, _IDS, _IDS_END = b"d", b"se", b"si", b"sj"
_IDS_MAX = 1000
_CLOSE_S = 5.0
_MANIFESTS = "manifest/"
_ERASED_AT_ONCE = 1000


class SlateReader:
    """What a database and a snapshot of one have in common."""

    def __init__(self, source: Source, timeout_s: float) -> None:
        self._source = source
        self._timeout_s = timeout_s

    async def get(self, key: bytes) -> bytes | None:
        found: bytes | None = await self.call(self._source.get(_DATA + key))
        return found

    async def scan(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        if first >= end:
            return []
        return await self.call(self.items(_DATA + first, _DATA + end, limit))

    async def items(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        """Of raw keys; those found come without the byte of their kind."""
        wanted = slate.KeyRange(start=first, start_inclusive=True, end=end, end_inclusive=False)
        rows = await (await self._source.scan(wanted)).next_batch(limit)
        return [(row.key[1:], row.value) for row in rows]

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await work
        except TimeoutError:
            raise Timeout(f"{self._timeout_s:g} s: the object storage of pagefs") from None
        except slate.Error as error:
            raise _translated(error) from error


class SlateSnapshot(SlateReader):
    async def aclose(self) -> None:
        self._source = None


class SlateStore:
    """A `MetaStore`; made by `open_store`."""

    volatile = False
    wants_sync = False

    def __init__(
        self, database: Database, timeout_s: float, lease: S3Lease, objects: BlockStore
    ) -> None:
        """`objects`: those that the database is made of."""
        self.lease = lease
        self._objects = objects
        self._database = database
        self._timeout_s = timeout_s
        self._reader = SlateReader(database, timeout_s)
        self._ids: dict[bytes, bytes] = {}
        self._numbers = itertools.count(1)
        self._committing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.epoch = 0

    async def start(self) -> None:
        """Take the epoch. Raises OwnerUnavailable: yet another one was opened meanwhile."""
        held = await self._reader.call(self._database.get(_EPOCH))
        ids = await self._reader.call(self._reader.items(_IDS, _IDS_END, 2 * _IDS_MAX))
        self._ids = {value: b"s" + key for key, value in ids}
        self.epoch = int.from_bytes(held or b"", "big") + 1
        batch = slate.WriteBatch()
        batch.put(_EPOCH, self.epoch.to_bytes(8, "big"))
        await self._write(batch)

    def when_lost(self, call: Callable[[], None]) -> None:
        self.lease.when_lost(call)

    # -- reading --------------------------------------------------------------------------------

    async def get(self, key: bytes) -> bytes | None:
        await self._ours()
        return await self._reader.get(key)

    async def scan(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        await self._ours()
        return await self._reader.scan(first, end, limit)

    async def snapshot(self) -> SlateSnapshot:
        await self._ours()
        source = await self._reader.call(self._database.snapshot())
        return SlateSnapshot(source, self._timeout_s)

    async def _ours(self) -> None:
        """Raises OwnerUnavailable, BackendUnavailable, Timeout (it cannot be known)."""
        self._check()
        if self.lease.over:
            await self.lease.renew()
            self.lease.check()

    def _check(self) -> None:
        """Raises OwnerUnavailable. The database knows of a newer writer once it met its marks."""
        if self._closed:
            raise OwnerUnavailable("the storage is closed")
        if not self.lease.lost:
            reason = self._database.status().close_reason
            if reason is not None:
                self.lease.lose(_why(reason))
        self.lease.check()

    # -- writing --------------------------------------------------------------------------------

    async def commit(self, batch: Batch, *, sync: bool = False) -> None:
        """Durable with or without `sync`. A cancelled caller waits for the outcome."""
        self._check()
        task = asyncio.get_running_loop().create_task(self._commit(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # seen: the cancellation matters more
            raise

    async def _commit(self, batch: Batch) -> None:
        async with self._committing:
            self._check()
            if batch.id and batch.id in self._ids:
                return
            for key, expected in batch.checks.items():
                if await self._reader.get(key) != expected:
                    raise ChecksFailed(key)
            written = slate.WriteBatch()
            for key, value in batch.changes.items():
                if value is None:
                    written.delete(_DATA + key)
                else:
                    written.put(_DATA + key, value)
            if batch.id:
                self._remember(batch.id, written)
            await self._write(written)

    def _remember(self, batch_id: bytes, written: WriteBatch) -> None:
        key = _IDS + self.epoch.to_bytes(8, "big") + next(self._numbers).to_bytes(8, "big")
        written.put(key, batch_id)
        self._ids[batch_id] = key
        if len(self._ids) > _IDS_MAX:
            written.delete(self._ids.pop(next(iter(self._ids))))

    async def _write(self, batch: WriteBatch) -> None:
        """In the object storage when this returns; else nobody knows, and all is loaded anew."""

        async def write() -> None:
            await (await self._database.write(batch)).await_durable()

        try:
            await self._reader.call(write())
        except Fs9Error:
            reason = self._database.status().close_reason
            self.lease.lose(leases.UNKNOWN_OUTCOME if reason is None else _why(reason))
            self.lease.check()

    async def sync(self, before: Callable[[], Awaitable[None]] | None = None) -> None:
        """What was committed is durable already; is the storage still ours? One write tells."""
        self._check()
        if before is not None:
            await before()
        async with self._committing:
            self._check()
            batch = slate.WriteBatch()
            batch.put(_EPOCH, self.epoch.to_bytes(8, "big"))
            await self._write(batch)

    async def erase(self) -> None:
        """Keys that were removed are in the bucket until its compaction; so all of it goes.

        The manifests first, oldest first, so that what is left is a database to the last one.
        """
        self._check()
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._shut_down()
        while listed := await self._objects.list(_MANIFESTS, "", _ERASED_AT_ONCE):
            for name, _ in listed:
                await self._objects.delete([name])
        while listed := await self._objects.list("", "", _ERASED_AT_ONCE):
            await self._objects.delete([name for name, _ in listed])
        await self.lease.erase()

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks)
        try:
            await self._shut_down()
        finally:
            await self.lease.aclose()

    async def _shut_down(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._database.shutdown()
        except TimeoutError:  # nothing of ours waits for it: commits were durable
            return
        except slate.Error as error:
            if not self.lease.lost:
                raise _translated(error) from error


def _why(reason: object) -> str:
    if reason is slate.CloseReason.FENCED:
        return "another writer has taken over the storage"  # with our last write, or without
    return "the storage was closed after an error; it is loaded anew"


def _translated(error: Exception) -> Fs9Error:
    match error:
        case slate.Error.Data():
            return Internal(f"the metadata of pagefs is damaged: {error.message}")
        case slate.Error.Invalid():
            return InvalidArgument(f"pagefs: {error.message}")
        case _:
            return BackendUnavailable(f"the object storage of pagefs: {error}")


async def open_store(
    bucket: str, path: str, lease: S3Lease, objects: BlockStore, *, timeout_s: float
) -> SlateStore:
    """The database `path` in the bucket; who had it open before is fenced from now on.

    The lease was taken; it is the store's. `objects` are those below the path. Raises
    InvalidArgument, BackendUnavailable, Timeout, OwnerUnavailable.
    """
    try:
        database = await _build(bucket, path, timeout_s)
    except BaseException:
        with contextlib.suppress(Fs9Error):
            await lease.aclose()
        raise
    store = SlateStore(database, timeout_s, lease, objects)
    try:
        await store.start()
    except BaseException:
        with contextlib.suppress(Fs9Error):
            await store.aclose()
        raise
    return store


async def _build(bucket: str, path: str, timeout_s: float) -> Database:
    try:
        settings = slate.Settings.default()
        settings.set("flush_interval", _FLUSH_EVERY)
        builder = slate.DbBuilder(path, slate.ObjectStore.resolve(f"s3://{bucket}"))
        builder.with_settings(settings)
        async with asyncio.timeout(timeout_s):
            return await builder.build()
    except TimeoutError:
        raise Timeout(f"{timeout_s:g} s: the object storage of pagefs") from None
    except slate.Error as error:
        raise _translated(error) from error
