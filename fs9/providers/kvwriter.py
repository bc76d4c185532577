"""Brings changes into a store of `kvfs`: one commit for all that wait, counted in the quota.

A change runs in a thread when the store waits for a disk, so it sees nothing of the event loop
but its arguments. What it frees is told to the event loop in the order of the commits, before any
caller goes on: who opens a file and who clears a removed one both decide there, without a lock.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec

from fs9.errors import Fs9Error, QuotaExceeded
from fs9.providers import kvtree
from fs9.providers.kvstore import StoreFull
from fs9.providers.kvtree import Counters, Inode

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.clock import Clock
    from fs9.providers.kvexpiry import Expiry
    from fs9.providers.kvstore import Outcome, Store, Transaction
    from fs9.quota import Quota
    from fs9.threads import BlockingPool

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Changes in one commit: with more, the first one waits too long.
_BATCH_MAX = 64

Work: TypeAlias = "Callable[[Change], T]"


class Change:
    """One change in progress: its transaction, its time, and what it does to the counts."""

    __slots__ = (
        "_counters",
        "_writer",
        "bytes_added",
        "expires_ns",
        "files_added",
        "freed",
        "gone",
        "now_ns",
        "tx",
    )

    def __init__(self, writer: Writer, counters: Counters, tx: Transaction) -> None:
        self._writer = writer
        self._counters = counters
        self.tx = tx
        self.now_ns = writer.clock.now_ns()
        self.bytes_added = self.files_added = 0
        #: Inodes that have lost their place.
        self.freed: list[int] = []
        #: Paths of keys that had expired and were in the way.
        self.gone: list[str] = []
        #: The first time at which anything expires now that did not before.
        self.expires_ns: int | None = None

    def next_inode(self) -> int:
        self._counters.next_inode += 1
        return self._counters.next_inode

    def next_version(self) -> int:
        self._counters.version += 1
        return self._counters.version

    def charge(self, bytes_: int = 0, files: int = 0) -> None:
        """Count in the quota. Raises QuotaExceeded; undone when the change fails."""
        self._writer.check_room(self.bytes_added + bytes_, self.files_added + files)
        if self._writer.quota is not None:
            self._writer.quota.charge(bytes_, files)
        self.bytes_added += bytes_
        self.files_added += files

    def unlink(self, node: Inode) -> None:
        kvtree.unlink(self.tx, node)
        self.freed.append(node.number)

    def unlink_expired(self, node: Inode) -> None:
        self.gone.append(kvtree.path_of(self.tx, node))
        self.unlink(node)

    def set_expiry(self, node: Inode, expires_ns: int) -> None:
        """Set when it expires; 0: never. The caller stores the inode."""
        kvtree.set_expiry(self.tx, node, expires_ns)
        if expires_ns:
            self.expires_ns = min(expires_ns, self.expires_ns or expires_ns)

    def child(self, parent: Inode, name: str) -> Inode | None:
        """The entry of this name, if it exists; an expired one is removed."""
        node = kvtree.child(self.tx, parent.number, name)
        if node is not None and node.expired(self.now_ns):
            self.unlink_expired(node)
            return None
        return node


class _Job:
    __slots__ = ("change", "done", "future", "work")

    def __init__(
        self,
        work: Work[Any],
        done: Callable[[Any], object] | None,
        future: asyncio.Future[Any] | None,
    ) -> None:
        self.work = work
        self.done = done
        self.future = future
        #: Once it has been made.
        self.change: Change | None = None


class Writer:
    def __init__(
        self,
        store: Store,
        pool: BlockingPool,
        clock: Clock,
        quota: Quota | None,
        freed: Callable[[int], None],
        *,
        expiry: Expiry,
        bytes_max: int | None = None,
        files_max: int | None = None,
    ) -> None:
        """`freed` is called on the event loop with each inode that has lost its place."""
        self.clock = clock
        self.quota = quota
        self._store = store
        self._pool = pool
        self._freed = freed
        self._expiry = expiry
        self._bytes_max = bytes_max
        self._files_max = files_max
        self._waiting: list[_Job] = []
        self._looks: list[int] = []
        self._task: asyncio.Task[None] | None = None
        self.counters = Counters(0, 0)

    def load(self) -> None:
        """The counters as they are stored; blocks. The quota hears of what is there."""
        with self._store.reading() as tx:
            counters = kvtree.counters(tx)
        assert counters is not None
        self.counters = counters
        if self.quota is not None:
            self.quota.found(counters.bytes_used, counters.files - 1)  # the root is no file

    def check_room(self, bytes_: int, files: int) -> None:
        """Raises QuotaExceeded when a store with a bound of its own has no room for this."""
        used, bytes_max, files_max = self.counters, self._bytes_max, self._files_max
        if bytes_max is not None and bytes_ > 0 and used.bytes_used + bytes_ > bytes_max:
            raise QuotaExceeded(f"kvfs may hold {bytes_max} bytes")
        if files_max is not None and files > 0 and used.files + files > files_max:
            raise QuotaExceeded(f"kvfs may hold {files_max} files")

    # -- on the event loop ----------------------------------------------------------------------

    async def commit(self, work: Work[T], done: Callable[[T], object] | None = None) -> T:
        """The result of `work`, after its commit. Raises the Fs9Error that undid it.

        `done` is called on the event loop, also when the caller has been cancelled. A cancelled
        caller waits for the end, because the change may be using its buffers.
        """
        if not self._store.waits:
            job = _Job(work, done, None)
            outcome = self._run([job])[0]
            self._finish(job, outcome)
            if isinstance(outcome, Fs9Error):
                raise outcome
            return outcome  # type: ignore[return-value]
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._enqueue(_Job(work, done, future))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            future.exception()  # seen: the cancellation matters more
            raise

    def clear(self, number: int) -> None:
        """Delete an inode without a name and its bytes soon: before every later `commit`."""
        job = _Job(_clearing(number), None, None)
        if self._store.waits:
            self._enqueue(job)
        else:
            self._finish(job, self._run([job])[0])

    def clear_now(self, number: int) -> None:
        """As `clear`, at once, while nothing else runs; blocks."""
        while True:
            try:
                self._run([_Job(_clearing(number), None, None)])
            except StoreFull:
                self._store.grow()
            else:
                return

    def look_at(self, number: int) -> None:
        """Call `freed` for the inode, which is not open any more, when no commit is under way.

        One that is under way may be opening it.
        """
        if self._task is None:
            self._freed(number)
        else:
            self._looks.append(number)

    def _enqueue(self, job: _Job) -> None:
        self._waiting.append(job)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """Commit until nothing waits."""
        jobs: list[_Job] = []
        try:
            while self._waiting:
                jobs, self._waiting = self._waiting[:_BATCH_MAX], self._waiting[_BATCH_MAX:]
                try:
                    outcomes = await self._commit(jobs)
                except Exception as error:
                    outcomes = [error] * len(jobs)
                for job, outcome in zip(jobs, outcomes, strict=True):
                    self._finish(job, outcome)
                looks, self._looks = self._looks, []
                for number in looks:
                    self._freed(number)
                for job, outcome in zip(jobs, outcomes, strict=True):
                    if job.future is None:
                        if isinstance(outcome, Exception):  # the next start clears it
                            log.warning("clearing a removed key failed: %s", outcome)
                        continue
                    if isinstance(outcome, Exception):
                        job.future.set_exception(outcome)
                    else:
                        job.future.set_result(outcome)
        except BaseException:  # the event loop ends: nobody must wait for ever
            for job in (*jobs, *self._waiting):
                if job.future is not None:
                    job.future.cancel()
            self._waiting = []
            raise
        finally:
            self._task = None

    async def _commit(self, jobs: list[_Job]) -> list[Outcome | Exception]:
        while True:
            try:
                return list(await self._pool.run(self._run, jobs))
            except StoreFull:
                self._store.grow()

    def _finish(self, job: _Job, outcome: object) -> None:
        if isinstance(outcome, Exception):
            return
        if job.done is not None:
            job.done(outcome)
        assert job.change is not None
        self._expiry.committed(job.change.gone, job.change.expires_ns)
        for number in job.change.freed:
            self._freed(number)

    async def settle(self) -> None:
        """Wait until nothing waits for a commit, including deletions of removed inodes."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def aclose(self) -> None:
        """Commit what waits; nothing follows. The quota forgets what is here."""
        await self.settle()
        if self.quota is not None:
            self.quota.found(-self.counters.bytes_used, 1 - self.counters.files)

    # -- in a thread, one at a time ---------------------------------------------------------------

    def _run(self, jobs: list[_Job]) -> list[Outcome]:
        before = msgspec.structs.replace(self.counters)
        try:
            return self._store.apply([self._change(job) for job in jobs])
        except BaseException:
            # Nothing of it has happened; failed changes have given back themselves.
            added, files = (
                self.counters.bytes_used - before.bytes_used,
                self.counters.files - before.files,
            )
            self._give_back(added, files)
            self.counters = before
            raise

    def _change(self, job: _Job) -> Callable[[Transaction], object]:
        def run(tx: Transaction) -> object:
            counters = self.counters
            change = Change(self, counters, tx)
            try:
                result = job.work(change)
                counted = msgspec.structs.replace(
                    counters,
                    bytes_used=counters.bytes_used + change.bytes_added,
                    files=counters.files + change.files_added,
                )
                kvtree.put_counters(tx, counted)
            except BaseException:
                self._give_back(change.bytes_added, change.files_added)
                raise
            self.counters = counted
            job.change = change
            return result

        return run

    def _give_back(self, bytes_: int, files: int) -> None:
        if self.quota is not None:
            self.quota.charge(-bytes_, -files)


def _clearing(number: int) -> Work[None]:
    def work(change: Change) -> None:
        node = kvtree.clear(change.tx, number)
        if node is not None:
            change.charge(-node.size, -1)

    return work
