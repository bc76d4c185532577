"""What localfs does to names: open, create, link, rename, remove, list. Blocking calls only.

`fs9.providers.localfs` runs these in the pool; one call is one operation, so a condition is
checked in the same call as the act. Changes of one name wait for each other (`NameLocks`);
different names do not, so a slow disk call delays only its own kind.
"""

from __future__ import annotations

import contextlib
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
    Transient,
)
from fs9.path import is_within
from fs9.providers import localentry, locallisting, localstage
from fs9.providers.jail import Entry, Jail, reopen
from fs9.providers.localentry import check_condition, open_located, seen, visible
from fs9.providers.localerrors import Translated
from fs9.providers.localfile import LocalFile
from fs9.providers.localinfo import located_info
from fs9.types import FileInfo, FsStats, OpenFlags

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from fs9.provider import OpenFile
    from fs9.providers.localquota import Accounts
    from fs9.providers.localticks import Ticks
    from fs9.types import Condition

_LOCKS = 256

_UNCOUNTED = contextlib.nullcontext()


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


class Tree:
    def __init__(self, jail: Jail, ticks: Ticks) -> None:
        self._jail = jail
        self._ticks = ticks
        self._locks = NameLocks()
        #: Once the namespace has a quota.
        self.accounts: Accounts | None = None

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

    def _adding(self, bytes_: int = 0) -> AbstractContextManager[None]:
        """Around a creation; see `Accounts.adding`."""
        return _UNCOUNTED if self.accounts is None else self.accounts.adding(bytes_)

    @contextlib.contextmanager
    def _dropping(self, entry: Entry) -> Iterator[None]:
        """Around a change that removes or replaces what is at the entry, if anything is."""
        if self.accounts is None or entry.stat() is None:
            yield
            return
        fd = entry.locate()
        try:
            with self.accounts.dropping(fd):
                yield
        finally:
            os.close(fd)

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
                opened, info = open_located(path, self._jail.locate(path), flags, condition)
                self.opened(opened)
                return opened, info
            if path == "/":
                made = flags.create and (flags.directory or flags.exclusive)
                raise AlreadyExists(path) if made else IsDirectory(path)
            with self._jail.parent(path) as entry, self._locks.hold(entry.name):
                if flags.create and flags.directory:
                    with self._adding():
                        return localentry.make_directory(path, entry, flags, condition)
                file, info = self._open_or_create(path, entry, flags, condition)
                self.opened(file)
                if not (flags.truncate and self._ticks.coarse):
                    return file, info
                with file.descriptor as fd:
                    self._ticks.changed(fd)
                    return file, seen(path, os.fstat(fd))

    def _open_or_create(
        self, path: str, entry: Entry, flags: OpenFlags, condition: Condition
    ) -> tuple[LocalFile, FileInfo]:
        """Open the file, or create it; the caller holds the lock of the name."""
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
                with self._truncating(fd, flags):
                    file, info = open_located(path, fd, flags, condition)
                assert isinstance(file, LocalFile)  # create and truncate refuse directories
                return file, info
            check_condition(path, None, condition)
            # Suppressed: another process was faster.
            with contextlib.suppress(FileExistsError), self._adding():
                return localentry.create_file(path, entry, flags)
        raise Transient(f"{path} keeps changing")

    @contextlib.contextmanager
    def _truncating(self, fd: int, flags: OpenFlags) -> Iterator[None]:
        """Around opening what is at the descriptor, which is closed then."""
        if self.accounts is None or not flags.truncate:
            yield
            return
        watched = os.dup(fd)
        try:
            with self.accounts.sized(watched, 0):
                yield
        finally:
            os.close(watched)

    def opened(self, file: OpenFile) -> None:
        """Count the file as open; raises NotFound, and closes it, when it is just removed."""
        if self.accounts is not None and isinstance(file, LocalFile):
            try:
                self.accounts.opened(file)
            except BaseException:
                file.descriptor.close()
                raise

    def _stage(
        self, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[OpenFile, FileInfo]:
        entry = self._jail.parent(path)
        try:
            current = entry.stat()
            localstage.check_target(path, current, flags, condition)
            with self._adding():
                file = localstage.stage(path, entry, flags, condition)
                if self.accounts is not None:
                    self.accounts.opened(file, nameless=True)
        except BaseException:
            os.close(entry.directory_fd)
            raise
        with file.descriptor as fd:
            if current is not None:
                localstage.adopt(fd, current, synced=False)
            return file, seen(path, os.fstat(fd))

    def finish(self, file: localstage.StagedFile, *, sync: bool, discard: bool) -> FileInfo | None:
        """Close a staged file: swap it in, or delete it."""
        try:
            if discard:
                return None
            with Translated(file.path), file.descriptor as fd, file.directory as directory_fd:
                if sync:
                    os.fsync(fd)
                with self._locks.hold(file.entry.name):
                    with self._dropping(file.entry):
                        found = localstage.commit(file, self._ticks, synced=sync)
                    if self.accounts is not None:
                        self.accounts.named(file)
                if sync:
                    localentry.sync_directory(directory_fd)
            return seen(file.path, found)
        finally:
            self.let_go(file)

    def let_go(self, file: LocalFile) -> None:
        """Close an open file; a staged one that was not swapped in is deleted."""
        if self.accounts is not None:
            self.accounts.closed(file)
        if isinstance(file, localstage.StagedFile):
            localstage.release(file)
        else:
            file.descriptor.close()

    def sync_name(self, path: str) -> None:
        """Make the name of a created file survive: fsync the directory of the path.

        A file that was renamed since was given its new name by another operation.
        """
        with (
            contextlib.suppress(NotFound, NotDirectory),
            Translated(path),
            self._jail.parent(path) as entry,
        ):
            localentry.sync_directory(entry.directory_fd)

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
                with self._adding(len(encoded)):
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
                raise InvalidArgument("cannot move a directory into itself")
            with (
                Translated(name),
                self._jail.parent(name) as target,
                self._locks.hold(source.name, target.name),
            ):
                found = visible(path, source.stat())
                check_condition(path, found, condition)
                localentry.check_replaced(name, target.stat())
                with self._dropping(target):
                    localentry.rename(path, source, target)

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
                    with self._dropping(entry):
                        if stat.S_ISDIR(found.st_mode):
                            localentry.remove_directory(entry)
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
