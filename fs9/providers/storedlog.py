"""Topics of `pubsubfs` on disk: the same log, its entries in an LMDB environment.

    T name             what is known of a topic (`_Topic`)
    M topic number     one entry; numbers are 8 bytes, big-endian, so an entry is one look-up

All writes that wait share one commit; an entry is in the log, and seen by readers, when it is on
disk. What a log lets go is deleted with the next commit.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from fs9.errors import Fs9Error
from fs9.providers.kvstore import LmdbStore, StoreFull
from fs9.providers.ringlog import Entry, Log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fs9.providers.kvstore import Change, Transaction
    from fs9.providers.ringlog import Bounds, Memory
    from fs9.quota import Quota
    from fs9.threads import BlockingPool

_BATCH_MAX = 256

_two = struct.Struct(">QQ")
_one = struct.Struct(">Q")

#: On the event loop, right before a commit: the change, and what follows once it is on disk or,
#: with False, is not. May raise an Fs9Error.
Preparation: TypeAlias = "Callable[[_Batch], tuple[Change, Callable[[bool], object]]]"


class _Topic(msgspec.Struct, array_like=True):
    topic: int
    generation: int
    created_ns: int
    modified_ns: int
    first: int
    next: int
    position: int
    bytes_kept: int
    lost: int


class _Batch:
    """Entries of each log that are in the commit being made."""

    def __init__(self) -> None:
        self._ahead: dict[StoredLog, tuple[Entry, ...]] = {}

    def prepare(self, log: StoredLog, data: bytes, now_ns: int) -> tuple[Entry, int]:
        """The entry, and the bytes of all entries of its log in the commit."""
        ahead = self._ahead.get(log, ())
        entry = log.prepare(data, now_ns, ahead)
        self._ahead[log] = ahead = (*ahead, entry)
        return entry, sum(len(entry.data) for entry in ahead)


_encode = msgspec.msgpack.Encoder().encode
_topic = msgspec.msgpack.Decoder(_Topic)
_entry = msgspec.msgpack.Decoder(Entry)


def _key(topic: int, number: int) -> bytes:
    return b"M" + _two.pack(topic, number)


class StoredLog(Log):
    def __init__(
        self,
        store: TopicStore,
        name: str,
        topic: _Topic,
        bounds: Bounds,
        terminator: bytes,
        quota: Quota | None,
        memory: Memory,
    ) -> None:
        super().__init__(topic.generation, bounds, terminator, quota, topic.created_ns, memory)
        self.name = name
        self.topic = topic.topic
        self.modified_ns = topic.modified_ns
        self.first, self.next, self.position = topic.first, topic.next, topic.position
        self.bytes_kept, self.lost = topic.bytes_kept, topic.lost
        self._store = store
        self._room = memory
        #: Let go, and still on disk.
        self._gone: list[int] = []
        self._detached = False

    def make_room(self, size: int) -> None:
        """Does nothing: entries on disk need no memory."""

    def keep(self, entry: Entry) -> None:
        """It is on disk, as long as the log is."""
        if self._detached:
            super().keep(entry)

    def forget(self, entry: Entry) -> None:
        if self._detached:
            super().forget(entry)
        else:
            self._gone.append(entry.number)

    def entry(self, number: int) -> Entry:
        if self._detached:
            return super().entry(number)
        return self._store.entry(self.topic, number)

    def detach(self) -> None:
        """Take into memory what readers have yet to read: it is about to go from the disk.

        The newest of it, as far as there is room; the rest is lost to them.
        """
        start = min((reader.reached for reader in self.readers), default=self.position)
        first, self.first, kept = max(self.first, self.number_at(start)), self.next, 0
        for number in range(self.next - 1, first - 1, -1):
            entry = self.entry(number)
            if self._room.lacks(len(entry.data)):
                break
            super().keep(entry)
            self.first, kept = number, kept + len(entry.data)
        if self._quota is not None:
            self._quota.charge(kept - self.bytes_kept)
        self.bytes_kept = kept
        self._detached = True

    async def append(self, data: bytes, now_ns: int) -> None:
        """Write an entry to disk, then into the log. Raises QuotaExceeded, BackendUnavailable."""

        def prepare(batch: _Batch) -> tuple[Change, Callable[[bool], object]]:
            entry, added = batch.prepare(self, data, now_ns)
            gone, self._gone = self._gone, []
            key, value = _key(self.topic, entry.number), _encode(entry)
            record = self._record(entry, self.bytes_kept + added)

            def change(tx: Transaction) -> None:
                for number in gone:
                    tx.delete(_key(self.topic, number))
                tx.put(key, value)
                tx.put(b"T" + self.name.encode(), _encode(record))

            def done(on_disk: bool) -> None:
                if on_disk:
                    self.commit(entry)
                else:
                    self._gone += gone
                    self.refuse(entry)

            return change, done

        await self._store.write(prepare)

    def _record(self, entry: Entry, bytes_kept: int) -> _Topic:
        """As the topic is on disk with this entry, before it lets go of others."""
        number = entry.number
        return _Topic(
            self.topic,
            self.generation,
            self.created_ns,
            entry.written_ns,
            self.first,
            number + 1,
            entry.position + self.length(entry),
            bytes_kept,
            self.lost,
        )


class TopicStore:
    def __init__(self, directory: Path, pool: BlockingPool) -> None:
        """Blocks. Raises BackendUnavailable."""
        self._store = LmdbStore(directory)
        self._pool = pool
        self._waiting: list[tuple[Preparation, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._last_topic = 0

    def load(
        self, bounds: Bounds, terminator: bytes, quota: Quota | None, memory: Memory
    ) -> dict[str, StoredLog]:
        """Load every topic. Blocks."""
        logs: dict[str, StoredLog] = {}
        with self._store.reading() as tx:
            for key, value in tx.scan(b"T", b"T"):
                name, topic = key[1:].decode(), _topic.decode(value)
                logs[name] = StoredLog(self, name, topic, bounds, terminator, quota, memory)
                self._last_topic = max(self._last_topic, topic.topic)
        return logs

    def entry(self, topic: int, number: int) -> Entry:
        with self._store.reading() as tx:
            value = tx.get(_key(topic, number))
        assert value is not None, "what is kept is on disk"
        return _entry.decode(value)

    async def create(
        self,
        name: str,
        generation: int,
        bounds: Bounds,
        terminator: bytes,
        quota: Quota | None,
        now_ns: int,
        memory: Memory,
    ) -> StoredLog:
        """Create a topic on disk."""
        self._last_topic += 1
        topic = _Topic(self._last_topic, generation, now_ns, now_ns, 1, 1, 0, 0, 0)
        value = _encode(topic)
        await self._change(lambda tx: tx.put(b"T" + name.encode(), value))
        return StoredLog(self, name, topic, bounds, terminator, quota, memory)

    async def remove(self, log: StoredLog) -> None:
        """Forget a topic and its entries; who reads it still gets what it has."""
        log.detach()

        def change(tx: Transaction) -> None:
            tx.delete(b"T" + log.name.encode())
            prefix = b"M" + _one.pack(log.topic)
            for key in [key for key, _ in tx.scan(prefix, prefix)]:
                tx.delete(key)

        await self._change(change)

    async def _change(self, change: Change) -> None:
        await self.write(lambda _: (change, lambda on_disk: None))

    async def write(self, prepare: Preparation) -> None:
        """Make a change with the next commit. A cancelled caller waits for its end."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((prepare, future))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write())
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            future.exception()  # seen: the cancellation matters more
            raise

    async def _write(self) -> None:
        jobs: list[tuple[Preparation, asyncio.Future[None]]] = []
        try:
            while self._waiting:
                jobs, self._waiting = self._waiting[:_BATCH_MAX], self._waiting[_BATCH_MAX:]
                await self._write_batch(jobs)
        except BaseException:  # the event loop ends: nobody must wait for ever
            for _, future in (*jobs, *self._waiting):
                future.cancel()
            self._waiting = []
            raise
        finally:
            self._task = None

    async def _write_batch(self, jobs: list[tuple[Preparation, asyncio.Future[None]]]) -> None:
        batch = _Batch()
        ready = []
        for prepare, future in jobs:
            try:
                ready.append((*prepare(batch), future))
            except Fs9Error as error:
                future.set_exception(error)
        failure: Exception | None = None
        try:
            await self._commit([change for change, _, _ in ready])
        except Exception as error:
            failure = error
        for _, done, _ in ready:
            done(failure is None)
        for _, _, future in ready:
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)

    async def _commit(self, changes: list[Change]) -> None:
        """Commit all waiting changes, or none."""

        def all_of_them(tx: Transaction) -> None:
            for change in changes:
                change(tx)

        while True:
            try:
                await self._pool.run(self._store.apply, [all_of_them])
            except StoreFull:
                self._store.grow()
            else:
                return

    async def aclose(self) -> None:
        """Write what waits; nothing follows."""
        while self._task is not None:
            await asyncio.wait([self._task])
        self._store.close()
