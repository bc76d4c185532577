"""Nobody without the admin key takes memory or connections of the metadata service for good."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
import uvicorn
from uvicorn.server import ServerState

from workers.metadata_connection import OVERHEAD_BYTES_MAX, MetaConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GET = b"GET /health HTTP/1.1\r\nhost: x\r\n"
POST = b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
LINE = b"x-header: " + b"y" * 100 + b"\r\n"
_WAIT_S = 60


async def echo(scope, receive, send):
    """How long the body was."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"%d bytes" % size
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def served(protocol: type[MetaConnection]) -> AsyncIterator[int]:
    config = uvicorn.Config(echo, http=protocol, lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


async def answered(port: int, *pieces: bytes) -> bytes:
    """What comes back until the connection is closed or the answer is whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        async with asyncio.timeout(_WAIT_S):
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                while b" bytes" not in got and (piece := await reader.read(1000)):
                    got += piece
    finally:
        writer.transport.abort()
    return got


@pytest.mark.parametrize(
    "pieces",
    [
        (GET, LINE * 100_000),
        (GET + b"x-long: ", b"y" * 10_000_000),
        (b"GET /", b"y" * 10_000_000),
        (POST + b"0\r\n", LINE * 100_000),
        (POST + b"1;", b"y" * 10_000_000),
    ],
    ids=["headers", "one header", "target", "trailers", "extension"],
)
async def test_what_has_no_end_is_cut(pieces: tuple[bytes, ...]) -> None:
    """Long before it takes memory."""
    async with served(MetaConnection) as port:
        assert await answered(port, *pieces) == b""


async def test_what_is_within_the_bounds_is_served() -> None:
    """A head of nearly the whole length, a body in chunks of one byte, and one after the other."""
    long = GET + LINE * (OVERHEAD_BYTES_MAX // len(LINE) - 2) + b"\r\n"
    tiny = POST + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
    async with served(MetaConnection) as port:
        for _ in range(2):
            assert b"0 bytes" in await answered(port, long)
            assert b"100000 bytes" in await answered(port, tiny[:1000], tiny[1000:])


async def test_who_is_slow_with_a_head_is_cut() -> None:
    """Also of a second one, or with the first byte of a body; from there the application counts."""

    class Impatient(MetaConnection):
        head_timeout_s = 0.1

    async with served(Impatient) as port:
        announced = GET.replace(b"GET", b"POST") + b"content-length: 5\r\n\r\n"
        for begun in (b"", b"GET", GET, POST, announced):
            assert await answered(port, begun) == b""
    Impatient.head_timeout_s = 2.0  # enough for a whole one, however busy the host is
    async with served(Impatient) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET + b"\r\n")
        async with asyncio.timeout(_WAIT_S):
            assert (await reader.readuntil(b" bytes")).startswith(b"HTTP/1.1 200")
            writer.write(b"GET /")
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.transport.abort()
