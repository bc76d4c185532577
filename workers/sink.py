"""Receives a request body straight from the socket into reused buffers.

ASGI's `receive` copies a body four times; a `BufferedProtocol` lets the loop read into our own
buffer (measured: 3-4 times the throughput at a quarter of the CPU). While one buffer is being
written to storage the other one fills; when both are full the socket is not read. A reader
gets full buffers as long as the body comes fast: many small writes cost more than they gain.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fs9.errors import MalformedRequest

if TYPE_CHECKING:
    from router.framing import Framer
    from workers.connection import Connection

#: Why a request fails whose client leaves, or stops sending, within its body.
CUT_SHORT = "the connection ended before the body did"

_POOL_MAX = 16
#: What came is given to the reader so long after its first byte, however little it is.
_GATHER_S = 0.01
#: With less room than this a buffer is full: the receive is not worth its system call.
_ROOM_BYTES_MIN = 4096


class BufferPool:
    """Receive buffers of one worker, kept for the next body."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._free: list[bytearray] = []

    def take(self) -> bytearray:
        return self._free.pop() if self._free else bytearray(self._size_bytes)

    def give_back(self, buffer: bytearray) -> None:
        if len(self._free) < _POOL_MAX:
            self._free.append(buffer)


class _Half:
    """One of the two buffers; its first `filled` bytes are content."""

    __slots__ = ("buffer", "filled", "view")

    def __init__(self, buffer: bytearray) -> None:
        self.buffer = buffer
        self.view = memoryview(buffer)
        self.filled = 0

    @property
    def full(self) -> bool:
        return self.filled > max(0, len(self.buffer) - _ROOM_BYTES_MIN)


class SocketBody(asyncio.BufferedProtocol):
    """The body of one request (`fs9.http.exchange.Body`), read from its connection.

    It takes the connection's place as the transport's protocol from the first `read` to the
    end of the body, and passes on to it whatever is not about receiving.
    """

    def __init__(
        self,
        connection: Connection,
        framer: Framer,
        length: int | None,
        pool: BufferPool,
        *,
        expect_continue: bool,
    ) -> None:
        self.length = length
        self._connection = connection
        self._transport = connection.transport
        self._framer = framer
        self._pool = pool
        self._expect_continue = expect_continue
        self._receiving = False
        self._paused = False
        self._fill: _Half | None = None
        self._spare: _Half | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._error: Exception | None = None

    @property
    def done(self) -> bool:
        """Has the last byte of the body arrived?"""
        return self._framer.done

    @property
    def waits(self) -> bool:
        """Does the reader wait for bytes of the client?"""
        return self._receiving and not self._paused

    async def read(self) -> memoryview:
        """The next piece, empty at the end; valid until the next call."""
        if self._fill is None:
            self._start()
        fill, spare = self._fill, self._spare
        assert fill is not None
        assert spare is not None
        if not (fill.full or self._framer.done or self._error is not None):
            await self._wait(fill)
        if not fill.filled:
            if self._error is not None and not self._framer.done:
                raise self._error
            return fill.view[:0]
        # The caller gets the filled half; receiving goes on in the other one.
        self._fill, self._spare = spare, fill
        piece, fill.filled = fill.view[: fill.filled], 0
        spare.filled = 0
        self._resume()
        return piece

    async def _wait(self, fill: _Half) -> None:
        """Until `fill` is full, the body ends, or some of it is there and no more comes soon."""
        self._resume()
        self._waiter = self._connection.loop.create_future()
        if fill.filled:
            self._gather()
        try:
            await self._waiter
        finally:
            self._waiter = None
            if self._gathering is not None:
                self._gathering.cancel()
                self._gathering = None

    def _gather(self) -> None:
        if self._gathering is None:
            self._gathering = self._connection.loop.call_later(_GATHER_S, self._wake)

    def _start(self) -> None:
        self._fill, self._spare = _Half(self._pool.take()), _Half(self._pool.take())
        early = self._connection.intake.take_all()
        if early:
            self._consume_early(early)
        if self._framer.done or self._error is not None:
            return
        if self._expect_continue and not early:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._expect_continue = False
        self._receiving = True
        self._transport.set_protocol(self)
        self._connection.flow.resume_reading()

    def _consume_early(self, early: bytes) -> None:
        """Body bytes that came with the head; they may be more than one half holds."""
        fill = self._fill
        assert fill is not None
        try:
            end, spans = self._framer.feed(early, 0, len(early))
        except MalformedRequest as error:
            self._error = error
            return
        content = sum(stop - start for start, stop in spans)
        if content > len(fill.buffer):
            fill.buffer = bytearray(content)
            fill.view = memoryview(fill.buffer)
        for start, stop in spans:
            fill.view[fill.filled : fill.filled + stop - start] = early[start:stop]
            fill.filled += stop - start
        self._connection.intake.give_back(early[end:])

    def _resume(self) -> None:
        if self._paused and not self._framer.done:
            self._paused = False
            self._transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        """End the body with an error; the reader sees it after what has arrived."""
        if self._error is None:
            self._error = error
        self._wake()

    def finish(self, *, reuse: bool) -> None:
        """Give the connection back. `reuse`: nobody uses the buffers any more."""
        if self._receiving:
            self._receiving = False
            if not self._transport.is_closing():
                self._transport.set_protocol(self._connection)
                if self._paused:
                    self._paused = False
                    self._transport.resume_reading()
        if reuse:
            for half in (self._fill, self._spare):
                if half is not None:
                    self._pool.give_back(half.buffer)
        self._fill = self._spare = None

    # -- asyncio.BufferedProtocol -----------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        fill = self._fill
        assert fill is not None
        start, stop = fill.filled, len(fill.buffer)
        if self.length is not None:
            # Never past this request: what follows belongs to the connection.
            stop = min(stop, start + self._framer.remaining)
        return fill.view[start:stop]

    def buffer_updated(self, nbytes: int) -> None:
        fill = self._fill
        assert fill is not None
        self._connection.touch()
        start = fill.filled
        try:
            end, spans = self._framer.feed(fill.view, start, start + nbytes)
        except MalformedRequest as error:
            self._pause()
            self.fail(error)
            return
        for first, stop in spans:
            if first != fill.filled:  # close the gap that a chunk line leaves
                fill.view[fill.filled : fill.filled + stop - first] = bytes(fill.view[first:stop])
            fill.filled += stop - first
        if self._framer.done:
            rest = bytes(fill.view[end : start + nbytes])
            self._receiving = False
            self._transport.set_protocol(self._connection)
            self._connection.intake.give_back(rest)
            self._wake()
        elif fill.full:
            self._pause()
            self._wake()
        elif fill.filled and self._waiter is not None:
            self._gather()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The body is incomplete; keep the connection half open, to answer with an error."""
        self._connection.client_ended()
        self.fail(MalformedRequest(CUT_SHORT))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._receiving = False
        self.fail(MalformedRequest(CUT_SHORT))
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()
