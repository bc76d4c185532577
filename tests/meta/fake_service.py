"""A metadata service that fails in every way there is, on a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json

from tests.ports import free_port


class FakeService:
    """`mode` is how it answers from now on; `answers` what, by `METHOD path`.

    answer    the status and JSON of `answers`, 404 for what is not there
    hang      nothing, ever
    drip      a head that promises much, then one byte after another
    reset     the connection ends
    error     500
    garbage   200 and no JSON
    cut       less body than was promised
    key       401, because of the admin key
    """

    def __init__(self):
        self.mode = "answer"
        self.answers = {}
        self.seen = []
        self.headers = []
        self._tasks = set()
        self._server = None
        self.port = free_port()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self):
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(ConnectionError):
                writer.close()

    async def _answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        await reader.readexactly(int(headers.get("content-length", 0)))
        method, target, _ = first.split(" ")
        path = target.partition("?")[0]
        self.seen.append(f"{method} {path}")
        self.headers.append(headers)
        if self.mode == "hang":
            await asyncio.Event().wait()
        if self.mode == "reset":
            return False
        status, body = self.answers.get(f"{method} {path}", (404, {"error": "no such route"}))
        body = json.dumps(body).encode()
        if self.mode == "error":
            status, body = 500, b"<html>"
        if self.mode == "garbage":
            status, body = 200, b"<html>hello</html>"
        if self.mode == "key":
            status, body = 401, b'{"error": "missing or invalid admin key"}'
        promised = len(body) if self.mode not in {"drip", "cut"} else len(body) + 1_000_000
        writer.write(
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n"
            f"content-length: {promised}\r\n\r\n".encode()
        )
        if self.mode == "drip":
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.write(body)
        await writer.drain()
        return self.mode != "cut"
