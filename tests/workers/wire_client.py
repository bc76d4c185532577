"""A client that writes raw HTTP/1.1 in any fragments and reads responses strictly."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)


class WireClient:
    """One connection. Reads with its own small parser, so that it shares no code with us."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, *, receive_buffer: int = 2**16) -> WireClient:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=receive_buffer)
        return cls(reader, writer)

    @classmethod
    async def over(cls, connected: socket.socket) -> WireClient:
        return cls(*await asyncio.open_connection(sock=connected))

    async def send(self, data: bytes, cuts: list[int] | None = None) -> None:
        """Write `data` in pieces of the given sizes, the rest at the end."""
        start = 0
        for size in cuts or []:
            if start >= len(data):
                break
            self.writer.write(data[start : start + size])
            start += size
            await self.writer.drain()
            await asyncio.sleep(0)
        self.writer.write(data[start:])
        await self.writer.drain()

    async def response(self, *, to_head: bool = False) -> Response:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(": ")
            assert name not in headers, f"{name} twice"
            headers[name] = value
        if status == "100":
            return await self.response(to_head=to_head)
        body = b""
        if not to_head and status not in {"204", "304"}:
            body = await self._body(headers)
        return Response(int(status), headers, body)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(headers["content-length"]))
        assert "content-length" not in headers
        parts = []
        while size := int(await self.reader.readline(), 16):
            parts.append(await self.reader.readexactly(size))
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return b"".join(parts)

    async def at_end(self) -> bool:
        """Has the server closed, after nothing more?"""
        try:
            return await self.reader.read(1) == b""
        except ConnectionResetError:
            return True

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


def request(
    method: str, target: str, *, headers: dict[str, str] | None = None, body: bytes = b""
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: test"]
    fields = dict(headers or {})
    if body or method in {"PUT", "POST"}:
        fields.setdefault("Content-Length", str(len(body)))
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked_request(
    method: str, target: str, chunks: list[bytes], *, headers: dict[str, str] | None = None
) -> bytes:
    """A chunked body with an extension on every chunk and a trailer."""
    lines = [f"{method} {target} HTTP/1.1", "Host: test", "Transfer-Encoding: chunked"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    body = b"".join(b"%x;n=v\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
    return "\r\n".join([*lines, "", ""]).encode() + body + b"0\r\nX-Trailer: end\r\n\r\n"
