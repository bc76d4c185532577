"""Providers where one write is one message: one HTTP write is one provider write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fs9.provider import BaseProvider, OpenFile
from fs9.types import (
    ALWAYS,
    BASIC_RW,
    Buffer,
    Capability,
    Condition,
    FileInfo,
    FileType,
    MountSpec,
    OpenFlags,
)
from fs9.vfs.mounts import Mount
from tests.http.calls import get, ok, open_, problem, read, write
from tests.http.suite_handles import pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

    from tests.fix_http import Server, StartServer


class Mailbox(BaseProvider):
    """Keeps every write as one message; a read gives the messages that came so far."""

    name = "mailbox"

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.discarded = 0

    async def stat(self, path: str) -> FileInfo:
        kind = FileType.DIRECTORY if path == "/" else FileType.REGULAR
        return FileInfo(path, 0, kind, 0o600, 0, 0, 0, 0, 0)

    async def open(
        self, path: str, flags: OpenFlags, condition: Condition = ALWAYS
    ) -> tuple[OpenFile, FileInfo]:
        assert not flags.replace
        return OpenFile(), await self.stat(path)

    async def read(self, file: OpenFile, offset: int, size: int) -> Buffer:
        return b"".join(self.messages)[offset : offset + size]

    async def write(self, file: OpenFile, offset: int, data: Buffer) -> int:
        self.messages.append(bytes(data))
        return len(data)

    async def close(
        self, file: OpenFile, *, sync: bool = False, discard: bool = False
    ) -> FileInfo | None:
        self.discarded += discard
        return None

    def capabilities(self) -> Capability:
        return BASIC_RW | Capability.STREAMING


@pytest.fixture
async def mailbox(server: Server, api: httpx2.AsyncClient) -> Mailbox:
    """A mailbox at /box of the namespace of `api`."""
    ok(await api.get("mounts"))
    assert server.context is not None
    namespace = server.context.services.namespaces.loaded(api.base_url.path.split("/")[1])
    assert namespace is not None
    mailbox = Mailbox()
    namespace.vfs.mounts = namespace.vfs.mounts.with_mount(Mount.of("/box", mailbox))
    return mailbox


async def test_a_write_in_pieces_is_one_message(api: httpx2.AsyncClient, mailbox: Mailbox) -> None:
    handle_id = await open_(api, "/box/a", read=True, write=True)
    answer = await write(api, handle_id, 0, pieces(b"one ", b"message"))
    assert answer.json() == {"bytes_written": 11}
    await write(api, handle_id, 0, b"another")
    await write(api, handle_id, 0, b"")
    assert mailbox.messages == [b"one message", b"another"]
    assert (await read(api, handle_id, 0, 100)).content == b"one messageanother"


async def test_an_upload_is_one_message_and_needs_no_swap(
    api: httpx2.AsyncClient, mailbox: Mailbox
) -> None:
    answer = await api.put("upload", params={"path": "/box/a"}, content=pieces(b"one ", b"upload"))
    assert answer.json() == {"path": "/box/a", "bytes_written": 10}
    assert mailbox.messages == [b"one upload"]


async def test_a_message_that_breaks_off_is_not_sent(
    api: httpx2.AsyncClient, mailbox: Mailbox
) -> None:
    async def too_much() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield bytes(1 << 26)

    for send in (
        api.put("upload", params={"path": "/box/a"}, content=too_much()),
        write(api, await open_(api, "/box/a", write=True), 0, too_much()),
    ):
        assert problem(await send)[:2] == (413, "PayloadTooLarge")
    assert mailbox.messages == []
    assert mailbox.discarded == 0


@pytest.mark.parametrize("provider", ["pubsubfs", "streamfs"])
async def test_a_message_that_is_refused_makes_no_topic(
    start_server: StartServer, provider: str
) -> None:
    """Whether the announced length is too much already, or what arrives."""
    template = (MountSpec("/t", provider),)
    server = await start_server(template=template, message_bytes_max=1000)
    api = server.client()
    for body in (b"x" * 1001, pieces(b"x" * 600, b"x" * 600)):
        answer = await api.put("upload", params={"path": "/t/a"}, content=body)
        assert problem(answer)[:2] == (413, "PayloadTooLarge")
    assert problem(await api.get("stat", params={"path": "/t/a"}))[:2] == (404, "NotFound")
    answer = await api.put("upload", params={"path": "/t/a"}, content=b"x" * 1000)
    assert answer.json()["bytes_written"] == 1000


async def test_a_file_without_a_size_is_downloaded_to_its_end(
    api: httpx2.AsyncClient, mailbox: Mailbox
) -> None:
    assert (await get(api, "/box/a")).content == b""
    mailbox.messages = [b"x" * 700_000] * 5
    answer = await get(api, "/box/a", range="bytes=0-9")
    assert (answer.status_code, len(answer.content)) == (200, 3_500_000)
    assert "content-length" not in answer.headers
    assert "etag" not in answer.headers
