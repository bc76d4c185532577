"""A file system in memory: gone with the process, bounded, and the reference for semantics.

The rules are POSIX's, with the differences that `tests/conformance/truth.py` lists: symbolic
links are data and cannot be opened, and reading never changes a time. No operation suspends,
so each is atomic by itself.

Bytes are counted by size, holes included, because a hole may be filled without asking again.
A file that is removed counts until its last handle is closed.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import msgspec

from fs9.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
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
from fs9.path import is_within
from fs9.provider import BaseProvider, OpenFile
from fs9.providers.memtree import Directory, File, Inode, Link, Node, find, find_parent
from fs9.providers.registry import ProviderContext, read_config
from fs9.providers.values import check_target, check_values
from fs9.types import (
    ALWAYS,
    POSIX_LIKE,
    Buffer,
    Capability,
    Condition,
    FileInfo,
    FsStats,
    OpenFlags,
    StatChanges,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fs9.clock import Clock
    from fs9.limits import Limits
    from fs9.quota import Quota

_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
# As localfs keeps them: nothing here runs as another user.
_FILE_BITS = 0o777
_DIRECTORY_BITS = 0o3777


class Config(msgspec.Struct, frozen=True):
    """memfs has no settings; its bounds are `memfs_bytes_max` and `memfs_files_max`."""


async def create(config: Mapping[str, Any], context: ProviderContext) -> MemFs:
    read_config("memfs", Config, config)
    return MemFs(context.limits, context.clock, context.quota)


class MemOpen(OpenFile):
    """An open file or directory; `path` is where it was when it was opened."""

    __slots__ = ("closed", "created", "flags", "node", "path")

    def __init__(
        self, node: File | Directory, flags: OpenFlags, path: str, *, created: bool = False
    ) -> None:
        self.created = created
        self.node = node
        self.flags = flags
        self.path = path
        self.closed = False


class Staged(MemOpen):
    """A new version that no directory has yet; `close` puts it in its `place`."""

    __slots__ = ("condition", "place")

    def __init__(
        self,
        node: File,
        flags: OpenFlags,
        condition: Condition,
        path: str,
        place: tuple[Directory, str],
    ) -> None:
        super().__init__(node, flags, path)
        self.condition = condition
        self.place = place


class MemFs(BaseProvider):
    name = "memfs"
    untasked = True
    volatile = True

    def __init__(self, limits: Limits, clock: Clock, quota: Quota | None = None) -> None:
        self._limits = limits
        self._quota = quota
        self._clock = clock
        # Versions go on from the time, so that one of an earlier process never comes again.
        self._version = clock.now_ns()
        self._root = Directory(_DIRECTORY_MODE, self._version, clock.now_ns())
        self._bytes = 0
        self._files = 1

    def capabilities(self) -> Capability:
        return POSIX_LIKE | Capability.ETAG | Capability.ATOMIC_RENAME

    async def stat(self, path: str) -> FileInfo:
        return find(self._root, path).info(path)

    async def statfs(self, path: str) -> FsStats:
        limits = self._limits
        stats = FsStats(
            total_bytes=limits.memfs_bytes_max,
            free_bytes=limits.memfs_bytes_max - self._bytes,
            total_inodes=limits.memfs_files_max,
            free_inodes=limits.memfs_files_max - self._files,
            block_size=4096,
            max_name_len=255,
        )
        return stats if self._quota is None else self._quota.within(stats)

    async def aclose(self) -> None:
        if self._quota is not None:  # the root is nobody's file
            self._quota.found(-self._bytes, 1 - self._files)
            self._quota = None

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        directory = find(self._root, path)
        if not isinstance(directory, Directory):
            raise NotDirectory(path)
        names = directory.names()
        first = bisect_right(names, after) if after else 0
        prefix = "/" if path == "/" else path + "/"
        children = directory.children
        return [children[name].info(prefix + name) for name in names[first : first + limit]]

    # -- open, read, write, close ---------------------------------------------------------------

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[MemOpen, FileInfo]:
        if flags.truncate and not flags.write:
            raise InvalidArgument("truncate needs write")
        if flags.replace:
            return self._open_staged(path, flags, condition)
        if flags.create and flags.directory:
            made = self._make(path, condition, directory=True)
            return MemOpen(made, flags, path, created=True), made.info(path)
        node = self._existing(path, flags)
        created = node is None
        if node is None:
            node = self._make(path, condition)
        else:
            node = _openable(node, path, flags)
            _check(condition, node, path)
            if flags.truncate and isinstance(node, File):
                self._resize(node, 0)
        if isinstance(node, File):
            node.opens += 1
        return MemOpen(node, flags, path, created=created), node.info(path)

    def _existing(self, path: str, flags: OpenFlags) -> Node | None:
        """What is at the path; None: it is to be created. Raises NotFound, AlreadyExists."""
        if not flags.create:
            return find(self._root, path)
        parent, name = find_parent(self._root, path)
        node = parent.children.get(name) if name else parent
        if node is not None and flags.exclusive:
            raise AlreadyExists(path)
        return node

    def _make(
        self, path: str, condition: Condition, *, directory: bool = False
    ) -> File | Directory:
        """A new file or directory in its parent; raises AlreadyExists, QuotaExceeded."""
        parent, name = find_parent(self._root, path)
        if not name or name in parent.children:
            raise AlreadyExists(path)
        _check(condition, None, path)
        self._reserve_file()
        node: File | Directory
        now_ns = self._clock.now_ns()
        if directory:
            node = Directory(_DIRECTORY_MODE, self._next_version(), now_ns)
        else:
            node = File(_FILE_MODE, self._next_version(), now_ns)
        self._enter(parent, name, node)
        return node

    def _open_staged(
        self, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[MemOpen, FileInfo]:
        if not flags.write or flags.directory:
            raise InvalidArgument("replace needs write and a file")
        if path == "/":
            raise IsDirectory(path)
        old = self._existing(path, flags)
        if old is not None:
            _openable(old, path, flags)
        _check(condition, old, path)
        self._reserve_file()
        node = File(_FILE_MODE, self._next_version(), self._clock.now_ns())
        if old is not None:
            _copy_owner(old, node)
        node.linked = False
        node.opens = 1
        place = find_parent(self._root, path)
        return Staged(node, flags, condition, path, place), node.info(path)

    async def read(self, file: OpenFile, offset: int, size: int) -> bytes:
        opened = _opened(file, "reading")
        node = opened.node
        if offset < 0 or size < 0:
            raise InvalidArgument("offset and size cannot be negative")
        if not isinstance(node, File):
            raise IsDirectory(opened.path)
        return node.pages.read(offset, size)

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        opened = _opened(file, "writing")
        node = opened.node
        if isinstance(node, Directory):  # just made: others are not opened for writing
            raise PermissionDenied("file not opened for writing")
        if opened.flags.append:
            offset = node.size
        if offset < 0:
            raise InvalidArgument("offset cannot be negative")
        if data:
            self._reserve_bytes(node, max(node.size, offset + len(data)))
            node.pages.write(offset, data)
            self._content_changed(node)
        return len(data)

    async def close(
        self, file: OpenFile, *, sync: bool = False, discard: bool = False
    ) -> FileInfo | None:
        assert isinstance(file, MemOpen)
        if file.closed:
            raise InvalidHandle("closed")
        file.closed = True
        try:
            if isinstance(file, Staged) and not discard:
                return self._swap_in(file)
        finally:
            if isinstance(file.node, File):
                file.node.opens -= 1
                self._release(file.node)
        return None

    def _swap_in(self, staged: Staged) -> FileInfo:
        (parent, name), path, node = staged.place, staged.path, staged.node
        assert isinstance(node, File)
        if not parent.linked:
            raise NotFound(path)
        old = parent.children.get(name)
        if old is None and not staged.flags.create:
            raise NotFound(path)
        if old is not None and staged.flags.create and staged.flags.exclusive:
            raise AlreadyExists(path)
        if old is not None:
            _openable(old, path, staged.flags)
        _check(staged.condition, old, path)
        if old is not None:
            _copy_owner(old, node)
            self._leave(parent, name)
        node.ctime_ns = self._clock.now_ns()
        self._enter(parent, name, node)
        return node.info(path)

    # -- changes --------------------------------------------------------------------------------

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        if changes.symlink_target is not None:
            self._symlink(path, changes.symlink_target, condition)
        elif changes.name is not None:
            self._rename(path, changes.name, condition)
        else:
            check_values(changes)
            node = find(self._root, path)
            _check(condition, node, path)
            self._change(node, path, changes)

    def _symlink(self, path: str, target: str, condition: Condition) -> None:
        size = check_target(target)
        parent, name = find_parent(self._root, path)
        if not name or name in parent.children:
            raise AlreadyExists(path)
        _check(condition, None, path)
        self._reserve_file(size)
        self._enter(parent, name, Link(target, self._next_version(), self._clock.now_ns()))

    def _rename(self, path: str, target: str, condition: Condition) -> None:
        if path == "/" or target == "/":
            raise PermissionDenied(f"cannot {'rename' if path == '/' else 'replace'} root")
        parent, name = find_parent(self._root, path)
        node = parent.children.get(name)
        if node is None:
            raise NotFound(path)
        if isinstance(node, Directory) and path != target and is_within(target, path):
            raise InvalidArgument("cannot move a directory into itself")
        target_parent, target_name = find_parent(self._root, target)
        _check(condition, node, path)
        old = target_parent.children.get(target_name)
        if old is node:
            return
        if isinstance(old, Directory) and is_within(path, target):
            raise DirectoryNotEmpty(target)
        _check_replaced(node, old, target)
        if old is not None:
            self._leave(target_parent, target_name)
        parent.drop(name)
        self._children_changed(parent)
        node.ctime_ns = self._clock.now_ns()
        self._enter(target_parent, target_name, node)

    def _change(self, node: Node, path: str, changes: StatChanges) -> None:
        """Mode, owner, size and times; all of them or, after an error, none."""
        if changes.mode is not None and isinstance(node, Link):
            raise NotSupported("chmod of a symbolic link")  # nor has Linux it
        if changes.size is not None:
            if isinstance(node, Directory):
                raise IsDirectory(path)
            if isinstance(node, Link):
                raise InvalidArgument("cannot truncate a symlink")
            self._resize(node, changes.size)
        if changes.mode is not None:
            kept = _DIRECTORY_BITS if isinstance(node, Directory) else _FILE_BITS
            node.mode = changes.mode & kept
        if changes.uid is not None:
            node.uid = changes.uid
        if changes.gid is not None:
            node.gid = changes.gid
        if changes.atime_ns is not None:
            node.atime_ns = changes.atime_ns
        if changes.mtime_ns is not None:
            node.mtime_ns = changes.mtime_ns
        if changes != StatChanges():
            node.ctime_ns = self._clock.now_ns()

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        parent, name = find_parent(self._root, path)
        if not name:
            raise PermissionDenied("cannot remove root")
        node = parent.children.get(name)
        if node is None:
            raise NotFound(path)
        _check(condition, node, path)
        if isinstance(node, Directory) and node.children:
            raise DirectoryNotEmpty(path)
        self._leave(parent, name)

    # -- entries, sizes, accounts ---------------------------------------------------------------

    def _enter(self, parent: Directory, name: str, node: Node) -> None:
        parent.put(name, node)
        self._children_changed(parent)

    def _leave(self, parent: Directory, name: str) -> None:
        """Take an entry away for good; its inode is released when nothing has it open."""
        node = parent.children[name]
        parent.drop(name)
        self._children_changed(parent)
        node.ctime_ns = parent.ctime_ns
        self._release(node)

    def _release(self, node: Node) -> None:
        if not node.linked and not (isinstance(node, File) and node.opens):
            self._count(-node.size, -1)

    def _resize(self, node: File, size: int) -> None:
        self._reserve_bytes(node, size)
        node.pages.resize(size)
        self._content_changed(node)

    def _reserve_bytes(self, node: File, size: int) -> None:
        """Account for the file's new size; raises QuotaExceeded and changes nothing."""
        limits = self._limits
        if size > limits.file_bytes_max:
            raise QuotaExceeded(f"a file may have {limits.file_bytes_max} bytes")
        added = size - node.size
        if self._bytes + added > limits.memfs_bytes_max and added > 0:
            raise QuotaExceeded(f"memfs may hold {limits.memfs_bytes_max} bytes")
        if added:
            self._count(added, 0)

    def _reserve_file(self, size: int = 0) -> None:
        """Account for one inode more, with `size` bytes; raises QuotaExceeded."""
        limits = self._limits
        if self._files >= limits.memfs_files_max:
            raise QuotaExceeded(f"memfs may hold {limits.memfs_files_max} files")
        if self._bytes + size > limits.memfs_bytes_max:
            raise QuotaExceeded(f"memfs may hold {limits.memfs_bytes_max} bytes")
        self._count(size, 1)

    def _count(self, bytes_: int, files: int) -> None:
        if self._quota is not None:
            self._quota.charge(bytes_, files)
        self._bytes += bytes_
        self._files += files

    def _content_changed(self, node: Inode) -> None:
        node.mtime_ns = node.ctime_ns = self._clock.now_ns()
        node.version = self._next_version()

    _children_changed = _content_changed

    def _next_version(self) -> int:
        self._version += 1
        return self._version


def _opened(file: OpenFile, purpose: str) -> MemOpen:
    assert isinstance(file, MemOpen)
    if file.closed:
        raise InvalidHandle("closed")
    if not (file.flags.read if purpose == "reading" else file.flags.write):
        raise PermissionDenied(f"file not opened for {purpose}")
    return file


def _openable(node: Node, path: str, flags: OpenFlags) -> File | Directory:
    """The inode, when it may be opened like this; raises what Linux raises with O_NOFOLLOW."""
    if isinstance(node, Directory):
        if flags.write or (flags.create and not flags.directory):
            raise IsDirectory(path)
        return node
    if flags.directory:
        raise NotDirectory(path)
    if isinstance(node, Link):
        raise InvalidArgument(f"cannot {'write' if flags.write else 'read'} a symlink")
    return node


def _check(condition: Condition, node: Node | None, path: str) -> None:
    if condition is not ALWAYS and not condition.holds(None if node is None else node.etag):
        raise PreconditionFailed(path)


def _check_replaced(node: Node, old: Node | None, target: str) -> None:
    """May a rename put `node` in the place of `old`?"""
    if isinstance(node, Directory):
        if old is not None and not isinstance(old, Directory):
            raise NotDirectory(target)
        if old is not None and old.children:
            raise DirectoryNotEmpty(target)
    elif isinstance(old, Directory):
        raise IsDirectory(target)


def _copy_owner(old: Node, new: File) -> None:
    """What a new version of a file keeps from the old one."""
    if isinstance(old, File):
        new.mode, new.uid, new.gid = old.mode, old.uid, old.gid
