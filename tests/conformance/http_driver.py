"""Drives the file API over HTTP, with the shared codecs and nothing of the client.

Over HTTP a file is replaced by an upload: `open` with `replace` begins one and returns when
the server asks for the body, `write` sends a piece of it, `close` ends it or, to discard, cuts
it off.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from fs9.errors import InvalidArgument
from fs9.types import ALWAYS, Buffer, Capability, Condition, FileInfo, FileType, FsStats, OpenFlags
from fs9.wire import codec
from fs9.wire.cursor import encode_cursor
from fs9.wire.messages import (
    CapabilitiesReply,
    CloseRequest,
    OpenRequest,
    ReadRequest,
    UploadReply,
    WstatRequest,
)
from fs9.wire.problem import error_from_reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

    from fs9.types import StatChanges

import msgspec

_JSON = {"content-type": "application/json"}


class Upload:
    """An upload in progress."""

    def __init__(self, client: httpx2.AsyncClient, path: str, condition: Condition) -> None:
        self.written = 0
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._wanted = asyncio.Event()
        request = client.put(
            "upload", params={"path": path}, content=self._content(), headers=_headers(condition)
        )
        self._task = asyncio.create_task(request)

    async def _content(self) -> AsyncIterator[bytes]:
        self._wanted.set()
        while piece := await self._pieces.get():
            yield piece

    async def begin(self) -> None:
        """Wait until the body is asked for; raises what the server refuses before that."""
        wanted = asyncio.create_task(self._wanted.wait())
        await asyncio.wait([wanted, self._task], return_when=asyncio.FIRST_COMPLETED)
        wanted.cancel()
        if self._task.done():
            _checked(self._task.result())

    def write(self, offset: int, data: Buffer) -> int:
        assert offset == self.written, "an upload is written in order"
        self.written += len(data)
        if data:
            self._pieces.put_nowait(bytes(data))
        return len(data)

    async def end(self) -> None:
        self._pieces.put_nowait(b"")
        reply = msgspec.json.decode(_checked(await self._task), type=UploadReply)
        assert reply.bytes_written == self.written

    async def cut(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


class HttpDriver:
    """Times are whole seconds."""

    features = frozenset({"exclusive", "condition", "paging", "replace"})

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def stat(self, path: str) -> FileInfo:
        return codec.decode_info(await self._get("stat", path=path))

    async def wstat(self, path: str, changes: StatChanges, condition: Condition = ALWAYS) -> None:
        request = WstatRequest(path, codec.changes_to_wire(changes))
        await self._post("wstat", request, _headers(condition))

    async def statfs(self, path: str) -> FsStats:
        return codec.decode_statfs(await self._get("statfs", path=path))

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[Any, FileInfo]:
        if flags.replace:
            return await self._replace(path, flags, condition)
        request = OpenRequest(path, codec.flags_to_wire(flags))
        return codec.decode_open(await self._post("open", request, _headers(condition)))

    async def _replace(
        self, path: str, flags: OpenFlags, condition: Condition
    ) -> tuple[Upload, FileInfo]:
        if flags.read:
            raise InvalidArgument("an upload cannot be read from")
        if not flags.create:  # an upload always may create
            await self.stat(path)
        upload = Upload(self.client, path, condition)
        await upload.begin()
        return upload, FileInfo(path, 0, FileType.REGULAR, 0, 0, 0, 0, 0, 0)

    async def read(self, handle: Any, offset: int, size: int) -> Buffer:
        return await self._post("read", ReadRequest(handle, offset, size))

    async def write(self, handle: Any, offset: int, data: Buffer) -> int:
        if isinstance(handle, Upload):
            return handle.write(offset, data)
        params = {"handle_id": handle, "offset": offset}
        answer = await self.client.post("write", params=params, content=bytes(data))
        written: int = msgspec.json.decode(_checked(answer))["bytes_written"]
        return written

    async def close(self, handle: Any, *, sync: bool = False, discard: bool = False) -> None:
        if not isinstance(handle, Upload):
            await self._post("close", CloseRequest(handle, sync))
        elif discard:
            await handle.cut()
        else:
            await handle.end()

    async def readdir(self, path: str, after: str = "", limit: int = 100_000) -> list[FileInfo]:
        params: dict[str, str | int] = {"path": path}
        if after:
            params["cursor"] = encode_cursor(after)
        if limit <= 10_000:
            params["limit"] = limit
        return codec.decode_infos(await self._get("readdir", **params))

    async def remove(self, path: str, condition: Condition = ALWAYS) -> None:
        params, headers = {"path": path}, _headers(condition)
        _checked(await self.client.delete("remove", params=params, headers=headers))

    async def capabilities(self) -> Capability:
        body = await self._get("capabilities", path="/")
        reply = msgspec.json.decode(body, type=CapabilitiesReply)
        return codec.capabilities_from_names(reply.capabilities)

    async def aclose(self) -> None:
        await self.client.aclose()

    async def _get(self, route: str, **params: str | int) -> bytes:
        return _checked(await self.client.get(route, params=params))

    async def _post(
        self, route: str, request: msgspec.Struct, headers: dict[str, str] | None = None
    ) -> bytes:
        body = codec.encode(request)
        return _checked(
            await self.client.post(route, content=body, headers=_JSON | (headers or {}))
        )


def _headers(condition: Condition) -> dict[str, str]:
    named = {"if-match": condition.if_match, "if-none-match": condition.if_none_match}
    return {name: _tags(tags) for name, tags in named.items() if tags is not None}


def _tags(tags: tuple[str, ...]) -> str:
    return ", ".join(tag if tag == "*" else f'"{tag}"' for tag in tags)


def _checked(answer: httpx2.Response) -> bytes:
    if answer.is_error:
        raise error_from_reply(answer.status_code, answer.content)
    return answer.content
