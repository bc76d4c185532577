"""uvicorn's request-response cycle, adapted to the workers' connections.

The cycle speaks ASGI with the application. It must not decide how the connection ends, and what it
writes counts as progress of the request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from fs9.http.app import NOTICE
from fs9.observe.request import HEADER

if TYPE_CHECKING:
    from uvicorn._types import (
        ASGI3Application,
        ASGIReceiveCallable,
        ASGISendCallable,
        ASGISendEvent,
        HTTPResponseStartEvent,
        Scope,
    )
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from workers.connection import Connection


def take_over(connection: Connection, cycle: RequestResponseCycle) -> None:
    """Put a `CycleTransport` between the cycle and the connection."""
    send = cycle.send
    scope = cast("dict[str, object]", cycle.scope)

    async def watched_send(message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            if scope["http_version"] == "1.0" and not _has_length(message):
                # It knows no chunks: the body ends with the connection (RFC 9112, section 6.1).
                cycle.chunked_encoding = False
            connection.status = message["status"]
            if connection.request is not None:
                message = _with_id(message, connection.request.id)
            closes = connection.decide_to_close(connection.request)
            cycle.keep_alive = cycle.keep_alive and not closes
            connection.started = True
            connection.release_endless()
        elif message["type"] == "http.response.body":
            connection.sent_bytes += len(message.get("body", b""))
            if cycle.chunked_encoding is False and not cycle.expected_content_length:
                cycle.expected_content_length = len(message.get("body", b""))
        connection.touch()
        await send(message)

    scope[NOTICE] = connection.notice
    if connection.request is not None:  # its parser may have been given another one
        scope["method"] = connection.request.line.method.decode("ascii")
    cycle.send = watched_send  # type: ignore[method-assign]
    cycle.transport = cast("asyncio.Transport", CycleTransport(connection, cycle))


def _has_length(message: HTTPResponseStartEvent) -> bool:
    return any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))


def _with_id(message: HTTPResponseStartEvent, request_id: bytes) -> HTTPResponseStartEvent:
    headers = [*message.get("headers", ()), (HEADER, request_id)]
    return {"type": message["type"], "status": message["status"], "headers": headers}


def cancellable(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """The application; its cancellation, when the client has left, is not logged as an error."""

    async def run(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            if not cycle.disconnected:
                raise

    return run


class CycleTransport:
    """The transport as the cycle sees it.

    After a complete answer `Connection.finish` closes the connection, lingering. When the cycle
    closes it before, the answer is incomplete, and the connection is aborted.
    """

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle

    def write(self, data: bytes) -> None:
        self._connection.transport.write(data)

    def is_closing(self) -> bool:
        return self._connection.transport.is_closing()

    def close(self) -> None:
        if not self._cycle.response_complete:
            self._connection.break_off()
