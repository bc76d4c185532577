"""A session: one principal attached to one namespace, and the only door to its files.

    attach → Session → may the principal change files? → Vfs → record the change

Cheap to make and kept by the caller as long as `alive` says so. Paths are cleaned here; all
below works on clean ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fs9.errors import InvalidArgument
from fs9.path import clean
from fs9.principal import Principal, require_change
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

if TYPE_CHECKING:
    import asyncio

    from fs9.observe.audit import AuditEvent
    from fs9.vfs.handles import File
    from fs9.vfs.namespace import Namespace


class Session:
    __slots__ = ("_clock", "_handles", "_limits", "_may_change", "_vfs", "namespace", "principal")

    def __init__(self, principal: Principal, namespace: Namespace) -> None:
        """For `Namespace.attach`."""
        self.principal = principal
        self.namespace = namespace
        self._may_change = principal.may_change
        self._vfs = namespace.vfs
        self._handles = namespace.handles
        self._limits = namespace.limits
        self._clock = namespace.clock

    def alive(self, now_s: float) -> bool:
        """May this session go on serving: the namespace is loaded, the token not expired?"""
        expires_at_s = self.principal.expires_at_s
        return not self.namespace.closed and (expires_at_s is None or now_s < expires_at_s)

    # -- paths ----------------------------------------------------------------------------------

    async def stat(self, path: str) -> FileInfo:
        """The file's info; its path is the clean namespace path."""
        return await self._vfs.stat(clean(path))

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        """Change metadata; `changes.name` is a namespace path, a bare "b" means "/b"."""
        self._require_change()
        path = clean(path)
        target = None
        if changes.name is not None and changes.symlink_target is None:
            target = clean(changes.name)
            changes = msgspec.structs.replace(changes, name=target)
        if target is None:
            await self._vfs.wstat(path, changes, condition)
        else:
            with self._handles.changing_path(path, target):
                await self._vfs.wstat(path, changes, condition)
        self._record(_wstat_event(changes), path, target)

    async def statfs(self, path: str) -> FsStats:
        return await self._vfs.statfs(clean(path))

    async def readdir(
        self, path: str, *, after: str = "", limit: int | None = None
    ) -> list[FileInfo]:
        """The directory's entries and mount points, sorted by the bytes of the name.

        `after`: only names that sort after this one. `limit`: at most so many, never more
        than `listing_entries_max`; None means all, and InvalidArgument when that is more.
        """
        most = self._limits.listing_entries_max
        if limit is not None:
            if limit < 1:
                raise InvalidArgument("limit must be at least 1")
            return await self._vfs.readdir(clean(path), after, min(limit, most))
        entries = await self._vfs.readdir(clean(path), after, most + 1)
        if len(entries) > most:
            raise InvalidArgument(f"more than {most} entries: list them with limit and cursor")
        return entries

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        self._require_change()
        path = clean(path)
        with self._handles.changing_path(path):
            await self._vfs.remove(path, condition)
        self._record("delete", path)

    def capabilities(self, path: str) -> tuple[Capability, str]:
        """What the mount that serves the path can do, and its provider's name; or NotFound."""
        mount = self._vfs.mounts.find(clean(path))
        return Capability(mount.capabilities), mount.provider.name

    def mounts(self) -> list[tuple[str, str]]:
        """(mount point, provider name), sorted by mount point."""
        return [(mount.path, mount.provider.name) for mount in self._vfs.mounts]

    def events(
        self, *, limit: int = 100, offset: int = 0, path: str = "", event_type: str | None = None
    ) -> list[AuditEvent]:
        """The namespace's changes, newest first; see `AuditLog.find`."""
        return self.namespace.audit.find(
            limit=limit, offset=offset, path=path, event_type=event_type
        )

    # -- handles --------------------------------------------------------------------------------

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[str, FileInfo]:
        """A new handle and the file's info; raises QuotaExceeded at too many handles."""
        self._handles.check_room()
        file = await self.open_file(path, flags, condition)
        try:
            return self._handles.register(file), file.info
        except BaseException:
            await file.close(discard=True)
            raise

    async def read(self, handle_id: str, offset: int, size: int) -> Buffer:
        file = self._handles.find(handle_id) or await self._wake(handle_id)
        return await self._vfs.read(file, offset, size)

    async def write(self, handle_id: str, offset: int, data: Buffer) -> int:
        """Write all of the data or raise; the count, 0 for no data without asking anyone."""
        self._require_change()
        file = self._handles.find(handle_id) or await self._wake(handle_id)
        if not data:
            return 0
        if file.flags.append:
            return await self._append(file, offset, data)
        return await self._vfs.write(file, offset, data)

    async def close(self, handle_id: str, sync: bool = False) -> None:
        """Close the handle; with `sync` its bytes are on disk then. A replacement swaps in."""
        file = self._handles.find(handle_id)
        if file is None:
            if not sync:
                self.namespace.revival.drop(handle_id)
                return
            file = await self._wake(handle_id)
        if file.flags.replace:
            self._require_change()
        self._handles.pop(handle_id)
        await self._commit(file, sync)

    def handle_file(self, handle_id: str) -> File:
        """The open file of a live handle; or InvalidHandle. See `wake_file`."""
        return self._handles.get(handle_id)

    async def wake_file(self, handle_id: str) -> File:
        """The open file of a handle, for reading or writing in pieces, opened again if need be.

        The caller holds it (`File.hold`) from the first piece to the last, without an `await`
        before. Raises InvalidHandle, OwnerUnavailable.
        """
        return self._handles.find(handle_id) or await self._wake(handle_id)

    # -- transfers: open files without a handle -------------------------------------------------

    async def open_file(self, path: str, flags: OpenFlags, condition: Condition = ALWAYS) -> File:
        """An open file that only the caller knows: `commit_file` or `discard_file` ends it."""
        if flags.write or flags.create or flags.truncate:
            self._require_change()
        path = clean(path)
        file = await self._vfs.open(path, flags, condition)
        if flags.create and not flags.replace:
            self._record("mkdir" if flags.directory else "create", path)
        return file

    async def read_file(self, file: File, offset: int, size: int) -> Buffer:
        file.used_s = self._clock.monotonic_s()
        return await self._vfs.read(file, offset, size)

    async def write_file(self, file: File, offset: int, data: Buffer) -> int:
        """One piece; a caller that appends several holds `append_lock` around them."""
        self._require_change()
        file.used_s = self._clock.monotonic_s()
        return await self._vfs.write(file, offset, data)

    async def write_whole(self, file: File, offset: int, data: Buffer) -> int:
        """As `write`, to the open file of a handle: an append waits for its turn."""
        self._require_change()
        if not data:
            return 0
        file.used_s = self._clock.monotonic_s()
        if file.flags.append:
            return await self._append(file, offset, data)
        return await self._vfs.write(file, offset, data)

    async def commit_file(self, file: File, sync: bool = True) -> FileInfo | None:
        """Close, and swap a replacement in; its info then, else None."""
        if file.flags.write:
            self._require_change()
        return await self._commit(file, sync)

    async def discard_file(self, file: File) -> None:
        """Close, and throw a replacement away."""
        await file.close(discard=True)

    def append_lock(self, file: File) -> asyncio.Lock:
        """Held while appending in pieces, so that appends do not interleave."""
        return self._vfs.append_lock(file)

    # -------------------------------------------------------------------------------------------

    async def _append(self, file: File, offset: int, data: Buffer) -> int:
        file.hold()  # while it waits for its turn, the namespace is not given up
        try:
            async with self._vfs.append_lock(file):
                return await self._vfs.write(file, offset, data)
        finally:
            file.let_go()

    async def _wake(self, handle_id: str) -> File:
        return await self.namespace.revival.file(handle_id)

    async def _commit(self, file: File, sync: bool) -> FileInfo | None:
        info = await file.close(sync=sync)
        if file.flags.replace:
            if info is not None and self._handles.journal is not None:
                self._handles.journal.replaced(file.path, info.file_id)
            self._record("upload", file.path)
        return info

    def _require_change(self) -> None:
        if not self._may_change:
            require_change(self.principal)

    def _record(self, event_type: str, path: str, target: str | None = None) -> None:
        self.namespace.audit.record(
            event_type, path, self.principal.user, self._clock.now_s(), target
        )


def _wstat_event(changes: StatChanges) -> str:
    """The audit trail's word for a change; a symbolic link is something created."""
    if changes.symlink_target is not None:
        return "create"
    if changes.name is not None:
        return "rename"
    return "truncate" if changes.size is not None else "chmod"
