"""Two fleets, each with its data directory, on one PostgreSQL and one S3, as two hosts would be.

A namespace is served by one of them at a time: while the lease of one holds the other refuses;
one that was stopped, or cut off, for longer than its lease cannot change anything any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fault_proxy import FaultProxy
from tests.workers.wire_client import Response, WireClient, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet
    from tests.fix_postgres import PostgresServer
    from tests.fix_s3 import S3Server

_LEASE_S = 2
_DEADLINE_S = 60
OLD, NEW = b"old" * 50_000, b"new" * 50_000


def config(dsn: str, s3_port: int, s3: S3Server, bucket: str) -> str:
    blocks: dict[str, Any] = {"type": "s3", "bucket": bucket, **s3.settings}
    blocks |= {"endpoint": f"http://127.0.0.1:{s3_port}", "deadline_secs": 3, "request_secs": 1}
    backend: dict[str, Any] = {"type": "postgres", "dsn": dsn, "blocks": blocks}
    backend |= {"lease_secs": _LEASE_S, "timeout_secs": 2}
    mount = {"path": "/", "provider": "pagefs", "config": {"backend": backend}}
    settings = {
        "namespace_template": [mount],
        "mounts": [{"path": "/", "provider": "memfs"}],
        "server": {"limits": {"owner_wait_secs": 0.5}},
    }
    return json.dumps(settings)


async def ask(fleet: Fleet, method: str, path: str, body: bytes = b"") -> Response:
    client = await WireClient.connect(fleet.port)
    try:
        await client.send(request(method, f"/shared/api/v1/{path}", body=body))
        return await asyncio.wait_for(client.response(), _DEADLINE_S)
    finally:
        await client.close()


async def put(fleet: Fleet, name: str, data: bytes) -> Response:
    return await ask(fleet, "PUT", f"upload?path=/{name}", data)


async def get(fleet: Fleet, name: str) -> Response:
    return await ask(fleet, "GET", f"download?path=/{name}")


async def until_served(fleet: Fleet, name: str) -> Response:
    """Every answer before is a refusal for the time being."""
    async with asyncio.timeout(_DEADLINE_S):
        while (answer := await get(fleet, name)).status != 200:
            assert answer.status in {503, 504}, answer
            assert answer.status == 504 or "retry-after" in answer.headers
            await asyncio.sleep(0.2)
    return answer


def processes(pid: int) -> list[int]:
    """The process and all below it, the lowest first."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += processes(int(child))
    return [*found, pid]


def signal_all(fleet: Fleet, number: signal.Signals) -> None:
    for pid in processes(fleet.process.pid):
        os.kill(pid, number)


@pytest.mark.parametrize("how", ["stopped", "cut off"])
async def test_a_host_that_was_away_longer_than_its_lease(
    start_fleet: Callable[..., Fleet],
    postgres: PostgresServer,
    postgres_dsn: str,
    s3: S3Server,
    how: str,
) -> None:
    async with AsyncExitStack() as opened:
        database = await opened.enter_async_context(FaultProxy(postgres.port))
        objects = await opened.enter_async_context(FaultProxy(s3.port))
        through = postgres_dsn.replace(f":{postgres.port}/", f":{database.port}/")
        bucket = s3.new_bucket()
        first = await asyncio.to_thread(
            start_fleet, workers=1, yaml=config(through, objects.port, s3, bucket)
        )
        second = await asyncio.to_thread(
            start_fleet, workers=1, yaml=config(postgres_dsn, s3.port, s3, bucket)
        )
        assert (await put(first, "f", OLD)).status == 200
        refused = await get(second, "f")
        assert (refused.status, b"another host" in refused.body) == (503, True)
        assert "retry-after" in refused.headers

        if how == "stopped":
            signal_all(first, signal.SIGSTOP)
        else:
            for proxy in (database, objects):
                proxy.set("silent", keep=True)
            assert (await put(first, "f", b"lost")).status in {503, 504}
        assert (await until_served(second, "f")).body == OLD
        assert (await put(second, "f", NEW)).status == 200
        if how == "stopped":
            signal_all(first, signal.SIGCONT)
        else:
            for proxy in (database, objects):
                proxy.set("pass")
        for _ in range(3):
            assert (await put(first, "f", b"late")).status in {503, 504}
            assert (await get(first, "f")).status in {503, 504}
        assert (await get(second, "f")).body == NEW

        await asyncio.to_thread(second.stop)
        assert (await until_served(first, "f")).body == NEW
        assert (await put(first, "f", OLD)).status == 200
        assert (await get(first, "f")).body == OLD
