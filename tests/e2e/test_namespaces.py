"""Namespaces at run time in a fleet: loaded once, mounted into, suspended, deleted, purged."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.e2e.conftest import DATABASES, bearer, meta_environ
from tests.fix_fleet import SECRET, Fleet
from tests.workers.test_metrics import scrape, total
from tests.workers.wire_client import WireClient

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """
server:
  max_concurrent_requests: 2000
  limits: {max_concurrent_requests_per_namespace: 1500}
namespace_template:
  - {path: /, provider: pagefs}
  - {path: /ps, provider: pubsubfs, config: {persistent: true}}
"""
NAMES = [f"tenant{number}" for number in range(6)]
_FIRST_REQUESTS = 1000
_CUT_S = 20
WORKERS = 2


@pytest.fixture(scope="module", params=DATABASES)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """With each of `NAMES`, so that both workers own some; on either database."""
    environ = {"FS9_JWT_SECRET": SECRET} | meta_environ(request, request.param)
    fleet = Fleet(tmp_path_factory.mktemp("fleet"), workers=WORKERS, yaml=CONFIG, environ=environ)
    try:
        for name in NAMES:
            assert ask(fleet, "POST", "namespaces", admin(), json={"name": name}).status_code == 201
        yield fleet
    finally:
        status = fleet.stop()
    assert status == 0
    assert "Traceback" not in fleet.log.read_text()


def admin() -> dict[str, str]:
    return bearer(roles=["admin"])


def user(name: str, *roles: str) -> dict[str, str]:
    return bearer(ns=name, roles=list(roles))


def ask(
    fleet: Fleet, method: str, path: str, headers: dict[str, str], **rest: Any
) -> httpx2.Response:
    """On a connection of its own, which any worker may accept."""
    url = f"{fleet.url}/api/v1/{path}"
    return httpx2.request(method, url, headers=headers, timeout=30, **rest)


async def loads(fleet: Fleet) -> float:
    """How many namespaces were loaded so far, by whichever worker: each is asked, and flushes."""
    for slot in range(WORKERS):
        samples = await scrape(fleet, slot, admin())
    return total(samples, "fs9_namespace_load_seconds_count")


async def test_a_thousand_first_requests_at_once(fleet: Fleet) -> None:
    """All are answered, over as many sockets, though the namespace is loaded once."""
    name = f"crowded-{secrets.token_hex(4)}"
    assert ask(fleet, "POST", "namespaces", admin(), json={"name": name}).status_code == 201
    before = await loads(fleet)
    head = f"authorization: {user(name)['Authorization']}"
    request = f"GET /api/v1/stat?path=/ HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n".encode()
    clients = [await WireClient.connect(fleet.port) for _ in range(_FIRST_REQUESTS)]
    try:
        for client in clients:
            client.writer.write(request)
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(client.response() for client in clients))
    finally:
        for client in clients:
            client.writer.close()
    assert {answer.status for answer in answers} == {200}
    assert await loads(fleet) - before == 1


def test_a_mount_is_the_owners_to_make(fleet: Fleet) -> None:
    """Whichever worker is asked; it serves when the answer comes, and is gone likewise."""
    for name in NAMES:
        body = {"path": "/kv", "provider": "kvfs"}
        assert ask(fleet, "POST", "mount", user(name, "operator"), json=body).status_code == 201
        answer = ask(fleet, "PUT", "upload?path=/kv/a", user(name), content=name.encode())
        assert answer.status_code == 200
    for name in NAMES:
        assert ask(fleet, "GET", "download?path=/kv/a", user(name)).text == name
        answer = ask(fleet, "DELETE", "mount?path=/kv", user(name, "operator"))
        assert answer.status_code == 204
        assert ask(fleet, "GET", "stat?path=/kv", user(name)).status_code == 404


async def test_what_is_in_progress_ends_with_the_namespace(fleet: Fleet) -> None:
    """An upload and a follower are cut; nobody comes in from the answer on, on any connection."""
    for name in NAMES[:2]:
        head = f"authorization: {user(name)['Authorization']}\r\nhost: x\r\n"
        active = ask(fleet, "PATCH", f"namespaces/{name}", admin(), json={"status": "active"})
        assert active.status_code == 200
        assert ask(fleet, "PUT", "upload?path=/ps/t", user(name), content=b"m").status_code == 200
        upload = await WireClient.connect(fleet.port)
        line = "PUT /api/v1/upload?path=/half HTTP/1.1\r\ncontent-length: 1000000\r\n"
        await upload.send(f"{line}{head}\r\n".encode() + b"x" * 1000)
        follower = await WireClient.connect(fleet.port)
        line = "GET /api/v1/follow?path=/ps/t HTTP/1.1\r\naccept: text/event-stream\r\n"
        await follower.send(f"{line}{head}\r\n".encode())
        assert b" 200 " in await follower.reader.readline()
        answer = await asyncio.to_thread(
            ask, fleet, "PATCH", f"namespaces/{name}", admin(), json={"status": "suspended"}
        )
        assert answer.status_code == 200
        refused = await asyncio.to_thread(ask, fleet, "GET", "stat?path=/", user(name))
        assert (refused.status_code, refused.json()["error"]) == (403, "Namespace is not active")
        async with asyncio.timeout(_CUT_S):
            assert (await upload.response()).status == 403
            with contextlib.suppress(ConnectionResetError):  # what it has not read is given up
                await follower.reader.read()
        for client in (upload, follower):
            client.writer.close()
        answer = await asyncio.to_thread(
            ask, fleet, "PATCH", f"namespaces/{name}", admin(), json={"status": "active"}
        )
        assert answer.status_code == 200
        async with asyncio.timeout(_CUT_S):  # a busy worker may hear of it after the answer
            while True:
                found = await asyncio.to_thread(ask, fleet, "GET", "stat?path=/half", user(name))
                if found.status_code != 403:
                    break
        assert found.status_code == 404


def test_a_purged_name_is_new(fleet: Fleet) -> None:
    """By a worker that need not own it: the owner has closed it by then."""
    for name in ("purged0", "purged1", "purged2", "purged3"):
        assert ask(fleet, "POST", "namespaces", admin(), json={"name": name}).status_code == 201
        for path in ("/a", "/ps/a"):
            answer = ask(fleet, "PUT", f"upload?path={path}", user(name), content=b"old")
            assert answer.status_code == 200
        old = user(name)
        answer = ask(fleet, "DELETE", f"namespaces/{name}?purge=1", admin())
        assert (answer.status_code, answer.json().get("purged")) == (200, True), answer.text
        assert ask(fleet, "GET", "stat?path=/", user(name)).status_code in {401, 403}
        left = [each.name for each in fleet.data_dir.glob("*/*") if each.name.startswith(name)]
        assert left == []
        assert ask(fleet, "POST", "namespaces", admin(), json={"name": name}).status_code == 201
        assert ask(fleet, "GET", "stat?path=/", old).status_code == 401, "nor by its tokens"
        # Those of the second of its deletion are among them, too.
        new = bearer(ns=name, roles=[], iat=int(time.time()) + 1)
        for path in ("/a", "/ps/a"):
            assert ask(fleet, "GET", f"stat?path={path}", new).status_code == 404
