"""A file on the server as a file object: position, read, write, seek."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Self

from fs9.client import ops
from fs9.errors import InvalidArgument, InvalidHandle
from fs9.types import Buffer, OpenFlags, StatChanges

if TYPE_CHECKING:
    from types import TracebackType

    from fs9.client.aio_link import AsyncLink
    from fs9.client.ops import Handle
    from fs9.types import FileInfo

#: The modes of Python's open, always binary.
_MODES = {
    "r": OpenFlags(read=True),
    "r+": OpenFlags(read=True, write=True),
    "w": OpenFlags(write=True, create=True, truncate=True),
    "w+": OpenFlags(read=True, write=True, create=True, truncate=True),
    "x": OpenFlags(write=True, create=True, exclusive=True),
    "x+": OpenFlags(read=True, write=True, create=True, exclusive=True),
    "a": OpenFlags(write=True, create=True, append=True),
    "a+": OpenFlags(read=True, write=True, create=True, append=True),
}


def flags_of(mode: str) -> OpenFlags:
    """The flags of a mode such as "rb" or "r+"; raises InvalidArgument for an unknown one."""
    try:
        return _MODES[mode.replace("b", "", 1)]
    except KeyError:
        raise InvalidArgument(f"the mode {mode!r} is none of {', '.join(_MODES)}") from None


class AsyncFile:
    """An open file with a position, for one task or thread at a time; close it, or use `with`.

    Every `write` is one request, on the server when it returns. An idle file is closed by the
    server after some minutes (InvalidHandle then).
    """

    def __init__(self, link: AsyncLink, handle: Handle) -> None:
        self.handle = handle
        self._link = link
        self._position = 0
        self._closed = False

    @property
    def info(self) -> FileInfo:
        """What stat said when the file was opened."""
        return self.handle.info

    @property
    def closed(self) -> bool:
        return self._closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._closed:
            return
        if error is None:
            await self.close()
        else:
            self._closed = True
            await self._link.run(ops.abandon(self.handle))

    async def close(self, *, sync: bool = False) -> None:
        """Release the file; with `sync` its bytes survive a loss of power. Again: no effect."""
        if not self._closed:
            self._closed = True
            await self._link.run(ops.close(self.handle, sync=sync))

    async def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes from the position, all to the end when negative; b"" at the end.

        A positive `size` may return fewer bytes before the end only for files that produce
        them bit by bit.
        """
        if size >= 0:
            data = await self.read_at(self._position, size)
            self._position += len(data)
            return data
        pieces = []
        while piece := await self.read(ops.READ_BYTES):
            pieces.append(piece)
        return b"".join(pieces)

    async def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; the position stays."""
        return await self._link.run(ops.read(self.handle, offset, size)) if size else b""

    async def write(self, data: Buffer) -> int:
        """Write all of `data` at the position (at the end in mode "a")."""
        written = await self.write_at(self._position, data)
        self._position += written
        return written

    async def write_at(self, offset: int, data: Buffer) -> int:
        """Write all of `data` at `offset`; the position stays."""
        return await self._link.run(ops.write(self.handle, offset, data))

    def flush(self) -> None:
        """For what takes a file object: every write is on the server already (`close(sync=True)`
        makes it survive a loss of power). Raises InvalidHandle when the file is closed."""
        if self._closed:
            raise InvalidHandle("closed")

    def tell(self) -> int:
        return self._position

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position, relative to the start, itself, or the end; returns the new one."""
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += await self.size()
        elif whence != io.SEEK_SET:
            raise InvalidArgument(f"whence must be 0, 1 or 2, not {whence}")
        if offset < 0:
            raise InvalidArgument("a position cannot be before the start")
        self._position = offset
        return offset

    async def size(self) -> int:
        """The size in bytes now, by path: of another file when this one was renamed away."""
        return (await self._link.run(ops.stat(self.handle.info.path))).size

    async def truncate(self, size: int | None = None) -> int:
        """Cut or extend to `size` (the position when None), by path like `size`."""
        size = self._position if size is None else size
        await self._link.run(ops.wstat(self.handle.info.path, StatChanges(size=size)))
        return size
