"""The Falcon driver: what clients of a test library do not show."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fs9.clock import ManualClock
from fs9.errors import MalformedRequest, RequestTimeout
from fs9.http.app import create_app
from fs9.http.asgi import AsgiBody
from tests.fix_http import new_tenant
from tests.http.calls import close, get, ok, open_, problem, put, read, stat, write

if TYPE_CHECKING:
    import httpx2

    from fs9.http.context import Context
    from tests.fix_http import Server, StartServer

MIB = 1024 * 1024
Message = dict[str, Any]


class Asgi:
    """One request, message by message."""

    def __init__(self, context: Context, method: str, target: str, **headers: str) -> None:
        path, _, query = target.partition("?")
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [
                (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
            ],
            "server": ("fs9.test", 80),
            "client": ("127.0.0.1", 1),
        }
        self.app = create_app(context)
        self.received = 0
        self.starved = asyncio.Event()
        self.to_receive: list[Message] = []
        self.sent: list[Message] = []
        self.fail_after: int | None = None

    async def receive(self) -> Message:
        self.received += 1
        if not self.to_receive:
            self.starved.set()
            await asyncio.get_running_loop().create_future()
        return self.to_receive.pop(0)

    async def send(self, message: Message) -> None:
        if self.fail_after is not None and len(self.sent) >= self.fail_after:
            raise ConnectionResetError
        self.sent.append(message)

    async def run(self) -> int:
        await self.app(self.scope, self.receive, self.send)
        status: int = self.sent[0]["status"]
        return status


def body(content: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": content, "more_body": more}


def context_of(server: Server) -> Context:
    assert server.context is not None
    return server.context


def open_files(server: Server) -> int:
    namespace = context_of(server).services.namespaces.loaded("default")
    assert namespace is not None
    return namespace.vfs.in_use.files


async def test_a_refused_body_is_never_asked_for(server: Server, auth_server: Server) -> None:
    """`receive` is what sends `100 Continue`, so a refusal must come without it."""
    limit = context_of(server).limits.write_body_bytes_max
    too_long = {"content_length": str(limit + 1)}
    await put(server.client(), "/a", b"")
    handle_id = await open_(server.client(), "/a", write=True)
    for one, target, expected in [
        (auth_server, "PUT /api/v1/upload?path=/a", 401),
        (server, "PUT /api/v1/upload?path=/a", 413),
        (server, "PUT /api/v1/upload?path=/none/a", 413),
        (server, f"POST /api/v1/write?offset=0&handle_id={handle_id}", 413),
        (server, "POST /api/v1/write?offset=0&handle_id=x", 400),
        (server, "POST /api/v1/open", 415),
        (server, "POST /api/v1/none", 404),
        (server, "PUT /api/v1/stat", 405),
    ]:
        method, _, path = target.partition(" ")
        request = Asgi(context_of(one), method, path, **too_long)
        assert await request.run() == expected, target
        assert request.received == 0
    short = {"content_length": "5"}
    for target in ("/api/v1/upload?path=/none/a", "/api/v1/upload"):
        request = Asgi(context_of(server), "PUT", target, **short)
        assert await request.run() in {400, 404}
        assert request.received == 0


@pytest.mark.parametrize("method", ["INVENTED", "WEBSOCKET", "get", "CONNECT"])
async def test_a_method_that_nobody_knows_is_405(server: Server, method: str) -> None:
    request = Asgi(context_of(server), method, "/api/v1/stat?path=/")
    assert await request.run() == 405
    assert (b"allow", b"GET, HEAD") in request.sent[0]["headers"]


async def test_an_empty_token_is_401(auth_server: Server) -> None:
    request = Asgi(context_of(auth_server), "GET", "/api/v1/mounts", authorization="Bearer ")
    assert await request.run() == 401


async def test_an_upload_whose_client_leaves_changes_nothing(server: Server) -> None:
    await put(server.client(), "/a", b"old")
    for headers in ({"content_length": "6"}, {"transfer_encoding": "chunked"}):
        request = Asgi(context_of(server), "PUT", "/api/v1/upload?path=/a", **headers)
        request.to_receive = [body(b"new", more=True), {"type": "http.disconnect"}]
        assert await request.run() == 400
    assert (await get(server.client(), "/a")).content == b"old"
    assert open_files(server) == 0


async def test_an_upload_that_is_cancelled_changes_nothing(server: Server) -> None:
    await put(server.client(), "/a", b"old")
    request = Asgi(context_of(server), "PUT", "/api/v1/upload?path=/a", content_length="6")
    request.to_receive = [body(b"new", more=True)]
    task = asyncio.create_task(request.run())
    await request.starved.wait()
    assert open_files(server) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await get(server.client(), "/a")).content == b"old"
    assert open_files(server) == 0


async def test_a_body_shorter_than_announced_is_refused(server: Server) -> None:
    request = Asgi(context_of(server), "PUT", "/api/v1/upload?path=/a", content_length="6")
    request.to_receive = [body(b"new")]
    assert await request.run() == 400
    assert (await server.client().get("stat", params={"path": "/a"})).status_code == 404


@pytest.mark.parametrize("fail_after", [0, 1, 2])
async def test_a_download_whose_client_leaves_closes_its_file(
    server: Server, fail_after: int
) -> None:
    await put(server.client(), "/a", bytes(3 * MIB))
    request = Asgi(context_of(server), "GET", "/api/v1/download?path=/a")
    request.fail_after = fail_after
    with pytest.raises(ConnectionResetError):
        await request.run()
    assert open_files(server) == 0


async def test_a_watch_whose_client_leaves_ends(server: Server) -> None:
    """At once, whether or not there is anything to send."""
    request = Asgi(context_of(server), "GET", "/api/v1/watch?path=/", accept="text/event-stream")
    request.to_receive = [body(b""), {"type": "http.disconnect"}]
    async with asyncio.timeout(60):
        assert await request.run() == 200
    assert context_of(server).services.namespaces.watching.watchers == 0


async def test_no_download_leaves_a_file_open(server: Server) -> None:
    client = server.client()
    await put(client, "/a", bytes(3 * MIB))
    await put(client, "/empty", b"")
    for path in ("/a", "/empty", "/none", "/hello", "/"):
        for method in ("GET", "HEAD"):
            for headers in (
                {},
                {"range": "bytes=1-2"},
                {"range": f"bytes={9 * MIB}-"},
                {"if-match": '"x"'},
                {"if-none-match": "*"},
                {"if-match": "x"},
            ):
                params = {"path": path}
                await client.request(method, "download", params=params, headers=headers)
    assert open_files(server) == 0


async def test_a_file_that_shrinks_while_it_is_downloaded_breaks_the_answer(
    server: Server,
) -> None:
    """The length is out: the answer must not end as if it were whole."""
    client = server.client()
    await put(client, "/a", bytes(3 * MIB))
    request = Asgi(context_of(server), "GET", "/api/v1/download?path=/a")
    send = request.send

    async def shrink_then_send(message: Message) -> None:
        await send(message)
        if message["type"] == "http.response.start":
            await client.post("wstat", json={"path": "/a", "changes": {"size": 0}})

    with pytest.raises(Exception, match="shorter"):
        await request.app(request.scope, request.receive, shrink_then_send)
    assert all(message.get("more_body", True) for message in request.sent)
    assert open_files(server) == 0


async def test_a_handle_closed_during_a_large_read_breaks_the_answer(server: Server) -> None:
    client = server.client()
    await put(client, "/a", bytes(3 * MIB))
    handle_id = await open_(client, "/a", read=True)
    content = b'{"handle_id":"%s","offset":0,"size":3145728}' % handle_id.encode()
    request = Asgi(
        context_of(server),
        "POST",
        "/api/v1/read",
        content_type="application/json",
        content_length=str(len(content)),
    )
    request.to_receive = [body(content)]
    send = request.send

    async def close_then_send(message: Message) -> None:
        await send(message)
        if message["type"] == "http.response.start":
            await close(client, handle_id)

    with pytest.raises(Exception, match="invalid handle"):
        await request.app(request.scope, request.receive, close_then_send)
    assert all(message.get("more_body", True) for message in request.sent)


async def test_a_bug_is_a_500_that_shows_nothing(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    client = server.client()
    namespaces = context_of(server).services.namespaces

    def broken(name: str) -> None:
        raise ZeroDivisionError("a secret")

    namespaces.loaded = broken  # type: ignore[method-assign,assignment]
    answer = await client.get("stat", params={"path": "/"})
    del namespaces.loaded
    assert problem(answer)[:2] == (500, "Internal")
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in caplog.text


async def test_an_idle_handle_expires_and_a_used_one_does_not(start_server: StartServer) -> None:
    clock = ManualClock()
    server = await start_server(clock=clock)
    client = server.client()
    namespaces = context_of(server).services.namespaces
    idle = await open_(client, "/a", read=True, write=True, create=True)
    used = await open_(client, "/a", read=True)
    for _ in range(4):
        clock.advance(100)
        ok(await read(client, used, 0, 1))
        await namespaces.sweep()
    status, kind, text = problem(await read(client, idle, 0, 1))
    assert (status, kind) == (400, "InvalidHandle")
    assert "handle" in text


async def test_the_limits_of_a_server_are_kept(start_server: StartServer) -> None:
    server = await start_server(handles_per_namespace_max=2, listing_entries_max=3)
    client = server.client(tenant=new_tenant())
    for _ in range(2):
        await open_(client, "/a", write=True, create=True)
    answer = await client.post("open", json={"path": "/a", "flags": {"read": True}})
    assert problem(answer)[:2] == (507, "QuotaExceeded")
    await put(client, "/b", b"")
    await put(client, "/c", b"")
    answer = await client.get("readdir", params={"path": "/"})
    assert problem(answer)[:2] == (400, "InvalidArgument")
    assert len((await client.get("readdir?path=/&limit=3")).json()) == 3


async def test_parallel_first_requests_of_a_namespace_all_succeed(server: Server) -> None:
    client = server.client(tenant=new_tenant())
    answers = await asyncio.gather(*(client.get("mounts") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}


async def test_repeated_request_headers_are_a_list(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"x")
    etag = f'"{(await stat(api, "/a"))["etag"]}"'
    headers = [("if-none-match", '"x"'), ("if-none-match", etag)]
    answer = await api.get("download", params={"path": "/a"}, headers=headers)
    assert answer.status_code == 304


async def test_a_write_by_handle_reaches_an_unlinked_file(api: httpx2.AsyncClient) -> None:
    handle_id = await open_(api, "/a", read=True, write=True, create=True)
    ok(await api.delete("remove", params={"path": "/a"}))
    ok(await write(api, handle_id, 0, b"still"))
    assert (await read(api, handle_id, 0, 10)).content == b"still"


# -- The body of a request. -----------------------------------------------------------------


async def all_of(asgi_body: AsgiBody) -> bytes:
    found = bytearray()
    while piece := await asgi_body.read():
        found += piece
    return bytes(found)


def receiver(*messages: Message) -> Any:
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.get_running_loop().create_future()
        return left.pop(0)

    return receive


async def test_a_body_is_all_its_pieces_and_empty_ones_are_not_the_end() -> None:
    messages = [body(b"a", more=True), body(b"", more=True), body(b"bc", more=True), body(b"")]
    asgi_body = AsgiBody(receiver(*messages), {"transfer-encoding": "chunked"}, 5)
    assert asgi_body.length is None
    assert await all_of(asgi_body) == b"abc"
    assert await asgi_body.read() == b""


async def test_without_length_and_encoding_there_is_no_body() -> None:
    asgi_body = AsgiBody(receiver(), {}, 5)
    assert asgi_body.length == 0
    assert await asgi_body.read() == b""


async def test_a_body_that_stops_arriving_times_out() -> None:
    asgi_body = AsgiBody(receiver(body(b"a", more=True)), {"content-length": "2"}, 0.01)
    assert await asgi_body.read() == b"a"
    with pytest.raises(RequestTimeout):
        await asgi_body.read()


async def test_a_connection_that_ends_within_the_body_is_an_error() -> None:
    asgi_body = AsgiBody(receiver({"type": "http.disconnect"}), {"content-length": "2"}, 5)
    with pytest.raises(MalformedRequest):
        await asgi_body.read()
