"""The waist: what a storage provider does.

Everything above (VFS, sessions, HTTP) uses these ten operations; everything below implements
them. Paths are clean, absolute and relative to the provider's own root (`fs9.path`). A
provider never sees mounts, tenants, tokens or HTTP.

All operations but `capabilities` are coroutines. One that need not wait finishes without
suspending; one that blocks goes through `fs9.threads`. Operations on one provider may run
interleaved at every `await`; each must be atomic by itself. A cancelled operation has
either happened or not; it never happens in half.

Which capability an operation needs is checked once, above, by `fs9.vfs.checks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fs9.errors import NotSupported
from fs9.types import (
    ALWAYS,
    Buffer,
    Capability,
    Condition,
    Delivery,
    FileInfo,
    FsStats,
    OpenFlags,
    StatChanges,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager


class OpenFile:
    """Base of what `Provider.open` returns: a provider's own state of one open file."""

    __slots__ = ()

    #: Was the file, or directory, made by this open? None: the provider does not say.
    created: bool | None = None
    #: May a write to it change anything in the mount? It takes the rights to that, then.
    changes_mount: bool = False

    @property
    def plain(self) -> AbstractContextManager[int] | None:
        """A descriptor, for the block, of a regular file whose bytes are this file's, if any."""
        return None


class Provider(Protocol):
    """The ten operations, and `aclose` for the end of the provider's life."""

    @property
    def name(self) -> str:
        """The provider's type as users write it in a mount: `memfs`, `localfs`, …"""

    @property
    def volatile(self) -> bool:
        """Are the files lost with this object? Then its namespace is never unloaded."""

    async def stat(self, path: str) -> FileInfo:
        """The file's info, of a symbolic link itself. Raises NotFound, NotDirectory."""

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        """Change metadata, size or name, or make a symbolic link (see `StatChanges`).

        A rename is atomic, moves a directory with all that is in it, and replaces a file by
        a file or an empty directory by a directory. Raises NotFound, AlreadyExists,
        IsDirectory, NotDirectory, DirectoryNotEmpty, InvalidArgument (into itself),
        QuotaExceeded, PreconditionFailed (`condition` is about `path`).
        """

    async def statfs(self, path: str) -> FsStats:
        """Size and free space of the file system that holds `path`."""

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[OpenFile, FileInfo]:
        """Open, perhaps create, a file; open or create a directory.

        The open file is bound to the file, not to the path: after a rename it follows, after
        a remove it still reads and writes. With `flags.replace` the condition is checked
        here and again, in one step with the swap, in `close`. Raises NotFound,
        AlreadyExists, IsDirectory, NotDirectory, InvalidArgument (symbolic link, device),
        QuotaExceeded, PreconditionFailed.
        """

    async def read(self, file: OpenFile, offset: int, size: int) -> Buffer:
        """At most `size` bytes from `offset`; short or empty means the end for now.

        Raises PermissionDenied when not opened for reading, IsDirectory.
        """

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        """Write at `offset` (at the end, with `append`); the count written, at least 1.

        A gap reads as zeros. `data` is the caller's again after the call. Raises
        PermissionDenied when not opened for writing, QuotaExceeded.
        """

    async def close(
        self, file: OpenFile, *, sync: bool = False, discard: bool = False
    ) -> FileInfo | None:
        """Release the file; with `sync` its bytes survive a loss of power.

        A file opened with `replace` is swapped in now, atomically, and its info returned;
        with `discard` it is thrown away. Raises PreconditionFailed, NotFound (the parent
        vanished), IsDirectory; the file is released in every case.
        """

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        """At most `limit` entries whose name sorts after `after` ("" for the first ones).

        Sorted by the bytes of the name. Raises NotFound, NotDirectory.
        """

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        """Remove a file, a symbolic link or an empty directory.

        Raises NotFound, DirectoryNotEmpty, PermissionDenied (the root), PreconditionFailed.
        """

    def capabilities(self) -> Capability:
        """What this provider can do; constant over its life."""

    async def destroy(self) -> None:
        """Remove all that this mount stores, for ever; nothing but `aclose` follows.

        Of a host's directory only what is below the data directory; of what is somebody else's
        (another server) nothing. Done in part, by a crash or an error, it can be done again.
        """

    async def aclose(self) -> None:
        """Release everything; no operation runs or follows."""


class Follower(Protocol):
    """One who reads a file's messages as they come, at its own pace.

    It has a place in the file's log and no queue, so it costs the same however slow it is.
    """

    async def next(self, wait_s: float) -> Delivery:
        """What came after the last delivery; waits so long for something to come."""

    def close(self) -> None:
        """Let go of the file; a `next` that waits returns at once. May be called again."""


class Followable(Protocol):
    """What a provider with Capability.BLOCKING_READ has besides the ten operations."""

    async def follow(self, path: str, cursor: str | None) -> Follower:
        """Follow the file from the cursor of a message or delivery on.

        None: from the oldest message that is kept; "end": from now on. Raises NotFound,
        IsDirectory, InvalidArgument (not a cursor), QuotaExceeded (too many followers).
        """


class Departures(Protocol):
    """Is told of files that disappear without a request, for the watchers of the namespace."""

    def going(self, paths: Sequence[str]) -> AbstractContextManager[set[str]]:
        """Around the removal of these files, which is an operation of the mount; yields their set.

        Watchers are told of those that are still in the set at the end. Raises OwnerUnavailable
        when the mount is being closed.
        """

    def gone(self, path: str) -> None:
        """Tell of a file that another operation removed in passing, before that is answered."""

    def lost(self) -> None:
        """Tell that any file of the mount may have changed or disappeared."""


class Departing(Protocol):
    """What a provider has besides the ten operations if its files can disappear by themselves."""

    def tell_departures(self, to: Departures) -> None:
        """From now on report files that disappear. May be called again."""


class BaseProvider:
    """Default answers: whatever a provider leaves out is not implemented.

    A new provider derives from this and overrides what it can do (`hellofs` is the example).
    """

    name: str = ""
    volatile: bool = False
    #: May the operations begin where no task runs? Not those that ask for the current task before
    #: they have waited, as `asyncio.timeout` does. It saves small requests a turn of the loop.
    untasked: bool = False

    async def stat(self, path: str) -> FileInfo:
        raise NotSupported("stat")

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        if changes != StatChanges():
            raise NotSupported("wstat")
        await self.stat(path)  # no change at all only asks whether the path is there

    async def statfs(self, path: str) -> FsStats:
        raise NotSupported("statfs")

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[OpenFile, FileInfo]:
        raise NotSupported("open")

    async def read(self, file: OpenFile, offset: int, size: int) -> Buffer:
        raise NotSupported("read")

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        raise NotSupported("write")

    async def close(
        self, file: OpenFile, *, sync: bool = False, discard: bool = False
    ) -> FileInfo | None:
        return None

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        raise NotSupported("readdir")

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        raise NotSupported("delete")

    def capabilities(self) -> Capability:
        return Capability(0)

    async def destroy(self) -> None:
        return None

    async def aclose(self) -> None:
        return None
