"""What localfs does to names: open, create, link, rename, remove, list. Blocking calls only.

`fs9.providers.localfs` runs these in the pool; one call is one operation, so a condition is
checked in the same call as the act. Changes of one name wait for each other (`NameLocks`);
different names do not, so a slow disk call delays only its own kind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from typing import TYPE_CHECKING

from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    Transient,
)
from fs9.path import is_within
from fs9.providers import locallisting, localstage
from fs9.providers.jail import Entry, Jail, reopen
from fs9.providers.localerrors import Translated
from fs9.providers.localfile import Descriptor, LocalDirectory, LocalFile, open_mode
from fs9.providers.localinfo import etag, file_id, file_info, file_type, located_info
from fs9.types import FileInfo, FsStats, OpenFlags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fs9.provider import OpenFile
    from fs9.providers.localticks import Ticks
    from fs9.types import Condition

_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
_PERMISSIONS = 0o777

_LOCKS = 256


class NameLocks:
    """Locks by last name, whatever the directory: striped, so that they need no clean-up.

    Each is made at its first use: most namespaces are idle, and 256 locks are 26 KB.
    """

    def __init__(self) -> None:
        self._locks: dict[int, threading.Lock] = {}

    @contextlib.contextmanager
    def hold(self, *names: bytes) -> Iterator[None]:
        """Hold the locks of `names`, taken in one order everywhere."""
        with contextlib.ExitStack() as stack:
            for index in sorted({hash(name) % _LOCKS for name in names}):
                # One step for all threads: dict.setdefault holds the interpreter's lock.
                stack.enter_context(self._locks.setdefault(index, threading.Lock()))
            yield


def visible(path: str, found: os.stat_result | None) -> os.stat_result:
    """`found`; NotFound for nothing and for what clients do not see."""
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
            return LocalDirectory(path, flags), _seen(path, found)
        if flags.directory:
            raise NotDirectory(path)
        localstage.check_regular(path, found)
        check_condition(path, found, condition)
        mode = open_mode(flags)
        if mode & os.O_PATH:
            kept = fd
            return LocalFile(path, flags, Descriptor(fd), found.st_dev), _seen(path, found)
        opened = Descriptor(reopen(fd, mode | os.O_TRUNC if flags.truncate else mode))
        if flags.truncate:
            with opened as number:
                found = os.fstat(number)
        return LocalFile(path, flags, opened, found.st_dev), _seen(path, found)
    finally:
        if fd != kept:
            os.close(fd)


def _seen(path: str, found: os.stat_result) -> FileInfo:
    """Of a file that is open: with its identity."""
    info = file_info(path, found, file_id=file_id(found))
    if info is None:
        raise NotFound(path)
    return info


class Tree:
    def __init__(self, jail: Jail, ticks: Ticks) -> None:
        self._jail = jail
        self._ticks = ticks
        self._locks = NameLocks()

    # -- look ---------------------------------------------------------------------------------

    def stat(self, path: str) -> FileInfo:
        with Translated(path):
            fd = self._jail.locate(path)
            try:
                info = located_info(path, fd)
            finally:
                os.close(fd)
        if info is None:
            raise NotFound(path)
        return info

    def statfs(self) -> FsStats:
        with Translated("/"):
            found = os.fstatvfs(self._jail.root_fd)
        return FsStats(
            total_bytes=found.f_blocks * found.f_frsize,
            free_bytes=found.f_bavail * found.f_frsize,
            total_inodes=found.f_files,
            free_inodes=found.f_favail,
            block_size=found.f_frsize,
            max_name_len=found.f_namemax,
        )

    def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        with Translated(path), self._directory(path) as fd:
            return locallisting.page(path, fd, after, limit)

    @contextlib.contextmanager
    def _directory(self, path: str) -> Iterator[int]:
        located = self._jail.locate(path)
        try:
            found = visible(path, os.fstat(located))
            if not stat.S_ISDIR(found.st_mode):
                raise NotDirectory(path)
            fd = reopen(located, os.O_RDONLY | os.O_DIRECTORY)
        finally:
            os.close(located)
        try:
            yield fd
        finally:
            os.close(fd)

    # -- open ---------------------------------------------------------------------------------

    def open(self, path: str, flags: OpenFlags, condition: Condition) -> tuple[OpenFile, FileInfo]:
        with Translated(path):
            if flags.replace:
                return self._stage(path, flags, condition)
            if not (flags.create or flags.truncate):
                return open_located(path, self._jail.locate(path), flags, condition)
            if path == "/":
                made = flags.create and (flags.directory or flags.exclusive)
                raise AlreadyExists(path) if made else IsDirectory(path)
            with self._jail.parent(path) as entry, self._locks.hold(entry.name):
                if flags.create and flags.directory:
                    return _make_directory(path, entry, flags, condition)
                file, info = _open_or_create(path, entry, flags, condition)
                if not (flags.truncate and self._ticks.coarse):
                    return file, info
                with file.descriptor as fd:
                    self._ticks.changed(fd)
                    return file, _seen(path, os.fstat(fd))

    def _stage(
        self, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[OpenFile, FileInfo]:
        entry = self._jail.parent(path)
        try:
            current = entry.stat()
            localstage.check_target(path, current, flags, condition)
            file = localstage.stage(path, entry, flags, condition)
        except BaseException:
            os.close(entry.directory_fd)
            raise
        with file.descriptor as fd:
            if current is not None:
                localstage.adopt(fd, current, synced=False)
            return file, _seen(path, os.fstat(fd))

    def finish(self, file: localstage.StagedFile, *, sync: bool, discard: bool) -> FileInfo | None:
        """Close a staged file: swap it in, or throw it away."""
        try:
            if discard:
                return None
            with Translated(file.path), file.descriptor as fd, file.directory as directory_fd:
                if sync:
                    os.fsync(fd)
                with self._locks.hold(file.entry.name):
                    found = localstage.commit(file, self._ticks, synced=sync)
                if sync:
                    _sync_directory(directory_fd)
            return _seen(file.path, found)
        finally:
            localstage.release(file)

    def sync_name(self, path: str) -> None:
        """Make the name of a created file survive: fsync the directory of the path.

        A file that was renamed since was given its new name by another operation.
        """
        with (
            contextlib.suppress(NotFound, NotDirectory),
            Translated(path),
            self._jail.parent(path) as entry,
        ):
            _sync_directory(entry.directory_fd)

    def sync_directory(self, path: str) -> None:
        """fsync a directory; one that is gone needs none."""
        with (
            contextlib.suppress(NotFound, NotDirectory),
            Translated(path),
            self._directory(path) as fd,
        ):
            os.fsync(fd)

    # -- change -------------------------------------------------------------------------------

    def symlink(self, path: str, target: str, condition: Condition) -> None:
        try:
            encoded = target.encode()
        except UnicodeEncodeError:
            raise InvalidArgument("the target of a link must be valid Unicode") from None
        if not encoded or b"\0" in encoded:
            raise InvalidArgument("the target of a link must be a text without NUL, not empty")
        with Translated(path):
            if path == "/":
                raise AlreadyExists(path)
            with self._jail.parent(path) as entry, self._locks.hold(entry.name):
                found = entry.stat()
                if found is not None:
                    raise AlreadyExists(path)
                check_condition(path, None, condition)
                os.symlink(encoded, entry.name, dir_fd=entry.directory_fd)

    def rename(self, path: str, name: str, condition: Condition) -> None:
        """Move `path` to `name`; both are paths within the provider."""
        if path == "/":
            raise PermissionDenied("cannot rename root")
        if name == "/":
            raise PermissionDenied("cannot replace root")
        with Translated(path), self._jail.parent(path) as source:
            found = visible(path, source.stat())
            is_directory = stat.S_ISDIR(found.st_mode)
            if name != path and is_directory and is_within(name, path):
                raise InvalidArgument(f"cannot move a directory into itself: {path}")
            with (
                Translated(name),
                self._jail.parent(name) as target,
                self._locks.hold(source.name, target.name),
            ):
                found = visible(path, source.stat())
                check_condition(path, found, condition)
                _check_replaced(name, target.stat())
                _rename(path, source, target)

    def remove(self, path: str, condition: Condition) -> None:
        if path == "/":
            raise PermissionDenied("cannot remove root")
        with (
            Translated(path),
            self._jail.parent(path) as entry,
            self._locks.hold(entry.name),
        ):
            for _ in range(localstage.RACES_MAX):
                found = visible(path, entry.stat())
                check_condition(path, found, condition)
                try:
                    if stat.S_ISDIR(found.st_mode):
                        _remove_directory(entry)
                    else:
                        os.unlink(entry.name, dir_fd=entry.directory_fd)
                except (IsADirectoryError, NotADirectoryError):
                    continue  # another process put the other kind there in between
                return
        raise Transient(f"{path} keeps changing")

    @contextlib.contextmanager
    def held(self, path: str) -> Iterator[int]:
        """An O_PATH descriptor of what is at `path`, with the lock of its name."""
        if path == "/":
            with self._locks.hold(b""):
                yield self._jail.root_fd
            return
        with self._jail.parent(path) as entry, self._locks.hold(entry.name):
            fd = entry.locate()
            try:
                yield fd
            finally:
                os.close(fd)


# -- one entry, its lock held -----------------------------------------------------------------


def _open_or_create(
    path: str, entry: Entry, flags: OpenFlags, condition: Condition
) -> tuple[LocalFile, FileInfo]:
    for _ in range(localstage.RACES_MAX):
        try:
            fd = entry.locate()
        except FileNotFoundError:
            if not flags.create:
                raise
        else:
            if flags.create and flags.exclusive:
                os.close(fd)
                raise AlreadyExists(path)
            file, info = open_located(path, fd, flags, condition)
            assert isinstance(file, LocalFile)  # create and truncate refuse directories
            return file, info
        check_condition(path, None, condition)
        with contextlib.suppress(FileExistsError):  # another process was faster
            return _create(path, entry, flags)
    raise Transient(f"{path} keeps changing")


def _create(path: str, entry: Entry, flags: OpenFlags) -> tuple[LocalFile, FileInfo]:
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
    return file, _seen(path, found)


def _make_directory(
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
    return LocalDirectory(path, flags, created=True), _seen(path, found)


def _remove_directory(entry: Entry) -> None:
    """rmdir; uploads that were not swapped in do not keep a directory."""
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


def _check_replaced(name: str, found: os.stat_result | None) -> None:
    if found is not None and file_type(found) is None:
        raise InvalidArgument(f"cannot replace, not a regular file: {name}")


def _rename(path: str, source: Entry, target: Entry) -> None:
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


def _sync_directory(located_fd: int) -> None:
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=located_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
