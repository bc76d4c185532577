"""Keys as files: values in an ordered store, with directories, and keys that expire.

    kvfs      the operations: what is allowed, what is open
    kvttl     /.ttl, where a key's time to live is read and set
    kvrules   what each change does
    kvexpiry  removes expired keys, and tells watchers
    kvwriter  brings changes together into commits
    kvtree    inodes, entries and chunks as keys and values
    kvstore   LMDB, or memory

A compare-and-set is a change with a condition on the etag (If-Match): the check and the change
are one transaction. A value is stored in chunks, so a write costs what it writes, and a hole
nothing. A key keeps its time to live; each change of its value starts it again. A key that has
expired is gone at once; what it held is cleared soon after.

Whatever was answered is on disk, so that `close` has nothing to sync. Handles are bound to the
inode: the bytes of a removed key stay until its last handle is closed.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import msgspec

from fs9.errors import (
    InvalidArgument,
    InvalidHandle,
    IsDirectory,
    NotDirectory,
    NotFound,
    PermissionDenied,
)
from fs9.path import NAME_BYTES_MAX, is_within
from fs9.provider import BaseProvider, OpenFile
from fs9.providers import kvtree
from fs9.providers.kvexpiry import Expiry
from fs9.providers.kvrules import (
    CONTROL,
    DIRECTORY_MODE,
    Rules,
    check_openable,
    opened_info,
    present,
)
from fs9.providers.kvstore import LmdbStore, MemoryStore
from fs9.providers.kvtree import ROOT, Counters, Inode
from fs9.providers.kvttl import TtlOpen, TtlTree
from fs9.providers.kvwriter import Change, Writer
from fs9.providers.registry import ProviderContext, read_config
from fs9.providers.values import check_values
from fs9.types import (
    ALWAYS,
    POSIX_LIKE,
    Buffer,
    Capability,
    Condition,
    FileInfo,
    FileType,
    FsStats,
    OpenFlags,
    StatChanges,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fs9.provider import Departures
    from fs9.providers.kvstore import Store, Transaction

#: A store on disk has no table of inodes to fill; what statfs says of it.
_INODES = 2**32


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a mount may configure.

    `ttl_s`: seconds that a new key lives after its last change; none: it stays. `persistent`:
    false keeps everything in memory, bounded as memfs is. `namespace`: mounts of older servers
    have it; it means nothing there and here, because each mount has keys of its own.
    """

    persistent: bool = True
    ttl_s: float | None = None
    namespace: str = ""

    def __post_init__(self) -> None:
        if self.ttl_s is not None and not 0 < self.ttl_s <= kvtree.TTL_S_MAX:
            raise ValueError(f"ttl_s must be more than 0 and at most {kvtree.TTL_S_MAX}")


async def create(config: Mapping[str, Any], context: ProviderContext) -> KvFs:
    """Opens the store; raises BackendUnavailable when that fails."""
    settings = read_config("kvfs", Config, config)
    directory = None
    store: Store
    if settings.persistent:
        # The mount point is part of the name, and any path fits a name of this length.
        mount = hashlib.blake2b(context.mount.encode(), digest_size=10).hexdigest()
        directory = context.data_dir / "namespaces" / context.storage / f"kvfs-{mount}"
        store = await context.pool.run(_open_store, directory)
    else:
        store = MemoryStore()
    provider = KvFs(store, settings, context, directory)
    try:
        await context.pool.run(provider.load)
    except BaseException:
        store.close()
        raise
    return provider


def _open_store(directory: Path) -> Store:
    return LmdbStore(directory)


class KvOpen(OpenFile):
    """An open key or directory; `path` is where it was when it was opened."""

    __slots__ = ("closed", "created", "flags", "is_dir", "number", "path")

    def __init__(self, node: Inode, flags: OpenFlags, path: str, *, created: bool = False) -> None:
        self.created = created
        self.number = node.number
        self.is_dir = node.is_dir
        self.flags = flags
        self.path = path
        self.closed = False


class Staged(KvOpen):
    """A new version that no directory has yet; `close` puts it in its `place`."""

    __slots__ = ("condition", "place")

    def __init__(
        self, node: Inode, flags: OpenFlags, path: str, place: tuple[int, str], condition: Condition
    ) -> None:
        super().__init__(node, flags, path)
        self.place = place
        self.condition = condition


class KvFs(BaseProvider):
    name = "kvfs"
    untasked = True

    def __init__(
        self, store: Store, config: Config, context: ProviderContext, directory: Path | None
    ) -> None:
        limits = context.limits
        self.volatile = directory is None
        self._store = store
        self._directory = directory
        self._rules = Rules(limits.file_bytes_max, int((config.ttl_s or 0) * 1e9))
        self._limits = limits
        self._clock = context.clock
        self._pool = context.pool
        self._expiry = Expiry(store, context.clock, lambda work: self._writer.commit(work))
        self._writer = Writer(
            store,
            context.pool,
            context.clock,
            context.quota,
            self._freed,
            expiry=self._expiry,
            bytes_max=limits.memfs_bytes_max if self.volatile else None,
            files_max=limits.memfs_files_max if self.volatile else None,
        )
        #: inode -> how often it is open. Changed on the event loop alone.
        self._opens: dict[int, int] = {}
        self._ttls = TtlTree(store, self._writer, context.clock)

    def load(self) -> None:
        """Make the root of a new store; delete files that the last process had open. Blocks."""
        with self._store.reading() as tx:
            new = kvtree.counters(tx) is None
            left = kvtree.orphans(tx)
        if new:
            self._store.apply([self._make_root])
        self._writer.load()
        for number in left:
            self._writer.clear_now(number)

    def _make_root(self, tx: Transaction) -> None:
        # Versions go on from the time, so that one of an earlier store never comes again.
        now_ns = self._clock.now_ns()
        root = Inode(
            ROOT, FileType.DIRECTORY, DIRECTORY_MODE, ROOT, "", now_ns, now_ns, now_ns, now_ns
        )
        kvtree.put_inode(tx, root)
        kvtree.put_counters(tx, Counters(next_inode=ROOT, version=now_ns, files=1))

    def capabilities(self) -> Capability:
        return POSIX_LIKE | Capability.ETAG | Capability.ATOMIC_RENAME | Capability.APPEND

    # -- looking --------------------------------------------------------------------------------

    async def stat(self, path: str) -> FileInfo:
        if _is_control(path):
            return self._ttls.stat(path)
        with self._store.reading() as tx:
            return kvtree.find(tx, path, self._clock.now_ns()).info(path)

    async def statfs(self, path: str) -> FsStats:
        stats = await self._stats()
        quota = self._writer.quota
        return stats if quota is None else quota.within(stats)

    async def _stats(self) -> FsStats:
        limits, used = self._limits, self._writer.counters
        if self._directory is None:
            return FsStats(
                total_bytes=limits.memfs_bytes_max,
                free_bytes=limits.memfs_bytes_max - used.bytes_used,
                total_inodes=limits.memfs_files_max,
                free_inodes=limits.memfs_files_max - used.files,
                block_size=4096,
                max_name_len=NAME_BYTES_MAX,
            )
        disk = await self._pool.run(os.statvfs, self._directory)
        return FsStats(
            total_bytes=disk.f_blocks * disk.f_frsize,
            free_bytes=disk.f_bavail * disk.f_frsize,
            total_inodes=_INODES,
            free_inodes=max(0, _INODES - used.files),
            block_size=4096,
            max_name_len=NAME_BYTES_MAX,
        )

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        if _is_control(path):
            return self._ttls.readdir(path, after, limit)
        now_ns = self._clock.now_ns()
        prefix = "/" if path == "/" else path + "/"
        found: list[FileInfo] = []
        with self._store.reading() as tx:
            directory = kvtree.find(tx, path, now_ns)
            if not directory.is_dir:
                raise NotDirectory(path)
            for node in kvtree.children(tx, directory.number, after):
                if len(found) == limit:
                    break
                if not node.expired(now_ns):
                    found.append(node.info(prefix + node.name))
        return found

    # -- open, read, write, close ---------------------------------------------------------------

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[OpenFile, FileInfo]:
        if flags.truncate and not flags.write:
            raise InvalidArgument("truncate needs write")
        if flags.replace and (not flags.write or flags.directory):
            raise InvalidArgument("replace needs write and a file")
        if _is_control(path):
            return self._ttls.open(path, flags, condition)
        if condition is ALWAYS and not (flags.truncate or flags.replace or flags.exclusive):
            opened = self._open_present(path, flags)
            if opened is not None:
                return opened
        return await self._open_changing(path, flags, condition)

    def _open_present(self, path: str, flags: OpenFlags) -> tuple[KvOpen, FileInfo] | None:
        """Open an existing key or directory without a change; None when it must be created."""
        if flags.create and flags.directory:
            return None
        with self._store.reading() as tx:
            try:
                node = kvtree.find(tx, path, self._clock.now_ns())
            except (NotFound, NotDirectory):
                if flags.create:
                    return None
                raise
        check_openable(node, path, flags)
        return self._track(KvOpen(node, flags, path)), opened_info(node, path)

    async def _open_changing(
        self, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[KvOpen, FileInfo]:
        tracked: list[KvOpen] = []

        def work(change: Change) -> tuple[KvOpen, FileInfo]:
            if flags.replace:
                node, place = self._rules.stage(change, path, flags, condition)
                return Staged(node, flags, path, place, condition), opened_info(node, path)
            node, made = self._rules.opened_node(change, path, flags, condition)
            return KvOpen(node, flags, path, created=made), opened_info(node, path)

        try:
            return await self._writer.commit(
                work, lambda result: tracked.append(self._track(result[0]))
            )
        except BaseException:
            for opened in tracked:  # the caller has gone
                self._untrack(opened)
            raise

    async def read(self, file: OpenFile, offset: int, size: int) -> bytes:
        if isinstance(file, TtlOpen):
            return self._ttls.read(file, offset, size)
        opened = _opened(file, "reading")
        if offset < 0 or size < 0:
            raise InvalidArgument("offset and size cannot be negative")
        if opened.is_dir:
            raise IsDirectory(opened.path)
        with self._store.reading() as tx:
            return kvtree.read(tx, present(tx, opened.number), offset, size)

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        if isinstance(file, TtlOpen):
            return await self._ttls.write(file, offset, data)
        opened = _opened(file, "writing")
        if opened.is_dir:  # just made: others are not opened for writing
            raise PermissionDenied("file not opened for writing")
        if offset < 0:
            raise InvalidArgument("offset cannot be negative")
        if data:
            at = None if opened.flags.append else offset
            number, write = opened.number, self._rules.write
            await self._writer.commit(lambda change: write(change, number, at, data))
        return len(data)

    async def close(
        self, file: OpenFile, *, sync: bool = False, discard: bool = False
    ) -> FileInfo | None:
        if isinstance(file, TtlOpen):
            return await self._ttls.close(file, discard=discard)
        assert isinstance(file, KvOpen)
        if file.closed:
            raise InvalidHandle("closed")
        file.closed = True
        try:
            if isinstance(file, Staged) and not discard:
                return await self._swap_in(file)
        finally:
            self._untrack(file)
        return None

    async def _swap_in(self, staged: Staged) -> FileInfo:
        return await self._writer.commit(
            lambda change: self._rules.swap_in(
                change, staged.number, staged.place, staged.path, staged.flags, staged.condition
            )
        )

    # -- changes --------------------------------------------------------------------------------

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        if _is_control(path):
            self._ttls.check_wstat(path, changes)
            return
        commit, rules = self._writer.commit, self._rules
        if changes.symlink_target is not None:
            target = changes.symlink_target
            await commit(lambda change: rules.symlink(change, path, target, condition))
        elif changes.name is not None:
            name = changes.name
            await commit(lambda change: rules.rename(change, path, name, condition))
        else:
            check_values(changes)
            await commit(lambda change: rules.change(change, path, changes, condition))

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        if _is_control(path):
            await self._ttls.remove(path, condition)
            return
        await self._writer.commit(lambda change: self._rules.remove(change, path, condition))

    def tell_departures(self, to: Departures) -> None:
        """See `fs9.provider.Departing`. Without it what has expired takes room."""
        self._expiry.begin(to)

    async def aclose(self) -> None:
        await self._expiry.aclose()
        await self._writer.aclose()
        self._store.close()

    # -- what is open: on the event loop, without an `await` within -------------------------------

    def _track(self, opened: KvOpen) -> KvOpen:
        self._opens[opened.number] = self._opens.get(opened.number, 0) + 1
        return opened

    def _untrack(self, opened: KvOpen) -> None:
        left = self._opens[opened.number] - 1
        if left:
            self._opens[opened.number] = left
            return
        del self._opens[opened.number]
        self._writer.look_at(opened.number)

    def _freed(self, number: int) -> None:
        """Delete an inode that has no name any more, unless it is open."""
        if number in self._opens:
            return
        with self._store.reading() as tx:
            node = kvtree.inode(tx, number)
        if node is not None and node.parent == 0:
            self._writer.clear(number)


def _opened(file: OpenFile, purpose: str) -> KvOpen:
    assert isinstance(file, KvOpen)
    if file.closed:
        raise InvalidHandle("closed")
    if not (file.flags.read if purpose == "reading" else file.flags.write):
        raise PermissionDenied(f"file not opened for {purpose}")
    return file


def _is_control(path: str) -> bool:
    return path.startswith(CONTROL) and is_within(path, CONTROL)
