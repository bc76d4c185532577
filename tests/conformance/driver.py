"""What the conformance suite drives: the ten operations, over whatever lies between.

A driver is a way to a provider: bare (`ProviderDriver`), through a session (`SessionDriver`),
and elsewhere through HTTP and the clients. All of them raise the classes of `fs9.errors`.

What a way cannot carry is told by `features`; the suite leaves those cases out:

    exclusive   the `exclusive` flag            replace   the `replace` flag, and `discard`
    update      `replace` without `create`, which an upload cannot say
    condition   conditions on wstat and remove, and on open where there is `replace`
    paging      `after` and `limit` of readdir
    ns          times in nanoseconds, not only in seconds
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fs9.limits import Limits
from fs9.principal import Principal
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
from fs9.vfs.mounts import Mount, MountTable
from fs9.vfs.namespace import Namespace

if TYPE_CHECKING:
    from fs9.clock import Clock
    from fs9.provider import Provider
    from fs9.vfs.session import Session

ALL_FEATURES = frozenset({"exclusive", "replace", "update", "condition", "paging", "ns"})


class Driver(Protocol):
    """Handles are opaque: an `OpenFile`, an id, whatever the driver makes of it."""

    features: frozenset[str]

    async def stat(self, path: str) -> FileInfo: ...

    async def wstat(
        self, path: str, changes: StatChanges, condition: Condition = ALWAYS
    ) -> None: ...

    async def statfs(self, path: str) -> FsStats: ...

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[Any, FileInfo]: ...

    async def read(self, handle: Any, offset: int, size: int) -> Buffer: ...

    async def write(self, handle: Any, offset: int, data: Buffer) -> int:
        """Writes all of the data or raises."""

    async def close(self, handle: Any, *, sync: bool = False, discard: bool = False) -> None: ...

    async def readdir(self, path: str, after: str = "", limit: int = 100_000) -> list[FileInfo]: ...

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None: ...

    async def capabilities(self) -> Capability: ...

    async def aclose(self) -> None: ...


class ProviderDriver:
    """A provider bare. Checks what each provider must keep whoever calls it."""

    features = ALL_FEATURES

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    async def stat(self, path: str) -> FileInfo:
        return await self.provider.stat(path)

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        await self.provider.wstat(path, changes, condition)

    async def statfs(self, path: str) -> FsStats:
        return await self.provider.statfs(path)

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[Any, FileInfo]:
        return await self.provider.open(path, flags, condition)

    async def read(self, handle: Any, offset: int, size: int) -> Buffer:
        return await self.provider.read(handle, offset, size)

    async def write(self, handle: Any, offset: int, data: Buffer) -> int:
        view, done = memoryview(data), 0
        while done < len(view):
            count = await self.provider.write(handle, offset + done, view[done:])
            assert 1 <= count <= len(view) - done
            done += count
        return done

    async def close(self, handle: Any, *, sync: bool = False, discard: bool = False) -> None:
        await self.provider.close(handle, sync=sync, discard=discard)

    async def readdir(self, path: str, after: str = "", limit: int = 100_000) -> list[FileInfo]:
        return await self.provider.readdir(path, after, limit)

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        await self.provider.remove(path, condition)

    async def capabilities(self) -> Capability:
        return self.provider.capabilities()

    async def aclose(self) -> None:
        await self.provider.aclose()


class SessionDriver:
    """Through a session: paths cleaned, rights asked, mounts resolved, handles registered."""

    features = ALL_FEATURES

    def __init__(self, session: Session) -> None:
        self.session = session

    async def stat(self, path: str) -> FileInfo:
        return await self.session.stat(path)

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        await self.session.wstat(path, changes, condition)

    async def statfs(self, path: str) -> FsStats:
        return await self.session.statfs(path)

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[Any, FileInfo]:
        if flags.replace:  # only a file without a handle can be discarded
            file = await self.session.open_file(path, flags, condition)
            return file, file.info
        return await self.session.open(path, flags, condition)

    async def read(self, handle: Any, offset: int, size: int) -> Buffer:
        if isinstance(handle, str):
            return await self.session.read(handle, offset, size)
        return await self.session.read_file(handle, offset, size)

    async def write(self, handle: Any, offset: int, data: Buffer) -> int:
        if isinstance(handle, str):
            return await self.session.write(handle, offset, data)
        return await self.session.write_file(handle, offset, data)

    async def close(self, handle: Any, *, sync: bool = False, discard: bool = False) -> None:
        if isinstance(handle, str):
            await self.session.close(handle, sync)
        elif discard:
            await self.session.discard_file(handle)
        else:
            await self.session.commit_file(handle, sync)

    async def readdir(self, path: str, after: str = "", limit: int = 100_000) -> list[FileInfo]:
        return await self.session.readdir(path, after=after, limit=limit)

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        await self.session.remove(path, condition)

    async def capabilities(self) -> Capability:
        return self.session.capabilities("/")[0]

    async def aclose(self) -> None:
        await self.session.namespace.aclose()


def session_driver(mounts: dict[str, Provider], clock: Clock) -> SessionDriver:
    """A driver through a session of a new namespace with these mounts."""
    table = MountTable(Mount.of(path, provider) for path, provider in mounts.items())
    namespace = Namespace("acme", table, Limits(), clock)
    return SessionDriver(namespace.attach(Principal("alice", "acme")))
