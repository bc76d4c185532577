"""Drives both Python clients, as the suite drives a provider.

There is no `replace`: a client that uploads learns of a refusal when it has sent the body, not
when it begins. Uploads have their own tests (`tests/client`).
"""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from fs9.client import AsyncClient, Client
from fs9.types import ALWAYS, Buffer, Capability, Condition, FileInfo, FsStats, OpenFlags
from fs9.wire.codec import capabilities_from_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.types import StatChanges


class ClientDriver:
    """Times are whole seconds. `client` is of either colour; a synchronous one gets threads."""

    features = frozenset({"exclusive", "condition", "paging"})

    def __init__(self, client: AsyncClient | Client) -> None:
        self.client = client
        self._threads = ThreadPoolExecutor(4)

    async def _call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if isinstance(self.client, AsyncClient):
            return await method(*args, **kwargs)
        call = functools.partial(method, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def stat(self, path: str) -> FileInfo:
        return await self._call(self.client.stat, path)

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        await self._call(self.client.wstat, path, changes, condition)

    async def statfs(self, path: str) -> FsStats:
        return await self._call(self.client.statfs, path)

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[Any, FileInfo]:
        if flags.replace:
            pytest.skip("without `replace`")
        handle = await self._call(self.client.open, path, flags, condition)
        return handle, handle.info

    async def read(self, handle: Any, offset: int, size: int) -> Buffer:
        return await self._call(self.client.read, handle, offset, size)

    async def write(self, handle: Any, offset: int, data: Buffer) -> int:
        return await self._call(self.client.write, handle, offset, data)

    async def close(self, handle: Any, *, sync: bool = False, discard: bool = False) -> None:
        await self._call(self.client.close, handle, sync=sync)

    async def readdir(self, path: str, after: str = "", limit: int = 100_000) -> list[FileInfo]:
        entries = await self._call(self.client.readdir, path)
        names = [(entry.path.rpartition("/")[2], entry) for entry in entries]
        return [entry for name, entry in names if name.encode() > after.encode()][:limit]

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        await self._call(self.client.remove, path, condition)

    async def capabilities(self) -> Capability:
        reply = await self._call(self.client.capabilities, "/")
        return capabilities_from_names(reply.capabilities)

    async def aclose(self) -> None:
        await self._call(self.client.disconnect)
        self._threads.shutdown()
