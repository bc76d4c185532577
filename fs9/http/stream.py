"""Bytes from a file to a socket, piece by piece.

These are not async generators, because one that was never started does not run its `finally`, and
the file of a download must be closed even if the client left before the first byte.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fs9.errors import Transient
from fs9.types import Buffer

#: `read(offset, size)`: at most `size` bytes; short or empty at the end.
ReadPiece = Callable[[int, int], Awaitable[Buffer]]


async def nothing_to_close() -> None:
    return None


class Pieces:
    """The bytes `[offset, offset + size)` of a file as an async iterator.

    With `exact` an end before `size` bytes raises Transient: the file has shrunk, and the
    Content-Length has been sent. Without it the end of the file is the end of the stream.
    `aclose` runs `close` once; whoever holds the stream calls it in every case.
    """

    __slots__ = (
        "_close",
        "_exact",
        "_first",
        "_left",
        "_offset",
        "_piece_bytes",
        "_read",
        "at_end",
    )

    def __init__(
        self,
        read: ReadPiece,
        offset: int,
        size: int,
        piece_bytes: int,
        *,
        exact: bool = False,
        close: Callable[[], Awaitable[object]] = nothing_to_close,
    ) -> None:
        self._read = read
        self._offset = offset
        self._left = size
        self._piece_bytes = piece_bytes
        self._exact = exact
        self._close: Callable[[], Awaitable[object]] | None = close
        self._first: Buffer = b""
        #: Has the last piece been read?
        self.at_end = size == 0

    async def prefetch(self) -> Buffer:
        """Read the first piece; it is still the first one that the iteration yields."""
        self._first = await self._next()
        return self._first

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> Buffer:
        piece, self._first = self._first, b""
        if not piece:
            piece = await self._next()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def _next(self) -> Buffer:
        if self.at_end:
            return b""
        wanted = min(self._piece_bytes, self._left)
        piece = await self._read(self._offset, wanted)
        self._offset += len(piece)
        self._left -= len(piece)
        if self._left == 0:
            self.at_end = True
        elif len(piece) < wanted:
            await self._ended(len(piece))
        return piece

    async def _ended(self, received: int) -> None:
        """A short piece: the end of the file."""
        if self._exact and received == 0:
            raise Transient("the file became shorter while it was read")
        # With `exact` the next, empty read decides.
        self.at_end = not self._exact

    async def aclose(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            await close()
