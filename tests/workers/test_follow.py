"""Followers over the workers' protocol: long polls and server-sent events, on both lanes."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from fs9.http.events_stream import Frame
from fs9.http.follow import _frames
from fs9.types import Delivery, Message, MountSpec
from tests.fix_http import token
from tests.http.calls import problem
from tests.http.test_events_stream import parse
from tests.workers.fix_node import start_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fix_http import Server, StartServer

__all__ = ["start_server"]

TEMPLATE = (
    MountSpec("/", "memfs"),
    MountSpec("/ps", "pubsubfs", {"default_ring_size": 3, "default_channel_size": 3}),
    MountSpec("/st", "streamfs"),
)
FOLLOW = "/acme/api/v1/follow"


@pytest.fixture
async def server(start_server: StartServer) -> Server:
    return await start_server(template=TEMPLATE)


@pytest.fixture
def api(server: Server) -> httpx2.AsyncClient:
    return server.client(tenant="acme")


async def publish(api: httpx2.AsyncClient, *words: bytes, path: str = "/ps/t") -> None:
    for word in words:
        answer = await api.put("upload", params={"path": path}, content=word)
        assert answer.status_code == 200, answer.text


async def poll(api: httpx2.AsyncClient, **params: Any) -> dict[str, Any]:
    answer = await api.get("follow", params={"path": "/ps/t", "wait": 0, **params})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


class Events:
    """The events of one answer as they come."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.answer = answer
        self.raw = b""
        self._lines = answer.aiter_raw()

    async def until(self, count: int) -> list[Frame]:
        """All events so far, when there are so many."""
        async with asyncio.timeout(60):
            while len(found := parse(self.raw)) < count:
                self.raw += await anext(self._lines)
        return found

    async def until_the_end(self) -> list[Frame]:
        async with asyncio.timeout(60):
            async for piece in self._lines:
                self.raw += piece
        return parse(self.raw)


@asynccontextmanager
async def events(
    api: httpx2.AsyncClient, path: str = "/ps/t", last: str | None = None, **params: Any
) -> AsyncIterator[Events]:
    headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
    async with api.stream(
        "GET", "follow", params={"path": path, **params}, headers=headers
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield Events(answer)


# -- long polls ---------------------------------------------------------------------------------


async def test_polls_with_the_cursor_get_each_message_once(api: httpx2.AsyncClient):
    await publish(api, b"one", b"two")
    reply = await poll(api)
    assert [message["text"] for message in reply["messages"]] == ["one", "two"]
    assert "lost" not in reply or reply["lost"] == 0
    again = await poll(api, since=reply["cursor"])
    assert (again["messages"], again["cursor"]) == ([], reply["cursor"])
    await publish(api, b"three", b"\xff\0")
    third, binary = (await poll(api, since=reply["cursor"]))["messages"]
    assert (third["text"], binary["base64"]) == ("three", "/wA=")
    middle = await poll(api, since=reply["messages"][0]["cursor"])
    assert middle["messages"][0]["text"] == "two"
    assert (await poll(api, since="end"))["messages"] == []


async def test_a_poll_waits_for_a_message(api: httpx2.AsyncClient):
    await publish(api, b"one")
    cursor = (await poll(api))["cursor"]
    waiting = asyncio.create_task(poll(api, since=cursor, wait=14))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await publish(api, b"two")
    assert [message["text"] for message in (await waiting)["messages"]] == ["two"]


async def test_a_poll_hears_of_losses_and_of_the_end(server: Server, api: httpx2.AsyncClient):
    await publish(api, b"1")
    cursor = (await poll(api))["cursor"]
    await publish(api, *(b"%d" % number for number in range(2, 8)))
    reply = await poll(api, since=cursor)
    assert reply["lost"] == 3
    metrics = (await server.client().get(httpx2.URL(str(api.base_url)).join("/metrics"))).text
    assert 'fs9_messages_lost_total{provider="pubsubfs"} 3.0' in metrics
    assert [message["text"] for message in reply["messages"]] == ["5", "6", "7"]
    waiting = asyncio.create_task(poll(api, since=reply["cursor"], wait=14))
    await asyncio.sleep(0.05)
    await api.delete("remove", params={"path": "/ps/t"})
    assert (await waiting)["ended"] is True
    await publish(api, b"again")
    reply = await poll(api, since=reply["cursor"])
    assert (reply["lost"], reply["messages"][0]["text"]) == (-1, "again")


async def test_what_is_refused(api: httpx2.AsyncClient):
    await publish(api, b"1")
    for path, kind in (
        ("/ps/missing", "NotFound"),
        ("/ps", "IsDirectory"),
        ("/ps/README", "NotImplemented"),
        ("/f", "NotImplemented"),
    ):
        assert problem(await api.get("follow", params={"path": path}))[1] == kind
    for params in ({"since": "yesterday"}, {"wait": "61"}, {"wait": "x"}):
        answer = await api.get("follow", params={"path": "/ps/t", **params})
        assert problem(answer)[1] == "InvalidArgument"


# -- events -------------------------------------------------------------------------------------


async def test_events_come_as_messages_are_written(api: httpx2.AsyncClient):
    """With ids to resume by; text as it is, lines and all, other bytes in base64."""
    await publish(api, b"one")
    async with events(api) as following:
        assert [frame.data for frame in await following.until(1)] == ["one"]
        await publish(api, b"two\nlines", b"cr\r", b"\xff")
        frames = await following.until(4)
        assert [(frame.name, frame.data) for frame in frames[1:]] == [
            ("", "two\nlines"),
            ("binary", "Y3IN"),
            ("binary", "/w=="),
        ]
    async with events(api, last=frames[1].id, since="end") as following:
        resumed = await following.until(2)
        assert [frame.id for frame in resumed] == [frame.id for frame in frames[2:]]


async def test_events_tell_losses_and_the_end(api: httpx2.AsyncClient):
    """After the event `end` the answer is over, politely."""
    await publish(api, b"1")
    async with events(api) as following:
        first = (await following.until(1))[0]
    await publish(api, *(b"%d" % number for number in range(2, 8)))
    async with events(api, last=first.id) as following:
        lost = (await following.until(4))[0]
        assert (lost.name, json.loads(lost.data)) == ("lost", {"messages": 3})
        await api.delete("remove", params={"path": "/ps/t"})
        assert (await following.until_the_end())[-1].name == "end"


async def test_a_quiet_follower_outlives_the_request_timeout(start_server: StartServer):
    """It hears comments meanwhile, and the next message."""
    server = await start_server(template=TEMPLATE, request_timeout_s=0.6)
    api = server.client(tenant="acme")
    await publish(api, b"one")
    async with events(api, since="end") as following:
        async with asyncio.timeout(60):
            while following.raw.count(b"\n: ") < 5:  # one each 0.2 s
                following.raw += await anext(following._lines)
        await publish(api, b"two")
        assert [frame.data for frame in await following.until(1)] == ["two"]


async def test_a_stream_is_followed_too(api: httpx2.AsyncClient):
    """And read by polls of a growing offset meanwhile, as `tail -f` does."""
    await publish(api, b"chunk", path="/st/s")
    opened = await api.post("open", json={"path": "/st/s", "flags": {"read": True}})
    handle = opened.json()["handle_id"]

    async def read(offset: int) -> bytes:
        answer = await api.post("read", json={"handle_id": handle, "offset": offset, "size": 99})
        assert answer.status_code == 200
        return answer.content

    assert [await read(0), await read(5)] == [b"chunk", b""]
    async with events(api, "/st/s", since="end") as following:
        await publish(api, b"more", path="/st/s")
        assert [frame.data for frame in await following.until(1)] == ["more"]
    assert await read(5) == b"more"


async def test_a_large_message_is_one_object_for_all_who_follow():
    """So a thousand of them who do not read cost one copy."""
    message = Message("7-1", b"large " * 10_000, 1)
    same = Message("7-1", bytes(bytearray(message.data)), 2)
    (one,), (two,) = (_frames(Delivery("7-1", (each,))) for each in (message, same))
    assert one is two
    (other,) = _frames(Delivery("7-2", (Message("7-2", message.data, 1),)))
    assert parse(one + other) == [Frame("large " * 10_000, "7-1"), Frame("large " * 10_000, "7-2")]
    (binary,) = _frames(Delivery("7-3", (Message("7-3", b"\xff" * 20_000, 1),)))
    assert parse(binary)[0].name == "binary"


async def test_reads_and_writes_wait_for_a_stream(start_server: StartServer):
    """As small requests, which begin in no task."""
    config = {"ring_size": 1, "channel_size": 1, "back_pressure": True}
    config |= {"write_wait_s": 20, "read_wait_s": 20}
    server = await start_server(template=(MountSpec("/", "streamfs", config),))
    api = server.client(tenant="acme")

    async def opened(**flags: bool) -> str:
        answer = await api.post("open", json={"path": "/s", "flags": flags})
        return answer.json()["handle_id"]

    async def write(data: bytes) -> int:
        answer = await api.post("write", params={"handle_id": writer, "offset": 0}, content=data)
        assert answer.status_code == 200, answer.text
        return answer.json()["bytes_written"]

    async def read(offset: int) -> bytes:
        body = {"handle_id": reader, "offset": offset, "size": 100}
        answer = await api.post("read", json=body)
        assert answer.status_code == 200, answer.text
        return answer.content

    writer, reader = await opened(write=True), await opened(read=True)
    waits = asyncio.create_task(read(0))
    assert await write(b"one") == 3
    assert await waits == b"one"
    blocked = asyncio.create_task(write(b"two"))
    assert await read(3) == b"two"
    assert await blocked == 3


async def test_followers_end_when_the_namespace_goes(server: Server, api: httpx2.AsyncClient):
    """Those who wait are told at once, and do not hold it up: polls empty, events over."""
    await publish(api, b"one")
    cursor = (await poll(api))["cursor"]
    waiting = asyncio.create_task(poll(api, since=cursor, wait=14))
    async with events(api, since=cursor) as following:
        async with asyncio.timeout(60):
            following.raw += await anext(following._lines)
        await asyncio.sleep(0.05)
        assert server.context is not None
        namespaces = server.context.services.namespaces
        namespaces.end_followers("other")
        assert not waiting.done()
        assert await namespaces.give_up("acme")
        reply = await waiting
        assert (reply["messages"], reply["cursor"]) == ([], cursor)
        assert await following.until_the_end() == []


async def test_followers_are_bounded_and_counted_apart(start_server: StartServer):
    """One more than allowed is refused; those who left make room; none is a request in progress."""
    server = await start_server(template=TEMPLATE, followers_per_namespace_max=3)
    api = server.client(tenant="acme")
    await publish(api, b"one")
    assert server.context is not None
    namespace = server.context.services.namespaces.loaded("acme")
    assert namespace is not None
    for _ in range(2):
        async with events(api) as one, events(api) as two, events(api) as three:
            for following in (one, two, three):
                await following.until(1)
            refused = await api.get("follow", params={"path": "/ps/t"})
            assert problem(refused)[1] == "QuotaExceeded"
        async with asyncio.timeout(60):
            while len(namespace.followers):  # noqa: ASYNC110 - the server learns that they left
                await asyncio.sleep(0.02)


async def test_a_follower_needs_a_token_that_holds(start_server: StartServer):
    """It is refused without one, and ended when it has expired."""
    server = await start_server(template=TEMPLATE, auth=True, request_timeout_s=0.6)
    admin = server.client(token=token("default", "admin"))
    await admin.post("namespaces", json={"name": "acme"})
    await publish(server.client(token=token("acme", "read-write")), b"one")
    answer = await server.client().get("follow", params={"path": "/ps/t"})
    assert problem(answer)[1] == "Unauthenticated"
    from fs9.clock import SystemClock

    soon = int(SystemClock().now_s()) + 2
    async with events(server.client(token=token("acme", exp=soon))) as following:
        assert [frame.data for frame in await following.until_the_end()] == ["one"]
