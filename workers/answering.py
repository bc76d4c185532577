"""Runs an operation for a connection and writes its reply.

There are two ways to run an operation: a small one is stepped in place, and becomes a task only if
it waits; one whose body or answer comes in pieces is a task from the start, and its body is read
from the socket (`workers.sink`).
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, cast

import msgspec

from fs9.errors import Fs9Error
from fs9.http.dispatch import answer
from fs9.http.exchange import BytesBody, Exchange, Reply
from fs9.wire.forwarded import UNIX

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from fs9.http.operations import Operation
    from fs9.types import Buffer
    from workers.connection import Connection
    from workers.request import Request
    from workers.sink import SocketBody

#: A reply up to this size goes out with its head in one write.
_ONE_WRITE_BYTES_MAX = 64 * 1024
#: Set by nginx, which drops a client's own: where nginx finds files that are lent to it.
_OFFER = "x-fs9-accel"
_BODILESS = frozenset({204, 304})


def run_small(
    connection: Connection, request: Request, operation: Operation, body: bytes
) -> Coroutine[Any, Any, None] | None:
    """Answer now; returns the rest, to be run as a task, if the operation waits."""
    exchange, operation = _exchange(connection, request, operation, BytesBody(body))
    sessions, block = connection.node.sessions, request.block
    sessions.enter(exchange, block, request.tenant)
    authorization = block.text_fields.get("authorization")
    coroutine = answer(operation, exchange, authorization, request.tenant)
    try:
        future = coroutine.send(None)
    except StopIteration as done:
        if block.kept is None:
            sessions.keep(exchange, block, request.tenant)
        reply: Reply = done.value
        if reply.stream is not None:
            return send_reply(connection, request, reply)
        write_reply(connection, request, reply)
        return None
    return _run_rest(connection, request, _resumed(coroutine, future))


async def _run_rest(
    connection: Connection, request: Request, work: Generator[object, object, Reply]
) -> None:
    await send_reply(connection, request, await cast("Coroutine[Any, Any, Reply]", work))


async def run_in_pieces(
    connection: Connection, request: Request, operation: Operation, body: SocketBody
) -> None:
    whole = False
    try:
        reply = await perform(connection, request, operation, body)
        whole = True
    finally:
        # An operation that was cut may have left a thread that still reads the buffers.
        body.finish(reuse=whole)
    await send_reply(connection, request, reply)


def perform(
    connection: Connection, request: Request, operation: Operation, body: SocketBody
) -> Coroutine[Any, Any, Reply]:
    """The coroutine of the operation, made as for Falcon: by `fs9.http.dispatch.answer`."""
    exchange, operation = _exchange(connection, request, operation, body)
    authorization = request.block.text_fields.get("authorization")
    return answer(operation, exchange, authorization, request.tenant)


def _exchange(
    connection: Connection,
    request: Request,
    operation: Operation,
    body: BytesBody | SocketBody,
) -> tuple[Exchange, Operation]:
    parsed = request.parsed
    if parsed.bad_query is not None:
        # Raised later: a caller without access must not learn what is wrong with the request.
        operation = msgspec.structs.replace(operation, run=_raising(parsed.bad_query))
    method = "HEAD" if parsed.line.method == b"HEAD" else operation.method
    context = connection.node.context
    exchange = Exchange(context, method, parsed.query, parsed.block.text_fields, body)
    exchange.peer = connection.peer
    connection.exchange = exchange
    lender = connection.node.lender
    # A proxy that can do it says so; the header counts only where no client can connect.
    offered = exchange.headers.get(_OFFER) if lender is not None else None
    if lender is not None and connection.peer == UNIX and offered == lender.prefix:
        exchange.lend = lender.lend
    return exchange, operation


def _raising(error: Fs9Error) -> Callable[[Exchange], Coroutine[Any, Any, Reply]]:
    async def run(exchange: Exchange) -> Reply:
        raise error

    return run


@types.coroutine
def _resumed(
    coroutine: Coroutine[object, object, Reply], future: object
) -> Generator[object, object, Reply]:
    """Continue a coroutine that was stepped once and yielded `future`."""
    while True:
        try:
            try:
                sent = yield future
            except BaseException as error:
                future = coroutine.throw(error)
            else:
                future = coroutine.send(sent)
        except StopIteration as done:
            return cast("Reply", done.value)


# -- Replies --------------------------------------------------------------------------------


async def send_reply(connection: Connection, request: Request, reply: Reply) -> None:
    """Write a reply, whole or in pieces as the client takes them."""
    stream = reply.stream
    if stream is None:
        write_reply(connection, request, reply)
        return
    try:
        _write_head(connection, request, reply, reply.length)
        if request.line.method == b"HEAD":
            return
        chunked = reply.length is None and bool(request.line.minor)
        connection.release_endless()
        async for piece in stream:
            # Not after the write: the next piece is read while this one goes out.
            await connection.flow.drain()
            if connection.transport.is_closing():
                return
            _write_piece(connection, piece, chunked=chunked)
            connection.touch()
        if chunked:
            connection.transport.write(b"0\r\n\r\n")
    except Exception as error:
        # The status is out: only a broken connection says that the body is not whole.
        foreseen = isinstance(error, Fs9Error)
        connection.node.log.warning("an answer broke off: %s", error, exc_info=not foreseen)
        connection.break_off()
    finally:
        await cast("Any", stream).aclose()


def _write_piece(connection: Connection, piece: Buffer, *, chunked: bool) -> None:
    write = connection.transport.write
    connection.sent_bytes += len(piece)
    if not chunked:
        write(piece)
    elif len(piece):
        write(b"%x\r\n" % len(piece))
        write(piece)
        write(b"\r\n")


def write_reply(connection: Connection, request: Request | None, reply: Reply) -> None:
    """Write a reply that is in memory, in one write when it is small.

    A reply to HEAD may name the `length` of a body that it does not have.
    """
    body = reply.body
    length = len(body) if reply.length is None else reply.length
    bodiless = reply.status in _BODILESS or (request is not None and request.line.method == b"HEAD")
    if not bodiless and 0 < len(body) <= _ONE_WRITE_BYTES_MAX:
        connection.started = True
        connection.sent_bytes = len(body)
        connection.transport.write(_head(connection, request, reply, length) + body)
        return
    _write_head(connection, request, reply, length)
    if not bodiless and len(body):
        connection.sent_bytes = len(body)
        connection.transport.write(body)


def _write_head(
    connection: Connection, request: Request | None, reply: Reply, length: int | None
) -> None:
    connection.started = True
    connection.transport.write(_head(connection, request, reply, length))


def _head(
    connection: Connection, request: Request | None, reply: Reply, length: int | None
) -> bytes:
    connection.status = reply.status
    start = connection.node.head_start(reply.status, reply.content_type, connection.server_state)
    request_id = connection.node.account.begin_refusal() if request is None else request.id
    if length is None and request is not None and not request.line.minor:
        # HTTP/1.0 knows no chunks: the body ends with the connection (RFC 9112, section 6.1).
        end = b"x-request-id: %b\r\n" % request_id
    elif length is None:
        end = b"x-request-id: %b\r\ntransfer-encoding: chunked\r\n" % request_id
    elif reply.status in _BODILESS:
        end = b"x-request-id: %b\r\n" % request_id
    else:
        end = b"x-request-id: %b\r\ncontent-length: %d\r\n" % (request_id, length)
    for name, value in reply.headers:
        start += f"{name}: {value}\r\n".encode("latin-1")
    if connection.decide_to_close(request):
        end += b"connection: close\r\n"
    return b"%b%b\r\n" % (start, end)
