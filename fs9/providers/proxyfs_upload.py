"""Replaces a file of the upstream: writes are streamed as the body of one upload.

The upstream stages and swaps. At most two pieces are in memory: `write` waits until there is
room for its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec

from fs9.errors import Fs9Error, NotSupported, Transient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from fs9.client.aio_link import AsyncSource
    from fs9.client.ops import Uploaded
    from fs9.types import Buffer, Condition, OpenFlags


class Upload:
    """The source of the body, and the task that sends it. One task at a time writes."""

    length: int | None = None
    replayable = False

    def __init__(self, send: Callable[[AsyncSource], Coroutine[Any, Any, Uploaded]]) -> None:
        self.taken = False
        self._wanted = asyncio.Event()
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._written = 0
        self._task = asyncio.create_task(send(self))

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body of the upload: what is written, until `commit`."""
        self.taken = True
        self._wanted.set()
        while piece := await self._pieces.get():
            yield piece

    async def begin(self) -> None:
        """Wait until there is a connection that takes the body; raises an earlier refusal."""
        wanted = asyncio.ensure_future(self._wanted.wait())
        try:
            await asyncio.wait({wanted, self._task}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self.discard()
            raise
        finally:
            wanted.cancel()
        if self._task.done():
            await self._refused()

    async def write(self, offset: int, data: Buffer) -> int:
        """Raises NotSupported for another place than the end, and what ended the upload."""
        if offset != self._written:
            raise NotSupported(
                f"writing at {offset} of a file that is replaced over HTTP,"
                f" which has {self._written} bytes"
            )
        if len(data):
            await self._put(bytes(data))
            self._written += len(data)
        return len(data)

    async def commit(self) -> Uploaded:
        """End the body; the upstream has replaced the file when this returns."""
        try:
            await self._put(b"")
            return await self._task
        except BaseException:
            await self.discard()
            raise

    async def discard(self) -> None:
        """Abort the body, so that the upstream discards the upload."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Fs9Error):
            await self._task

    async def _put(self, piece: bytes) -> None:
        if self._task.done():
            await self._refused()
        if self._pieces.full():
            put = asyncio.ensure_future(self._pieces.put(piece))
            try:
                await asyncio.wait({put, self._task}, return_when=asyncio.FIRST_COMPLETED)
                taken = put.done()
            finally:
                put.cancel()
            if not taken:
                await self._refused()
        else:
            self._pieces.put_nowait(piece)

    async def _refused(self) -> None:
        """The upload ended before its end was sent: raise why."""
        await self._task
        raise Transient("the upstream took a part of a file for all of it")


def condition_of(condition: Condition, flags: OpenFlags) -> Condition:
    """The condition of an upload that does what the flags say."""
    if not flags.create and condition.if_match is None:
        return msgspec.structs.replace(condition, if_match=("*",))
    if flags.create and flags.exclusive and condition.if_none_match is None:
        return msgspec.structs.replace(condition, if_none_match=("*",))
    return condition
