"""A session: one principal attached to one namespace, and the only access to its files.

    attach → Session → may the principal do that there? → Vfs → record the change

Cheap to make and kept by the caller as long as `alive` says so. Paths are cleaned here; all
below works on clean ones. Rights are asked for before anything is looked up, and for handles at
each use, at the path where the file is then. What is hidden from a narrowed token
(`fs9.vfs.permissions`) is NotFound, a handle of it InvalidHandle, as if there were nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    InvalidHandle,
    NotDirectory,
    NotFound,
    PermissionDenied,
)
from fs9.observe.audit_follower import AuditFollower
from fs9.path import clean, join
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
from fs9.vfs.changes import changed_by_open, changed_by_wstat, written
from fs9.vfs.permissions import (
    APPEND,
    CREATE,
    DELETE,
    LIST,
    OVERWRITE,
    READ,
    RENAME,
    Permissions,
    permissions_of,
)
from fs9.vfs.watchview import View

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from fs9.observe.audit import EventFilter
    from fs9.observe.audit_chain import AuditRecord
    from fs9.observe.audit_journal import Writing
    from fs9.vfs.follow import Following
    from fs9.vfs.handles import File
    from fs9.vfs.namespace import Namespace
    from fs9.vfs.watcher import Encode

_NO_CHANGE = StatChanges()


class Session:
    __slots__ = (
        "_audit",
        "_clock",
        "_handles",
        "_limits",
        "_may_change",
        "_narrowed",
        "_user",
        "_vfs",
        "namespace",
        "principal",
    )

    def __init__(self, principal: Principal, namespace: Namespace) -> None:
        """For `Namespace.attach`."""
        self.principal = principal
        self.namespace = namespace
        self._may_change = principal.may_change
        self._narrowed = permissions_of(principal)
        if self._narrowed is not None:
            namespace.handles.moves.keep()
        self._user = principal.user
        self._vfs = namespace.vfs
        self._handles = namespace.handles
        self._limits = namespace.limits
        self._clock = namespace.clock
        self._audit = namespace.audit

    def alive(self, now_s: float) -> bool:
        """May this session go on serving: the namespace is loaded, the token not expired?"""
        expires_at_s = self.principal.expires_at_s
        return not self.namespace.closed and (expires_at_s is None or now_s < expires_at_s)

    # -- paths ----------------------------------------------------------------------------------

    async def stat(self, path: str) -> FileInfo:
        """The file's info; its path is the clean namespace path."""
        path = clean(path)
        narrowed = self._narrowed
        if narrowed is not None and not narrowed.way(path):
            narrowed.require(path, LIST, READ)
        return await self._vfs.stat(path)

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        """Change metadata; `changes.name` is a namespace path, a bare "b" means "/b"."""
        self._require_change()
        path = clean(path)
        target = None
        if changes.name is not None and changes.symlink_target is None:
            target = clean(changes.name)
            changes = msgspec.structs.replace(changes, name=target)
        if target is None:
            right = OVERWRITE if changes.symlink_target is None else CREATE
            self._require(path, right)
            await self._vfs.wstat(path, changes, condition)
        else:
            self._require(path, RENAME)
            self._require(target, RENAME)
            handles = self._handles
            with handles.changing_path(path, target), handles.moves.renaming(path, target):
                await self._vfs.wstat(path, changes, condition)
        if changes != _NO_CHANGE:
            self._record(*changed_by_wstat(path, changes))

    async def statfs(self, path: str) -> FsStats:
        path = clean(path)
        if self._narrowed is not None:
            self._narrowed.require_visible(path)
        return await self._vfs.statfs(path)

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
            return await self._readdir(clean(path), after, min(limit, most))
        entries = await self._readdir(clean(path), after, most + 1)
        if len(entries) > most:
            raise InvalidArgument(f"more than {most} entries: list them with limit and cursor")
        return entries

    async def _readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        narrowed = self._narrowed
        if narrowed is None or narrowed.allows(LIST, path):
            return await self._vfs.readdir(path, after, limit)
        names = narrowed.way(path)
        if not names:
            narrowed.require(path, LIST)
        if not (await self._vfs.stat(path)).is_dir:
            raise NotDirectory(path)
        entries: list[FileInfo] = []
        for name in names:
            if name > after and len(entries) < limit:
                try:
                    entries.append(await self._vfs.stat(join(path, name)))
                except NotFound:
                    continue
        return entries

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        self._require_change()
        path = clean(path)
        self._require(path, DELETE)
        with self._handles.changing_path(path):
            await self._vfs.remove(path, condition)
        self._record("delete", path)

    async def follow(self, path: str, cursor: str | None) -> Following:
        """Follow a file's messages (see `Followable.follow`); the caller closes it.

        Raises also NotSupported: nobody can follow what is at the path.
        """
        path = clean(path)
        self._require(path, READ)
        followers = self.namespace.followers
        followers.check_room()
        follower = await self._vfs.follow(path, cursor)
        return followers.add(follower, lambda: self.alive(self._clock.now_s()))

    def watch(self, path: str, cursor: str | None, encode: Encode) -> Following:
        """Watch the changes at the path and below, where the principal may look.

        `cursor` as `WatchLog.watch` has it. The caller closes it.
        """
        path = clean(path)
        narrowed = self._narrowed
        roots = (path,) if narrowed is None else narrowed.within(path, LIST, READ)
        if narrowed is not None and not roots:
            narrowed.require(path, LIST, READ)
        followers = self.namespace.followers
        followers.check_room()
        with self._vfs.in_use:
            watcher = self.namespace.watch.watch(View(path, roots), cursor, encode)
        return followers.add(watcher, lambda: self.alive(self._clock.now_s()))

    def capabilities(self, path: str) -> tuple[Capability, str]:
        """What the mount that serves the path can do, and its provider's name; or NotFound."""
        path = clean(path)
        if self._narrowed is not None:
            self._narrowed.require_visible(path)
        mount = self._vfs.mounts.find(path)
        return Capability(mount.capabilities), mount.provider.name

    def mounts(self) -> list[tuple[str, str]]:
        """(mount point, provider name), sorted by mount point."""
        return [
            (mount.path, mount.provider.name)
            for mount in self._vfs.mounts
            if self._narrowed is None or self._narrowed.visible(mount.path)
        ]

    async def events(
        self, wanted: EventFilter, *, limit: int = 100, offset: int = 0
    ) -> list[AuditRecord]:
        """What happened in the namespace, newest first; see `AuditTrail.find`."""
        return await self.namespace.audit.find(self._seen(wanted), limit=limit, offset=offset)

    async def follow_events(
        self, wanted: EventFilter, cursor: str | None, encode: Callable[[AuditRecord], bytes]
    ) -> Following:
        """What happens in the namespace, as it is stored; the caller closes it.

        From after the event with the sequence number `cursor` on; None: from now on.
        """
        followers = self.namespace.followers
        followers.check_room()
        audit = self.namespace.audit
        follower = await AuditFollower.begin(audit, self._seen(wanted), cursor, encode)
        return followers.add(follower, lambda: self.alive(self._clock.now_s()))

    async def links(self, after: int, limit: int) -> list[AuditRecord]:
        """The chain as it is stored, oldest first; not for narrowed tokens, which see a part."""
        if self._narrowed is not None:
            raise PermissionDenied("this token does not see the whole audit trail")
        return await self.namespace.audit.links(after, limit)

    def _seen(self, wanted: EventFilter) -> EventFilter:
        """The entries that the principal may know of."""
        if self._narrowed is None:
            return wanted
        return msgspec.structs.replace(wanted, visible=self.sees)

    def sees(self, path: str) -> bool:
        """May the principal know what happens at the clean path?"""
        narrowed = self._narrowed
        return narrowed is None or narrowed.allows(LIST, path) or narrowed.allows(READ, path)

    # -- handles --------------------------------------------------------------------------------

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[str, FileInfo]:
        """A new handle and the file's info; raises QuotaExceeded at too many handles."""
        self._handles.check_room()
        file = await self.open_file(path, flags, condition)
        self._record_opened(file)
        try:
            return self._handles.register(file), file.info
        except BaseException:
            await file.close(discard=True)
            raise

    async def read(self, handle_id: str, offset: int, size: int) -> Buffer:
        file = self._handles.find(handle_id, self._user) or await self._wake(handle_id)
        if self._narrowed is not None:
            self._require_open(self._narrowed, file, handle_id, READ)
        return await self._vfs.read(file, offset, size)

    async def write(self, handle_id: str, offset: int, data: Buffer) -> int:
        """Write all of the data or raise; the count, 0 for no data without asking anyone."""
        self._require_change()
        file = self._handles.find(handle_id, self._user) or await self._wake(handle_id)
        self._require_writing(file, handle_id)
        if not data:
            return 0
        if file.flags.append:
            return await self._append(file, offset, data)
        return await self._vfs.write(file, offset, data)

    async def close(self, handle_id: str, sync: bool = False) -> None:
        """Close the handle; with `sync` its bytes are on disk then. A replacement swaps in."""
        file = self._handles.find(handle_id, self._user)
        if file is None:
            if not sync and self._narrowed is None:
                self.namespace.revival.drop(handle_id, self._user)
                return
            file = await self._wake(handle_id)
        if file.flags.replace:
            self._require_role()
            self._require_writing(file, handle_id)
        elif self._narrowed is not None:
            self._require_open(self._narrowed, file, handle_id)
        self._handles.pop(handle_id)
        await self._commit(file, sync)

    def path_of(self, handle_id: str) -> str | None:
        """Where the user's live handle was opened; None: there is none."""
        file = self._handles.find(handle_id, self._user)
        return None if file is None else file.path

    async def wake_file(self, handle_id: str) -> File:
        """The open file of a handle, for reading or writing in pieces; reopened if it is dormant.

        The caller holds it (`File.hold`) from the first piece to the last, without an `await`
        before. Raises InvalidHandle, OwnerUnavailable.
        """
        file = self._handles.find(handle_id, self._user) or await self._wake(handle_id)
        if self._narrowed is not None:
            self._require_open(self._narrowed, file, handle_id)
        return file

    # -- transfers: open files without a handle -------------------------------------------------

    async def open_file(self, path: str, flags: OpenFlags, condition: Condition = ALWAYS) -> File:
        """An open file without a handle: `commit_file` or `discard_file` ends it."""
        if flags.write or flags.create or flags.truncate:
            self._require_change()
        path = clean(path)
        renames = self._handles.moves.count
        if self._narrowed is None:
            file = await self._vfs.open(path, flags, condition)
        else:
            file = await self._open_narrowed(self._narrowed, path, flags, condition)
        file.user, file.opened_by = self._user, self.principal
        self._handles.opened(file, renames)
        return file

    async def _open_narrowed(
        self, narrowed: Permissions, path: str, flags: OpenFlags, condition: Condition
    ) -> File:
        """Open what exists or make what does not, if only one of them is allowed.

        In one step with the open: there is no moment for others in between.
        """
        if flags.read or not (flags.write or flags.create):
            narrowed.require(path, READ)
        may_open = narrowed.may_open(path, flags)
        if not flags.create:
            if not may_open:
                narrowed.require(path, OVERWRITE)
            return await self._vfs.open(path, flags, condition)
        may_create = narrowed.allows(CREATE, path)
        if may_open and may_create:
            return await self._vfs.open(path, flags, condition)
        if may_create or flags.directory or flags.exclusive:
            narrowed.require(path, CREATE)
            return await self._create_only(path, flags, condition)
        if not may_open:
            narrowed.require(path, CREATE, OVERWRITE)
        try:
            return await self._vfs.open(
                path, msgspec.structs.replace(flags, create=False), condition
            )
        except NotFound:
            raise PermissionDenied(f"this token may not {CREATE} at {path}") from None

    async def _create_only(self, path: str, flags: OpenFlags, condition: Condition) -> File:
        exclusive = msgspec.structs.replace(flags, exclusive=True)
        try:
            return await self._vfs.open(path, exclusive, condition)
        except AlreadyExists:
            if flags.exclusive or flags.directory:
                raise
            raise PermissionDenied(f"this token may not {OVERWRITE} at {path}") from None

    async def read_file(self, file: File, offset: int, size: int) -> Buffer:
        if self._narrowed is not None:
            self._require_open(self._narrowed, file, "", READ)
        file.used_s = self._clock.monotonic_s()
        return await self._vfs.read(file, offset, size)

    async def write_file(self, file: File, offset: int, data: Buffer) -> int:
        """One piece; a caller that appends several holds `append_lock` around them."""
        self._require_change()
        self._require_writing(file)
        file.used_s = self._clock.monotonic_s()
        return await self._vfs.write(file, offset, data)

    async def write_whole(self, file: File, offset: int, data: Buffer) -> int:
        """As `write`, to the open file of a handle: an append waits for its turn."""
        self._require_change()
        self._require_writing(file)
        if not data:
            return 0
        file.used_s = self._clock.monotonic_s()
        if file.flags.append:
            return await self._append(file, offset, data)
        return await self._vfs.write(file, offset, data)

    async def commit_file(self, file: File, sync: bool = True) -> FileInfo | None:
        """Close what was uploaded, and swap a replacement in; its info then, else None."""
        if file.flags.write:
            self._require_role()
            self._require_writing(file)
        return await self._commit(file, sync, uploaded=True)

    async def discard_file(self, file: File) -> None:
        """Close, and throw a replacement away."""
        if file.flags.write:
            self._record_opened(file)
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
        return await self.namespace.revival.file(handle_id, self._user)

    async def _commit(self, file: File, sync: bool, *, uploaded: bool = False) -> FileInfo | None:
        replaced = file.flags.replace
        writing = file.writing
        if uploaded and not replaced:
            file.writing = None  # told of as an upload
        try:
            info = await file.close(sync=sync)
        except BaseException:
            if writing is not None and uploaded and not replaced:
                self._record("write", file.path, written(writing), writing)
            raise
        if replaced and info is not None and self._handles.journal is not None:
            self._handles.journal.replaced(file.path, info.file_id)
        if replaced or uploaded:
            details = {"bytes": 0 if writing is None else writing.bytes}
            self._record("upload", file.path, details, writing)
        return info

    def _require_change(self) -> None:
        """To begin a change: one that could not be told of is refused, too."""
        if not self._may_change:
            require_change(self.principal)
        self._audit.check_room()

    def _require_role(self) -> None:
        if not self._may_change:
            require_change(self.principal)

    def _require(self, path: str, right: str) -> None:
        if self._narrowed is not None:
            self._narrowed.require(path, right)

    def _require_writing(self, file: File, handle_id: str = "") -> None:
        """To write to the open file, or to swap it in."""
        if self._narrowed is not None:
            rights = [OVERWRITE, APPEND] if file.flags.append else [OVERWRITE]
            if file.created:
                rights.append(CREATE)
            self._require_open(self._narrowed, file, handle_id, *rights)
            if file.open_file.changes_mount:
                self._narrowed.require_all_below(file.mount.path)

    def _require_open(
        self, narrowed: Permissions, file: File, handle_id: str, *rights: str
    ) -> None:
        """One of the rights at the path where the open file is now; without any: it is visible."""
        path = self._handles.place(file)
        if not path:
            raise PermissionDenied("where the file is now is not known: open it again")
        if not narrowed.visible(path):
            raise InvalidHandle(handle_id)
        if rights:
            narrowed.require(path, *rights)

    def _record(
        self,
        event_type: str,
        path: str,
        details: dict[str, Any] | None = None,
        writing: Writing | None = None,
    ) -> None:
        self._audit.record(event_type, path, self._user, details, writing)

    def _record_opened(self, file: File) -> None:
        change = changed_by_open(file.path, file.flags, file.open_file.created)
        if change is not None:
            self._record(*change)
