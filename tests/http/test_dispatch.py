"""`answer`: the order of checks, and that hot operations do not wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from fs9.http.dispatch import answer
from fs9.http.exchange import BytesBody, Exchange, Reply
from fs9.http.operations import OPERATIONS
from fs9.wire.query import parse_query
from fs9.wire.routes import ROUTES
from tests.fix_http import new_tenant, token

if TYPE_CHECKING:
    from fs9.http.context import Context
    from tests.fix_http import Server

BY_NAME = {operation.name: operation for operation in OPERATIONS}


def exchange(context: Context, query: bytes = b"", body: Any = b"") -> Exchange:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = {"content-type": "application/json"}
    return Exchange(context, "", parse_query(query), headers, BytesBody(content))


async def run(name: str, x: Exchange, authorization: str | None = None) -> Reply:
    return await answer(BY_NAME[name], x, authorization, None)


def run_at_once(name: str, x: Exchange) -> Reply:
    """Step it once; it must be done then, as it is on the fast lane."""
    coroutine = run(name, x)
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    reply: Reply = done.value.value
    assert reply.status < 300, bytes(reply.body)
    return reply


async def test_the_hot_operations_do_not_wait_when_the_provider_does_not(server: Server) -> None:
    context = server.context
    assert context is not None
    await run("mounts", exchange(context))  # loads the namespace
    flags = {"read": True, "write": True, "create": True}
    opened = run_at_once("open", exchange(context, body={"path": "/a", "flags": flags}))
    handle_id = msgspec.json.decode(opened.body)["handle_id"]
    query = f"handle_id={handle_id}&offset=0".encode()
    run_at_once("write", exchange(context, query, b"x" * 65_536))
    body = {"handle_id": handle_id, "offset": 0, "size": 65_536}
    assert run_at_once("read", exchange(context, body=body)).body == b"x" * 65_536
    run_at_once("stat", exchange(context, b"path=/a"))
    run_at_once("readdir", exchange(context, b"path=/&limit=100"))
    run_at_once("close", exchange(context, body={"handle_id": handle_id}))
    assert {name for name, operation in BY_NAME.items() if operation.fast} == {
        "open",
        "write",
        "read",
        "stat",
        "readdir",
        "close",
    }


@pytest.mark.parametrize(
    ("name", "query", "body"),
    [
        ("stat", b"", b""),
        ("open", b"", b"{"),
        ("write", b"handle_id=x", b""),
        ("upload", b"", b""),
        ("namespace_create", b"", b"{"),
    ],
)
async def test_credentials_then_request_then_namespace(
    auth_server: Server, name: str, query: bytes, body: bytes
) -> None:
    context = auth_server.context
    assert context is not None
    assert (await run(name, exchange(context, query, body))).status == 401
    authorization = f"Bearer {token(new_tenant(), 'admin')}"
    reply = await run(name, exchange(context, query, body), authorization)
    assert reply.status == 400
    # The request was refused before anyone looked for the namespace.
    assert len(context.services.namespaces) == 0


async def test_the_table_says_what_the_routes_say() -> None:
    for operation, route in zip(OPERATIONS, ROUTES, strict=True):
        assert (operation.name, operation.method, operation.path) == (
            route.name,
            route.method,
            route.path,
        )
        assert (operation.access, operation.body, operation.fast) == (
            route.access,
            route.body,
            route.fast,
        )
