"""Open files of localfs: a descriptor that cannot be closed under a running call, and its IO.

A read of cached pages happens inline (`RWF_NOWAIT`); everything that may wait for a disk goes
to the pool. `Descriptor` is what makes that safe: a call that runs in a thread holds it, so a
`close` at the same time cannot give the number to another file in between.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from fs9.errors import InvalidHandle, IsDirectory, PermissionDenied, QuotaExceeded
from fs9.provider import OpenFile
from fs9.providers.jail import reopen
from fs9.providers.localerrors import Translated

if TYPE_CHECKING:
    from types import TracebackType

    from fs9.types import OpenFlags

#: Up to this size a read's buffer is not worth asking how much the file has left.
_SMALL_READ_BYTES = 64 * 1024

#: One past the largest offset that the kernel knows (a signed 64-bit off_t).
OFFSET_END = 1 << 63


class Descriptor:
    """Owns one descriptor: `with descriptor as fd:` keeps it open for the block, in any thread.

    `close` lets it go at once, or when the last such block ends; so does the loss of the last
    reference, for an open whose caller was cancelled. `_lock` protects `_closed` and `_users`.
    """

    __slots__ = ("_closed", "_fd", "_lock", "_users")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._users = 0
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> int:
        with self._lock:
            if self._closed:
                raise InvalidHandle("the file is closed")
            self._users += 1
            return self._fd

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._users -= 1
            last = self._closed and self._users == 0
        if last:
            os.close(self._fd)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Close now or after the running calls; a second close does nothing."""
        with self._lock:
            last = not self._closed and self._users == 0
            self._closed = True
        if last:
            os.close(self._fd)

    __del__ = close


class LocalFile(OpenFile):
    """An open regular file: bound to the descriptor, hence to the file and not to its path.

    `created`: a synced close also syncs the directory that got the name. `device` is where it
    is; `reads_nowait` and `writes_nowait` hold until the file system refuses RWF_NOWAIT.
    `counted`: the accounts of its provider know that it is open.
    """

    __slots__ = (
        "counted",
        "created",
        "descriptor",
        "device",
        "flags",
        "path",
        "reads_nowait",
        "writes_nowait",
    )

    def __init__(
        self,
        path: str,
        flags: OpenFlags,
        descriptor: Descriptor,
        device: int,
        *,
        created: bool = False,
    ) -> None:
        self.path = path
        self.flags = flags
        self.descriptor = descriptor
        self.device = device
        self.created = created
        self.counted = False
        self.reads_nowait = True
        self.writes_nowait = True

    @property
    def closed(self) -> bool:
        return self.descriptor.closed

    @property
    def plain(self) -> Descriptor:
        return self.descriptor

    def check_read(self) -> None:
        if not self.flags.read:
            raise PermissionDenied("file not opened for reading")

    def check_write(self) -> None:
        if not self.flags.write:
            raise PermissionDenied("file not opened for writing")


class LocalDirectory(OpenFile):
    """An open directory: it can only be closed, so it keeps no descriptor."""

    __slots__ = ("closed", "created", "flags", "path")

    def __init__(self, path: str, flags: OpenFlags, *, created: bool = False) -> None:
        self.path = path
        self.flags = flags
        self.created = created
        self.closed = False

    def check_read(self) -> None:
        if self.closed:
            raise InvalidHandle("the file is closed")
        if not self.flags.read:
            raise PermissionDenied("file not opened for reading")
        raise IsDirectory(self.path)

    def check_write(self) -> None:
        if self.closed:
            raise InvalidHandle("the file is closed")
        raise PermissionDenied("file not opened for writing")


def open_mode(flags: OpenFlags) -> int:
    """The access mode and append bit of open(2); without read and write, enough to hold it."""
    if not flags.write:
        return os.O_RDONLY if flags.read else os.O_PATH
    mode = os.O_RDWR if flags.read else os.O_WRONLY
    return mode | os.O_APPEND if flags.append else mode


def read_cached(fd: int, offset: int, size: int) -> tuple[bytearray, int, bool]:
    """(buffer, bytes read, whole): as much as is in memory, without waiting for a disk.

    `whole` says that an ordinary read would have given no more; else the rest, from the count
    on, must be read in a thread. Raises BlockingIOError when nothing is in memory, OSError
    EOPNOTSUPP where the file system cannot tell.
    """
    if size > _SMALL_READ_BYTES:  # or a small file read with a large size costs the size
        size = max(0, min(size, os.fstat(fd).st_size - offset))
    buffer = bytearray(size)
    count = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT) if size else 0
    if count == size:
        return buffer, count, True
    view = memoryview(buffer)
    while count < size:
        try:
            more = os.preadv(fd, [view[count:]], offset + count, os.RWF_NOWAIT)
        except BlockingIOError:
            return buffer, count, False
        if not more:
            return buffer, count, True
        count += more
    return buffer, count, True


def read_rest(file: LocalFile, buffer: bytearray, count: int, offset: int) -> int:
    """Fill `buffer` from `count` on, up to the end of the file; the new count. Blocks."""
    with Translated(file.path), file.descriptor as fd, memoryview(buffer) as view:
        while count < len(buffer):
            more = os.preadv(fd, [view[count:]], offset + count)
            if not more:
                break
            count += more
    return count


def read_whole(file: LocalFile, offset: int, size: int) -> bytes:
    """An ordinary read: short only at the end. Blocks."""
    with Translated(file.path), file.descriptor as fd:
        if size > _SMALL_READ_BYTES:
            size = max(0, min(size, os.fstat(fd).st_size - offset))
        data = os.pread(fd, size, offset)
        if len(data) == size or not data:
            return data
        pieces = [data]
        count = len(data)
        while count < size and (piece := os.pread(fd, size - count, offset + count)):
            pieces.append(piece)
            count += len(piece)
        return b"".join(pieces)


def check_room(file: LocalFile, fd: int, count: int, bytes_max: int) -> None:
    """Raise QuotaExceeded when `count` bytes more would pass `bytes_max`."""
    if os.fstat(fd).st_size + count > bytes_max:
        raise QuotaExceeded(f"{file.path}: a file can have at most {bytes_max} bytes")


def sync(file: LocalFile) -> None:
    """fsync the file's bytes. Blocks."""
    with Translated(file.path), file.descriptor as fd:
        if file.flags.read or file.flags.write:
            os.fsync(fd)
        else:  # an O_PATH descriptor cannot be synced
            again = reopen(fd, os.O_RDONLY)
            try:
                os.fsync(again)
            finally:
                os.close(again)


def is_last(file: LocalFile) -> bool:
    """Has the file no name any more, so that the kernel frees its blocks in close(2)?"""
    with Translated(file.path), file.descriptor as fd:
        return os.fstat(fd).st_nlink == 0
