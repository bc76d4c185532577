"""localfs: a directory of the host, jailed, with POSIX behaviour.

This file is the asynchronous face and decides what may run on the event loop: stat and open
for reading of what the kernel has cached (`RESOLVE_CACHED`), reads of cached pages
(`RWF_NOWAIT`), writes where the file system can say that they would not wait; and only on
local file systems. All else runs in the pool. The parts:

    jail             paths to descriptors
    localtree        names: open, create, rename, remove, list;  localentry  one of them
    localstage       write aside and swap
    localattributes  wstat of mode, owner, size, times
    localfile        open files: read, write, descriptors
    locallisting     one page of a directory
    localquota       what is counted for the namespace's quota
    localinfo        FileInfo and etag;  localticks  etags under a coarse clock
    localerrors      errno to errors

Symbolic links are data: stat and wstat are about the link, opening one is refused, one in
the middle of a path is NotDirectory.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fs9.errors import InvalidArgument, InvalidHandle, NotFound, QuotaExceeded
from fs9.provider import BaseProvider, OpenFile
from fs9.providers import localattributes, localfile
from fs9.providers.jail import Jail, descriptor_path, open_jail
from fs9.providers.localentry import check_condition, open_located, visible
from fs9.providers.localerrors import Translated, failure
from fs9.providers.localfile import LocalDirectory, LocalFile
from fs9.providers.localinfo import file_info
from fs9.providers.localquota import Accounts, Changes, scan
from fs9.providers.localstage import StagedFile
from fs9.providers.localticks import Ticks, is_coarse
from fs9.providers.localtree import Tree
from fs9.providers.registry import read_config
from fs9.types import ALWAYS, POSIX_LIKE, Capability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fs9.limits import Limits
    from fs9.provider import Provider
    from fs9.providers.registry import ProviderContext
    from fs9.quota import Quota
    from fs9.threads import BlockingPool
    from fs9.types import Buffer, Condition, FileInfo, FsStats, OpenFlags, StatChanges

_CAPABILITIES = POSIX_LIKE | Capability.ETAG | Capability.ATOMIC_RENAME | Capability.APPEND

_ROOT_MODE = 0o755


class Config(msgspec.Struct, frozen=True):
    """`root`: the directory, absolute; `{data_dir}` and `{namespace}` in it are replaced.

    `confined`: no part of the root may be a symbolic link, for roots that tenants choose. The
    server sets it for them.
    """

    root: str
    confined: bool = False


async def create(config: Mapping[str, Any], context: ProviderContext) -> Provider:
    """The provider of a mount; its root is created when missing below the data directory.

    Raises InvalidArgument (configuration), NotFound, NotDirectory.
    """
    settings = read_config("localfs", Config, config)
    root = configured_root(settings.root, context.data_dir, context.storage)
    local = await context.pool.run(_open_root, root, context, settings.confined)
    if "{namespace}" in settings.root and _is_within(root, context.data_dir):
        local.own_root = root
    quota = context.quota
    if quota is not None and quota.limited:
        try:
            await local.count()
        except BaseException:
            await local.aclose()
            raise
    elif quota is not None:
        quota.uncounted.append(local.count)
    return local


def configured_root(root: str, data_dir: Path, storage: str) -> Path:
    """The root directory of the configuration. Raises InvalidArgument."""
    if "/" in storage or storage in {"", ".", ".."}:
        raise InvalidArgument("localfs: the namespace cannot be part of a path")
    root = root.replace("{data_dir}", str(data_dir))
    root = root.replace("{namespace}", storage)
    if not root.startswith("/") or "\0" in root:
        raise InvalidArgument("localfs: 'root' must be an absolute path")
    return Path(os.path.normpath(root))


def _is_within(root: Path, data_dir: Path) -> bool:
    return root.is_relative_to(os.path.normpath(data_dir))


def _open_root(root: Path, context: ProviderContext, confined: bool) -> LocalFs:
    with Translated(f"localfs root {root}"):
        if _is_within(root, context.data_dir):
            root.mkdir(mode=_ROOT_MODE, parents=True, exist_ok=True)
        jail = open_jail(root)
        if confined and os.path.realpath(descriptor_path(jail.root_fd)) != str(root):
            jail.close()
            raise InvalidArgument(f"localfs: the way to {root} leads over a symbolic link")
        ticks = Ticks(coarse=is_coarse(jail.root_fd))
        return LocalFs(jail, ticks, context.limits, context.pool, context.quota)


class LocalFs(BaseProvider):
    name = "localfs"
    untasked = True
    volatile = False

    def __init__(
        self,
        jail: Jail,
        ticks: Ticks,
        limits: Limits,
        pool: BlockingPool,
        quota: Quota | None = None,
    ) -> None:
        """With a `quota`, changes are counted from `count` on."""
        self._jail = jail
        self._ticks = ticks
        self._tree = Tree(jail, ticks)
        self._pool = pool
        self._bytes_max = limits.file_bytes_max
        self._quota = quota
        self._changes = Changes()
        #: The root, where it is this namespace's alone, and goes with it.
        self.own_root: Path | None = None
        #: What is open, while nothing is counted and that may come.
        self._open_files: set[LocalFile] | None = None if quota is None else set()

    def capabilities(self) -> Capability:
        return _CAPABILITIES

    async def aclose(self) -> None:
        if self._tree.accounts is not None:
            self._tree.accounts.close()
        elif self._quota is not None and self.count in self._quota.uncounted:
            self._quota.uncounted.remove(self.count)
        self._jail.close()

    async def destroy(self) -> None:
        if self.own_root is not None:
            with Translated("/"):
                await self._pool.run(shutil.rmtree, self.own_root)

    async def count(self) -> None:
        """Count what the directory holds, and from now on all changes; they wait meanwhile.

        Reading goes on. Takes about 5 s for a million files in cache. Raises BackendUnavailable
        and the like; nothing is counted then.
        """
        quota = self._quota
        assert quota is not None
        async with self._changes.stopped():
            if self._open_files is not None:
                bytes_, files = await self._pool.run(self._scan)
                accounts = Accounts(quota, bytes_, files)
                accounts.adopt(self._open_files)
                self._open_files = None
                self._tree.accounts = accounts

    def _scan(self) -> tuple[int, int]:
        with Translated("/"):
            return scan(self._jail.root_fd)

    # -- names --------------------------------------------------------------------------------

    async def stat(self, path: str) -> FileInfo:
        with Translated(path):
            fd = self._jail.locate_cached(path)
            if fd is not None:
                try:
                    found = os.fstat(fd)
                finally:
                    os.close(fd)
                if not stat.S_ISLNK(found.st_mode):  # a long link's text may be on disk only
                    info = file_info(path, found)
                    if info is None:
                        raise NotFound(path)
                    return info
        return await self._pool.run(self._tree.stat, path)

    async def statfs(self, path: str) -> FsStats:
        stats = await self._pool.run(self._tree.statfs)
        return stats if self._quota is None else self._quota.within(stats)

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        return await self._pool.run(self._tree.readdir, path, after, limit)

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        await self._changes.passed()
        with self._changes:
            await self._pool.run(self._tree.remove, path, condition)

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        await self._changes.passed()
        with self._changes:
            if changes.symlink_target is not None:
                await self._pool.run(self._tree.symlink, path, changes.symlink_target, condition)
            elif changes.name is not None:
                await self._pool.run(self._tree.rename, path, changes.name, condition)
            else:
                localattributes.check_values(changes, self._bytes_max)
                await self._pool.run(self._change, path, changes, condition)

    def _change(self, path: str, changes: StatChanges, condition: Condition) -> None:
        with Translated(path), self._tree.held(path) as fd:
            found = visible(path, os.fstat(fd))
            check_condition(path, found, condition)
            localattributes.check_type(path, changes, found)
            accounts = self._tree.accounts
            if accounts is None or changes.size is None:
                localattributes.apply(fd, changes, found, self._ticks)
            else:
                with accounts.sized(fd, changes.size):
                    localattributes.apply(fd, changes, found, self._ticks)

    def _is_inline(self, file: LocalFile) -> bool:
        return file.device == self._jail.local_device

    # -- files --------------------------------------------------------------------------------

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[OpenFile, FileInfo]:
        """As `Provider.open`; `truncate` without `write` is an InvalidArgument."""
        _check_flags(flags)
        if not (flags.write or flags.create):
            with Translated(path):
                fd = self._jail.locate_cached(path)
                if fd is not None:
                    found = open_located(path, fd, flags, condition)
                    self._tree.opened(found[0])
                    self._remember(found[0])
                    return found
        opened: list[OpenFile] = []
        await self._changes.passed()
        with self._changes:
            try:
                found = await self._pool.run(self._open, opened, path, flags, condition)
            except asyncio.CancelledError:
                for file in opened:  # nobody will get it; just opened, so this does not wait
                    if isinstance(file, LocalFile):
                        self._tree.let_go(file)
                raise
            self._remember(found[0])
            return found

    def _remember(self, file: OpenFile) -> None:
        if self._open_files is not None and isinstance(file, LocalFile):
            self._open_files.add(file)

    def _open(
        self, opened: list[OpenFile], path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[OpenFile, FileInfo]:
        file, info = self._tree.open(path, flags, condition)
        opened.append(file)
        return file, info

    async def read(self, file: OpenFile, offset: int, size: int) -> Buffer:
        assert isinstance(file, LocalFile | LocalDirectory)
        file.check_read()
        assert isinstance(file, LocalFile)
        if offset < 0 or size < 0:
            raise InvalidArgument("offset and size cannot be negative")
        if size == 0 or offset + size >= localfile.OFFSET_END:
            size = min(size, max(0, localfile.OFFSET_END - 1 - offset))
            if size == 0:
                return b""
        if file.reads_nowait and self._is_inline(file):
            try:
                with file.descriptor as fd:
                    buffer, count, whole = localfile.read_cached(fd, offset, size)
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise failure(error, file.path) from error
                file.reads_nowait = False
            else:
                if not whole:
                    count = await self._pool.run(localfile.read_rest, file, buffer, count, offset)
                return buffer if count == len(buffer) else memoryview(buffer)[:count]
        return await self._pool.run(localfile.read_whole, file, offset, size)

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        assert isinstance(file, LocalFile | LocalDirectory)
        file.check_write()
        assert isinstance(file, LocalFile)
        if offset < 0:
            raise InvalidArgument("offset cannot be negative")
        if not file.flags.append and offset + len(data) > self._bytes_max:
            raise QuotaExceeded(f"{file.path}: a file can have at most {self._bytes_max} bytes")
        if not data:
            return 0
        await self._changes.passed()
        with self._changes:
            return await self._write_now(file, offset, data)

    async def _write_now(self, file: LocalFile, offset: int, data: Buffer) -> int:
        if file.writes_nowait and self._is_inline(file) and not self._ticks.coarse:
            try:
                return self._write(file, offset, data, os.RWF_NOWAIT)
            except BlockingIOError:
                pass
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise failure(error, file.path) from error
                file.writes_nowait = False
        return await self._pool.run(self._write_waiting, file, offset, data)

    def _write_waiting(self, file: LocalFile, offset: int, data: Buffer) -> int:
        with Translated(file.path):
            return self._write(file, offset, data, 0)

    def _write(self, file: LocalFile, offset: int, data: Buffer, flags: int) -> int:
        """One write; with RWF_NOWAIT it does not block."""
        with file.descriptor as fd:
            append = file.flags.append
            if append:  # the descriptor has O_APPEND: the offset is ignored
                offset = 0
                localfile.check_room(file, fd, len(data), self._bytes_max)
            accounts = self._tree.accounts
            if accounts is None:
                count = os.pwritev(fd, [data], offset, flags)
            else:
                with accounts.sized(fd, offset + len(data), append=append, wait=not flags):
                    count = os.pwritev(fd, [data], offset, flags)
            self._ticks.changed(fd)
            return count

    async def close(
        self, file: OpenFile, *, sync: bool = False, discard: bool = False
    ) -> FileInfo | None:
        assert isinstance(file, LocalFile | LocalDirectory)
        if file.closed:
            raise InvalidHandle("the file is closed")
        if isinstance(file, LocalDirectory):
            file.closed = True
            if sync:
                await self._pool.run(self._close_directory, file)
            return None
        await self._changes.passed()
        with self._changes:
            if self._open_files is not None:
                self._open_files.discard(file)
            return await self._close_file(file, sync, discard)

    async def _close_file(self, file: LocalFile, sync: bool, discard: bool) -> FileInfo | None:
        if isinstance(file, StagedFile):
            return await self._pool.run(self._finish, file, sync, discard)
        try:
            if sync or file.flags.write or not self._is_inline(file) or localfile.is_last(file):
                await self._pool.run(self._close, file, sync)
            return None
        finally:
            self._tree.let_go(file)

    def _finish(self, file: StagedFile, sync: bool, discard: bool) -> FileInfo | None:
        return self._tree.finish(file, sync=sync, discard=discard)

    def _close(self, file: LocalFile, sync: bool) -> None:
        try:
            if sync:
                localfile.sync(file)
                if file.created:
                    self._tree.sync_name(file.path)
        finally:
            self._tree.let_go(file)

    def _close_directory(self, file: LocalDirectory) -> None:
        self._tree.sync_directory(file.path)
        if file.created:
            self._tree.sync_name(file.path)


def _check_flags(flags: OpenFlags) -> None:
    if flags.truncate and not flags.write:
        raise InvalidArgument("truncate needs write")
    if flags.replace and (flags.directory or not flags.write):
        raise InvalidArgument("replace is for writing a regular file")
