"""The two store contracts of pagefs: ordered keys with transactions, and objects of bytes.

The tree, its snapshots and its checksums know nothing but these two; a new engine implements
one of them and passes `tests/providers/pagefs/store_suite.py` or `block_suite.py`.

A store that answers from memory finishes without suspending; one that waits for a disk or a
network suspends. Errors: `OSError` of a local disk (the tree translates it), `OwnerUnavailable`
for a fenced writer, `BackendUnavailable`, `Transient` and `Timeout` for a remote engine that
has tried long enough itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from fs9.types import Buffer

#: Bounds that every metadata store must take (LMDB's largest key is 511 bytes).
KEY_BYTES_MAX = 480
VALUE_BYTES_MAX = 64 * 1024
#: Changes in one batch that every store must take.
BATCH_CHANGES_MAX = 1000

#: What to do when a disk refused a sync; for the log.
SYNC_FAILED = (
    "a sync failed, so nothing more is acknowledged as durable: what was written since the last "
    "sync may be lost. Mend the disk, restart the server, and look with `fs9 scrub`"
)

Item: TypeAlias = tuple[bytes, bytes]


class ChecksFailed(Exception):
    """A batch was refused because a check did not hold; nothing was changed."""


class Batch(msgspec.Struct, gc=False):
    """Changes that happen together or not at all.

    `changes`: key -> new value, or None to delete (what is not there is deleted quietly).
    `checks`: key -> the value that it must have at that moment, None: it must be absent.
    `id`: a name for the batch that never comes twice; a batch whose id was applied already is
    not applied again and answers as applied, even if its checks no longer hold. A store
    remembers at least the last 1,000 ids, also over a reopening. b"": no id.
    """

    changes: dict[bytes, bytes | None] = {}
    checks: dict[bytes, bytes | None] = {}
    id: bytes = b""


class Reader(Protocol):
    """What can be read, of now or of one moment."""

    async def get(self, key: bytes) -> bytes | None:
        """The value, or None."""

    async def scan(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        """At most `limit` items with `first <= key < end`, in the order of the keys' bytes.

        Fewer than `limit` items: there are no more. One call sees one moment.
        """


class Snapshot(Reader, Protocol):
    """A reader of one moment; later commits do not show. Close it soon: it may pin space."""

    async def aclose(self) -> None: ...


class MetaStore(Reader, Protocol):
    """A transactional ordered key-value store with one writer.

    Opening one (each engine has its own way) takes a new epoch, durably, before it returns;
    from then on no store object with an older epoch can commit.
    """

    @property
    def epoch(self) -> int:
        """1 or more, larger at each opening of the same data, also after a loss of power."""

    @property
    def volatile(self) -> bool:
        """Is the data lost with this object?"""

    @property
    def wants_sync(self) -> bool:
        """Should the owner call `sync` soon, so that the store can tidy up?"""

    async def snapshot(self) -> Snapshot:
        """A reader of this moment."""

    async def commit(self, batch: Batch, *, sync: bool = False) -> None:
        """Apply the batch, atomically; it is visible to readers when this returns.

        It survives the process; with `sync` also the power, as after `sync()`. Batches are
        applied in the order of the calls, and what survives a loss of power is a prefix.
        Raises ChecksFailed, OwnerUnavailable (fenced), OSError (nothing was changed).
        """

    async def sync(self, before: Callable[[], Awaitable[None]] | None = None) -> None:
        """Everything committed up to this call survives a loss of power.

        `before` is awaited first: it makes durable what those commits refer to (blocks). A
        store whose unsynced commits may survive by chance must not bring back, after a loss
        of power, commits for which no `before` was completed.
        """

    async def erase(self) -> None:
        """Close, and remove what the store keeps of itself; its keys were removed before.

        Begun again after it broke off, it goes on. Directories of this host stay: they are
        removed with all that is in them.
        """

    async def aclose(self) -> None:
        """Sync and release everything. An error is raised after the release."""


@runtime_checkable
class Inspectable(Protocol):
    """A `MetaStore` that can look its own structure through, for a check."""

    async def faults(self) -> list[str]:
        """What is wrong with it; reads everything."""


@runtime_checkable
class Inheriting(Protocol):
    """A `MetaStore` that may go on with commits of a process that was killed before it synced."""

    def inherited(self) -> Sequence[Item]:
        """The rows of these commits, until a `sync` with a `before` was completed.

        That `before` has to make durable what they refer to: the process that put it did not.
        """


def put_into(into: memoryview | None, data: Buffer) -> Buffer:
    """What `BlockStore.get` returns, for a store that gives bytes of its own."""
    if into is None:
        return data
    into = into[: len(data)]
    into[:] = data
    return into


class BlockStore(Protocol):
    """Named objects of bytes that are written once and never changed.

    Checksums are above: the tree keeps the CRC32C of each block and verifies what `get` gives.
    """

    @property
    def appends(self) -> bool:
        """May an object grow by later puts at its end? Else each object is one put at 0."""

    @property
    def put_bytes_max(self) -> int:
        """The largest piece for one put."""

    @property
    def volatile(self) -> bool:
        """Is the data lost with this object?"""

    async def put(
        self,
        name: str,
        offset: int,
        data: Buffer,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Write all of `data` at `offset`, which is 0 or, where it `appends`, the end.

        `meanwhile` is for work that can be done while the bytes are on their way: a store that
        waits for a thread calls it on the event loop, once, before this returns; others do not.

        "The end" is the caller's: bytes of an earlier put that failed, or that nobody came to
        refer to before a crash, are overwritten. `data` is the caller's again afterwards.
        Survives the process. Raises OSError (such as ENOSPC) and the errors of a remote engine.
        """

    async def get(
        self, name: str, offset: int, size: int, into: memoryview | None = None
    ) -> Buffer:
        """The bytes; fewer where the object is shorter. Raises FileNotFoundError.

        With `into`, of that size, they are there, and it or its beginning is returned.
        """

    async def trim(self, name: str) -> None:
        """No more is put into the object for now: give back what was taken for that.

        The caller sees to it that no put of the object comes meanwhile. Raises OSError.
        """

    def adopt(self, names: Collection[str]) -> None:
        """Another process has put these and was killed: the next `sync` of them does all it left.

        Objects that are missing do not matter.
        """

    async def sync(self, names: Collection[str]) -> None:
        """What was put into these objects survives a loss of power. Missing ones are skipped."""

    async def delete(self, names: Sequence[str]) -> None:
        """Remove the objects; missing ones are skipped."""

    async def list(self, prefix: str, after: str, limit: int) -> list[tuple[str, int]]:
        """At most `limit` (name, bytes) with the prefix and a name after `after`, sorted."""

    async def space(self) -> tuple[int, int]:
        """(total, free) bytes, for statfs."""

    async def aclose(self) -> None: ...
