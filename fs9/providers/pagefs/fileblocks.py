"""The embedded block store: one plain file for each object, below the data directory.

Objects of one file grow at their end, so what was written in order lies in order, and large
reads and writes are the kernel's own. Small calls whose pages the kernel has happen on the
event loop (`RWF_NOWAIT` for reads); the others in the pool. Descriptors are kept open, the
least recently used ones are closed.

Files lie in folders of 4,096 by the object's number, whose upper digits are the epoch: a crash
leaves garbage only among the objects of its own epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import functools
import os
from collections import OrderedDict
from typing import TYPE_CHECKING

from fs9.durable import sync_directory
from fs9.providers.pagefs.buffers import buffers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path
    from types import TracebackType

    from fs9.threads import BlockingPool
    from fs9.types import Buffer

#: Descriptors of one store that are kept open.
OPEN_FILES_MAX = 64
#: Up to this size a put is a copy into the page cache that is shorter than a change of threads.
_INLINE_PUT_BYTES = 128 * 1024
#: Objects that have grown to this size take so much space at a time, ahead of what is written.
_AHEAD_BYTES = 4 * 1024 * 1024
_FALLOC_FL_KEEP_SIZE = 1


# Not `os.posix_fallocate`: where the file system cannot, the C library writes to each block.
_libc_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_libc_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)


class _OpenObject:
    """A descriptor that is closed when it was dropped and nobody is in a `with` of it."""

    __slots__ = ("dropped", "fd", "space_end", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0
        #: Up to which offset space was taken.
        self.space_end = 0
        self.dropped = False

    def __enter__(self) -> None:
        self.users += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.users -= 1
        if self.dropped and not self.users:
            os.close(self.fd)


class FileBlocks:
    """A `BlockStore`. Its state belongs to the event loop; threads only get descriptors."""

    appends = True
    volatile = False
    put_bytes_max = 4 * 1024 * 1024

    def __init__(self, directory: Path, pool: BlockingPool) -> None:
        self._directory = directory
        self._pool = pool
        self._open: OrderedDict[str, _OpenObject] = OrderedDict()
        #: Objects made since the last sync of their folder.
        self._created: set[str] = set()
        #: Directories that got a folder since they were synced.
        self._grown: set[str] = set()
        #: Objects with space behind their end.
        self._ahead: set[str] = set()
        #: Until the file system refuses RWF_NOWAIT for reads, for writes, or fallocate.
        self._reads_nowait = True
        self._writes_nowait = True
        self._allocates = True

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name[:6]}/{name[6:13]}/{name}"

    def _opened(self, name: str, *, create: bool = False) -> _OpenObject:
        """The object, open until this is called again: a call that waits is a `with` of it."""
        opened = self._open.get(name)
        if opened is None:
            opened = self._open[name] = _OpenObject(self._open_file(name, create=create))
            if len(self._open) > OPEN_FILES_MAX:
                self._drop(next(iter(self._open)))
        else:
            self._open.move_to_end(name)
        return opened

    def _open_file(self, name: str, *, create: bool) -> int:
        path = self._path(name)
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            if not create:
                raise
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            folder = os.path.dirname(path)
            self._grown.update((os.path.dirname(folder), str(self._directory)))
            os.makedirs(folder, 0o700, exist_ok=True)
            fd = os.open(path, flags, 0o600)
        self._created.add(name)
        return fd

    def _drop(self, name: str) -> None:
        opened = self._open.pop(name, None)
        if opened is not None:
            opened.dropped = True
            if not opened.users:
                os.close(opened.fd)

    async def put(
        self,
        name: str,
        offset: int,
        data: Buffer,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        opened = self._opened(name, create=True)
        if len(data) <= _INLINE_PUT_BYTES:
            _write(opened.fd, offset, data)
            return
        count = self._put_nowait(opened.fd, offset, data) if self._writes_nowait else 0
        if count < len(data):
            rest = memoryview(data)[count:]
            space = self._space(name, opened, offset + count, offset + len(data))
            begun = None
            if meanwhile is not None:
                loop = asyncio.get_running_loop()
                begun = functools.partial(loop.call_soon_threadsafe, meanwhile)
            with opened:
                self._allocates &= await self._pool.run(
                    _write_large, opened.fd, offset + count, rest, space, begun
                )

    def _space(self, name: str, opened: _OpenObject, offset: int, end: int) -> int:
        """How much space to take from the offset on for bytes up to the end."""
        if not self._allocates or end <= opened.space_end:
            return 0
        opened.space_end = end
        if offset >= _AHEAD_BYTES:
            opened.space_end += -end % _AHEAD_BYTES
            self._ahead.add(name)
        return opened.space_end - offset

    async def trim(self, name: str) -> None:
        if name in self._ahead:
            self._ahead.remove(name)
            opened = self._opened(name)
            opened.space_end = 0
            with opened:
                await self._pool.run(_trim, opened.fd)

    def _put_nowait(self, fd: int, offset: int, data: Buffer) -> int:
        """How much could be written without waiting."""
        try:
            return os.pwritev(fd, [data], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._writes_nowait = False
            return 0

    async def get(
        self, name: str, offset: int, size: int, into: memoryview | None = None
    ) -> Buffer:
        opened = self._opened(name)
        buffer = buffers.take(size) if into is None else into
        count = self._get_nowait(opened.fd, offset, buffer) if self._reads_nowait else 0
        if count < size:
            with opened:
                count = await self._pool.run(_read, opened.fd, buffer, count, offset)
        return buffer if count == size else memoryview(buffer)[:count]

    def _get_nowait(self, fd: int, offset: int, buffer: bytearray | memoryview) -> int:
        """How much could be read without waiting."""
        try:
            return os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._reads_nowait = False
            return 0

    def adopt(self, names: Collection[str]) -> None:
        self._created.update(names)
        for folder in {os.path.dirname(self._path(name)) for name in names}:
            self._grown.update((os.path.dirname(folder), str(self._directory)))

    async def sync(self, names: Collection[str]) -> None:
        created, grown = self._created.intersection(names), set(self._grown)
        await self._pool.run(self._sync, tuple(names), created, grown)
        self._created -= created
        self._grown -= grown

    def _sync(self, names: Collection[str], created: set[str], grown: set[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                _sync_file(self._path(name))
        for folder in {os.path.dirname(self._path(name)) for name in created} | grown:
            with contextlib.suppress(FileNotFoundError):
                sync_directory(folder)

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._drop(name)
            self._created.discard(name)
            self._ahead.discard(name)
        await self._pool.run(self._delete, names)

    def _delete(self, names: Sequence[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(name))

    async def space(self) -> tuple[int, int]:
        found = await self._pool.run(os.statvfs, self._directory)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize

    async def aclose(self) -> None:
        for name in tuple(self._open):
            self._drop(name)

    def _list(self, prefix: str, after: str, limit: int) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        lowest = max(prefix, after)
        for epoch in _names(self._directory, lowest[:6]):
            for group in _names(self._directory / epoch, _rest(lowest, epoch)):
                if (epoch + group)[: len(prefix)] > prefix:
                    return found
                folder = self._directory / epoch / group
                for name in _names(folder, lowest):
                    if name > after and name.startswith(prefix):
                        found.append((name, os.stat(folder / name).st_size))
                        if len(found) == limit:
                            return found
        return found

    async def list(self, prefix: str, after: str, limit: int) -> list[tuple[str, int]]:
        return await self._pool.run(self._list, prefix, after, limit)


def _rest(lowest: str, epoch: str) -> str:
    """The lowest name of a group that matters in the epoch's folder."""
    return lowest[6:13] if epoch == lowest[:6] else ""


def _names(directory: Path, lowest: str) -> list[str]:
    """Names in the directory that could hold objects from `lowest` on, sorted."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(name for name in os.listdir(directory) if name[: len(lowest)] >= lowest)
    return []


def _write(fd: int, offset: int, data: Buffer) -> None:
    count = os.pwrite(fd, data, offset)
    if count < len(data):
        view = memoryview(data)
        while count < len(view):  # a full disk takes a part first, then raises
            count += os.pwrite(fd, view[count:], offset + count)


def _write_large(
    fd: int, offset: int, data: Buffer, space: int, begun: Callable[[], object] | None
) -> bool:
    """Write, and have so much space taken before; does the file system do that?

    `begun` is called just before the write. The event loop takes about as long to wake up for it
    as this thread needs to enter the kernel, where it lets go of the interpreter's lock: neither
    waits for the other. Whatever the loop did earlier, while the thread woke up or came back from
    taking space, would keep the lock from it.

    Done for all blocks at once, as fallocate does it, ext4 takes 172 us for 1 MiB that is new,
    not 220; for 4 MiB at once, 160. Why it did not, the write will say.
    """
    allocates = True
    if space and _libc_fallocate(fd, _FALLOC_FL_KEEP_SIZE, offset, space) < 0:
        allocates = ctypes.get_errno() in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EINTR}
    if begun is not None:
        begun()
    _write(fd, offset, data)
    return allocates


def _trim(fd: int) -> None:
    """Give the space behind the end back; nobody writes meanwhile."""
    os.ftruncate(fd, os.fstat(fd).st_size)


def _read(fd: int, buffer: bytearray | memoryview, count: int, offset: int) -> int:
    with memoryview(buffer) as view:
        while count < len(view):
            more = os.preadv(fd, [view[count:]], offset + count)
            if not more:
                break
            count += more
    return count


def _sync_file(path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fdatasync(fd)  # times do not matter
    finally:
        os.close(fd)


async def open_blocks(directory: Path, pool: BlockingPool) -> FileBlocks:
    """The store below the directory, which is made when missing. Raises OSError."""
    await pool.run(os.makedirs, directory, 0o700, exist_ok=True)
    return FileBlocks(directory, pool)
