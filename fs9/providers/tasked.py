"""Wraps a provider whose operations must run in a task.

Workers step small operations without a task (`workers.answering`), which gives most of their speed;
a provider that sets `untasked` supports that. Others may need the current task before they have
waited for anything, as `asyncio.timeout`, `asyncio.TaskGroup` and most network libraries do: for
them each operation yields to the event loop once, after which it runs in a task.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from fs9.types import ALWAYS

if TYPE_CHECKING:
    from fs9.provider import Departures, Followable, Follower, OpenFile, Provider
    from fs9.types import Buffer, Capability, Condition, FileInfo, FsStats, OpenFlags, StatChanges


def tasked(provider: Provider) -> Provider:
    """The provider or a wrapper of it, whose operations may begin without a task."""
    return provider if getattr(provider, "untasked", False) else TaskedProvider(provider)


class TaskedProvider:
    """All calls go to `provider`."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self.name = provider.name
        self.volatile = provider.volatile

    async def stat(self, path: str) -> FileInfo:
        await _in_a_task()
        return await self._provider.stat(path)

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        await _in_a_task()
        await self._provider.wstat(path, changes, condition)

    async def statfs(self, path: str) -> FsStats:
        await _in_a_task()
        return await self._provider.statfs(path)

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[OpenFile, FileInfo]:
        await _in_a_task()
        return await self._provider.open(path, flags, condition)

    async def read(self, file: OpenFile, offset: int, size: int) -> Buffer:
        await _in_a_task()
        return await self._provider.read(file, offset, size)

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        await _in_a_task()
        return await self._provider.write(file, offset, data)

    async def close(
        self, file: OpenFile, *, sync: bool = False, discard: bool = False
    ) -> FileInfo | None:
        await _in_a_task()
        return await self._provider.close(file, sync=sync, discard=discard)

    async def readdir(self, path: str, after: str, limit: int) -> list[FileInfo]:
        await _in_a_task()
        return await self._provider.readdir(path, after, limit)

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        await _in_a_task()
        await self._provider.remove(path, condition)

    async def follow(self, path: str, cursor: str | None) -> Follower:
        await _in_a_task()
        return await cast("Followable", self._provider).follow(path, cursor)

    def tell_departures(self, to: Departures) -> None:
        tell = getattr(self._provider, "tell_departures", None)
        if tell is not None:
            tell(to)

    def capabilities(self) -> Capability:
        return self._provider.capabilities()

    async def destroy(self) -> None:
        await self._provider.destroy()

    async def aclose(self) -> None:
        await self._provider.aclose()


async def _in_a_task() -> None:
    if asyncio.current_task() is None:
        await asyncio.sleep(0)
