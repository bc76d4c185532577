"""Open files, and the table of those that clients hold by id.

A `File` is one open file of one provider. Downloads and uploads use it directly; `open`
registers it in its namespace's `HandleTable` under a random id. Both belong to the event loop
of the worker that owns the namespace, so nothing here is locked: steps without an `await`
between them are atomic.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from fs9.errors import Fs9Error, InvalidHandle, OwnerUnavailable, QuotaExceeded
from fs9.observe.audit_journal import Writing
from fs9.principal import Principal
from fs9.provider import OpenFile
from fs9.types import FileInfo, OpenFlags
from fs9.vfs.changes import written
from fs9.vfs.inuse import UNLOADING, InUse
from fs9.vfs.mounts import Mount
from fs9.vfs.moves import Moves
from fs9.vfs.watchview import UPLOAD

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator
    from contextlib import AbstractContextManager

    from fs9.clock import Clock
    from fs9.limits import Limits
    from fs9.vfs.journal import NamespaceJournal
    from fs9.vfs.mounts import MountTable

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Bytes of randomness in an id: not to be guessed, and no id comes twice, not even after a
#: restart (RFC 9562 finds 122 bits enough for that).
_ID_BYTES = 16
#: Closes of one provider that run at a time.
_CLOSING_MAX = 16

_UNJOURNALED = contextlib.nullcontext()

#: The opener of files that no session opened.
_NOBODY = Principal("", "")


class File(msgspec.Struct, gc=False, eq=False):
    """An open file. `info` is as it was at open, with the namespace path.

    As a context manager it counts an operation in progress: `close` waits for those, and a
    closed file refuses new ones. Who transfers in several pieces by a handle holds the file from
    the first to the last: the namespace is not given up in between, while `close` does not wait
    (the next piece is refused then).

    `gc=False`: a file is in no reference cycle that lasts, and a million of these must not slow
    the garbage collector down (see `bench/handles.py`).
    """

    mount: Mount
    open_file: OpenFile
    flags: OpenFlags
    info: FileInfo
    in_use: InUse
    used_s: float
    #: Who opened it, and alone may use it by a handle; and as what.
    user: str = ""
    opened_by: Principal | None = None
    #: For `HandleTable.place`: the path (None: that of `info`) after so many renames.
    place: str | None = None
    renames: int = 0
    running: int = 0
    held: int = 0
    closed: bool = False
    drained: asyncio.Event | None = None
    #: What was written so far and is not told of yet; None: nothing.
    writing: Writing | None = None
    #: Was there any write, other than to a replacement?
    written: bool = False

    @property
    def path(self) -> str:
        """The namespace path it was opened by; a rename since then does not show."""
        return self.info.path

    @property
    def created(self) -> bool:
        """Was the file made by this very open, so that there was nothing to overwrite?"""
        return self.flags.create and self.flags.exclusive

    @property
    def lasting(self) -> bool:
        """Can another process open the same file again?"""
        return not self.flags.replace and not self.mount.provider.volatile

    @property
    def message_like(self) -> bool:
        """As of its mount."""
        return self.mount.message_like

    def __enter__(self) -> Self:
        if self.closed:
            if self.in_use.closed:  # not by its client
                raise OwnerUnavailable(UNLOADING)
            raise InvalidHandle("closed")
        self.running += 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.running -= 1
        if self.drained is not None and not self.running:
            self.drained.set()

    def hold(self) -> None:
        """`let_go` ends it, in every case."""
        self.held += 1

    def let_go(self) -> None:
        self.held -= 1
        if self.drained is not None and not self.held:
            self.drained.set()

    @property
    def busy(self) -> bool:
        return self.running > 0 or self.held > 0

    async def wait_idle(self) -> None:
        """Until no operation is in progress and nobody holds it; the file stays open."""
        while self.busy:
            self.drained = asyncio.Event()
            await self.drained.wait()
            self.drained = None

    async def close(self, *, sync: bool = False, discard: bool = False) -> FileInfo | None:
        """Wait for the operations in progress, then close it at the provider, once.

        The info is that of a swapped-in replacement, with the namespace path. Raises what
        the provider's `close` raises, InvalidHandle when it is closed already. A cancelled
        caller leaves the close to go on by itself.
        """
        if self.closed:
            raise InvalidHandle("closed")
        self.closed = True
        if self.running:
            return await asyncio.shield(background(self._close_drained(sync, discard)))
        return await self._close(sync, discard)

    async def _close_drained(self, sync: bool, discard: bool) -> FileInfo | None:
        self.drained = asyncio.Event()
        if self.running:
            await self.drained.wait()
        return await self._close(sync, discard)

    async def _close(self, sync: bool, discard: bool) -> FileInfo | None:
        try:
            if not self.flags.replace or discard:
                info = await self.mount.provider.close(self.open_file, sync=sync, discard=discard)
            else:
                info = await self._swap_in(sync)
        finally:
            self._tell_written()
            if self.written and self.in_use.watch is not None:
                self.in_use.watch.closed(self)
            self.mount.use.file_closed()
            self.in_use.file_closed()
        return None if info is None else with_path(info, self.mount.absolute(info.path))

    async def _swap_in(self, sync: bool) -> FileInfo | None:
        with self.in_use.changing(UPLOAD, self.path) as change:
            info = await self.mount.provider.close(self.open_file, sync=sync, discard=False)
            if info is not None:
                change.path = self.mount.absolute(info.path)
            return info

    def wrote(self, count: int) -> None:
        """So many bytes were written."""
        writing = self.writing
        if writing is None:
            audit = self.in_use.audit
            if audit is None:
                return
            journaled = not self.flags.replace  # a replacement is told of by its upload
            writing = audit.begin_writing(self.info.path, self.user, journaled=journaled)
            self.writing = writing
        writing.writes += 1
        writing.bytes += count

    def _tell_written(self) -> None:
        writing, self.writing = self.writing, None
        if writing is None or self.flags.replace or self.in_use.audit is None:
            return
        self.in_use.audit.record("write", writing.path, writing.user, written(writing), writing)


class HandleTable:
    """id -> File of one namespace, and the journal of them.

    Handles are live or, from an earlier owner and not used yet, dormant in the journal; both
    count. Once the table is retired, `find` and `get` find nothing: what is still open waits in
    `_retired` for `close_all`.
    """

    __slots__ = (
        "_clock",
        "_dormant_since_s",
        "_files",
        "_limits",
        "_retired",
        "handles_max",
        "journal",
        "moves",
    )

    def __init__(
        self, limits: Limits, clock: Clock, journal: NamespaceJournal | None = None
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._files: dict[str, File] = {}
        self._retired: dict[str, File] | None = None
        self._dormant_since_s = clock.monotonic_s()
        self.moves = Moves()
        self.handles_max = limits.handles_per_namespace_max
        self.journal = journal

    def __len__(self) -> int:
        count = len(self._files if self._retired is None else self._retired)
        return count if self.journal is None else count + len(self.journal.dormant)

    def check_room(self) -> None:
        """Raise QuotaExceeded when no handle more may be opened."""
        if len(self) >= self.handles_max:
            raise QuotaExceeded(f"the namespace may have {self.handles_max} handles open")

    def register(self, file: File) -> str:
        """The new id of the file; raises QuotaExceeded, and leaves the file to the caller."""
        self.check_room()
        handle_id = secrets.token_urlsafe(_ID_BYTES)
        self._enter(handle_id, file)
        if self.journal is not None and file.lasting:
            info = file.info
            opener = file.opened_by or _NOBODY
            self.journal.opened(handle_id, info.path, file.flags, info.file_id, opener)
        return handle_id

    def adopt(self, handle_id: str, file: File) -> None:
        """The dormant handle is live now."""
        assert self.journal is not None
        known = self.journal.dormant.get(handle_id)
        assert known is not None
        file.place, file.renames = known.path, self.moves.count
        file.user, file.opened_by = known.opener.user, known.opener
        self.journal.dormant.discard(handle_id)
        self._enter(handle_id, file)

    def _enter(self, handle_id: str, file: File) -> None:
        file.used_s = self._clock.monotonic_s()
        # One that was being opened while the table was retired is closed with the others.
        files = self._files if self._retired is None else self._retired
        files[handle_id] = file

    def find(self, handle_id: str, user: str) -> File | None:
        """The file of the user's live handle, whose idle time begins again."""
        file = self._files.get(handle_id)
        if file is None or file.user != user:
            return None
        file.used_s = self._clock.monotonic_s()
        return file

    def get(self, handle_id: str, user: str) -> File:
        """As `find`; raises InvalidHandle, OwnerUnavailable when the table is retired."""
        file = self.find(handle_id, user)
        if file is None:
            raise self._missing(handle_id)
        return file

    def pop(self, handle_id: str) -> File:
        """The file, which is the caller's to close now; raises as `get`."""
        file = self._files.pop(handle_id, None)
        if file is None:
            raise self._missing(handle_id)
        if self.journal is not None and file.lasting:
            self.journal.closed([handle_id])
        return file

    def _missing(self, handle_id: str) -> Fs9Error:
        if self._retired is not None:  # the next owner may have it
            return OwnerUnavailable(UNLOADING)
        return InvalidHandle(handle_id)

    def changing_path(self, path: str, target: str = "") -> AbstractContextManager[None]:
        """Around a rename to `target`, or a removal: so that the journal stays true."""
        return _UNJOURNALED if self.journal is None else self.journal.changing_path(path, target)

    def opened(self, file: File, renames: int) -> None:
        """The file was opened since there had been so many renames."""
        moves = self.moves
        file.renames = moves.count
        if renames != moves.count and moves.concerned(file.info.path, renames):
            file.place = ""

    def place(self, file: File) -> str:
        """The path of the file now, as far as renames in this namespace moved it, or ""."""
        path = file.info.path if file.place is None else file.place
        if file.renames != self.moves.count:
            if path:
                path = file.place = self.moves.follow(path, file.renames)
            file.renames = self.moves.count
        return path

    # A sweep has three phases: `idle` collects, `take` removes what is still idle, `close_files`
    # closes with nothing held. Between them anything may happen; a handle used then survives.

    def idle(self) -> list[str]:
        """Ids not used for longer than the time to live, and with nothing in progress."""
        latest_s = self._clock.monotonic_s() - self._limits.handle_ttl_s
        return [
            handle_id
            for handle_id, file in self._files.items()
            if file.used_s <= latest_s and not file.running
        ]

    def take(self, handle_ids: Iterable[str]) -> list[File]:
        """Remove and return those of the ids that are still idle."""
        latest_s = self._clock.monotonic_s() - self._limits.handle_ttl_s
        taken: list[File] = []
        closed: list[str] = []
        for handle_id in handle_ids:
            file = self._files.get(handle_id)
            if file is not None and file.used_s <= latest_s and not file.running:
                taken.append(self._files.pop(handle_id))
                closed.append(handle_id)
        self._journal_closed(taken, closed)
        return taken

    def take_of(self, means: Callable[[Principal], bool]) -> list[File]:
        """Remove and return the live handles of whom it means, and forget their dormant ones."""
        # Many files have one opener.
        answers: dict[int, bool] = {}

        def meant(opener: Principal | None) -> bool:
            opener = opener or _NOBODY
            if id(opener) not in answers:
                answers[id(opener)] = means(opener)
            return answers[id(opener)]

        taken = [id_ for id_, file in self._files.items() if meant(file.opened_by)]
        files = [self._files.pop(id_) for id_ in taken]
        self._journal_closed(files, taken)
        if self.journal is not None:
            dormant = self.journal.dormant
            gone = [id_ for id_ in dormant if meant(dormant.opener(id_))]
            if gone:
                self.journal.closed(gone)
        return files

    def _expire(self) -> int:
        """Forget the dormant handles that nobody used in the time to live; how many."""
        journal = self.journal
        if journal is None or not journal.dormant:
            return 0
        if self._clock.monotonic_s() - self._dormant_since_s < self._limits.handle_ttl_s:
            return 0
        handle_ids = list(journal.dormant)
        journal.closed(handle_ids)
        return len(handle_ids)

    def _journal_closed(self, files: list[File], handle_ids: list[str]) -> None:
        if self.journal is not None:
            lasting = [id_ for id_, file in zip(handle_ids, files, strict=True) if file.lasting]
            if lasting:
                self.journal.closed(lasting)

    def dormant_at(self, mounts: MountTable, mount: Mount) -> list[str]:
        """The dormant handles whose path this mount of the table serves."""
        if self.journal is None:
            return []
        dormant = self.journal.dormant
        known = [(id_, dormant.get(id_)) for id_ in dormant]
        return [id_ for id_, each in known if each and mounts.serves(mount, each.path)]

    def take_at(self, mount: Mount, dormant: list[str]) -> list[File]:
        """Remove and return the live handles of the mount, and forget these dormant ones."""
        taken = [id_ for id_, file in self._files.items() if file.mount is mount]
        files = [self._files.pop(id_) for id_ in taken]
        self._journal_closed(files, taken)
        if dormant and self.journal is not None:
            self.journal.closed(dormant)
        return files

    async def sweep(self) -> int:
        """Close the handles that are idle for too long; how many."""
        handle_ids = self.idle()
        await asyncio.sleep(0)  # collecting 65,536 takes milliseconds; let others run
        files = self.take(handle_ids)
        expired = self._expire()
        await close_files(files, timeout_s=self._limits.handle_close_timeout_s)
        return len(files) + expired

    def retire(self) -> None:
        """No handle is found any more; those that are live stay open until `close_all`."""
        if self._retired is None:
            self._retired, self._files = self._files, {}

    def retired(self) -> list[File]:
        return [] if self._retired is None else list(self._retired.values())

    async def close_all(self, *, sync: bool) -> int:
        """Close every live handle; how many. Takes `handle_close_timeout_s` at most.

        They stay in the journal: the next owner revives them.
        """
        self.retire()
        files, self._retired = self.retired(), {}
        await close_files(files, timeout_s=self._limits.handle_close_timeout_s, sync=sync)
        return len(files)


async def close_files(files: list[File], *, timeout_s: float, sync: bool = False) -> None:
    """Close all; return when that is done or `timeout_s` has passed.

    Each provider closes its own, some at a time. One that takes longer goes on in the
    background and holds up neither the caller nor another provider. Errors are logged:
    nobody waits for them. An unfinished replacement is discarded, never swapped in.
    """
    by_mount: dict[Mount, list[File]] = {}
    for file in files:
        by_mount.setdefault(file.mount, []).append(file)
    tasks = [
        background(_close_each(remaining, sync))
        for mine in by_mount.values()
        for remaining in [iter(mine)] * min(_CLOSING_MAX, len(mine))
    ]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        if late:
            log.warning("some of %d closes take longer than %g s", len(files), timeout_s)


async def _close_each(files: Iterator[File], sync: bool) -> None:
    for file in files:
        try:
            await file.close(sync=sync, discard=file.flags.replace)
        except Exception as error:
            log.warning("closing %s failed: %s", file.path, error)


#: Tasks that nobody awaits: the event loop itself keeps only weak references to tasks.
_background: set[asyncio.Task[Any]] = set()


def background(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run to the end whatever happens to the caller."""
    task = asyncio.get_running_loop().create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)
    return task


def with_path(info: FileInfo, path: str) -> FileInfo:
    """The info under another path (`msgspec.structs.replace` costs three times as much)."""
    return FileInfo(
        path,
        info.size,
        info.file_type,
        info.mode,
        info.uid,
        info.gid,
        info.atime_ns,
        info.mtime_ns,
        info.ctime_ns,
        info.etag,
        info.symlink_target,
        info.file_id,
    )
