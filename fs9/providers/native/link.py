"""The socket to a plugin process, as an asyncio protocol: frames out, answers in.

Answers of up to 64 KiB are taken from one buffer that is used again; larger ones are received
into memory of their own, which then goes to the caller without a copy.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from fs9.errors import BackendUnavailable, Fs9Error
from fs9.providers.native import frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.types import Buffer

_SCRATCH_BYTES = 64 * 1024
_NUMBER_MAX = 2**32 - 1


class Link(asyncio.BufferedProtocol):
    """`ready` is the process' first answer. `on_end` is called once, when the socket is gone."""

    def __init__(self, process: Any) -> None:  # noqa: ANN401  multiprocess has no types
        self.process = process
        self.on_end: Callable[[Link], None] = lambda link: None
        self.over = asyncio.Event()
        self.reaping: asyncio.Future[None] | None = None
        self.ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending: dict[int, asyncio.Future[tuple[frames.Answer, Buffer]]] = {}
        self._number = 0
        self._transport: asyncio.Transport | None = None
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._filled = 0
        #: A frame too large for the scratch buffer, and how much of it is here.
        self._large: memoryview | None = None
        self._large_filled = 0

    def send(
        self, request: frames.Request, data: Buffer
    ) -> asyncio.Future[tuple[frames.Answer, Buffer]]:
        """What will be the answer. The data must not change until then."""
        if self._transport is None or self.over.is_set():
            raise BackendUnavailable("the plugin's process ended unexpectedly")
        number = self._number = self._number % _NUMBER_MAX + 1  # 0 is the first answer's
        message = frames.encode(request)
        head = frames.HEADER.pack(number, len(message), len(data)) + message
        if len(data) > _SCRATCH_BYTES:
            self._transport.write(head)
            self._transport.write(data)
        else:
            self._transport.write(head + data)
        future = self._pending[number] = asyncio.get_running_loop().create_future()
        return future

    def fail(self, error: Fs9Error) -> None:
        """End every call in progress with the error."""
        pending, self._pending = self._pending, {}
        for future in (self.ready, *pending.values()):
            if not future.done():
                future.set_exception(error)
                future.exception()  # a caller that went away does not ask

    def kill(self) -> None:
        """SIGKILL; what is in progress fails when the socket is found closed."""
        with suppress(ValueError):  # it is reaped already
            self.process.kill()
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's calls ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()
        self.on_end(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._large is not None:
            return self._large[self._large_filled :]
        return self._scratch[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._large is not None:
            self._large_filled += nbytes
            if self._large_filled == len(self._large):
                frame, self._large = self._large, None
                number, message_size, _ = frames.HEADER.unpack_from(frame)
                self._arrived(number, frame[frames.HEADER.size :], message_size)
            return
        self._filled += nbytes
        self._take_frames()

    def _take_frames(self) -> None:
        scratch, start = self._scratch, 0
        header_size = frames.HEADER.size
        while self._filled - start >= header_size:
            number, message_size, data_size = frames.HEADER.unpack_from(scratch, start)
            size = header_size + message_size + data_size
            here = self._filled - start
            if here < size:
                if size > _SCRATCH_BYTES:
                    self._large = memoryview(bytearray(size))
                    self._large[:here] = scratch[start : self._filled]
                    self._large_filled, start = here, self._filled
                break
            body = bytes(scratch[start + header_size : start + size])
            self._arrived(number, memoryview(body), message_size)
            start += size
        left = self._filled - start
        if start and left:
            scratch[:left] = bytes(scratch[start : self._filled])
        self._filled = left

    def _arrived(self, number: int, body: memoryview, message_size: int) -> None:
        answer = frames.decode_answer(body[:message_size])
        if number == 0:
            if not self.ready.done():
                self.ready.set_result(answer)
            return
        future = self._pending.pop(number, None)
        if future is not None and not future.done():
            future.set_result((answer, body[message_size:]))
