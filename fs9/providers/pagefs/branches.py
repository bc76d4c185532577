"""Snapshots and forks: which views there are, how they are made, and their paths.

Making one writes two rows, whatever the tree holds: the generations that the branch sees, and
the new generation that the live tree writes from now on (see `view`). A restore makes another
view the live tree, in one step; the one before stays for the files that are open in it.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import msgspec

from fs9.errors import (
    AlreadyExists,
    Internal,
    InvalidArgument,
    IsDirectory,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Transient,
)
from fs9.path import NAME_BYTES_MAX
from fs9.providers.pagefs import records
from fs9.providers.pagefs.collect import Collector
from fs9.providers.pagefs.control import CONTROL, CONTROL_NAME, ControlFile, check_change
from fs9.providers.pagefs.core import TIDY_AFTER_S
from fs9.providers.pagefs.openfile import PageFile
from fs9.providers.pagefs.records import DIRECTORY, Branch, Inode, Superblock
from fs9.providers.pagefs.rules import only_removed
from fs9.providers.pagefs.store import Batch
from fs9.providers.pagefs.tree import info_of
from fs9.providers.pagefs.view import View
from fs9.types import FileInfo, FileType, StatChanges

if TYPE_CHECKING:
    from fs9.providers.pagefs.content import Changes, Content
    from fs9.providers.pagefs.core import Core
    from fs9.providers.pagefs.tree import Tree
    from fs9.types import Condition, OpenFlags

log = logging.getLogger("fs9.pagefs")

SNAPSHOTS = "/.snapshots"
FORKS = "/.forks"
TRASH = "/.trash"
#: Each one makes lineages longer by one; they are read with every key that has versions.
BRANCHES_MAX = 1000


class Branches:
    def __init__(self, core: Core, tree: Tree, content: Content) -> None:
        self._core = core
        self._tree = tree
        self.collector = Collector(core, content)

    # -- start ----------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read the superblock and the branches, or make a new tree; finish what was begun.

        Raises Internal for a format that this version does not know.
        """
        core, store = self._core, self._core.store
        value = await store.get(records.SUPERBLOCK)
        if value is None:
            await self._make_tree()
        else:
            core.superblock = records.decode_superblock(value)
            if core.superblock.format != records.FORMAT:
                raise Internal(f"pagefs: unknown format {core.superblock.format} of the storage")
        core.head.move_to(core.superblock.lineage)
        for prefix, views in ((records.SNAPSHOTS, core.snapshots), (records.FORKS, core.forks)):
            async for key, row in core.rows(prefix, prefix + b"\xff"):
                self._add(views, key[len(prefix) :].decode(), records.decode_branch(row))
        core.garbage = [
            records.garbage_of(key)
            async for key, _ in core.rows(records.GARBAGE, records.GARBAGE + b"\xff" * 17)
        ]
        for view in core.views:
            view.counters = await core.read_counters(view)
            if core.quota is not None:
                core.quota.found(*core.charged(view))
            await self._tree.recover(view)
        async with core.lock:
            await self._make_trash()
        if store.wants_sync:
            core.spawn(core.tidy())
        clean = await store.get(records.CLEAN)
        closed = 0 if clean is None else records.decode_number(clean)
        if store.epoch > 1 and closed != store.epoch - 1:
            core.spawn(self._tidy_after_crash(closed + 1))
        if core.superblock.collect:
            core.spawn(self.collector.collect())

    async def _tidy_after_crash(self, epoch: int) -> None:
        """What was not closed in order since that epoch is tidied up when it disturbs nobody.

        First come those who wait for the new owner. A worker that took over many namespaces at
        once does not tidy them all at once.
        """
        await self._core.pause(random.uniform(TIDY_AFTER_S, 2 * TIDY_AFTER_S))
        await self._core.tidy()
        if self._core.blocks is not None:
            await self.collector.sweep(epoch)

    async def _make_tree(self) -> None:
        core = self._core
        now_ns = core.clock.now_ns()
        policy = core.policy
        root = Inode(
            DIRECTORY, 0o755, policy.uid, policy.gid, 2, 0, now_ns, now_ns, now_ns, core.serial()
        )
        changes: Changes = {records.SUPERBLOCK: records.encode(core.superblock)}
        core.head.put(changes, records.inode_key(records.ROOT), records.encode(root))
        counters = records.Counters(0, 1)
        core.head.put(changes, records.COUNTERS, records.encode(counters))
        await core.store.commit(Batch(changes), sync=True)

    async def _make_trash(self) -> None:
        """Under the lock: the live tree has one, if it is to. What users have in its place moves.

        It is no reason to refuse a tree that the quota has no room for it.
        """
        core, tree, view = self._core, self._tree, self._core.head
        if not tree.has_trash:
            return
        name = TRASH[1:]
        changes: Changes = {}
        taken = await tree.entry(view, records.ROOT, name)
        if taken is not None:
            if taken[0] == records.TRASH:
                return
            number = 1
            while await tree.entry(view, records.ROOT, f"{name}-{number}") is not None:
                number += 1
            log.warning("pagefs: /%s of the users is /%s-%d now", name, name, number)
            key = records.entry_key(records.ROOT, f"{name}-{number}")
            view.put(changes, key, records.pack_entry(*taken))
        _, inode = tree.new_inode(DIRECTORY, 0o755)
        view.put(changes, records.inode_key(records.TRASH), records.encode(inode))
        await tree.enter(view, changes, records.ROOT, name, records.TRASH, DIRECTORY)
        counters = records.Counters(view.counters.bytes, view.counters.files + 1)
        view.put(changes, records.COUNTERS, records.encode(counters))
        await core.store.commit(Batch(changes))
        await core.sync()
        view.counters = counters
        if core.quota is not None:
            core.quota.found(0, 1)

    def _add(self, views: dict[str, View], name: str, branch: Branch) -> View:
        writable = views is self._core.forks
        view_name = f"{FORKS if writable else SNAPSHOTS}/{name}"
        view = View(self._core.store, branch.lineage, view_name, writable=writable)
        views[name] = view
        return view

    # -- paths ----------------------------------------------------------------------------------

    def resolve(self, path: str) -> tuple[View, str]:
        """The view that a path is in, and the path within it; raises NotFound."""
        core = self._core
        if path[1:2] == "." and (core.snapshots or core.forks):
            for prefix, views in ((SNAPSHOTS, core.snapshots), (FORKS, core.forks)):
                if path.startswith(prefix + "/"):
                    name, slash, inner = path[len(prefix) + 1 :].partition("/")
                    view = views.get(name)
                    if view is None:
                        raise NotFound(path)
                    return view, slash + inner or "/"
        return core.head, path

    def is_reserved(self, path: str) -> bool:
        """Is the path one of the directories that can neither be removed nor renamed?"""
        if path in {SNAPSHOTS, FORKS} or self.is_control(path):
            return True
        return path == TRASH and self._tree.has_trash

    def is_control(self, path: str) -> bool:
        return path == CONTROL and self._core.policy.control_file

    def stat(self, path: str) -> FileInfo | None:
        """What only exists here: the directories of snapshots and forks, the control file."""
        if self.is_control(path):
            return ControlFile.info_now(self._core)
        if path not in {SNAPSHOTS, FORKS}:
            return None
        policy = self._core.policy
        return FileInfo(
            path, 0, FileType.DIRECTORY, 0o755, policy.uid, policy.gid, 0, 0, 0, "branches"
        )

    def readdir(self, path: str, after: str, limit: int) -> list[FileInfo] | None:
        if path not in {SNAPSHOTS, FORKS}:
            return None
        policy = self._core.policy
        views = self._core.snapshots if path == SNAPSHOTS else self._core.forks
        names = sorted(name for name in views if name > after)[:limit]
        return [
            FileInfo(
                f"{path}/{name}",
                0,
                FileType.DIRECTORY,
                0o755,
                policy.uid,
                policy.gid,
                0,
                0,
                0,
                "branches",
            )
            for name in names
        ]

    def renamed(self, infos: list[FileInfo], path: str, inner: str) -> list[FileInfo]:
        """Entries of a view with the paths that callers know."""
        if inner == path:
            return infos
        cut = 0 if inner == "/" else len(inner)
        return [msgspec.structs.replace(info, path=path + info.path[cut:]) for info in infos]

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[PageFile, FileInfo] | None:
        """What only exists here, a branch perhaps made now; None: nothing such at the path."""
        core = self._core
        if self.is_control(path):
            return ControlFile.open(self, core, flags, condition)
        if flags.write or flags.create:
            self._refuse_in_trash(path)
        if flags.create and flags.directory and await self.make(path):
            view, inner = self.resolve(path)
            number, inode = await self._tree.find(view, inner)
            return PageFile(view, number, DIRECTORY, flags, path), info_of(path, inode)
        info = self.stat(path)
        if info is None:
            return None
        if flags.create and (flags.directory or flags.exclusive):
            raise AlreadyExists(path)
        if flags.write or flags.create:
            raise IsDirectory(path)
        return PageFile(core.head, records.ROOT, DIRECTORY, flags, path), info

    def change(self, path: str, changes: StatChanges, condition: Condition) -> bool:
        """wstat of what only exists here; False: nothing such at the path."""
        if self.is_control(path):
            check_change(self._core, changes, condition)
            return True
        if self.is_reserved(path):
            raise PermissionDenied(f"{path} is reserved")
        if changes.name is None and changes != StatChanges():
            self._refuse_in_trash(path)
        return False

    def _refuse_in_trash(self, path: str) -> None:
        """From there files are read, renamed to elsewhere, and removed for good; nothing else."""
        if path.startswith(TRASH + "/") and self._tree.has_trash:
            raise only_removed()

    async def make(self, path: str) -> bool:
        """mkdir: a snapshot, or a fork, of the live tree; False: not such a path."""
        for prefix, make in ((SNAPSHOTS, self.snapshot), (FORKS, self.fork)):
            name = path[len(prefix) + 1 :]
            if path.startswith(prefix + "/") and "/" not in name:
                await make(name)
                return True
        return False

    async def remove(self, path: str) -> bool:
        """Remove a snapshot or a fork with all that is in it; False: not such a path."""
        if self.is_reserved(path):
            raise PermissionDenied(f"{path} is reserved")
        for prefix, delete in ((SNAPSHOTS, self.delete_snapshot), (FORKS, self.delete_fork)):
            name = path[len(prefix) + 1 :]
            if path.startswith(prefix + "/") and "/" not in name:
                await delete(name)
                return True
        return False

    # -- snapshots ------------------------------------------------------------------------------

    async def snapshot(self, name: str) -> None:
        """Keep the live tree as it is now. Raises AlreadyExists, InvalidArgument, QuotaExceeded."""
        core = self._core
        async with core.lock:
            self._check_new(core.snapshots, name)
            branch = Branch(core.head.lineage, core.clock.now_ns())
            generation = core.superblock.generation + 1
            lineage = (*core.head.lineage, generation)
            superblock = self._superblock(generation, lineage)
            key = records.SNAPSHOTS + name.encode()
            await core.store.commit(
                Batch(
                    {key: records.encode(branch), records.SUPERBLOCK: records.encode(superblock)}
                ),
                sync=False,
            )
            self._moved(superblock)
            self._add(core.snapshots, name, branch)

    async def delete_snapshot(self, name: str) -> None:
        """Raises NotFound. What only the snapshot held is removed in the background."""
        await self._delete(self._core.snapshots, records.SNAPSHOTS, name)

    async def restore(self, name: str) -> None:
        """The live tree becomes what the snapshot is, in one step. Raises NotFound, QuotaExceeded.

        Files that are open go on reading what they had, and cannot be written any more.
        """
        core, head = self._core, self._core.head
        async with core.lock:
            snapshot = self._existing(core.snapshots, name)
            generation = core.superblock.generation + 1
            superblock = self._superblock(generation, (*snapshot.lineage, generation), collect=True)
            counters = await core.read_counters(snapshot)
            gained = counters.bytes - head.counters.bytes, counters.files - head.counters.files
            if core.quota is not None:
                core.quota.charge(*gained)
            try:
                await core.store.commit(Batch({records.SUPERBLOCK: records.encode(superblock)}))
            except BaseException:
                if core.quota is not None:
                    core.quota.found(-gained[0], -gained[1])
                raise
            self._replace(superblock, counters)
            head = core.head
            await self._make_trash()
        try:
            await self._tree.recover(head)
        except Transient:
            if not head.replaced:  # by another restore, to which it does not matter
                raise
        core.spawn(self.collector.collect())

    def _replace(self, superblock: Superblock, counters: records.Counters) -> None:
        """Another view is the live tree; no `await`, so that nobody sees less than all of it."""
        core, old = self._core, self._core.head
        old.name, old.writable, old.replaced = f"restored/{old.generation}", False, True
        opens = {key: each for key, each in core.opens.items() if not key[0]}
        for key, each in opens.items():
            del core.opens[key]
            core.opens[old.name, key[1]] = each
        if any(each.opens for each in opens.values()):
            core.replaced.append(old)
        core.superblock = superblock
        core.head = View(core.store, superblock.lineage)
        core.head.counters = counters

    def closed(self, view: View) -> None:
        """A file of the replaced tree was closed; with the last one the tree is given up."""
        core = self._core
        mine = {key: each for key, each in core.opens.items() if key[0] == view.name}
        if view in core.replaced and not any(each.opens for each in mine.values()):
            core.replaced.remove(view)
            core.spawn(self.collector.collect())

    # -- forks ----------------------------------------------------------------------------------

    async def fork(self, name: str, snapshot: str | None = None) -> None:
        """A writable tree that begins as the live tree, or as a snapshot.

        Its files count as if they were copies. Raises AlreadyExists, NotFound, QuotaExceeded.
        """
        core = self._core
        async with core.lock:
            self._check_new(core.forks, name)
            source = core.head if snapshot is None else self._existing(core.snapshots, snapshot)
            counters = await core.read_counters(source)
            generation = core.superblock.generation + 2
            branch = Branch((*source.lineage, generation), core.clock.now_ns())
            lineage = core.head.lineage
            if snapshot is None:
                lineage = (*lineage, generation - 1)
            superblock = self._superblock(generation, lineage)
            if core.quota is not None:
                core.quota.charge(counters.bytes, counters.files)
            try:
                await core.store.commit(
                    Batch(
                        {
                            records.FORKS + name.encode(): records.encode(branch),
                            records.SUPERBLOCK: records.encode(superblock),
                        }
                    )
                )
            except BaseException:
                if core.quota is not None:
                    core.quota.found(-counters.bytes, -counters.files)
                raise
            self._moved(superblock)
            view = self._add(core.forks, name, branch)
            view.counters = counters
        await self._tree.recover(view)

    async def delete_fork(self, name: str) -> None:
        """Raises NotFound. Handles in it are invalid afterwards."""
        core = self._core
        view = await self._delete(core.forks, records.FORKS, name)
        view.writable = False
        if core.quota is not None:
            core.quota.found(-view.counters.bytes, -view.counters.files)

    # -- the rows -------------------------------------------------------------------------------

    async def _delete(self, views: dict[str, View], prefix: bytes, name: str) -> View:
        core = self._core
        async with core.lock:
            view = self._existing(views, name)
            superblock = self._superblock(
                core.superblock.generation, core.head.lineage, collect=True
            )
            await core.store.commit(
                Batch(
                    {
                        prefix + name.encode(): None,
                        records.SUPERBLOCK: records.encode(superblock),
                    }
                )
            )
            core.superblock = superblock
            del views[name]
        core.spawn(self.collector.collect())
        return view

    def _superblock(
        self, generation: int, lineage: tuple[int, ...], *, collect: bool = False
    ) -> Superblock:
        old = self._core.superblock
        return Superblock(old.format, old.unit_bytes, generation, lineage, collect or old.collect)

    def _moved(self, superblock: Superblock) -> None:
        self._core.superblock = superblock
        self._core.head.move_to(superblock.lineage)

    def _existing(self, views: dict[str, View], name: str) -> View:
        view = views.get(name)
        if view is None:
            raise NotFound(name)
        return view

    def _check_new(self, views: dict[str, View], name: str) -> None:
        if name in views:
            raise AlreadyExists(name)
        if not 0 < len(name.encode()) <= NAME_BYTES_MAX or "/" in name or name in {".", ".."}:
            raise InvalidArgument("a snapshot needs a name as a file has it")
        if name == CONTROL_NAME:
            raise InvalidArgument(f"a snapshot cannot be called {CONTROL_NAME}")
        if len(self._core.snapshots) + len(self._core.forks) >= BRANCHES_MAX:
            raise QuotaExceeded(f"at most {BRANCHES_MAX} snapshots and forks")
