"""Operations of localfs on one directory entry, or on the file that it leads to.

The caller holds the lock of the name (`fs9.providers.localtree`). Blocking calls only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    PreconditionFailed,
)
from fs9.providers import localstage
from fs9.providers.jail import reopen
from fs9.providers.localfile import Descriptor, LocalDirectory, LocalFile, open_mode
from fs9.providers.localinfo import etag, file_id, file_info, file_type

if TYPE_CHECKING:
    from fs9.provider import OpenFile
    from fs9.providers.jail import Entry
    from fs9.types import Condition, FileInfo, OpenFlags

_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
_PERMISSIONS = 0o777


def visible(path: str, found: os.stat_result | None) -> os.stat_result:
    """Returns `found`; raises NotFound for None, and for files hidden from clients."""
    if found is None or file_type(found) is None:
        raise NotFound(path)
    return found


def check_condition(path: str, found: os.stat_result | None, condition: Condition) -> None:
    if not condition.holds(None if found is None else etag(found)):
        raise PreconditionFailed(path)


def open_located(
    path: str, fd: int, flags: OpenFlags, condition: Condition
) -> tuple[OpenFile, FileInfo]:
    """Open what the O_PATH descriptor `fd` has located, and own `fd`.

    Does not block unless `flags.truncate`.
    """
    kept = -1
    try:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            if flags.write or (flags.create and not flags.directory):
                raise IsDirectory(path)
            check_condition(path, found, condition)
            return LocalDirectory(path, flags), seen(path, found)
        if flags.directory:
            raise NotDirectory(path)
        localstage.check_regular(path, found)
        check_condition(path, found, condition)
        mode = open_mode(flags)
        if mode & os.O_PATH:
            kept = fd
            return LocalFile(path, flags, Descriptor(fd), found.st_dev), seen(path, found)
        opened = Descriptor(reopen(fd, mode | os.O_TRUNC if flags.truncate else mode))
        if flags.truncate:
            with opened as number:
                found = os.fstat(number)
        return LocalFile(path, flags, opened, found.st_dev), seen(path, found)
    finally:
        if fd != kept:
            os.close(fd)


def seen(path: str, found: os.stat_result) -> FileInfo:
    """The info of an open file, with its identity (`FileInfo.file_id`)."""
    info = file_info(path, found, file_id=file_id(found))
    if info is None:
        raise NotFound(path)
    return info


def create_file(path: str, entry: Entry, flags: OpenFlags) -> tuple[LocalFile, FileInfo]:
    mode = open_mode(flags) & ~os.O_PATH
    opened = Descriptor(
        os.open(
            entry.name,
            mode | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            _FILE_MODE,
            dir_fd=entry.directory_fd,
        )
    )
    with opened as fd:
        found = os.fstat(fd)
        if found.st_mode & _PERMISSIONS != _FILE_MODE:  # the umask took some
            os.fchmod(fd, _FILE_MODE)
            found = os.fstat(fd)
    file = LocalFile(path, flags, opened, found.st_dev, created=True)
    return file, seen(path, found)


def make_directory(
    path: str, entry: Entry, flags: OpenFlags, condition: Condition
) -> tuple[OpenFile, FileInfo]:
    if entry.stat() is not None:
        raise AlreadyExists(path)
    check_condition(path, None, condition)
    os.mkdir(entry.name, _DIRECTORY_MODE, dir_fd=entry.directory_fd)
    fd = os.open(
        entry.name,
        os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
        dir_fd=entry.directory_fd,
    )
    try:
        found = os.fstat(fd)
        if found.st_mode & _PERMISSIONS != _DIRECTORY_MODE:
            os.fchmod(fd, found.st_mode & 0o7000 | _DIRECTORY_MODE)
            found = os.fstat(fd)
    finally:
        os.close(fd)
    return LocalDirectory(path, flags, created=True), seen(path, found)


def remove_directory(entry: Entry) -> None:
    """As rmdir(2), but files of unfinished uploads do not keep a directory from being removed."""
    try:
        os.rmdir(entry.name, dir_fd=entry.directory_fd)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY or not _clear_reserved(entry):
            raise
        os.rmdir(entry.name, dir_fd=entry.directory_fd)


def _clear_reserved(entry: Entry) -> bool:
    """Unlink what is in the directory if all of it is reserved; was there anything to do?"""
    fd = os.open(
        entry.name,
        os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
        dir_fd=entry.directory_fd,
    )
    try:
        names = [os.fsencode(name) for name in os.listdir(fd)]
        if not names or not all(map(localstage.is_reserved, names)):
            return False
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)
        return True
    finally:
        os.close(fd)


def check_replaced(name: str, found: os.stat_result | None) -> None:
    if found is not None and file_type(found) is None:
        raise InvalidArgument("cannot replace what is no regular file")


def rename(path: str, source: Entry, target: Entry) -> None:
    try:
        _renameat(source, target)
    except FileNotFoundError:
        raise NotFound(path) from None
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST} or not _clear_reserved(target):
            raise
        _renameat(source, target)


def _renameat(source: Entry, target: Entry) -> None:
    os.rename(
        source.name,
        target.name,
        src_dir_fd=source.directory_fd,
        dst_dir_fd=target.directory_fd,
    )


def sync_directory(located_fd: int) -> None:
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=located_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
