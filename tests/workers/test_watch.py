"""Watchers over the workers' protocol: long polls and server-sent events."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fs9.types import MountSpec
from tests.fix_http import token
from tests.http.calls import problem
from tests.workers.fix_node import start_server
from tests.workers.test_follow import Events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

    from tests.fix_http import Server, StartServer

__all__ = ["start_server"]

TEMPLATE = (MountSpec("/", "memfs"),)


@pytest.fixture
async def server(start_server: StartServer) -> Server:
    return await start_server(template=TEMPLATE)


@pytest.fixture
def api(server: Server) -> httpx2.AsyncClient:
    return server.client(tenant="acme")


async def put(api: httpx2.AsyncClient, path: str) -> None:
    answer = await api.put("upload", params={"path": path}, content=b"x")
    assert answer.status_code == 200, answer.text


async def poll(api: httpx2.AsyncClient, **params: Any) -> dict[str, Any]:
    answer = await api.get("watch", params={"path": "/", "wait": 0, **params})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


@asynccontextmanager
async def events(
    api: httpx2.AsyncClient, path: str = "/", last: str | None = None, **params: Any
) -> AsyncIterator[Events]:
    headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
    query = {"path": path, **params}
    async with api.stream("GET", "watch", params=query, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield Events(answer)


async def test_polls_with_the_cursor_get_each_change_once(api: httpx2.AsyncClient):
    """Without one the answer comes at once; with an old one it is 410."""
    begin = await poll(api, wait=14)
    assert begin["events"] == []
    await put(api, "/f")
    reply = await poll(api, since=begin["cursor"])
    (event,) = reply["events"]
    assert (event["type"], event["path"], event["cursor"]) == ("upload", "/f", reply["cursor"])
    assert event["at"] > 0
    assert "target" not in event
    again = await poll(api, since=reply["cursor"])
    assert (again["events"], again["cursor"]) == ([], reply["cursor"])
    waiting = asyncio.create_task(poll(api, since=reply["cursor"], wait=14))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await put(api, "/g")
    assert [each["path"] for each in (await waiting)["events"]] == ["/g"]
    for since, status, kind in [
        ("00000000-1", 410, "CursorExpired"),
        ("nonsense", 400, "InvalidArgument"),
    ]:
        answer = await api.get("watch", params={"path": "/", "since": since})
        assert problem(answer)[:2] == (status, kind)


async def test_events_begin_with_a_cursor_and_go_on_at_the_last_one(api: httpx2.AsyncClient):
    async with events(api, "/d") as watching:
        (first,) = await watching.until(1)
        assert json.loads(first.data) == {"type": "cursor", "path": "/d", "cursor": first.id}
        await put(api, "/other")
        await api.post("open", json={"path": "/d", "flags": {"create": True, "directory": True}})
        await put(api, "/d/1")
        frames = await watching.until(3)
        told = [json.loads(frame.data) for frame in frames[1:]]
        assert [(each["type"], each["path"]) for each in told] == [
            ("create", "/d"),
            ("upload", "/d/1"),
        ]
        assert [each["cursor"] for each in told] == [frame.id for frame in frames[1:]]
        assert {frame.name for frame in frames} == {""}
    await put(api, "/d/2")
    async with events(api, "/d", last=frames[1].id, since="ignored") as watching:
        told = [json.loads(frame.data) for frame in (await watching.until(3))[1:]]
        assert [each["path"] for each in told] == ["/d/1", "/d/2"]
    async with events(api, "/d", last="00000000-1") as watching:
        (lost,) = await watching.until(1)
        assert json.loads(lost.data) == {"type": "lost", "path": "/d", "cursor": lost.id}
        await put(api, "/d/3")
        assert json.loads((await watching.until(2))[1].data)["path"] == "/d/3"


async def test_where_nothing_happens_the_cursor_stays_young(start_server: StartServer):
    """A watcher of a quiet path is given a newer one now and then."""
    server = await start_server(template=TEMPLATE, request_timeout_s=1.5)
    api = server.client(tenant="acme")
    async with events(api, "/quiet") as watching:
        (first,) = await watching.until(1)
        await put(api, "/busy")
        second = (await watching.until(2))[1]
        assert json.loads(second.data)["type"] == "cursor"
        assert second.id != first.id


async def test_watchers_end_with_the_namespace_and_the_token(start_server: StartServer):
    """Polls come back empty, events are over; a narrowed token watches what it sees."""
    server = await start_server(template=TEMPLATE, auth=True, request_timeout_s=0.6)
    admin = server.client(token=token("default", "admin"))
    await admin.post("namespaces", json={"name": "acme"})
    answer = await server.client().get("watch", params={"path": "/"})
    assert problem(answer)[1] == "Unauthenticated"
    narrow = server.client(token=token("acme", permissions=["read:/in"]))
    for path, status in (("/in", 200), ("/", 200), ("/out", 404)):
        assert (await narrow.get("watch", params={"path": path})).status_code == status
    from fs9.clock import SystemClock

    soon = int(SystemClock().now_s()) + 2
    async with events(server.client(token=token("acme", exp=soon))) as watching:
        assert len(await watching.until_the_end()) == 1
    async with events(server.client(token=token("acme"))) as watching:
        await watching.until(1)
        assert server.context is not None
        assert await server.context.services.namespaces.give_up("acme")
        assert len(await watching.until_the_end()) == 1


async def test_a_topic_is_told_when_it_is_made(start_server: StartServer):
    """By an open for writing, without a message and without `create`; once."""
    server = await start_server(template=(*TEMPLATE, MountSpec("/ps", "pubsubfs")))
    api = server.client(tenant="acme")
    cursor = (await poll(api))["cursor"]
    for _ in range(2):
        answer = await api.post("open", json={"path": "/ps/t", "flags": {"write": True}})
        await api.post("close", json={"handle_id": answer.json()["handle_id"]})
    told = (await poll(api, since=cursor))["events"]
    assert [(each["type"], each["path"]) for each in told] == [("create", "/ps/t")]
