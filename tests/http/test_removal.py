"""fs9.removal: of a deleted namespace nothing stays in databases and buckets of other hosts.

What it keeps below the data directory is in `tests/http/test_mounts.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import TYPE_CHECKING, Any

import obstore
import psycopg
import pytest
from obstore.store import S3Store

from fs9.clock import ManualClock
from fs9.meta.announce import Revoked
from fs9.removal import interval_s
from fs9.types import MountSpec
from tests.fix_http import StartServer, new_tenant, token
from tests.http.calls import get, put

if TYPE_CHECKING:
    from fs9.meta.models import NamespaceRecord, Revocation
    from tests.fix_postgres import PostgresServer
    from tests.fix_s3 import S3Server

_prefixes = itertools.count()
_TABLES = ("pagefs_spaces", "pagefs_items", "pagefs_batches")


@pytest.fixture(scope="module")
def module_dsn(postgres: PostgresServer) -> str:
    return postgres.new_database()


class Kept:
    """What is in a database and below a prefix of a bucket, whatever it is."""

    def __init__(self, dsn: str | None, bucket: S3Store | None, prefix: str) -> None:
        self._dsn, self._bucket, self._prefix = dsn, bucket, prefix

    def rows(self) -> dict[str, int]:
        if self._dsn is None:
            return {}
        with psycopg.connect(self._dsn) as connection:
            made = connection.execute("SELECT to_regclass('pagefs_spaces')").fetchone()
            if made == (None,):
                return dict.fromkeys(_TABLES, 0)
            counts = [
                connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
                for table in _TABLES
            ]
        return {
            name: count[0] for name, count in zip(_TABLES, counts, strict=True) if count is not None
        }

    def objects(self) -> list[str]:
        if self._bucket is None:
            return []
        listed = obstore.list(self._bucket, prefix=self._prefix)
        return [each["path"] for page in listed for each in page]


@pytest.fixture(params=["postgres", "postgres and S3", "SlateDB"])
def place(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], Kept]:
    """A backend of pagefs, and a look at it."""
    dsn = request.getfixturevalue("module_dsn") if "postgres" in request.param else None
    prefix, bucket, blocks = f"removal/{next(_prefixes)}", None, {"type": "inline"}
    if request.param != "postgres":
        s3: S3Server = request.getfixturevalue("s3")
        name = request.getfixturevalue("s3_bucket")
        for variable, value in s3.environ.items():
            monkeypatch.setenv(variable, value)
        bucket = S3Store(name, config=s3.settings, client_options={"allow_http": True})
        blocks = {"type": "s3", "bucket": name, "prefix": prefix}
    backend = {"type": "postgres", "dsn": dsn, "blocks": blocks}
    if dsn is None:
        backend = {"type": "slatedb", "bucket": blocks["bucket"], "prefix": prefix}
    return backend, Kept(dsn, bucket, prefix)


async def test_what_is_on_other_hosts_is_removed_after_the_retention(
    start_server: StartServer, place: tuple[dict[str, Any], Kept]
) -> None:
    """Rows and objects, of this namespace alone; not before, and its name finds nothing."""
    backend, kept = place
    clock = ManualClock(1_800_000_000)
    template = (MountSpec("/", "pagefs", {"backend": backend}),)
    server = await start_server(auth=True, template=template, clock=clock)
    assert server.context is not None
    services = server.context.services
    admin = server.client(token=token("default", "admin", clock=clock, exp=2**33))
    name, other = new_tenant(), new_tenant()
    before = kept.rows(), kept.objects()
    for each in (other, name):
        assert (await admin.post("namespaces", json={"name": each})).status_code == 201
        client = server.client(token=token(each, "operator", clock=clock))
        for path in ("/a", "/b"):
            await put(client, path, os.urandom(100_000))
        if each == other:
            await put(client, "/kept", b"kept")
            with_other = kept.rows(), kept.objects()
    assert (await admin.delete(f"namespaces/{name}")).status_code == 200
    clock.advance(services.settings.namespace_retention_s - 5)
    assert await services.removal.due(lambda _: True) == 0
    assert (kept.rows(), kept.objects()) != with_other
    clock.advance(10)
    assert await services.removal.due(lambda _: True) == 1
    assert await services.store.deleted_namespaces(2**33) == []
    assert kept.rows() == with_other[0]
    assert [each for each in kept.objects() if f"/{name}/" in each] == []
    api = server.client(token=token(other, clock=clock))
    assert (await get(api, "/kept")).content == b"kept"
    assert (await admin.post("namespaces", json={"name": name})).status_code == 201
    api = server.client(token=token(name, clock=clock))
    assert (await api.get("readdir", params={"path": "/"})).json() == []
    # And all of it, at once.
    clock.advance(1)
    for each in (name, other):
        assert (await admin.delete(f"namespaces/{each}?purge=1")).json()["purged"] is True
    assert (kept.rows(), kept.objects()) == before


async def test_a_purge_tells_all_workers_also_when_the_caller_has_gone(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else old tokens would open the next namespace of the name, until the others have a look."""
    server = await start_server(auth=True)
    assert server.context is not None
    services, name = server.context.services, new_tenant()
    admin = server.client(token=token("default", "admin"))
    assert (await admin.post("namespaces", json={"name": name})).status_code == 201
    removing, goes_on, told = asyncio.Event(), asyncio.Event(), asyncio.Event()
    remove = services.removal.remove

    async def slowly(record: NamespaceRecord) -> list[Revocation]:
        removing.set()
        await goes_on.wait()
        return await remove(record)

    async def tell(change: object) -> bool:
        if isinstance(change, Revoked):
            told.set()
        return True

    monkeypatch.setattr(services.removal, "remove", slowly)
    services.announce = tell
    call = asyncio.create_task(admin.delete(f"namespaces/{name}?purge=1"))
    await removing.wait()
    call.cancel()
    await asyncio.wait([call])
    goes_on.set()
    await asyncio.wait_for(told.wait(), 30)


@pytest.mark.parametrize(
    ("retention_s", "expected_s"), [(0, 1), (5, 1), (600, 60), (7 * 86_400, 600)]
)
def test_what_is_kept_for_a_short_time_is_looked_for_often(
    retention_s: int, expected_s: float
) -> None:
    assert interval_s(retention_s) == expected_s
