"""Enforces the contract of providers (`fs9.provider`) over plugins that do less.

Plugins differ: many make a directory where there is one, ignore `truncate`, let files be made below
files, answer -9 for a directory that is not empty, lose a file whose rename fails, or write through
a handle that was opened for reading; none knows `exclusive`, conditions, or a replacement that is
swapped in at the close. All of that is added here, beside the plugin, where checking first costs a
call within the same process. A lock makes check and change one step, because all changes come this
way.

A replacement is written to a hidden file in the root and renamed at the close.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import nullcontext, suppress
from heapq import nsmallest

from fs9.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    Internal,
    InvalidArgument,
    InvalidHandle,
    IsDirectory,
    NotDirectory,
    NotFound,
    NotSupported,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
)
from fs9.path import NAME_BYTES_MAX, is_within, join, split
from fs9.providers.native import abi, frames
from fs9.providers.native.calls import Instance, PluginError, encoded
from fs9.types import Buffer, Capability, Condition, FileInfo, OpenFlags, StatChanges

#: Names of hidden files; clients cannot ask for them, as in localfs.
RESERVED_PREFIX = ".fs9-tmp-"
_FILE_BITS = 0o777
_DIRECTORY_BITS = 0o3777
_ID_MAX = 2**32 - 2  # the last one, -1, means "leave it" to chown(2)
_OFFSET_MAX = 2**63 - 1
#: One call reads at most this much: a plugin allocates what it is asked for.
_READ_BYTES_MAX = 16 * 1024 * 1024
#: A listing holds so many entries more than it was asked for, however many the plugin gives.
_LISTED_AHEAD = 10_000


class _OpenFile:
    """`handle` is the plugin's; None for a directory, which plugins need not be able to open."""

    __slots__ = ("flags", "handle", "path", "staged")

    def __init__(self, handle: int | None, flags: OpenFlags, path: str) -> None:
        self.handle = handle
        self.flags = flags
        self.path = path
        self.staged: _Staged | None = None


class _Staged:
    """`path`, to become: it follows renames of the directories above; None: they vanished."""

    __slots__ = ("condition", "hidden", "path")

    def __init__(self, hidden: str, path: str, condition: Condition) -> None:
        self.hidden = hidden
        self.path: str | None = path
        self.condition = condition


class Tree:
    """The files of one instance. May be called from any thread, by many at once."""

    def __init__(self, instance: Instance, file_bytes_max: int) -> None:
        """`file_bytes_max`: plugins are not asked to make a file larger, because many abort."""
        self._plugin = instance
        self._file_bytes_max = file_bytes_max
        self.capabilities = instance.capabilities()
        self._truncates = bool(self.capabilities & Capability.TRUNCATE)
        self._renames = bool(self.capabilities & Capability.RENAME)
        self._changes_modes = bool(self.capabilities & Capability.CHMOD)
        #: For what changes names, with the looking before.
        self._names = threading.RLock()
        self._open: dict[int, _OpenFile] = {}
        self._numbers = itertools.count(1)

    def handle(self, request: frames.Request, data: Buffer) -> tuple[frames.Answer, bytes]:
        """The answer to a request, and its bytes. Raises Fs9Error."""
        try:
            return self._handle(request, data)
        except PluginError as refusal:
            raise refusal.error from None

    def _handle(self, request: frames.Request, data: Buffer) -> tuple[frames.Answer, bytes]:
        match request:
            case frames.Read(number, offset, size):
                return frames.DONE, self.read(number, offset, size)
            case frames.Write(number, offset):
                return frames.Count(self.write(number, offset, data)), b""
            case frames.Stat(path):
                return frames.Found(self.stat(path)), b""
            case frames.Open(path, flags, condition):
                return self.open(path, flags, condition), b""
            case frames.Close(number, sync, discard):
                info = self.close(number, sync, discard)
                return (frames.DONE if info is None else frames.Found(info)), b""
            case frames.Readdir(path, after, limit):
                return self.readdir(path, after, limit), b""
            case frames.Wstat(path, changes, condition):
                self.wstat(path, changes, condition)
            case frames.Remove(path, condition):
                self.remove(path, condition)
            case frames.Statfs(path):
                return frames.Space(self._plugin.statfs(path)), b""
            case frames.End():
                self._plugin.destroy()
        return frames.DONE, b""

    # -- looking --------------------------------------------------------------------------------

    def stat(self, path: str) -> FileInfo:
        _check_name(path)
        return self._plugin.stat(path)

    def _look(self, path: str) -> FileInfo | None:
        """What is at the path, or None. Raises NotDirectory, and the errors of the plugin."""
        try:
            return self._plugin.stat(path)
        except PluginError as refusal:
            if isinstance(refusal.error, NotFound):
                return None
            raise

    def _look_for_new(self, path: str) -> FileInfo | None:
        """As `_look`; where nothing is, the parent is a directory. Raises NotFound, NotDirectory.

        The reference's plugins make files below files and in directories that do not exist.
        """
        found = self._look(path)
        if found is None:
            parent = self._look(split(path)[0])
            if parent is None:
                raise NotFound(path)
            if not parent.is_dir:
                raise NotDirectory(path)
        return found

    def readdir(self, path: str, after: str, limit: int) -> frames.Listed:
        _check_name(path)
        entries: dict[str, FileInfo] = {}
        unreadable = 0

        def each(raw: bytes, info: FileInfo) -> bool:
            nonlocal entries, unreadable
            try:
                name = raw.decode()
            except UnicodeDecodeError:
                unreadable += 1
                return True
            if "\0" in name or len(raw) > NAME_BYTES_MAX:
                unreadable += 1
            elif name > after and name not in (".", "..") and not name.startswith(RESERVED_PREFIX):
                entries[name] = info
                if len(entries) > limit + _LISTED_AHEAD:
                    entries = {name: entries[name] for name in nsmallest(limit, entries)}
            return True

        if not self._plugin.stat(path).is_dir:
            raise NotDirectory(path)
        self._plugin.readdir(path, each)
        # Code points sort as UTF-8 does.
        listed = [_at(entries[name], join(path, name)) for name in sorted(entries)[:limit]]
        return frames.Listed(listed, unreadable)

    def _is_empty(self, path: str) -> bool:
        found: list[bytes] = []

        def each(name: bytes, _: FileInfo) -> bool:
            if name not in (b".", b".."):
                found.append(name)
            return not found

        self._plugin.readdir(path, each)
        return not found

    # -- open files -----------------------------------------------------------------------------

    def open(self, path: str, flags: OpenFlags, condition: Condition) -> frames.Opened:
        _check_name(path)
        if flags.truncate and not flags.write:
            raise InvalidArgument("truncate needs write")
        changing = flags.create or flags.truncate
        with self._names if changing else nullcontext():  # a plugin may make a reader wait
            if flags.replace:
                file, info = self._open_staged(path, flags, condition)
            elif flags.create and flags.directory:
                file, info = self._make_directory(path, flags, condition)
            else:
                file, info = self._open_file(path, flags, condition)
            number = next(self._numbers)
            self._open[number] = file
        return frames.Opened(number, info)

    def _make_directory(
        self, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[_OpenFile, FileInfo]:
        if path == "/" or self._look_for_new(path) is not None:
            raise AlreadyExists(path)
        _check(condition, None, path)
        handle, info = self._plugin.open(path, OpenFlags(create=True, directory=True))
        self._plugin.close(handle, False, path)
        if not info.is_dir:  # hellofs makes an ordinary file
            self._plugin.remove(path)
            raise NotSupported("directories")
        return _OpenFile(None, flags, path), _at(info, path)

    def _open_file(
        self, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[_OpenFile, FileInfo]:
        found = self._look_for_new(path) if flags.create else self._plugin.stat(path)
        if found is not None:
            if flags.create and flags.exclusive:
                raise AlreadyExists(path)
            _check_openable(found, path, flags)
        _check(condition, found, path)
        if found is not None and found.is_dir:
            return _OpenFile(None, flags, path), _at(found, path)
        handle, info = self._plugin.open(path, flags)
        if flags.truncate and info.size and self._truncates:
            # The plugin ignored the flag; those without this capability have no sizes to speak of.
            self._plugin.wstat(path, StatChanges(size=0))
            info = self._plugin.stat(path)
        return _OpenFile(handle, flags, path), _at(info, path)

    def _open_staged(
        self, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[_OpenFile, FileInfo]:
        if not self._renames:
            raise NotSupported("replace")
        if not flags.write or flags.directory:
            raise InvalidArgument("replace needs write and a file")
        if path == "/":
            raise IsDirectory(path)
        self._check_replaced(path, flags, condition, self._look_for_new(path))
        hidden = f"/{RESERVED_PREFIX}{next(self._numbers)}"
        handle, info = self._plugin.open(hidden, OpenFlags(read=True, write=True, create=True))
        file = _OpenFile(handle, flags, path)
        file.staged = _Staged(hidden, path, condition)
        return file, _at(info, path)

    def _check_replaced(
        self, path: str, flags: OpenFlags, condition: Condition, found: FileInfo | None
    ) -> None:
        if found is None and not flags.create:
            raise NotFound(path)
        if found is not None:
            if flags.create and flags.exclusive:
                raise AlreadyExists(path)
            _check_openable(found, path, flags)
        _check(condition, found, path)

    def _file(self, number: int) -> _OpenFile:
        try:
            return self._open[number]
        except KeyError:
            raise InvalidHandle("closed") from None

    def read(self, number: int, offset: int, size: int) -> bytes:
        file = self._file(number)
        if not file.flags.read:
            raise PermissionDenied("file not opened for reading")
        if offset < 0 or size < 0:
            raise InvalidArgument("offset and size cannot be negative")
        if file.handle is None:
            raise IsDirectory(file.path)
        size = min(size, _READ_BYTES_MAX, _OFFSET_MAX - offset)
        if size <= 0:
            return b""
        return self._plugin.read(file.handle, offset, size, file.path)

    def write(self, number: int, offset: int, data: Buffer) -> int:
        file = self._file(number)
        if not file.flags.write or file.handle is None:
            raise PermissionDenied("file not opened for writing")
        if offset < 0:
            raise InvalidArgument("offset cannot be negative")
        if offset + len(data) > self._file_bytes_max:
            raise QuotaExceeded(f"a file of a plugin may have {self._file_bytes_max} bytes")
        written = self._plugin.write(file.handle, offset, data, file.path)
        if written < len(data) and self._is_message(file, data, written):
            return len(data)
        if not written and data:
            raise Internal(f"{file.path}: the plugin wrote nothing")
        return written

    def _is_message(self, file: _OpenFile, data: Buffer, written: int) -> bool:
        """Was all of it taken as one message, whose last newline is only not counted?

        Plugins that keep messages say so by the size, which is always 0. To write the newline
        again would make a message of it.
        """
        if written != len(data) - 1 or data[-1] != ord("\n"):
            return False
        found = self._look(file.path)
        return found is not None and found.size == 0

    def close(self, number: int, sync: bool, discard: bool) -> FileInfo | None:
        file = self._open.pop(number, None)
        if file is None:
            raise InvalidHandle("closed")
        if file.staged is None:
            if file.handle is not None:
                self._plugin.close(file.handle, sync, file.path)
            return None
        assert file.handle is not None
        staged = file.staged
        with self._names:
            try:
                self._plugin.close(file.handle, sync, file.path)
                return None if discard else self._swap_in(staged, file)
            except BaseException:
                discard = True
                raise
            finally:
                if discard:
                    with suppress(PluginError):  # what led here is the error to tell
                        self._plugin.remove(staged.hidden)

    def _swap_in(self, staged: _Staged, file: _OpenFile) -> FileInfo:
        path = staged.path
        if path is None:
            raise NotFound(file.path)
        found = self._look_for_new(path)
        self._check_replaced(path, file.flags, staged.condition, found)
        if found is not None and self._changes_modes:
            self._plugin.wstat(staged.hidden, StatChanges(mode=found.mode))
        self._plugin.wstat(staged.hidden, StatChanges(name=path))
        return self._plugin.stat(path)

    # -- changes --------------------------------------------------------------------------------

    def wstat(self, path: str, changes: StatChanges, condition: Condition) -> None:
        _check_name(path)
        if changes.symlink_target is not None:
            self._symlink(path, changes.symlink_target, condition)
        elif changes.name is not None:
            self._rename(path, changes.name, condition)
        else:
            self._change(path, changes, condition)

    def _symlink(self, path: str, target: str, condition: Condition) -> None:
        encoded(target)
        if not target:
            raise InvalidArgument("a symbolic link needs a target")
        with self._names:
            if path == "/" or self._look_for_new(path) is not None:
                raise AlreadyExists(path)
            _check(condition, None, path)
            self._plugin.wstat(path, StatChanges(symlink_target=target))

    def _rename(self, path: str, target: str, condition: Condition) -> None:
        _check_name(target)
        if path == "/" or target == "/":
            raise PermissionDenied(f"cannot {'rename' if path == '/' else 'replace'} root")
        with self._names:
            source = self._plugin.stat(path)
            if source.is_dir and path != target and is_within(target, path):
                raise InvalidArgument("cannot move a directory into itself")
            old = self._look_for_new(target)
            _check(condition, source, path)
            if path == target:
                return
            if old is not None:
                self._check_overwritten(source, old, path, target)
            self._plugin.wstat(path, StatChanges(name=target))
            self._follow(path, target)

    def _check_overwritten(self, source: FileInfo, old: FileInfo, path: str, target: str) -> None:
        if old.is_dir and is_within(path, target):
            raise DirectoryNotEmpty(target)
        if old.is_dir and not source.is_dir:
            raise IsDirectory(target)
        if source.is_dir and not old.is_dir:
            raise NotDirectory(target)
        if old.is_dir and not self._is_empty(target):
            raise DirectoryNotEmpty(target)

    def _follow(self, path: str, target: str) -> None:
        """After a rename of a directory: replacements in progress below it follow."""
        for file in list(self._open.values()):
            staged = file.staged
            if staged is not None and staged.path is not None:
                if staged.path != path and is_within(staged.path, path):
                    staged.path = target + staged.path[len(path) :]
            elif staged is None and is_within(file.path, path):
                file.path = target + file.path[len(path) :]

    def _change(self, path: str, changes: StatChanges, condition: Condition) -> None:
        """Change mode, owner, size and times; if one is invalid, none is changed."""
        if max(changes.uid or 0, changes.gid or 0) > _ID_MAX:
            raise InvalidArgument(f"an owner is a number of at most {_ID_MAX}")
        with self._names:
            found = self._plugin.stat(path)
            _check(condition, found, path)
            size, mode = changes.size, changes.mode
            if size is not None:
                if found.is_dir:
                    raise IsDirectory(path)
                if found.is_symlink:
                    raise InvalidArgument("cannot truncate a symlink")
                if size > self._file_bytes_max:
                    raise QuotaExceeded(f"a file of a plugin may have {self._file_bytes_max} bytes")
            if mode is not None:
                mode &= _DIRECTORY_BITS if found.is_dir else _FILE_BITS
            if changes == StatChanges():
                return
            self._plugin.wstat(
                path,
                StatChanges(
                    mode=mode,
                    uid=changes.uid,
                    gid=changes.gid,
                    size=size,
                    atime_ns=changes.atime_ns,
                    mtime_ns=changes.mtime_ns,
                ),
            )

    def remove(self, path: str, condition: Condition) -> None:
        _check_name(path)
        if path == "/":
            raise PermissionDenied("cannot remove root")
        with self._names:
            found = self._plugin.stat(path)
            _check(condition, found, path)
            try:
                self._plugin.remove(path)
            except PluginError as refusal:
                if refusal.code == abi.INTERNAL and found.is_dir and not self._is_empty(path):
                    raise DirectoryNotEmpty(path) from None
                raise
            self._lose(path)

    def _lose(self, path: str) -> None:
        """After the removal of a directory: replacements in progress in it have no place."""
        for file in list(self._open.values()):
            staged = file.staged
            if staged is None or staged.path is None or staged.path == path:
                continue
            if is_within(staged.path, path):
                staged.path = None


def _check_name(path: str) -> None:
    encoded(path)
    if path[1:].startswith(RESERVED_PREFIX):
        raise InvalidArgument(f"names that begin with {RESERVED_PREFIX} are reserved")


def _check(condition: Condition, found: FileInfo | None, path: str) -> None:
    if not condition.holds(None if found is None else found.etag):
        raise PreconditionFailed(path)


def _check_openable(found: FileInfo, path: str, flags: OpenFlags) -> None:
    if found.is_symlink:
        raise InvalidArgument("cannot open a symlink")
    if found.is_dir:
        if flags.write or flags.create:
            raise IsDirectory(path)
    elif flags.directory:
        raise NotDirectory(path)


def _at(info: FileInfo, path: str) -> FileInfo:
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
    )
