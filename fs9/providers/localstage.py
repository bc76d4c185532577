"""Write aside, then swap: how localfs gives a file a new version in one step.

The new version is an unnamed file (`O_TMPFILE`) in the target's directory, so a crash leaves
nothing. `commit` gives it the target's name: by link(2) where nothing is, which fails rather
than overwrite; else by a reserved name and rename(2) over the old version. Where O_TMPFILE is
not supported the file has a reserved name from the start. Readers see the old version or
the new one, never a part.

Only a crash between that link and that rename (or, without O_TMPFILE, during the upload)
leaves a reserved name behind. Its owner held a flock(2) on the file, which the kernel dropped
with the owner; `sweep` removes reserved files whose lock is free, so it never takes a living
upload of any process for garbage.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from typing import TYPE_CHECKING

from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    InvalidHandle,
    IsDirectory,
    NotFound,
    PreconditionFailed,
    Transient,
)
from fs9.providers.jail import RESERVED_PREFIX, Entry, descriptor_path, reopen
from fs9.providers.localerrors import Translated
from fs9.providers.localfile import Descriptor, LocalFile
from fs9.providers.localinfo import etag, file_type
from fs9.types import Condition, FileType, OpenFlags

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fs9.providers.localticks import Ticks

#: How often a step is repeated that another process undid in between, before giving up.
RACES_MAX = 100

_RESERVED = RESERVED_PREFIX.encode()
_FILE_MODE = 0o644

# What open(2) says where a file system has no O_TMPFILE (EISDIR: kernels before 3.11).
_NO_TMPFILE = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}


def is_reserved(name: bytes) -> bool:
    return name.startswith(_RESERVED)


def reserved_name() -> bytes:
    return _RESERVED + secrets.token_hex(8).encode()


class StagedFile(LocalFile):
    """A staged version: its target's directory and name, and the condition of its commit.

    `directory` owns the descriptor in `entry`, so the directory may be moved meanwhile;
    `temporary` is the reserved name, None while the file has none.
    """

    __slots__ = ("condition", "directory", "entry", "temporary")

    def __init__(
        self,
        path: str,
        flags: OpenFlags,
        fd: int,
        entry: Entry,
        condition: Condition,
        temporary: bytes | None,
    ) -> None:
        super().__init__(path, flags, Descriptor(fd), os.fstat(fd).st_dev)
        self.entry = entry
        self.directory = Descriptor(entry.directory_fd)
        self.condition = condition
        self.temporary = temporary


def check_target(
    path: str, current: os.stat_result | None, flags: OpenFlags, condition: Condition
) -> None:
    """May a new version of `current` be made? Checked at the open and again at the swap."""
    if current is None:
        if not flags.create:
            raise NotFound(path)
    else:
        if flags.create and flags.exclusive:
            raise AlreadyExists(path)
        if stat.S_ISDIR(current.st_mode):
            raise IsDirectory(path)
        check_regular(path, current)
    if not condition.holds(None if current is None else etag(current)):
        raise PreconditionFailed(path)


def check_regular(path: str, found: os.stat_result) -> None:
    """Refuse to open a symbolic link, a FIFO, a socket or a device."""
    if stat.S_ISLNK(found.st_mode):
        raise InvalidArgument("cannot open a symlink")
    if file_type(found) is not FileType.REGULAR:
        raise InvalidArgument("cannot open what is no regular file")


def stage(
    path: str, entry: Entry, flags: OpenFlags, condition: Condition, *, unnamed: bool = True
) -> StagedFile:
    """A new, empty, locked version beside the target; owns `entry` once it returns. Blocks."""
    fd, temporary = _unnamed(entry) if unnamed else None, None
    if fd is None:
        fd, temporary = _named(entry)
    else:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) != _FILE_MODE:  # the umask took some
            os.fchmod(fd, _FILE_MODE)
    except BaseException:
        _unlink_quietly(entry, temporary)
        os.close(fd)
        raise
    return StagedFile(path, flags, fd, entry, condition, temporary)


def _unnamed(entry: Entry) -> int | None:
    try:
        return os.open(
            b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, _FILE_MODE, dir_fd=entry.directory_fd
        )
    except OSError as error:
        if error.errno in _NO_TMPFILE:
            return None
        raise


def _named(entry: Entry) -> tuple[int, bytes]:
    for _ in range(RACES_MAX):
        name = reserved_name()
        fd = os.open(
            name,
            os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC,
            _FILE_MODE,
            dir_fd=entry.directory_fd,
        )
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd, name
        os.close(fd)  # a sweep took it between our open and our lock
    raise Transient("no temporary file could be made")


def commit(file: StagedFile, ticks: Ticks, *, synced: bool) -> os.stat_result:
    """Swap the new version in; its stat. Blocks; the caller holds the lock of the name.

    Raises as `check_target`, NotFound when the directory was removed.
    """
    with Translated(file.path), file.descriptor as fd, file.directory:
        for _ in range(RACES_MAX):
            current = file.entry.stat()
            check_target(file.path, current, file.flags, file.condition)
            if current is not None:
                adopt(fd, current, synced=synced)
            ticks.changed(fd)
            if _swap(file, fd, absent=current is None):
                ticks.changed(fd)
                return os.fstat(fd)
    raise Transient(f"{file.path} keeps changing")


def adopt(fd: int, current: os.stat_result, *, synced: bool) -> None:
    """Keep the owner and the mode of the version that is replaced."""
    ours = os.fstat(fd)
    changed = False
    if (ours.st_uid, ours.st_gid) != (current.st_uid, current.st_gid):
        # Without the privilege the new version is ours, as an editor's would be.
        with contextlib.suppress(PermissionError):
            os.fchown(fd, current.st_uid, current.st_gid)
            changed = True
    if stat.S_IMODE(ours.st_mode) != stat.S_IMODE(current.st_mode) & 0o777:
        os.fchmod(fd, stat.S_IMODE(current.st_mode) & 0o777)
        changed = True
    if changed and synced:
        os.fsync(fd)


def _swap(file: StagedFile, fd: int, *, absent: bool) -> bool:
    """One try; False when the target came or went in between."""
    entry = file.entry
    if absent:
        try:
            _link(fd, file.temporary, entry, entry.name)
        except FileExistsError:
            return False
        _unlink_quietly(entry, file.temporary)
    else:
        if file.temporary is None:
            name = reserved_name()
            _link(fd, None, entry, name)
            file.temporary = name
        os.rename(
            file.temporary,
            entry.name,
            src_dir_fd=entry.directory_fd,
            dst_dir_fd=entry.directory_fd,
        )
    file.temporary = None
    return True


def _link(fd: int, temporary: bytes | None, entry: Entry, name: bytes) -> None:
    if temporary is None:
        os.link(descriptor_path(fd), name, dst_dir_fd=entry.directory_fd)
    else:
        os.link(
            temporary,
            name,
            src_dir_fd=entry.directory_fd,
            dst_dir_fd=entry.directory_fd,
            follow_symlinks=False,
        )


def release(file: StagedFile) -> None:
    """Delete a version that was not swapped in, and close the directory. Blocks."""
    with contextlib.suppress(InvalidHandle), file.directory:
        _unlink_quietly(file.entry, file.temporary)
        file.temporary = None
    file.descriptor.close()
    file.directory.close()


def _unlink_quietly(entry: Entry, name: bytes | None) -> None:
    # A name that stays is invisible and goes with the next sweep.
    if name is not None:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=entry.directory_fd)


def sweep(directory_fd: int, names: Iterable[bytes]) -> None:
    """Remove reserved files whose upload has ended or crashed. Blocks."""
    for name in names:
        # Best effort: it may be gone already, or not ours to remove.
        with contextlib.suppress(OSError):
            if _is_abandoned(directory_fd, name):
                os.unlink(name, dir_fd=directory_fd)


def _is_abandoned(directory_fd: int, name: bytes) -> bool:
    fd = Entry(directory_fd, name).locate()
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        opened = reopen(fd, os.O_RDONLY)
    finally:
        os.close(fd)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(opened)
