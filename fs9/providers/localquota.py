"""The usage of a localfs, for the namespace's quota: counted once, then updated at each change.

The kernel knows the sizes, so nothing is kept for a file unless it is open. A change of a file's
size happens under the lock of its inode, and the size is compared before and after; an operation
that may remove a file's last name checks afterwards whether it did. Both hold only if all changes
go through this process: files that others change behind its back are counted at the next mount, and
a directory that is mounted twice counts twice.

Counting walks the tree, so it waits until there is a quota (`LocalFs.count`).
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from fs9.errors import NotFound
from fs9.providers.localinfo import file_type
from fs9.providers.localstage import StagedFile, is_reserved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from fs9.providers.localfile import LocalFile
    from fs9.quota import Quota

_LOCKS = 256

_Inode = tuple[int, int]


class _Open:
    """An inode that is open: how often, and whether it has lost its name, or has none yet."""

    __slots__ = ("count", "nameless")

    def __init__(self, *, nameless: bool) -> None:
        self.count = 0
        self.nameless = nameless


class Accounts:
    """The counts of one provider; blocking, for any thread.

    `_lock` protects the numbers and `_open`, and is never held while the disk is waited for.
    The locks of inodes are; they are taken one at a time, after those of names.
    """

    def __init__(self, quota: Quota, bytes_: int, files: int) -> None:
        """`bytes_` and `files` are there already."""
        self._quota = quota
        self.bytes = bytes_
        self.files = files
        quota.found(bytes_, files)
        self._open: dict[_Inode, _Open] = {}
        self._lock = threading.Lock()
        self._inode_locks: dict[int, threading.Lock] = {}

    def close(self) -> None:
        """Take the counts of this provider out of the quota."""
        with self._lock:
            self._quota.found(-self.bytes, -self.files)
            self.bytes = self.files = 0

    # -- one file more or less --------------------------------------------------------------

    @contextmanager
    def adding(self, bytes_: int = 0) -> Iterator[None]:
        """Around the creation of a file, directory or link; raises QuotaExceeded before it."""
        self._charge(bytes_, 1)
        try:
            yield
        except BaseException:
            self._charge(-bytes_, -1)
            raise

    @contextmanager
    def dropping(self, fd: int) -> Iterator[None]:
        """Around a change that may remove the last name of the file at the descriptor."""
        before = os.fstat(fd)
        yield
        after = os.fstat(fd)
        if before.st_nlink and not after.st_nlink:
            with self._lock:
                held = self._open.get(_inode(after))
                if held is not None:
                    held.nameless = True
            if held is None:
                self._charge(-_size(after), -1)

    # -- open files -------------------------------------------------------------------------

    def opened(self, file: LocalFile, *, nameless: bool = False) -> None:
        """Note that a file is open. Raises NotFound if it was removed since it was looked up."""
        with file.descriptor as fd, self._lock:
            found = os.fstat(fd)
            held = self._open.get(_inode(found))
            if held is None:
                if not found.st_nlink and not nameless:
                    raise NotFound(file.path)
                held = self._open[_inode(found)] = _Open(nameless=nameless)
            held.count += 1
            file.counted = True

    def named(self, file: LocalFile) -> None:
        """Note that a new version has got its name."""
        with file.descriptor as fd, self._lock:
            self._open[_inode(os.fstat(fd))].nameless = False

    def closed(self, file: LocalFile) -> None:
        """Note that a file will be closed, before it is; a second call does nothing."""
        if not file.counted:
            return
        file.counted = False
        with file.descriptor as fd:
            found = os.fstat(fd)
            with self._lock:
                held = self._open[_inode(found)]
                held.count -= 1
                if held.count:
                    return
                del self._open[_inode(found)]
            if held.nameless:
                self._charge(-_size(found), -1)

    def adopt(self, files: Iterable[LocalFile]) -> None:
        """Note files that were opened before the counting."""
        for file in files:
            with file.descriptor as fd:
                found = os.fstat(fd)
            nameless = isinstance(file, StagedFile) or not found.st_nlink
            if nameless and _inode(found) not in self._open:
                self._quota.found(found.st_size, 1)
                self.bytes += found.st_size
                self.files += 1
            self.opened(file, nameless=nameless)

    # -- sizes ------------------------------------------------------------------------------

    @contextmanager
    def sized(
        self, fd: int, end: int, *, append: bool = False, wait: bool = True
    ) -> Iterator[None]:
        """Around a change of the file's size, to `end` at most (`append`: by `end`).

        Raises QuotaExceeded before; without `wait` BlockingIOError, when the file is being
        changed by another thread.
        """
        inode = _inode(os.fstat(fd))
        # One step for all threads: dict.setdefault holds the interpreter's lock.
        lock = self._inode_locks.setdefault(hash(inode) % _LOCKS, threading.Lock())
        if not lock.acquire(blocking=wait):
            raise BlockingIOError
        try:
            before = os.fstat(fd).st_size
            growth = end if append else max(0, end - before)
            if growth:
                self._charge(growth, 0)
            try:
                yield
            finally:
                rest = os.fstat(fd).st_size - before - growth
                if rest:
                    self._settle(rest)
        finally:
            lock.release()

    def _charge(self, bytes_: int, files: int) -> None:
        self._quota.charge(bytes_, files)
        with self._lock:
            self.bytes += bytes_
            self.files += files

    def _settle(self, bytes_: int) -> None:
        """After a change: correct the counts where its result is not what was expected."""
        self._quota.found(bytes_, 0)
        with self._lock:
            self.bytes += bytes_


class Changes:
    """Lets changes run side by side, but not while the tree is counted. For one event loop.

    `with` it is one change, after `passed` and without an `await` between.
    """

    __slots__ = ("_idle", "_open", "_running")

    def __init__(self) -> None:
        self._running = 0
        #: While no change may begin, and while that waits for the running ones.
        self._open: asyncio.Event | None = None
        self._idle: asyncio.Event | None = None

    async def passed(self) -> None:
        """Wait until a change may begin."""
        while self._open is not None:
            await self._open.wait()

    def __enter__(self) -> None:
        self._running += 1

    def __exit__(self, *exc_info: object) -> None:
        self._running -= 1
        if self._idle is not None and not self._running:
            self._idle.set()

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """Around the counting: keeps changes from running. One counting at a time."""
        await self.passed()
        opened = self._open = asyncio.Event()
        try:
            if self._running:
                self._idle = asyncio.Event()
                await self._idle.wait()
            yield
        finally:
            self._open = self._idle = None
            opened.set()


def scan(root_fd: int) -> tuple[int, int]:
    """(bytes, files) below the directory, as clients see it; blocks. Raises OSError.

    A file with several names counts once. What vanishes meanwhile does not count.
    """
    bytes_ = files = 0
    linked: set[_Inode] = set()
    pending = ["."]
    while pending:
        directory = pending.pop()
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(directory, flags, dir_fd=root_fd)
        except FileNotFoundError:
            continue
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if file_type(found) is None or is_reserved(os.fsencode(entry.name)):
                        continue
                    if stat.S_ISDIR(found.st_mode):
                        pending.append(f"{directory}/{entry.name}")
                    elif found.st_nlink > 1:
                        if _inode(found) in linked:
                            continue
                        linked.add(_inode(found))
                    bytes_ += _size(found)
                    files += 1
        finally:
            os.close(fd)
    return bytes_, files


def _inode(found: os.stat_result) -> _Inode:
    return found.st_dev, found.st_ino


def _size(found: os.stat_result) -> int:
    return 0 if stat.S_ISDIR(found.st_mode) else found.st_size
