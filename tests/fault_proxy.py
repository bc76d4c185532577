"""A TCP proxy that misbehaves on command: what networks and servers under load do."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

#: `pass`: as it is. `silent`: takes bytes, gives none (a partition). `refuse`: ends connections.
#: `error`: HTTP status 500 for each request. `cut`: the request arrives, its answer does not.
#: `damage`: flips a bit in each answer's last byte.
Mode: TypeAlias = Literal["pass", "silent", "refuse", "error", "cut", "damage"]

_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class FaultProxy:
    """`async with FaultProxy(port) as proxy`: what connects to `proxy.port` gets to `port`.

    Setting the mode ends the connections there are; `times`: for so many new connections.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._mode: Mode = "pass"
        self._left = 0
        self._stalled = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        #: Connections that met with a fault.
        self.faults = 0
        self.delay_s = 0.0

    def set(self, mode: Mode, times: int = 1 << 30, *, keep: bool = False) -> None:
        """`keep`: connections there are stay, and become silent with mode `silent`."""
        self._mode, self._left = mode, times
        self._stalled = keep and mode == "silent"
        if not keep:
            for task in self._tasks:
                task.cancel()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mode: Mode = self._mode if self._left > 0 else "pass"
        if mode != "pass":
            self._left -= 1
            self.faults += 1
        if mode == "refuse":
            return
        if mode == "error":
            await _request(reader)
            writer.write(_ERROR)
            await writer.drain()
            writer.close()
            return
        if mode == "silent":
            while await reader.read(65536):
                pass
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            if mode == "cut":
                back.write(await _request(reader))
                await there.read(1)
                return
            await self._relay(reader, writer, there, back, damage=mode == "damage")
        finally:
            back.transport.abort()

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        *,
        damage: bool,
    ) -> None:
        up = asyncio.ensure_future(self._pump(reader, back, damage=False))
        down = asyncio.ensure_future(self._pump(there, writer, damage=damage))
        try:
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, damage: bool
    ) -> None:
        while data := await source.read(65536):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self._stalled:
                continue
            if damage:
                data = data[:-1] + bytes([data[-1] ^ 1])
            target.write(data)
            await target.drain()


async def _request(reader: asyncio.StreamReader) -> bytes:
    """One whole HTTP request with a Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return head + await reader.readexactly(int(value))
    return head
