"""Connections of the metadata service: uvicorn's, with bounds on what precedes the key check.

uvicorn itself waits for ever for the end of a request's head, trailers and chunk extensions, and
keeps them whatever their length. Bodies are bounded by the application (`fs9.meta.app`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

#: What a request may have beyond its body; as long as the heads that file servers take.
OVERHEAD_BYTES_MAX = 64 * 1024
#: A body in chunks of one byte has six bytes of framing for each.
_FRAMING_PER_BYTE = 8
HEAD_TIMEOUT_S = 30.0


class MetaConnection(HttpToolsProtocol):
    """Cuts who takes too long until a body begins, or sends more than a head and the body."""

    head_timeout_s = HEAD_TIMEOUT_S

    _due: asyncio.TimerHandle | None = None
    _messages = 0
    _received = 0
    _body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        messages = self._messages
        super().data_received(data)
        if self._messages != messages:
            return  # part of it was the message before; one piece is short enough
        self._received += len(data)
        if self._received - self._body > OVERHEAD_BYTES_MAX + _FRAMING_PER_BYTE * self._body:
            self.logger.warning("a request was cut: more than %d bytes of head", OVERHEAD_BYTES_MAX)
            self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._messages += 1
        self._received = self._body = 0
        self._expect_head()

    def on_body(self, body: bytes) -> None:
        # Not before: Falcon looks at no request, nor at its key, until some of its body is here.
        self._head_is_here()
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_is_here()
        super().on_message_complete()

    def _expect_head(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(self.head_timeout_s, self._too_late)

    def _head_is_here(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _too_late(self) -> None:
        self._due = None
        self.transport.abort()
