"""Directories that exist only because something is mounted below them.

With mounts at `/` and `/s3/logs`, a listing of `/` shows `s3` although the provider at `/`
has no such directory. `SyntheticDirectory` plays the provider for it: read-only, empty but
for the mount points that `fs9.vfs.vfs` adds.
"""

from __future__ import annotations

from fs9.errors import AlreadyExists, IsDirectory, NotFound
from fs9.provider import BaseProvider, OpenFile
from fs9.types import (
    ALWAYS,
    Buffer,
    Capability,
    Condition,
    FileInfo,
    FileType,
    FsStats,
    OpenFlags,
    StatChanges,
)
from fs9.vfs.mounts import Mount

_MODE = 0o555


class SyntheticDirectory(BaseProvider):
    """As a mount at "/" it has no files at all, so a namespace without mounts can use it too.

    It claims every capability, because its refusals say more than "not implemented".
    """

    name = "mounts"

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self.mount = Mount("/", self, sum(Capability))

    def info(self, path: str) -> FileInfo:
        now_ns = self._now_ns
        return FileInfo(path, 0, FileType.DIRECTORY, _MODE, 0, 0, now_ns, now_ns, now_ns)

    def open_at(self, path: str, flags: OpenFlags) -> tuple[OpenFile, FileInfo]:
        """Open the synthetic directory; raises AlreadyExists, IsDirectory as any directory."""
        if flags.create and (flags.directory or flags.exclusive):
            raise AlreadyExists(path)
        if flags.create or flags.write:
            raise IsDirectory(path)
        return OpenFile(), self.info(path)

    async def stat(self, path: str) -> FileInfo:
        raise NotFound(path)

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        raise NotFound(path)

    async def statfs(self, path: str) -> FsStats:
        return FsStats(0, 0, 0, 0, block_size=4096, max_name_len=255)

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[OpenFile, FileInfo]:
        raise NotFound(path)

    async def read(self, file: OpenFile, offset: int, size: int) -> Buffer:
        raise IsDirectory("")

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        raise NotFound(path)

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        raise NotFound(path)
