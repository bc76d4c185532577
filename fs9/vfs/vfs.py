"""The operations on a namespace's paths: resolve, check, call the provider, rewrite the path.

Paths are clean namespace paths. What mounts add to the tree is decided here: mount points
and the directories above them appear in stat and readdir (`fs9.vfs.synthetic` answers where
the provider below has nothing), they cannot be removed or renamed, and nothing is renamed
across them. Errors of providers pass as they are, with the provider's own path.

Who may do what is not asked here: `fs9.vfs.session` is the only caller.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast
from weakref import WeakValueDictionary

from fs9.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    Fs9Error,
    Internal,
    InvalidArgument,
    NotFound,
    NotSupported,
    PermissionDenied,
)
from fs9.path import join, split
from fs9.types import (
    ALWAYS,
    Buffer,
    Capability,
    Condition,
    FileInfo,
    FsStats,
    OpenFlags,
    StatChanges,
)
from fs9.vfs.checks import check_open, check_remove, check_wstat
from fs9.vfs.handles import File, with_path
from fs9.vfs.inuse import InUse, Operations
from fs9.vfs.synthetic import SyntheticDirectory
from fs9.vfs.watchview import CHMOD, CREATE, REMOVE, RENAME, WRITE

if TYPE_CHECKING:
    from fs9.clock import Clock
    from fs9.provider import Followable, Follower, OpenFile
    from fs9.vfs.mounts import Mount, MountTable

_NO_CHANGE = StatChanges()
_BLOCKING_READ = int(Capability.BLOCKING_READ)


class Vfs:
    """One namespace's tree. `mounts` is replaced whole; an operation ends on the one it began."""

    __slots__ = (
        "_append_locks",
        "_clock",
        "_earlier",
        "_operations",
        "_synthetic",
        "in_use",
        "mounts",
    )

    def __init__(self, mounts: MountTable, clock: Clock) -> None:
        self.mounts = mounts
        self.in_use = InUse()
        self._operations = Operations(self.in_use)
        #: Operations that began on tables before this one.
        self._earlier: list[Operations] = []
        self._clock = clock
        self._synthetic = SyntheticDirectory(clock.now_ns())
        self._append_locks: WeakValueDictionary[tuple[int, str], asyncio.Lock] | None = None

    def replace_mounts(self, mounts: MountTable) -> list[Operations]:
        """Let new operations find this table; those in progress on earlier ones."""
        self.mounts = mounts
        self._earlier = [each for each in (*self._earlier, self._operations) if each.running]
        self._operations = Operations(self.in_use)
        return list(self._earlier)

    # -- paths ----------------------------------------------------------------------------------

    async def stat(self, path: str) -> FileInfo:
        with self._operations:
            mounts = self.mounts
            try:
                mount = mounts.find(path)
                if mount.path == "/":  # the usual case: the provider's path is ours
                    return await mount.provider.stat(path)
                return with_path(await mount.provider.stat(mount.relative(path)), path)
            except NotFound:
                if mounts.holds_mounts(path):
                    return self._synthetic.info(path)
                raise

    async def statfs(self, path: str) -> FsStats:
        with self._operations:
            mount = self._find(self.mounts, path)
            try:
                return await mount.provider.statfs(mount.relative(path))
            except NotFound:
                if self.mounts.holds_mounts(path):
                    return await mount.provider.statfs("/")
                raise

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        """At most `limit` entries whose name sorts after `after`, mount points among them."""
        with self._operations:
            mounts = self.mounts
            try:
                mount = mounts.find(path)
                entries = await mount.provider.readdir(mount.relative(path), after, limit)
            except NotFound:
                if not mounts.holds_mounts(path):
                    raise
                entries = []
            else:
                if mount.path != "/":
                    entries = [with_path(info, mount.absolute(info.path)) for info in entries]
            if mounts.holds_mounts(path):
                entries = await self._with_mounts(mounts, path, entries, after, limit)
            return entries

    async def _with_mounts(
        self, mounts: MountTable, path: str, entries: list[FileInfo], after: str, limit: int
    ) -> list[FileInfo]:
        """The entries and the names in `path` that lead to mount points, in order."""
        by_name = {split(info.path)[1]: info for info in entries}
        for name in mounts.children(path):
            if name > after:
                child = join(path, name)
                mount = mounts.at(child)
                if mount is not None:
                    by_name[name] = await self._mount_point(mount)
                elif name not in by_name:
                    by_name[name] = self._synthetic.info(child)
        return [by_name[name] for name in sorted(by_name)[:limit]]

    async def _mount_point(self, mount: Mount) -> FileInfo:
        """The info of the mounted root; a backend that is down must not hide its siblings."""
        try:
            return with_path(await mount.provider.stat("/"), mount.path)
        except Fs9Error:
            return self._synthetic.info(mount.path)

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        with self._operations:
            mounts = self.mounts
            mount = self._find(mounts, path)
            check_remove(mount.capabilities)
            _refuse_mount_point(mounts, path, "remove")
            if mounts.holds_mounts(path) and await self._may_be_directory(mount, path):
                raise DirectoryNotEmpty(path)
            with self.in_use.changing(REMOVE, path):
                await mount.provider.remove(mount.relative(path), condition)

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        with self._operations:
            mounts = self.mounts
            mount = self._find(mounts, path)
            check_wstat(mount.capabilities, changes)
            made, changing = None, _change_of(path, changes)
            if changes.symlink_target is not None:
                made = path
                changes = StatChanges(symlink_target=changes.symlink_target)
                if mounts.holds_mounts(path):
                    raise AlreadyExists(path)
            elif changes.name is not None:
                made = changes.name
                changes = self._renaming(mounts, mount, path, changes.name)
            target = "" if made is None or made == path else made
            try:
                with self.in_use.changing(changing, path, target):
                    await mount.provider.wstat(mount.relative(path), changes, condition)
            except NotFound:
                if mounts.holds_mounts(path):
                    raise _only_mounts(path) from None
                if made is not None:
                    await self._refuse_new(mounts, made)
                raise

    def _renaming(self, mounts: MountTable, mount: Mount, path: str, target: str) -> StatChanges:
        """The change that renames within the provider; refuses what a mount forbids."""
        _refuse_mount_point(mounts, path, "rename")
        _refuse_mount_point(mounts, target, "replace")
        if self._find(mounts, target) is not mount:
            raise InvalidArgument("cannot rename across mount points")
        if path != target and (mounts.holds_mounts(path) or mounts.holds_mounts(target)):
            raise PermissionDenied(
                f"cannot rename {path} to {target}: there is a mount point below"
            )
        return StatChanges(name=mount.relative(target))

    def operation(self) -> Operations:
        """Context manager: counts its block as an operation of the namespace and of its mounts."""
        return self._operations

    async def follow(self, path: str, cursor: str | None) -> Follower:
        """Follow the messages of what is at the path; raises NotSupported where that has none."""
        with self._operations:
            mount = self._find(self.mounts, path)
            if not mount.capabilities & _BLOCKING_READ:
                raise NotSupported("follow")
            provider = cast("Followable", mount.provider)
            return await provider.follow(mount.relative(path), cursor)

    # -- open files -----------------------------------------------------------------------------

    async def open(self, path: str, flags: OpenFlags, condition: Condition = ALWAYS) -> File:
        """The open file, which the caller closes; its info has the namespace path."""
        with self._operations:
            mounts = self.mounts
            mount = self._find(mounts, path)
            check_open(mount.capabilities, flags)
            relative = mount.relative(path)
            try:
                if flags.create and mounts.holds_mounts(path):
                    await mount.provider.stat(relative)  # what is synthetic cannot be created
                # A topic is made by whoever opens it to write, whether or not he says `create`.
                makes = flags.create or flags.truncate or (flags.write and mount.message_like)
                if flags.replace or not makes:
                    open_file, info = await mount.provider.open(relative, flags, condition)
                else:
                    open_file, info = await self._open_changing(mount, path, flags, condition)
            except NotFound:
                if mounts.holds_mounts(path):
                    mount = self._synthetic.mount
                    open_file, info = self._synthetic.open_at(path, flags)
                elif flags.create:
                    await self._refuse_new(mounts, path)
                    raise
                else:
                    raise
            if mount.path != "/":
                info = with_path(info, path)
            self.in_use.files += 1
            mount.use.files += 1
            return File(mount, open_file, flags, info, self.in_use, self._clock.monotonic_s())

    async def _open_changing(
        self, mount: Mount, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[OpenFile, FileInfo]:
        """Open what the open itself makes or cuts off."""
        with self.in_use.changing(CREATE, path, "", flags.directory) as change:
            opened = await mount.provider.open(mount.relative(path), flags, condition)
            made = opened[0].created
            if made is None or flags.exclusive:  # one that does not say is believed to have
                made = flags.create
            if not made:
                change.type = WRITE if flags.truncate else None
            return opened

    async def read(self, file: File, offset: int, size: int) -> Buffer:
        with file:
            return await file.mount.provider.read(file.open_file, offset, size)

    async def write(self, file: File, offset: int, data: Buffer) -> int:
        """Write all of the data; where one write is one message, in one provider call."""
        with file:
            watch = None if file.flags.replace else file.in_use.watch
            if watch is not None:
                watch.write_begins(file)
            try:
                write = file.mount.provider.write
                written = await write(file.open_file, offset, data)
                if written != len(data) and not file.message_like:
                    written = await _write_rest(file, offset, memoryview(data), written)
                file.wrote(written)
                return written
            finally:
                if watch is not None:
                    watch.write_ends(file)
                    if file.open_file.changes_mount:
                        watch.lost(file.mount.path)

    def append_lock(self, file: File) -> asyncio.Lock:
        """The lock for appending to the file (by the path it was opened by) in several writes."""
        if self._append_locks is None:
            self._append_locks = WeakValueDictionary()
        key = (id(file.mount), file.path)
        lock = self._append_locks.get(key)
        if lock is None:
            lock = self._append_locks[key] = asyncio.Lock()
        return lock

    # -- what mounts add ------------------------------------------------------------------------

    def _find(self, mounts: MountTable, path: str) -> Mount:
        """The mount that serves the path; where there is none, one without any file."""
        try:
            return mounts.find(path)
        except NotFound:
            return self._synthetic.mount

    async def _may_be_directory(self, mount: Mount, path: str) -> bool:
        """Is the path, above a mount point, a directory of the provider or a synthetic one?"""
        try:
            info = await mount.provider.stat(mount.relative(path))
        except NotFound:
            return True
        return info.is_dir

    async def _refuse_new(self, mounts: MountTable, path: str) -> None:
        """Raise PermissionDenied when the path would be made in a synthetic directory."""
        parent = split(path)[0]
        if mounts.holds_mounts(parent):
            mount = self._find(mounts, parent)
            try:
                await mount.provider.stat(mount.relative(parent))
            except NotFound:
                raise _only_mounts(parent) from None


async def _write_rest(file: File, offset: int, data: memoryview, written: int) -> int:
    """Go on after a short write, until all is written."""
    while written < len(data):
        try:
            write = file.mount.provider.write
            count = await write(file.open_file, offset + written, data[written:])
            if count < 1:
                raise Internal("the provider wrote nothing")
        except BaseException:
            file.wrote(written)
            raise
        written += count
    return written


def _change_of(path: str, changes: StatChanges) -> str | None:
    """What watchers are told; None: nothing is changed."""
    if changes.symlink_target is not None:
        return CREATE
    if changes.name is not None:
        return None if changes.name == path else RENAME
    if changes.size is not None:
        return WRITE
    return None if changes == _NO_CHANGE else CHMOD


def _refuse_mount_point(mounts: MountTable, path: str, change: str) -> None:
    if path == "/":
        raise PermissionDenied(f"cannot {change} root")
    if mounts.at(path) is not None:
        raise PermissionDenied(f"cannot {change} mount point {path}")


def _only_mounts(path: str) -> PermissionDenied:
    return PermissionDenied(f"there are only mount points in {path}")
