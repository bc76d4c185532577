"""Names: finding, making, linking, renaming and removing what is in directories.

The rules are memfs's, which are POSIX's. Each change reads, decides and commits under the lock
of the core, in one batch: an entry, its inode, its directory and the counters change together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    Internal,
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
)
from fs9.path import is_within, split
from fs9.providers.pagefs import records
from fs9.providers.pagefs.core import PAGE_ROWS
from fs9.providers.pagefs.records import DIRECTORY, REGULAR, ROOT, SYMLINK, Inode
from fs9.providers.pagefs.rules import only_removed
from fs9.providers.pagefs.trash import STAMP_DIGITS, Expiry
from fs9.providers.values import check_target
from fs9.types import ALWAYS, Condition, FileInfo, FileType

if TYPE_CHECKING:
    from fs9.providers.pagefs.content import Changes, Content
    from fs9.providers.pagefs.core import Core
    from fs9.providers.pagefs.view import View

FILE_MODE = 0o644
DIRECTORY_MODE = 0o755
LINKS_MAX = 65_000
#: Extended attributes of one inode, and the size of one.
ATTRIBUTES_MAX = 64
ATTRIBUTE_BYTES_MAX = 32 * 1024

_TYPES = {
    REGULAR: FileType.REGULAR,
    DIRECTORY: FileType.DIRECTORY,
    SYMLINK: FileType.SYMLINK,
}


def info_of(path: str, inode: Inode, file_id: str = "") -> FileInfo:
    return FileInfo(
        path,
        inode.size,
        _TYPES[inode.kind],
        inode.mode,
        inode.uid,
        inode.gid,
        inode.atime_ns,
        inode.mtime_ns,
        inode.ctime_ns,
        f"{inode.version:x}",
        inode.target,
        file_id,
    )


def check(condition: Condition, inode: Inode | None, path: str) -> None:
    if condition is not ALWAYS and not condition.holds(None if inode is None else inode.etag):
        raise PreconditionFailed(path)


class Tree:
    def __init__(self, core: Core, content: Content) -> None:
        self._core = core
        self._content = content
        self.expiry = Expiry(core, self.remove)

    # -- looking --------------------------------------------------------------------------------

    async def inode(self, view: View, number: int) -> Inode:
        value = await view.get(records.inode_key(number))
        if value is None:
            raise Internal("an inode is missing")
        return records.decode_inode(value)

    async def entry(self, view: View, parent: int, name: str) -> tuple[int, int] | None:
        """(inode, kind) of a name in a directory."""
        value = await view.get(records.entry_key(parent, name))
        return None if value is None else records.unpack_entry(value)

    async def locate(self, view: View, path: str) -> tuple[int, int]:
        """(inode, kind) of what is at the path; raises NotFound, NotDirectory."""
        parent, name = await self.parent(view, path)
        if not name:
            return parent, DIRECTORY
        found = await self.entry(view, parent, name)
        if found is None:
            raise NotFound(path)
        return found

    async def find(self, view: View, path: str) -> tuple[int, Inode]:
        number, _ = await self.locate(view, path)
        return number, await self.inode(view, number)

    async def parent(self, view: View, path: str) -> tuple[int, str]:
        """The directory for the last name of the path, and that name ("" for the root).

        Raises NotFound and NotDirectory with the path itself, as the kernel does.
        """
        above, name = split(path)
        number = ROOT
        if above != "/":
            for step in above[1:].split("/"):
                found = await self.entry(view, number, step)
                if found is None:
                    raise NotFound(path)
                number, kind = found
                if kind != DIRECTORY:
                    raise NotDirectory(path)
        return number, name

    async def readdir(self, view: View, path: str, after: str, limit: int) -> list[FileInfo]:
        number, kind = await self.locate(view, path)
        if kind != DIRECTORY:
            raise NotDirectory(path)
        first, end = records.entries(number)
        if after:
            first = records.entry_key(number, after) + b"\xff" * 5
        prefix = "/" if path == "/" else path + "/"
        infos: list[FileInfo] = []
        hidden = self.has_trash and number == ROOT
        for key, value in await view.scan(first, end, limit + hidden):
            child, _ = records.unpack_entry(value)
            if (hidden and child == records.TRASH) or len(infos) == limit:
                continue
            stored = await view.get(records.inode_key(child))
            if stored is not None:  # else it was removed between the two reads
                name = records.entry_name(key)
                infos.append(info_of(prefix + name, records.decode_inode(stored)))
        return infos

    async def is_empty(self, view: View, number: int) -> bool:
        return not await view.scan(*records.entries(number), 1)

    # -- making ---------------------------------------------------------------------------------

    def new_inode(self, kind: int, mode: int, target: str | None = None) -> tuple[int, Inode]:
        core = self._core
        number, now_ns = core.serial(), core.clock.now_ns()
        size = 0 if target is None else len(target.encode())
        inode = Inode(
            kind,
            mode,
            core.policy.uid,
            core.policy.gid,
            2 if kind == DIRECTORY else 1,
            size,
            now_ns,
            now_ns,
            now_ns,
            core.serial(),
            content=number,
            target=target,
            sparse=False,
        )
        return number, inode

    async def make(
        self, view: View, path: str, condition: Condition, kind: int, target: str | None = None
    ) -> tuple[int, Inode]:
        """A new file, directory or link in its parent, under the lock.

        Raises AlreadyExists, NotFound, NotDirectory, PreconditionFailed, QuotaExceeded.
        """
        parent, name = await self.parent(view, path)
        if not name or await self.entry(view, parent, name) is not None:
            raise AlreadyExists(path)
        check(condition, None, path)
        mode = {REGULAR: FILE_MODE, DIRECTORY: DIRECTORY_MODE, SYMLINK: 0o777}[kind]
        number, inode = self.new_inode(kind, mode, target)
        changes: Changes = {}
        view.put(changes, records.inode_key(number), records.encode(inode))
        await self.enter(view, changes, parent, name, number, kind)
        await self._core.commit(view, changes, inode.size, 1)
        return number, inode

    async def enter(
        self, view: View, changes: Changes, parent: int, name: str, number: int, kind: int
    ) -> None:
        view.put(changes, records.entry_key(parent, name), records.pack_entry(number, kind))
        await self.touch(view, changes, parent, kind == DIRECTORY)

    async def touch(self, view: View, changes: Changes, parent: int, links: int = 0) -> None:
        """The directory's entries change: its times, its version, its links from below."""
        inode = await self.inode(view, parent)
        inode.mtime_ns = inode.ctime_ns = self._core.clock.now_ns()
        inode.version = self._core.serial()
        inode.nlink += links
        view.put(changes, records.inode_key(parent), records.encode(inode))

    async def symlink(self, view: View, path: str, target: str, condition: Condition) -> None:
        check_target(target)
        async with self._core.lock:
            await self.make(view, path, condition, SYMLINK, target)

    async def link(self, view: View, path: str, target: str) -> None:
        """A hard link: the name `target` for the file at `path`, too."""
        async with self._core.lock:
            number, inode = await self.find(view, path)
            if inode.kind == DIRECTORY:
                raise PermissionDenied(f"cannot link a directory: {path}")
            parent, name = await self.parent(view, target)
            self.refuse_trash(view, parent)
            if not name or await self.entry(view, parent, name) is not None:
                raise AlreadyExists(target)
            if inode.nlink >= LINKS_MAX:
                raise QuotaExceeded(f"{path}: a file can have at most {LINKS_MAX} links")
            inode.nlink += 1
            inode.ctime_ns = self._core.clock.now_ns()
            changes: Changes = {}
            view.put(changes, records.inode_key(number), records.encode(inode))
            await self.enter(view, changes, parent, name, number, inode.kind)
            await self._core.commit(view, changes)

    # -- renaming and removing ------------------------------------------------------------------

    async def rename(self, view: View, path: str, target: str, condition: Condition) -> None:
        if path == "/" or target == "/":
            raise PermissionDenied(f"cannot {'rename' if path == '/' else 'replace'} root")
        await self.purge_some(view)
        async with self._core.lock:
            parent, name = await self.parent(view, path)
            found = await self.entry(view, parent, name)
            if found is None:
                raise NotFound(path)
            number, kind = found
            if kind == DIRECTORY and path != target and is_within(target, path):
                raise InvalidArgument("cannot move a directory into itself")
            to_parent, to_name = await self.parent(view, target)
            inode = await self.inode(view, number)
            check(condition, inode, path)
            old = await self.entry(view, to_parent, to_name)
            if old is not None and old[0] == number:
                return
            self.refuse_trash(view, to_parent)
            if number == records.TRASH:
                raise PermissionDenied("the trash cannot be renamed")
            if old is not None:
                if old[1] == DIRECTORY and is_within(path, target):
                    raise DirectoryNotEmpty(target)
                await self._check_replaced(view, kind, old, target)
            await self._move(view, number, inode, (parent, name), (to_parent, to_name), old)

    async def _check_replaced(
        self, view: View, kind: int, old: tuple[int, int], target: str
    ) -> None:
        """May a rename put something of this kind in the place of `old`?"""
        if kind == DIRECTORY:
            if old[1] != DIRECTORY:
                raise NotDirectory(target)
            if not await self.is_empty(view, old[0]):
                raise DirectoryNotEmpty(target)
        elif old[1] == DIRECTORY:
            raise IsDirectory(target)

    async def _move(
        self,
        view: View,
        number: int,
        inode: Inode,
        place: tuple[int, str],
        to: tuple[int, str],
        old: tuple[int, int] | None,
    ) -> None:
        """One batch: out of the one directory, into the other, what was there gone."""
        changes: Changes = {}
        is_directory = int(inode.kind == DIRECTORY)
        bytes_, files, reaped = 0, 0, None
        if old is not None:
            bytes_, files, reaped = await self.displace(view, changes, old, to)
        view.delete(changes, records.entry_key(*place))
        view.put(changes, records.entry_key(*to), records.pack_entry(number, inode.kind))
        if place[0] == to[0]:
            await self.touch(view, changes, to[0], -is_directory if old else 0)
        else:
            await self.touch(view, changes, place[0], -is_directory)
            await self.touch(view, changes, to[0], 0 if old else is_directory)
        inode.ctime_ns = self._core.clock.now_ns()
        view.put(changes, records.inode_key(number), records.encode(inode))
        await self._core.commit(view, changes, bytes_, files)
        self.finish(view, changes, reaped)

    async def remove(self, view: View, path: str, condition: Condition) -> None:
        async with self._core.lock:
            parent, name = await self.parent(view, path)
            if not name:
                raise PermissionDenied("cannot remove root")
            found = await self.entry(view, parent, name)
            if found is None:
                raise NotFound(path)
            number, kind = found
            if condition is not ALWAYS:
                check(condition, await self.inode(view, number), path)
            if kind == DIRECTORY and not await self.is_empty(view, number):
                raise DirectoryNotEmpty(path)
            changes: Changes = {}
            bytes_, files, reaped = await self.unlink(view, changes, number)
            view.delete(changes, records.entry_key(parent, name))
            await self.touch(view, changes, parent, -int(kind == DIRECTORY))
            await self._core.commit(view, changes, bytes_, files)
            self.finish(view, changes, reaped)

    # -- the trash ------------------------------------------------------------------------------

    @property
    def has_trash(self) -> bool:
        return self._core.policy.trash_retention_s > 0

    async def trash(self, view: View, path: str, condition: Condition) -> None:
        """As `remove`, but a file goes to `/.trash`, under the time and its name."""
        core = self._core
        await self.purge_some(view)
        async with core.lock:
            parent, name = await self.parent(view, path)
            found = await self.entry(view, parent, name) if name else None
            if found is not None and self._is_kept(view, found, parent):
                number = found[0]
                inode = await self.inode(view, number)
                check(condition, inode, path)
                to = (records.TRASH, self._trash_name(name))
                await self._move(view, number, inode, (parent, name), to, None)
                return
        await self.remove(view, path, condition)

    def _is_kept(self, view: View, found: tuple[int, int], parent: int) -> bool:
        """Does what loses its name in this directory go to the trash?"""
        is_here = self.has_trash and view is self._core.head and parent != records.TRASH
        return is_here and found[1] != DIRECTORY

    def _trash_name(self, name: str) -> str:
        serial = f"{self._core.clock.now_ns():0{STAMP_DIGITS}d}-{self._core.serial():x}~"
        return serial + name.encode()[: 255 - len(serial)].decode(errors="ignore")

    async def displace(
        self, view: View, changes: Changes, old: tuple[int, int], place: tuple[int, str]
    ) -> tuple[int, int, tuple[int, int] | None]:
        """Something else takes the name; the old file goes to the trash, or as `unlink` says."""
        if not self._is_kept(view, old, place[0]):
            return await self.unlink(view, changes, old[0])
        inode = await self.inode(view, old[0])
        inode.ctime_ns = self._core.clock.now_ns()
        view.put(changes, records.inode_key(old[0]), records.encode(inode))
        name = self._trash_name(place[1])
        await self.enter(view, changes, records.TRASH, name, old[0], old[1])
        return 0, 0, None

    def refuse_trash(self, view: View, parent: int) -> None:
        """Before a name is made in the directory; PermissionDenied when that is the trash."""
        if parent == records.TRASH and self.has_trash and view is self._core.head:
            raise only_removed()

    async def purge_some(self, view: View) -> None:
        """Before a change that may put something into the trash, when there is one."""
        if self.has_trash and view is self._core.head:
            await self.expiry.purge(view)

    async def unlink(
        self, view: View, changes: Changes, number: int
    ) -> tuple[int, int, tuple[int, int] | None]:
        """One name less: (bytes, files) that the tree gains, and a content for `reap`.

        A file that is open becomes an orphan, and goes with its last handle.
        """
        inode = await self.inode(view, number)
        inode.nlink -= 2 if inode.kind == DIRECTORY else 1
        inode.ctime_ns = self._core.clock.now_ns()
        opened = self._core.opens.get((view.name, number))
        if inode.nlink <= 0 and (opened is None or not opened.opens):
            return await self.discard(view, changes, number, inode)
        if inode.nlink <= 0:
            view.put(changes, records.orphan_key(number), b"1")
        view.put(changes, records.inode_key(number), records.encode(inode))
        return 0, 0, None

    async def discard(
        self, view: View, changes: Changes, number: int, inode: Inode
    ) -> tuple[int, int, tuple[int, int] | None]:
        """The inode and all it holds goes; as `unlink` returns."""
        view.delete(changes, records.inode_key(number))
        if inode.attributes:
            for key, _ in await view.scan(*records.attributes(number), ATTRIBUTES_MAX):
                view.delete(changes, key)
        reaped = None
        if inode.stored and await self._content.drop(view, changes, number, inode.content):
            reaped = (number, inode.content)
        return -inode.size, -1, reaped

    def finish(self, view: View, changes: Changes, reaped: tuple[int, int] | None) -> None:
        """After the commit: what became garbage goes, in the background."""
        self._content.note_garbage(changes)
        if reaped is not None:
            self._core.spawn(self._content.reap(view, *reaped))

    async def discard_orphan(self, view: View, number: int) -> None:
        """An orphan's last handle is closed, or it was found after a crash; under the lock."""
        changes: Changes = {}
        inode = await self.inode(view, number)
        bytes_, files, reaped = await self.discard(view, changes, number, inode)
        view.delete(changes, records.orphan_key(number))
        await self._core.commit(view, changes, bytes_, files)
        self.finish(view, changes, reaped)

    async def recover(self, view: View) -> None:
        """Finish what a crash interrupted: orphans, removals. At start and for new branches."""
        core = self._core
        first, end = records.ORPHANS, b"U"
        while rows := await view.scan(first, end, PAGE_ROWS):
            for key, _ in rows:
                async with core.lock:
                    await self.discard_orphan(view, int.from_bytes(key[1:9], "big"))
        while rows := await view.scan(records.REAPED, b"S", PAGE_ROWS):
            for key, _ in rows:
                await self._content.reap(view, *records.two_of(key))

    # -- extended attributes --------------------------------------------------------------------

    async def set_attribute(self, view: View, path: str, name: str, value: bytes) -> None:
        """Raises InvalidArgument, QuotaExceeded (too many, too large), NotFound."""
        if not name or "\0" in name or len(name.encode()) > 255:
            raise InvalidArgument("an attribute's name has 1 to 255 bytes without NUL")
        if len(value) > ATTRIBUTE_BYTES_MAX:
            raise QuotaExceeded(f"an attribute can have at most {ATTRIBUTE_BYTES_MAX} bytes")
        async with self._core.lock:
            number, inode = await self.find(view, path)
            key = records.attribute_key(number, name)
            if await view.get(key) is None:
                inode.attributes += 1
            if inode.attributes > ATTRIBUTES_MAX:
                raise QuotaExceeded(f"{path}: at most {ATTRIBUTES_MAX} attributes")
            changes: Changes = {}
            view.put(changes, key, b"=" + value)
            await self._attributes_changed(view, changes, number, inode)

    async def remove_attribute(self, view: View, path: str, name: str) -> None:
        """Raises NotFound, also when there is no such attribute."""
        async with self._core.lock:
            number, inode = await self.find(view, path)
            key = records.attribute_key(number, name)
            if await view.get(key) is None:
                raise NotFound(f"attribute {name} of {path}")
            inode.attributes -= 1
            changes: Changes = {}
            view.delete(changes, key)
            await self._attributes_changed(view, changes, number, inode)

    async def _attributes_changed(
        self, view: View, changes: Changes, number: int, inode: Inode
    ) -> None:
        inode.ctime_ns = self._core.clock.now_ns()
        view.put(changes, records.inode_key(number), records.encode(inode))
        await self._core.commit(view, changes)

    async def attributes(self, view: View, path: str) -> dict[str, bytes]:
        number, inode = await self.find(view, path)
        if not inode.attributes:
            return {}
        rows = await view.scan(*records.attributes(number), ATTRIBUTES_MAX)
        return {records.entry_name(key): value[1:] for key, value in rows}
