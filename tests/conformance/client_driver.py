"""Drives both Python clients, as the suite drives a provider.

A file is replaced by an upload whose body is made while the suite writes: `open` with
`replace` returns when the server asks for the body, `close` ends it or, to discard, breaks it.
The synchronous client runs in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from fs9.client import AsyncClient, Client
from fs9.errors import InvalidArgument
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
from fs9.wire.codec import capabilities_from_names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from fs9.client.ops import Uploaded


class _Discarded(Exception):
    """Breaks the body of an upload."""


class _Upload:
    """An upload in progress. `run` starts it, given what makes its body from `take`."""

    def __init__(self) -> None:
        self.written = 0
        self._pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.task: asyncio.Future[Uploaded] = self._loop.create_future()

    def pieces(self) -> Iterator[bytes]:
        self._loop.call_soon_threadsafe(self._wanted.set)
        while piece := self._pieces.get():
            yield piece
        if piece is None:
            raise _Discarded

    async def pieces_async(self) -> AsyncIterator[bytes]:
        iterator = self.pieces()
        while piece := await self._loop.run_in_executor(None, next, iterator, b""):
            yield piece

    async def begin(self) -> None:
        """Wait until the body is asked for; raises what the server refuses before that."""
        wanted = asyncio.ensure_future(self._wanted.wait())
        await asyncio.wait([wanted, self.task], return_when=asyncio.FIRST_COMPLETED)
        wanted.cancel()
        if self.task.done():
            self.task.result()

    def write(self, offset: int, data: Buffer) -> int:
        assert offset == self.written, "an upload is written in order"
        self.written += len(data)
        if data:
            self._pieces.put(bytes(data))
        return len(data)

    async def end(self, *, discard: bool) -> None:
        self._pieces.put(None if discard else b"")
        if discard:
            with contextlib.suppress(_Discarded):
                await self.task
        else:
            assert (await self.task).bytes_written == self.written


class ClientDriver:
    """Times are whole seconds. `client` is of either colour."""

    features = frozenset({"exclusive", "condition", "paging", "replace"})

    def __init__(self, client: AsyncClient | Client) -> None:
        self.client = client
        self._threads = ThreadPoolExecutor(8)

    async def _call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if isinstance(self.client, AsyncClient):
            return await method(*args, **kwargs)
        loop = asyncio.get_running_loop()
        call = functools.partial(method, *args, **kwargs)
        return await loop.run_in_executor(self._threads, call)

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
            return await self._replace(path, flags, condition)
        handle = await self._call(self.client.open, path, flags, condition)
        return handle, handle.info

    async def _replace(
        self, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[_Upload, FileInfo]:
        if flags.read:
            raise InvalidArgument("an upload cannot be read from")
        if not flags.create:  # an upload always may create
            await self.stat(path)
        upload = _Upload()
        body = upload.pieces_async() if isinstance(self.client, AsyncClient) else upload.pieces()
        sending = self._call(
            self.client.upload,
            path,
            body,
            if_match=(condition.if_match or (None,))[0],
            if_none_match=(condition.if_none_match or (None,))[0],
        )
        upload.task = asyncio.ensure_future(sending)
        await upload.begin()
        return upload, FileInfo(path, 0, FileType.REGULAR, 0, 0, 0, 0, 0, 0)

    async def read(self, handle: Any, offset: int, size: int) -> Buffer:
        return await self._call(self.client.read, handle, offset, size)

    async def write(self, handle: Any, offset: int, data: Buffer) -> int:
        if isinstance(handle, _Upload):
            return handle.write(offset, data)
        return await self._call(self.client.write, handle, offset, data)

    async def close(self, handle: Any, *, sync: bool = False, discard: bool = False) -> None:
        if isinstance(handle, _Upload):
            await handle.end(discard=discard)
        else:
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
