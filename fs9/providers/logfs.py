"""What `pubsubfs` and `streamfs` have in common: one directory of logs, and a README.

    /README    what this is; cannot be changed
    /NAME      a log: writing appends an entry, one for each write; reading begins with what is
               kept and goes on with what comes; empty means "nothing yet", or the end

A log appears when it is opened for writing. There are no directories to make, nothing is renamed
or cut, and offsets of writes mean nothing. Handles are bound to the log: when it is removed, those
who read get what is kept, and nobody can write any more.
"""

from __future__ import annotations

import abc
import asyncio
from functools import partial
from typing import TYPE_CHECKING

from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    InvalidHandle,
    IsDirectory,
    NotDirectory,
    NotFound,
    NotSupported,
    PayloadTooLarge,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
)
from fs9.path import NAME_BYTES_MAX
from fs9.provider import BaseProvider, OpenFile
from fs9.providers.ringlog import LogFollower, Memory, Tape, check_readers
from fs9.types import (
    ALWAYS,
    BASIC_RW,
    Buffer,
    Capability,
    Condition,
    FileInfo,
    FileType,
    FsStats,
    OpenFlags,
)

if TYPE_CHECKING:
    from fs9.providers.registry import ProviderContext
    from fs9.providers.ringlog import Bounds, Log

README = "/README"


class LogOpen(OpenFile):
    """An open log; a text that is made when it is read has no `log`."""

    __slots__ = ("closed", "created", "flags", "log", "path", "tape", "wrote")

    def __init__(
        self, path: str, flags: OpenFlags, log: Log | None, *, created: bool = False
    ) -> None:
        self.created = created
        self.path = path
        self.flags = flags
        self.log = log
        self.tape: Tape | None = None
        self.wrote = False
        self.closed = False


class LogFs(BaseProvider, abc.ABC):
    """`mode` of a log's file."""

    untasked = True
    mode = 0o644

    def __init__(
        self, context: ProviderContext, bounds: Bounds, *, logs_max: int, readers_max: int
    ) -> None:
        self._clock = context.clock
        self._losses = context.losses
        self._quota = context.quota
        self._message_bytes_max = context.limits.message_bytes_max
        self._bounds = bounds
        self._logs_max = logs_max
        self._readers_max = readers_max
        self._memory = Memory(context.limits.memfs_bytes_max)
        self._logs: dict[str, Log] = {}
        self._made_ns = self._generation = context.clock.now_ns()
        self._making = asyncio.Lock()

    # -- what the two differ in -----------------------------------------------------------------

    @abc.abstractmethod
    def text(self, path: str) -> bytes | None:
        """The content of a file that is generated when it is read; None for other paths."""

    @abc.abstractmethod
    async def make(self, name: str) -> Log:
        """Make a new log; another call for the same name may be in progress."""

    @abc.abstractmethod
    def tape(self, log: Log) -> Tape: ...

    @abc.abstractmethod
    async def append(self, log: Log, data: bytes) -> None: ...

    @abc.abstractmethod
    def size(self, log: Log) -> int: ...

    async def wait_to_read(self, log: Log, tape: Tape, offset: int) -> None:
        """Called before each read of a log; may wait."""

    def opened_to_write(self, log: Log) -> None:
        """Called when a log is opened for writing."""

    def closed_to_write(self, log: Log, wrote: bool) -> None:
        """Called when a handle for writing is closed."""

    async def forget(self, log: Log) -> None:
        """Delete what a removed log has on disk."""

    def may_be_named(self, name: str) -> bool:
        """Can a log have the name?"""
        return True

    def texts(self) -> list[str]:
        """The paths of all files that are generated when they are read."""
        return [README]

    # -- looking --------------------------------------------------------------------------------

    def capabilities(self) -> Capability:
        return BASIC_RW | Capability.ETAG | Capability.STREAMING | Capability.BLOCKING_READ

    async def stat(self, path: str) -> FileInfo:
        if path == "/":
            ns = self._made_ns
            return FileInfo(path, 0, FileType.DIRECTORY, 0o755, 0, 0, ns, ns, ns, f"{ns:x}")
        return self._info(path)

    def _info(self, path: str) -> FileInfo:
        log = self._logs.get(path[1:])
        if log is None:
            text = self.text(path)
            if text is None:
                raise self._missing(path)
            ns, etag = self._made_ns, f"{self._made_ns:x}"
            size = len(text)
            return FileInfo(path, size, FileType.REGULAR, 0o444, 0, 0, ns, ns, ns, etag)
        log.trim(self._clock.now_ns())
        ns, mode = log.modified_ns, self.mode if not log.ended else self.mode & 0o444
        etag = f"{log.generation:x}-{log.next:x}"
        return FileInfo(
            path, self.size(log), FileType.REGULAR, mode, 0, 0, ns, ns, ns, etag, None, ""
        )

    def _missing(self, path: str) -> NotFound | NotDirectory:
        """The error for a path without a file."""
        first = "/" + path[1:].partition("/")[0]
        known = first != path and (first[1:] in self._logs or self.text(first) is not None)
        return NotDirectory(path) if known else NotFound(path)

    async def statfs(self, path: str) -> FsStats:
        """What could be kept at most, as far as the bounds say."""
        total = self._bounds.bytes_max * self._logs_max
        if self.volatile:
            total = min(total, self._memory.bytes_max)
        used = sum(log.bytes_kept for log in self._logs.values())
        free = self._logs_max - len(self._logs)
        return FsStats(total, max(0, total - used), self._logs_max, free, 4096, NAME_BYTES_MAX)

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        if path != "/":
            self._info(path)
            raise NotDirectory(path)
        names = {*self._logs, *(text[1:] for text in self.texts())}
        return [self._info("/" + name) for name in sorted(names) if name > after][:limit]

    # -- open, read, write, close ---------------------------------------------------------------

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[LogOpen, FileInfo]:
        if flags.truncate and not flags.write:
            raise InvalidArgument("truncate needs write")
        if flags.replace:
            raise InvalidArgument(f"{self.name} cannot replace a file: it appends what is written")
        if path == "/":
            return self._open_root(path, flags)
        if flags.create and flags.directory:
            known = path[1:] in self._logs or self.text(path) is not None
            raise AlreadyExists(path) if known else NotSupported("directories")
        before = self._logs.get(path[1:])
        log = await self._find(path, flags, condition)
        if flags.directory:
            raise NotDirectory(path)
        opened = LogOpen(path, flags, log, created=log is not None and log is not before)
        if log is not None:
            if flags.read:
                check_readers(log, self._readers_max)
                opened.tape = self.tape(log)
                log.readers.add(opened.tape)
            if flags.write:
                self.opened_to_write(log)
        return opened, self._info(path)

    def _open_root(self, path: str, flags: OpenFlags) -> tuple[LogOpen, FileInfo]:
        if flags.create and (flags.directory or flags.exclusive):
            raise AlreadyExists(path)
        if flags.write or flags.create:
            raise IsDirectory(path)
        ns = self._made_ns
        info = FileInfo(path, 0, FileType.DIRECTORY, 0o755, 0, 0, ns, ns, ns, f"{ns:x}")
        return LogOpen(path, flags, None), info

    async def _find(self, path: str, flags: OpenFlags, condition: Condition) -> Log | None:
        """The log, made when it is opened for writing; None for a text."""
        name = path[1:]
        log = self._logs.get(name)
        present = log is not None or self.text(path) is not None
        if present and flags.create and flags.exclusive:
            raise AlreadyExists(path)
        if not condition.holds(self._info(path).etag if present else None):
            raise PreconditionFailed(path)
        if log is not None and not (log.ended and flags.write):
            return log
        if present and log is None:
            if flags.write:
                raise PermissionDenied(f"{path} is read-only")
            return None
        if not flags.write:
            raise self._missing(path)
        if "/" in name:
            raise self._missing(path)
        if not self.may_be_named(name):
            raise PermissionDenied(f"no file can be made with the name {name}")
        return await self._enter(path, name)

    async def _enter(self, path: str, name: str) -> Log:
        """A new log, in the place of one that has ended, or the one that another has just made."""
        async with self._making:
            old = self._logs.get(name)
            if old is not None and not old.ended:
                return old
            if old is None and len(self._logs) >= self._logs_max:
                raise QuotaExceeded(f"{self.name} may hold {self._logs_max} files")
            self._memory.check_log()
            if self._quota is not None:
                self._quota.charge(files=1)
            try:
                log = await self.make(name)
            except BaseException:
                if self._quota is not None:
                    self._quota.charge(files=-1)
                raise
            if old is not None:
                old.retire()
            self.hold(name, log)
            return log

    def hold(self, name: str, log: Log) -> None:
        """Add the log to the directory."""
        log.on_lost = partial(self._losses.count, self.name)
        self._logs[name] = log

    def next_generation(self) -> int:
        """A number that no log here, of this process or an earlier one, has had."""
        self._generation = max(self._generation + 1, self._clock.now_ns())
        return self._generation

    async def read(self, file: OpenFile, offset: int, size: int) -> bytes:
        opened = _opened(file)
        if not opened.flags.read:
            raise PermissionDenied("file not opened for reading")
        if offset < 0 or size < 0:
            raise InvalidArgument("offset and size cannot be negative")
        if opened.path == "/":
            raise IsDirectory(opened.path)
        if opened.log is None or opened.tape is None:
            return (self.text(opened.path) or b"")[offset : offset + size]
        await self.wait_to_read(opened.log, opened.tape, offset)
        opened.log.trim(self._clock.now_ns())
        return opened.tape.read(offset, size)

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        """Append one entry; `offset` means nothing."""
        opened = _opened(file)
        log = opened.log
        if not opened.flags.write or log is None:
            raise PermissionDenied("file not opened for writing")
        if log.ended:
            raise NotFound(opened.path)  # removed, or ended: nothing else takes this write
        if len(data) > self._message_bytes_max:
            raise PayloadTooLarge(f"one write is at most {self._message_bytes_max} bytes")
        await self.append(log, bytes(data))
        opened.wrote = True
        return len(data)

    async def close(
        self, file: OpenFile, *, sync: bool = False, discard: bool = False
    ) -> FileInfo | None:
        """Close the handle; `discard` does not undo what was written."""
        opened = _opened(file)
        opened.closed = True
        log = opened.log
        if log is not None:
            if opened.tape is not None:
                log.leave(opened.tape)
            if opened.flags.write:
                self.closed_to_write(log, opened.wrote)
        return None

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        if path == "/":
            raise PermissionDenied("cannot remove root")
        log = self._logs.get(path[1:])
        if log is None:
            if self.text(path) is not None:
                raise PermissionDenied(f"cannot remove {path}")
            raise self._missing(path)
        if not condition.holds(self._info(path).etag):
            raise PreconditionFailed(path)
        del self._logs[path[1:]]
        log.end()
        try:
            await self.forget(log)
        finally:
            log.retire()

    async def follow(self, path: str, cursor: str | None) -> LogFollower:
        """As `fs9.provider.Followable.follow`."""
        if path == "/":
            raise IsDirectory(path)
        log = self._logs.get(path[1:])
        if log is None:
            if self.text(path) is not None:
                raise NotSupported("follow")
            raise self._missing(path)
        log.trim(self._clock.now_ns())
        return LogFollower(log, cursor, self._readers_max)

    async def aclose(self) -> None:
        for log in self._logs.values():
            log.give_back()


def _opened(file: OpenFile) -> LogOpen:
    assert isinstance(file, LogOpen)
    if file.closed:
        raise InvalidHandle("closed")
    return file
