"""pagefs: the ten operations, over a tree, its contents and two stores.

    store, memory, lmdbstore, fileblocks   the stores    records, view   what is in them
    core       what the parts share        content, compaction   bytes of files
    tree       names                       branches, control   snapshots and forks
    backends   config -> stores

Reserved names in the root, which no listing of the root shows: `/.snapshots/NAME` (a snapshot,
read-only; made by making that directory, deleted by removing it), `/.forks/NAME` (a writable
fork, likewise), `/.snapshots/.ctl` and `/.trash` (where they are configured).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    InvalidHandle,
    IsDirectory,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
)
from fs9.provider import BaseProvider, OpenFile
from fs9.providers.localerrors import Translated, failure
from fs9.providers.pagefs import records
from fs9.providers.pagefs.branches import Branches
from fs9.providers.pagefs.compaction import Compaction
from fs9.providers.pagefs.content import Content
from fs9.providers.pagefs.control import ControlFile
from fs9.providers.pagefs.destroy import remove_all
from fs9.providers.pagefs.openfile import PageFile, StagedFile, file_id
from fs9.providers.pagefs.records import DIRECTORY, REGULAR, Inode
from fs9.providers.pagefs.rules import (
    About,
    apply,
    check_kind,
    check_openable,
    copy_owner,
)
from fs9.providers.pagefs.tree import Tree, check, info_of
from fs9.providers.values import check_values
from fs9.types import ALWAYS, POSIX_LIKE, Capability, FsStats, StatChanges

if TYPE_CHECKING:
    from fs9.provider import Departures
    from fs9.providers.pagefs.content import Changes
    from fs9.providers.pagefs.core import Core, OpenInode
    from fs9.providers.pagefs.view import View
    from fs9.types import Buffer, Condition, FileInfo, OpenFlags

_INODES_MAX = 2**40


class PageFs(BaseProvider):
    name = "pagefs"

    def __init__(self, core: Core) -> None:
        self.core = core
        self.content = Content(core)
        self.compaction = Compaction(core, self.content)
        self.tree = Tree(core, self.content)
        self.branches = Branches(core, self.tree, self.content)
        self.volatile = core.store.volatile or (core.blocks is not None and core.blocks.volatile)

    async def start(self) -> None:
        """Load, or make a new tree; finish what a crash interrupted. Once, before all else."""
        await self.branches.load()

    def capabilities(self) -> Capability:
        return (
            POSIX_LIKE
            | Capability.ETAG
            | Capability.ATOMIC_RENAME
            | Capability.APPEND
            | Capability.HARDLINK
            | Capability.XATTR
            | Capability.VERSIONING
        )

    async def destroy(self) -> None:
        with Translated("/"):
            await remove_all(self.core.store, self.core.blocks)

    def tell_departures(self, to: Departures) -> None:
        """See `fs9.provider.Departing`: what has been in the trash for long."""
        self.tree.expiry.begin(to)

    async def aclose(self) -> None:
        with Translated("/"):
            await self.core.aclose()

    # -- by path --------------------------------------------------------------------------------

    def _writable(self, path: str) -> tuple[View, str]:
        """The view that a path to be changed is in, and the path in it."""
        view, inner = self.branches.resolve(path)
        if not view.writable:
            raise PermissionDenied(f"a snapshot is read-only: {path}")
        return view, inner

    async def stat(self, path: str) -> FileInfo:
        with Translated(path):
            if path.startswith("/."):
                synthetic = self.branches.stat(path)
                if synthetic is not None:
                    return synthetic
            view, inner = self.branches.resolve(path)
            with About(path, inner):
                _, inode = await self.tree.find(view, inner)
            return info_of(path, inode)

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        with Translated(path):
            if path.startswith("/."):
                synthetic = self.branches.readdir(path, after, limit)
                if synthetic is not None:
                    return synthetic
            view, inner = self.branches.resolve(path)
            with About(path, inner):
                infos = await self.tree.readdir(view, inner, after, limit)
            return self.branches.renamed(infos, path, inner)

    async def statfs(self, path: str) -> FsStats:
        with Translated(path):
            core = self.core
            files = core.head.counters.files
            if core.blocks is not None and not core.blocks.volatile:
                total, free = await core.blocks.space()
            else:
                total = core.limits.memfs_bytes_max
                free = max(0, total - core.head.counters.bytes)
            stats = FsStats(
                total_bytes=total,
                free_bytes=free,
                total_inodes=_INODES_MAX,
                free_inodes=_INODES_MAX - files,
                block_size=records.PAGE_BYTES,
                max_name_len=255,
            )
        return stats if core.quota is None else core.quota.within(stats)

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        with Translated(path):
            if path.startswith("/.") and await self.branches.remove(path):
                return
            view, inner = self._writable(path)
            with About(path, inner):
                if self.tree.has_trash and view is self.core.head:
                    await self.tree.trash(view, inner, condition)
                else:
                    await self.tree.remove(view, inner, condition)

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        with Translated(path):
            if path.startswith("/.") and self.branches.change(path, changes, condition):
                return
            view, inner = self._writable(path)
            if changes.symlink_target is not None:
                with About(path, inner):
                    await self.tree.symlink(view, inner, changes.symlink_target, condition)
            elif changes.name is not None:
                await self._rename(view, path, inner, changes.name, condition)
            else:
                check_values(changes, self.core.limits.file_bytes_max)
                with About(path, inner):
                    await self._change(view, inner, changes, condition)

    async def _rename(
        self, view: View, path: str, inner: str, target: str, condition: Condition
    ) -> None:
        if target.startswith("/.") and self.branches.is_reserved(target):
            raise PermissionDenied(f"{target} is reserved")
        to_view, to_inner = self._writable(target)
        if to_view is not view:
            raise InvalidArgument("cannot rename from one tree to another")
        if inner == path:
            await self.tree.rename(view, inner, to_inner, condition)
        else:
            with About(path, inner):
                await self.tree.rename(view, inner, to_inner, condition)

    async def link(self, path: str, target: str) -> None:
        """A hard link `target` to the file at `path`.

        Raises PermissionDenied (a directory), AlreadyExists, NotFound, NotDirectory.
        """
        with Translated(path):
            view, inner = self._writable(path)
            to_view, to_inner = self._writable(target)
            if to_view is not view:
                raise InvalidArgument("cannot link from one tree to another")
            await self.tree.link(view, inner, to_inner)

    async def _change(
        self, view: View, path: str, changes: StatChanges, condition: Condition
    ) -> None:
        """Mode, owner, size and times; all of them or, after an error, none."""
        if changes.size is None:
            await self._change_inode(view, path, None, changes, condition)
            return
        number, _ = await self.tree.locate(view, path)
        async with self.core.opened(view, number).lock:
            await self._change_inode(view, path, number, changes, condition)
        self._forget_closed(view, number)

    async def _change_inode(
        self,
        view: View,
        path: str,
        turn: int | None,
        changes: StatChanges,
        condition: Condition,
    ) -> None:
        core = self.core
        batch: Changes = {}
        async with core.lock:
            number, inode = await self.tree.find(view, path)
            check(condition, inode, path)
            check_kind(inode, path, changes)
            if changes == StatChanges():
                return
            size, content, more = inode.size, inode.content, False
            if changes.size is not None:
                if turn != number:
                    raise NotFound(path)  # replaced while this waited for its turn
                more = await self.content.resize(view, batch, number, inode, changes.size)
                inode.mtime_ns = core.clock.now_ns()
                inode.version = core.serial()
            apply(inode, changes)
            inode.ctime_ns = core.clock.now_ns()
            view.put(batch, records.inode_key(number), records.encode(inode))
            await core.commit(view, batch, inode.size - size)
        self.content.note_garbage(batch)
        if more:
            await self.content.reap(view, number, content)

    # -- open and close -------------------------------------------------------------------------

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[PageFile, FileInfo]:
        if flags.truncate and not flags.write:
            raise InvalidArgument("truncate needs write")
        if flags.replace and (flags.directory or not flags.write):
            raise InvalidArgument("replace needs write and a file")
        with Translated(path):
            if path.startswith("/."):
                synthetic = await self.branches.open(path, flags, condition)
                if synthetic is not None:
                    return synthetic
            changing = flags.write or flags.create
            view, inner = self._writable(path) if changing else self.branches.resolve(path)
            with About(path, inner):
                file, inode = await self._open(view, inner, flags, condition)
            return file, info_of(path, inode, file_id(file))

    async def _open(
        self, view: View, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[PageFile, Inode]:
        if flags.replace:
            return await self._stage(view, path, flags, condition)
        if flags.create and flags.directory:
            async with self.core.lock:
                number, inode = await self.tree.make(view, path, condition, DIRECTORY)
            file = PageFile(view, number, DIRECTORY, flags, path)
            file.created = True
            return file, inode
        if flags.create:
            async with self.core.lock:
                number, inode, made = await self._existing_or_new(view, path, flags, condition)
                file = self._opened(view, number, inode, flags, path)
                file.created = made
        else:
            made = False
            async with self.core.lock:  # so that no removal comes between finding and holding
                number, inode = await self.tree.find(view, path)
                check_openable(inode, path, flags)
                check(condition, inode, path)
                file = self._opened(view, number, inode, flags, path)
        if flags.truncate and not made and inode.kind == REGULAR:
            try:
                inode = await self._empty(file, condition)
            except BaseException:
                await asyncio.shield(self.close(file))
                raise
        return file, inode

    async def _existing_or_new(
        self, view: View, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[int, Inode, bool]:
        parent, name = await self.tree.parent(view, path)
        found = await self.tree.entry(view, parent, name) if name else (parent, DIRECTORY)
        if found is None:
            number, inode = await self.tree.make(view, path, condition, REGULAR)
            return number, inode, True
        if flags.exclusive:
            raise AlreadyExists(path)
        inode = await self.tree.inode(view, found[0])
        check_openable(inode, path, flags)
        check(condition, inode, path)
        return found[0], inode, False

    def _opened(
        self, view: View, number: int, inode: Inode, flags: OpenFlags, path: str
    ) -> PageFile:
        file = PageFile(view, number, inode.kind, flags, path)
        if inode.kind == REGULAR:
            self._hold(file)
        return file

    def _hold(self, file: PageFile) -> None:
        self.core.check_current(file.view)
        file.opened = self.core.opened(file.view, file.number)
        file.opened.opens += 1

    async def _empty(self, file: PageFile, condition: Condition) -> Inode:
        assert file.opened is not None
        core, view, number = self.core, file.view, file.number
        changes: Changes = {}
        async with file.opened.lock, core.lock:
            inode = await self.tree.inode(view, number)
            check(condition, inode, file.path)
            size, content = inode.size, inode.content
            more = await self.content.resize(view, changes, number, inode, 0)
            inode.mtime_ns = inode.ctime_ns = core.clock.now_ns()
            inode.version = core.serial()
            view.put(changes, records.inode_key(number), records.encode(inode))
            await core.commit(view, changes, -size)
        self.content.note_garbage(changes)
        if more:
            core.spawn(self.content.reap(view, number, content))
        return inode

    async def _stage(
        self, view: View, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[PageFile, Inode]:
        if path == "/":
            raise IsDirectory(path)
        core, tree = self.core, self.tree
        async with core.lock:
            parent, name = await tree.parent(view, path)
            old = await self._replaceable(view, parent, name, path, flags, condition)
            number, inode = tree.new_inode(REGULAR, 0o644)
            inode.nlink = 0
            if old is not None:
                copy_owner(old[1], inode)
            changes: Changes = {}
            view.put(changes, records.inode_key(number), records.encode(inode))
            view.put(changes, records.orphan_key(number), b"1")
            await core.commit(view, changes, 0, 1)
        file = StagedFile(view, number, flags, path, condition, (parent, name))
        self._hold(file)
        return file, inode

    async def _replaceable(
        self,
        view: View,
        parent: int,
        name: str,
        path: str,
        flags: OpenFlags,
        condition: Condition,
    ) -> tuple[int, Inode] | None:
        """What a new version would replace; raises when it may not."""
        found = await self.tree.entry(view, parent, name)
        inode = None
        if found is None:
            if not flags.create:
                raise NotFound(path)
        else:
            if flags.create and flags.exclusive:
                raise AlreadyExists(path)
            inode = await self.tree.inode(view, found[0])
            check_openable(inode, path, flags)
        check(condition, inode, path)
        return None if found is None or inode is None else (found[0], inode)

    async def close(
        self, file: OpenFile, *, sync: bool = False, discard: bool = False
    ) -> FileInfo | None:
        assert isinstance(file, PageFile)
        if file.closed:
            raise InvalidHandle("the file is closed")
        file.closed = True
        info = None
        with Translated(file.path):
            try:
                if isinstance(file, StagedFile) and not discard:
                    info = await self._swap_in(file)
            finally:
                if file.opened is not None:
                    await self._release(file, file.opened)
            if sync and not discard:
                await self.core.sync()
        return info

    async def _swap_in(self, file: StagedFile) -> FileInfo:
        core, tree, view = self.core, self.tree, file.view
        (parent, name), path, number = file.place, file.path, file.number
        await tree.purge_some(view)
        async with core.lock:
            if await view.get(records.inode_key(parent)) is None:
                raise NotFound(path)
            old = await self._replaceable(view, parent, name, path, file.flags, file.condition)
            inode = await tree.inode(view, number)
            changes: Changes = {}
            bytes_, files, reaped = 0, 0, None
            if old is not None:
                copy_owner(old[1], inode)
                found = (old[0], old[1].kind)
                bytes_, files, reaped = await tree.displace(view, changes, found, file.place)
            inode.nlink = 1
            inode.ctime_ns = core.clock.now_ns()
            view.put(changes, records.inode_key(number), records.encode(inode))
            view.delete(changes, records.orphan_key(number))
            await tree.enter(view, changes, parent, name, number, REGULAR)
            await core.commit(view, changes, bytes_, files)
            tree.finish(view, changes, reaped)
        return info_of(path, inode, file_id(file))

    async def _release(self, file: PageFile, opened: OpenInode) -> None:
        view, number = file.view, file.number
        opened.opens -= 1
        if opened.opens or not view.writable:
            if not opened.opens:
                self._forget_closed(view, number)
            return
        async with self.core.lock:
            value = await view.get(records.inode_key(number))
            inode = None if value is None else records.decode_inode(value)
            if inode is not None and not inode.nlink and not opened.opens:
                await self.tree.discard_orphan(view, number)
        if inode is not None and not opened.opens:
            async with opened.lock:
                await self.content.trim(number, inode)
        if inode is not None and inode.nlink and self.compaction.is_sparse(inode):
            self.core.spawn(self._compact(view, number))
        self._forget_closed(view, number)

    async def _compact(self, view: View, number: int) -> None:
        async with self.core.opened(view, number).lock:
            if await view.get(records.inode_key(number)) is not None:
                await self.compaction.run(view, number)
        self._forget_closed(view, number)

    def _forget_closed(self, view: View, number: int) -> None:
        opened = self.core.opens.get((view.name, number))
        if opened is not None and not opened.opens and not opened.lock.locked():
            self.core.let_go(view, number)
        if view.replaced:
            self.branches.closed(view)

    # -- bytes ----------------------------------------------------------------------------------

    async def read(self, file: OpenFile, offset: int, size: int) -> Buffer:
        assert isinstance(file, PageFile)
        if file.closed:
            raise InvalidHandle("the file is closed")
        if not file.flags.read:
            raise PermissionDenied("file not opened for reading")
        if file.kind == DIRECTORY:
            raise IsDirectory(file.path)
        if offset < 0 or size < 0:
            raise InvalidArgument("offset and size cannot be negative")
        if isinstance(file, ControlFile):
            return file.status[offset : offset + size]
        known = None if file.opened is None else file.opened.known
        try:
            return await self.content.read(file.view, file.number, offset, size, known)
        except OSError as error:
            raise failure(error, file.path) from error

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        assert isinstance(file, PageFile)
        if file.closed:
            raise InvalidHandle("the file is closed")
        if isinstance(file, ControlFile):
            with Translated(file.path):
                return await file.command(data)
        if not file.flags.write or file.opened is None:
            raise PermissionDenied("file not opened for writing")
        if offset < 0:
            raise InvalidArgument("offset cannot be negative")
        if not file.view.writable:
            raise InvalidHandle("a snapshot was restored, or the fork deleted: open it again")
        if not data:
            return 0
        bytes_max = self.core.limits.file_bytes_max
        with Translated(file.path):
            async with file.opened.lock:
                if file.flags.append:
                    offset = (await self.tree.inode(file.view, file.number)).size
                if offset + len(data) > bytes_max:
                    raise QuotaExceeded(f"{file.path}: a file can have at most {bytes_max} bytes")
                known = file.opened.known
                return await self.content.write(file.view, file.number, offset, data, known)
