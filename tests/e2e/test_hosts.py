"""Two fleets, each with its data directory, on one PostgreSQL and one S3, as two hosts would be.

A namespace is served by one of them at a time: while the lease of one holds the other refuses;
one that was stopped, or cut off, for longer than its lease cannot change anything any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fs9.cli.main import main
from tests.fault_proxy import FaultProxy
from tests.fix_postgres import PostgresServer
from tests.fix_s3 import S3Server
from tests.workers.wire_client import Response, WireClient, request

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tests.fix_fleet import Fleet
    from tests.fix_network import OtherHost

_LEASE_S = 2
_DEADLINE_S = 60
OLD, NEW = b"old" * 50_000, b"new" * 50_000


def config(dsn: str, endpoint: str, s3: S3Server, bucket: str) -> str:
    blocks: dict[str, Any] = {"type": "s3", "bucket": bucket, **s3.settings}
    blocks |= {"endpoint": endpoint, "deadline_secs": 3, "request_secs": 1}
    backend: dict[str, Any] = {"type": "postgres", "dsn": dsn, "blocks": blocks}
    return settings_of(backend | {"timeout_secs": 2})


def settings_of(backend: dict[str, Any]) -> str:
    backend = {"lease_secs": _LEASE_S, **backend}
    mount = {"path": "/", "provider": "pagefs", "config": {"backend": backend}}
    settings = {
        "namespace_template": [mount],
        "mounts": [{"path": "/", "provider": "memfs"}],
        "server": {"limits": {"owner_wait_secs": 0.5}},
    }
    return json.dumps(settings)


@dataclass
class Host:
    """A fleet as its own clients see it; `elsewhere` where that is not here."""

    fleet: Fleet
    elsewhere: OtherHost | None = None

    async def connect(self) -> WireClient:
        port = self.fleet.port
        if self.elsewhere is None:
            return await WireClient.connect(port)
        return await WireClient.over(await asyncio.to_thread(self.elsewhere.connect, port))


async def ask(host: Host, method: str, path: str, body: bytes = b"") -> Response:
    client = await host.connect()
    headers = {"Content-Type": "application/json"} if method == "POST" else {}
    try:
        await client.send(request(method, f"/{path}", headers=headers, body=body))
        return await asyncio.wait_for(client.response(), _DEADLINE_S)
    finally:
        await client.close()


async def put(host: Host, name: str, data: bytes, tenant: str = "shared") -> Response:
    return await ask(host, "PUT", f"{tenant}/api/v1/upload?path=/{name}", data)


async def get(host: Host, name: str, tenant: str = "shared") -> Response:
    return await ask(host, "GET", f"{tenant}/api/v1/download?path=/{name}")


async def until_served(host: Host, name: str, tenant: str = "shared") -> Response:
    """Every answer before is a refusal for the time being."""
    async with asyncio.timeout(_DEADLINE_S):
        while (answer := await get(host, name, tenant)).status != 200:
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
        endpoint = f"http://127.0.0.1:{objects.port}"
        away = await asyncio.to_thread(
            start_fleet, workers=1, yaml=config(through, endpoint, s3, bucket)
        )
        other = await asyncio.to_thread(
            start_fleet, workers=1, yaml=config(postgres_dsn, s3.url, s3, bucket)
        )
        first, second = Host(away), Host(other)
        proxies = () if how == "stopped" else (database, objects)
        await be_away(first, second, proxies)


async def test_a_host_that_slept_longer_than_its_lease_in_a_bucket(
    start_fleet: Callable[..., Fleet], s3: S3Server
) -> None:
    """All in one bucket: SlateDB, its blocks, and the lease."""
    yaml = settings_of({"type": "slatedb", "bucket": s3.new_bucket()})
    fleets = [
        await asyncio.to_thread(start_fleet, workers=1, yaml=yaml, environ=s3.environ)
        for _ in range(2)
    ]
    await be_away(Host(fleets[0]), Host(fleets[1]), ())


async def be_away(first: Host, second: Host, proxies: Collection[FaultProxy]) -> None:
    """Cut off by the proxies, or stopped where there are none."""
    assert (await put(first, "f", OLD)).status == 200
    refused = await get(second, "f")
    assert (refused.status, b"another host" in refused.body) == (503, True)
    assert "retry-after" in refused.headers

    if not proxies:
        signal_all(first.fleet, signal.SIGSTOP)
    else:
        for proxy in proxies:
            proxy.set("silent", keep=True)
        assert (await put(first, "f", b"lost")).status in {503, 504}
    assert (await until_served(second, "f")).body == OLD
    assert (await put(second, "f", NEW)).status == 200
    if not proxies:
        signal_all(first.fleet, signal.SIGCONT)
    else:
        for proxy in proxies:
            proxy.set("pass")
    for _ in range(3):
        assert (await put(first, "f", b"late")).status in {503, 504}
        assert (await get(first, "f")).status in {503, 504}
    assert (await get(second, "f")).body == NEW

    await asyncio.to_thread(second.fleet.stop)
    assert (await until_served(first, "f")).body == NEW
    assert (await put(first, "f", OLD)).status == 200
    assert (await get(first, "f")).body == OLD


async def test_a_host_that_the_network_cut_off(
    other_host: OtherHost,
    start_fleet: Callable[..., Fleet],
    postgres_programs: Path,
    s3_program: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its packets are lost, or only the answers to them: it fails closed, the other one takes
    over with everything that was acknowledged, and what it held is refused when it is back."""
    with ExitStack() as opened:
        address, network = other_host.address, other_host.network
        s3 = S3Server(s3_program, address)
        opened.callback(s3.remove)
        postgres = PostgresServer(postgres_programs, address, network)
        opened.callback(postgres.remove)
        starts = (asyncio.to_thread(start) for start in (s3.new_bucket, postgres.start))
        bucket, _ = await asyncio.gather(*starts)
        yaml = config(postgres.new_database(), s3.url, s3, bucket)
        prefix = other_host.prefix
        away = await asyncio.to_thread(start_fleet, workers=1, yaml=yaml, prefix=prefix)
        other = await asyncio.to_thread(start_fleet, workers=1, yaml=yaml)
        first, second = Host(away, other_host), Host(other)
        await cut_off(first, second, "pulled", other_host.pull, other_host.plug)
        await cut_off(first, second, "deaf", other_host.swallow_answers, other_host.answer)
        await asyncio.to_thread(other.stop)
        for tenant in ("pulled", "deaf"):
            assert (await until_served(first, "f", tenant)).body == NEW
            assert (await put(first, "f", OLD, tenant)).status == 200
        await asyncio.to_thread(away.stop)
        check = ["fsck", "--data-dir", str(away.data_dir)]
        assert await asyncio.to_thread(main, check) == 0
        said = capsys.readouterr().out
        assert "pulled:/: ok" in said
        assert "deaf:/: ok" in said


async def cut_off(
    first: Host, second: Host, tenant: str, cut: Callable[[], None], mend: Callable[[], None]
) -> None:
    """The first host has the tenant, and is cut off with an upload half done."""
    assert (await put(first, "f", OLD, tenant)).status == 200
    refused = await get(second, "f", tenant)
    assert (refused.status, b"another host" in refused.body) == (503, True)
    flags = json.dumps({"path": "/f", "flags": {"write": True}}).encode()
    handle = json.loads((await ask(first, "POST", f"{tenant}/api/v1/open", flags)).body)
    held = await first.connect()
    upload = request("PUT", f"/{tenant}/api/v1/upload?path=/g", body=OLD)
    await held.send(upload[: len(upload) // 2])

    cut()
    assert (await until_served(second, "f", tenant)).body == OLD
    asked = (get(first, "f", tenant), put(first, "f", b"lost", tenant))
    for answer in await asyncio.gather(*asked):
        assert answer.status in {503, 504}
    assert (await put(second, "f", NEW, tenant)).status == 200
    mend()

    assert await finished(held, upload[len(upload) // 2 :]) in {503, 504, 408, None}
    write = f"{tenant}/api/v1/write?handle_id={handle['handle_id']}&offset=0"
    asked = (
        ask(first, "POST", write, b"late"),
        put(first, "f", b"late", tenant),
        get(first, "f", tenant),
    )
    for answer in await asyncio.gather(*asked):
        assert answer.status in {503, 504}
    assert (await get(second, "f", tenant)).body == NEW
    assert (await get(second, "g", tenant)).status == 404


async def finished(client: WireClient, rest: bytes) -> int | None:
    """The status of the answer; None: the connection ended without one."""
    try:
        await client.send(rest)
        return (await asyncio.wait_for(client.response(), _DEADLINE_S)).status
    except (ConnectionError, asyncio.IncompleteReadError):
        return None
    finally:
        await client.close()
