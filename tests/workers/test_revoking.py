"""A token that is revoked ends at once: what it asks, what it transfers, what it has open."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import inspect
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, cast

import httpx2
import pytest

from fs9.clock import ManualClock
from fs9.config.settings import Settings
from fs9.errors import Unauthenticated
from fs9.limits import Limits
from tests.fix_http import SECRET, TEMPLATE, token
from tests.workers.fix_node import start_node_of
from workers.protocol import Fs9Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from workers.connection import Connection
    from workers.node import Node


class Served:
    """A worker with authentication, and calls with tokens."""

    def __init__(self, node: Node, clock: ManualClock, client: httpx2.AsyncClient) -> None:
        self.node, self.clock, self.client = node, clock, client
        self.admin = self.token("admin", sub="root")

    def token(self, *roles: str, ns: str = "default", **claims: Any) -> str:
        return token(ns, *roles, clock=self.clock, **claims)

    async def call(self, method: str, path: str, bearer: str, **more: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {bearer}"}
        return await self.client.request(method, f"/api/v1/{path}", headers=headers, **more)

    async def stat(self, bearer: str) -> int:
        return (await self.call("GET", "stat?path=/", bearer)).status_code

    def connections(self) -> list[Connection]:
        return [cast("Connection", each) for each in self.node._connections]

    async def revoke(self, by: str | None = None, **what: str) -> int:
        answer = await self.call("POST", "auth/revoke", by or self.admin, json=what)
        return answer.status_code


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for it; the time is for a slow machine."""
    for _ in range(3000):
        found = condition()
        if await found if inspect.isawaitable(found) else found:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true")


@pytest.fixture(params=[True, False], ids=["fast lane", "web framework"])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    clock = ManualClock(1_800_000_000)
    settings = Settings(
        data_dir=tmp_path / "d",
        jwt_secret=SECRET,
        mounts=TEMPLATE,
        namespace_template=TEMPLATE,
        fast_lane=request.param,
        limits=Limits(reconcile_interval_s=0.05, read_piece_bytes=65_536),
    )
    async with AsyncExitStack() as stack:
        node, port = await start_node_of(settings, clock, stack)
        client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)
        stack.push_async_callback(client.aclose)
        yield Served(node, clock, client)


@pytest.mark.parametrize("by", ["token", "user", "jti", "namespace"])
async def test_a_revoked_token_is_refused_from_the_answer_on(served: Served, by: str) -> None:
    """However it is named; kept sessions too. Others of the namespace go on."""
    mine = served.token("read-write", sub="mallory", jti="m1", ns="acme")
    made = await served.call("POST", "namespaces", served.admin, json={"name": "acme"})
    assert made.status_code == 201
    for _ in range(3):
        assert await served.stat(mine) == 200
    what = {"token": mine, "user": "mallory", "jti": "m1", "namespace": "acme"}
    assert await served.revoke(**{by: what[by]}) == 204
    answer = await served.call("GET", "stat?path=/", mine)
    assert (answer.status_code, answer.json()["error"]) == (401, "Token has been revoked")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert (await served.call("POST", "auth/refresh", mine)).status_code == 401
    assert await served.stat(served.admin) == 200
    if by != "token" and by != "jti":
        served.clock.advance(2)
        assert await served.stat(served.token(sub="mallory", ns="acme")) == 200


async def test_handles_that_it_opened_are_closed(served: Served) -> None:
    """Also for another token of the same user; those of others stay."""
    one, other = served.token("admin", sub="ann"), served.token("admin", sub="ann", jti="2")
    flags = {"path": "/f", "flags": {"create": True, "write": True, "read": True}}
    opened = [(await served.call("POST", "open", each, json=flags)).json() for each in (one, other)]
    handles = [each["handle_id"] for each in opened]
    assert await served.revoke(token=one) == 204
    reads = [{"handle_id": handle_id, "offset": 0, "size": 1} for handle_id in handles]

    async def closed() -> bool:
        return (await served.call("POST", "read", other, json=reads[0])).status_code != 200

    await until(closed)
    answer = await served.call("POST", "read", other, json=reads[0])
    assert answer.json()["kind"] == "InvalidHandle"
    assert (await served.call("POST", "read", other, json=reads[1])).status_code == 200


async def test_a_download_is_cut(served: Served) -> None:
    """Its rest never comes, even though the server could send it."""
    mine = served.token("admin", sub="ann")
    size = 32 * 1024 * 1024
    done = await served.call("PUT", "upload?path=/big", mine, content=bytes(size))
    assert done.status_code == 200
    headers = {"authorization": f"Bearer {mine}"}
    path, received = "/api/v1/download?path=/big", 0
    async with served.client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        pieces = answer.aiter_raw()
        await anext(pieces)
        assert await served.revoke(token=mine) == 204
        with pytest.raises(httpx2.HTTPError):
            received = sum([len(piece) async for piece in pieces])
    assert received == 0


async def test_a_request_is_cut_in_the_moment_in_which_it_came(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first step of what it waits for; nothing is left of it."""
    receive = Fs9Protocol.data_received

    def receive_and_cut(connection: Fs9Protocol, data: bytes) -> None:
        receive(connection, data)
        connection.end_for(lambda by: by.user == "ann", Unauthenticated("cut"))

    await served.call("POST", "namespaces", served.admin, json={"name": "acme"})
    monkeypatch.setattr(Fs9Protocol, "data_received", receive_and_cut)
    mine = served.token("admin", sub="ann", ns="acme")
    status = await served.stat(mine)  # which waits until the namespace is loaded
    # The other lane does not know yet whose it is.
    assert status == (401 if served.node.fast_lane else 200)
    assert await served.stat(served.admin) == 200
    gc.collect()


async def test_an_upload_is_cut_and_leaves_no_file(served: Served) -> None:
    """It is answered 401 while its body is still on its way."""
    mine = served.token("admin", sub="ann")
    reader, writer = await asyncio.open_connection("127.0.0.1", served.client.base_url.port)
    head = f"PUT /api/v1/upload?path=/new HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {mine}\r\n"
    writer.write(f"{head}content-length: 1000000\r\n\r\n".encode() + bytes(100_000))
    await writer.drain()
    await until(lambda: any(each.exchange is not None for each in served.connections()))
    assert await served.revoke(token=mine) == 204
    async with asyncio.timeout(30):
        answer = await reader.readline()
    assert b" 401 " in answer
    writer.close()
    assert (await served.call("GET", "stat?path=/new", served.admin)).status_code == 404


async def test_who_revokes_itself_is_answered(served: Served) -> None:
    """And refused from then on. A request that makes no sense, or may not be, ends nothing."""
    mine = served.token("admin", sub="ann")
    assert await served.revoke(mine) == 422
    assert await served.revoke(served.token("operator"), token=mine) == 403
    assert await served.revoke(mine, token=mine) == 204
    assert await served.revoke(mine, token=mine) == 401


async def test_a_worker_that_heard_nothing_finds_it_in_the_store(served: Served) -> None:
    """With the bus down, within the interval at which it asks."""
    mine = served.token("admin", sub="ann")
    assert await served.stat(mine) == 200

    async def lost(_: object) -> bool:
        return False

    served.node.services.announce = lost
    assert await served.revoke(token=mine) == 204

    async def refused() -> bool:
        return await served.stat(mine) == 401

    await until(refused)


async def test_a_refreshed_token_says_the_same_and_is_another(served: Served) -> None:
    """What narrows it narrows its successor; the old one holds on; not kept by caches."""
    mine = served.token("read-write", sub="ann", mounts=["/a"], permissions=["read"])
    answer = await served.call("POST", "auth/refresh", mine)
    assert (answer.status_code, answer.json()["expires_in"]) == (200, 86_400)
    assert answer.headers["cache-control"] == "no-store"
    new = answer.json()["token"]
    verifier = served.node.services.verifier
    assert verifier is not None
    before, after = verifier.verify_nowait(mine), verifier.verify_nowait(new)
    assert before is not None
    assert after is not None
    assert after.jti
    for name in ("user", "namespace", "roles", "mounts", "permissions"):
        assert getattr(before, name) == getattr(after, name)
    assert (await served.call("POST", "auth/refresh", new)).json()["token"] != new


@pytest.mark.parametrize("by", ["token", "jti", "user"])
async def test_what_was_refreshed_before_ends_with_the_first_token(served: Served, by: str) -> None:
    """However often: who found a token cannot make it last. Others of the user hold on."""
    mine = served.token("read-write", sub="mallory", jti="m1")
    other = served.token("read-write", sub="mallory", jti="m2")
    chain = [mine]
    for _ in range(3):
        chain.append((await served.call("POST", "auth/refresh", chain[-1])).json()["token"])
    assert [await served.stat(each) for each in chain] == [200] * 4
    what = {"token": mine, "jti": "m1", "user": "mallory"}
    assert await served.revoke(**{by: what[by]}) == 204
    assert [await served.stat(each) for each in chain] == [401] * 4
    assert (await served.call("POST", "auth/refresh", chain[-1])).status_code == 401
    assert await served.stat(other) == (401 if by == "user" else 200)
    served.clock.advance(24 * 3600 - 60)
    assert await served.stat(chain[-1]) == 401, "until the last of them has expired"


async def test_a_successor_ends_with_all_of_its_kind(served: Served) -> None:
    """Nobody knows which was made of which; the first one holds on."""
    mine = served.token("read-write", sub="mallory")
    one = (await served.call("POST", "auth/refresh", mine)).json()["token"]
    two = (await served.call("POST", "auth/refresh", one)).json()["token"]
    assert await served.revoke(token=one) == 204
    assert [await served.stat(each) for each in (mine, one, two)] == [200, 401, 401]
    assert (await served.call("POST", "auth/refresh", two)).status_code == 401
    served.clock.advance(1)
    three = (await served.call("POST", "auth/refresh", mine)).json()["token"]
    assert [await served.stat(each) for each in (two, three)] == [401, 200]


async def test_a_token_is_refreshed_for_hours_after_its_end_and_no_longer(served: Served) -> None:
    """Four by default; the setting counts (tests.test_services)."""
    mine = served.token("read-write", sub="ann")
    served.clock.advance(600 + 4 * 3600)
    assert await served.stat(mine) == 401
    assert (await served.call("POST", "auth/refresh", mine)).status_code == 200
    served.clock.advance(1)
    assert (await served.call("POST", "auth/refresh", mine)).status_code == 401


async def test_refresh_is_refused_to_who_is_not_active(served: Served) -> None:
    """A suspended namespace or user, a wrong tenant, and no token at all."""
    store = served.node.services.store
    await served.call("POST", "namespaces", served.admin, json={"name": "one"})
    mine = served.token("read-write", ns="one", sub="ann")
    wrong = await served.client.post(
        "/two/api/v1/auth/refresh", headers={"authorization": f"Bearer {mine}"}
    )
    assert wrong.status_code == 403
    user = await store.create_user("ann", password_hash=None, email=None)
    assert (await served.call("POST", "auth/refresh", mine)).status_code == 200
    await store.set_user_status(user.id, "suspended")
    assert (await served.call("POST", "auth/refresh", mine)).status_code == 403
    await store.set_user_status(user.id, "active")
    await store.set_status("one", "suspended", "root")
    assert (await served.call("POST", "auth/refresh", mine)).status_code == 403
    assert (await served.client.post("/api/v1/auth/refresh")).status_code == 401


async def test_an_api_key_opens_its_namespace_until_it_is_revoked(served: Served) -> None:
    """It is a credential like a token, on every route."""
    store = served.node.services.store
    await served.call("POST", "namespaces", served.admin, json={"name": "one"})
    user = await store.create_user("ann", password_hash=None, email=None)
    key = "fs9_" + "0" * 32
    digest = hashlib.sha256(key.encode()).hexdigest()
    made = await store.create_api_key(user.id, "one", "ci", ["read-only"], digest, None)
    assert await served.stat(key) == 200
    assert (await served.call("PUT", "upload?path=/f", key, content=b"x")).status_code == 403
    assert await served.stat("fs9_" + "1" * 32) == 401
    assert made.namespace == "one"
    assert await served.revoke(token=key) == 204
    assert await served.stat(key) == 401
