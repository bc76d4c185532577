"""A backup is all metadata of one moment, and can be put back into any database."""

import asyncio
import contextlib
import json

import msgspec
import pytest

from fs9.clock import ManualClock
from fs9.errors import Conflict, InvalidArgument
from fs9.meta.backup import backup, restore
from fs9.meta.models import NamespaceQuota
from fs9.meta.postgres import PostgresStore
from fs9.meta.sqlite import SqliteStore
from tests.meta.store_suite import MOUNTS, NOW_S, event, token


@pytest.fixture
async def make_store(tmp_path, pool, postgres):
    """Makes empty stores in either database."""
    clock, count = ManualClock(NOW_S), 0
    async with contextlib.AsyncExitStack() as stack:

        async def make(database, *, same=False):
            nonlocal count
            count += not same
            if database == "sqlite":
                store = await SqliteStore.open(tmp_path / f"{count}.db", clock, pool)
            else:
                dsn = await asyncio.to_thread(postgres.new_database)
                store = await PostgresStore.open(dsn, clock, connections_max=2, timeout_s=60)
            stack.push_async_callback(store.aclose)
            return store

        yield make


async def fill(store):
    """Something of everything."""
    quota = NamespaceQuota(bytes_max=2**60)
    old = await store.create_namespace("acme", "root", ())
    await store.set_status("acme", "deleted", "root")
    await store.create_namespace("acme", "root", MOUNTS, quota=quota, description="Å\n")
    user = await store.create_user("alice", password_hash="h", email=None)
    await store.grant_role(user.id, "acme", "admin", "root")
    await store.create_api_key(user.id, "acme", "k", ("r",), "digest", NOW_S + 5)
    await store.revoke([token(f"t{n}") for n in range(2100)])
    await store.revoke([token("u", kind="user", namespace="acme", issued_until_s=NOW_S)])
    await store.append_events("acme", [event(n, details={"x": [1.0, "\0"]}) for n in range(1, 4)])
    await store.take_lease("l", "holder", 1000)
    return old


async def lines_of(store):
    return b"".join([lines async for lines in backup(store, NOW_S)]).splitlines(keepends=True)


def rows(lines):
    """What must be the same; databases sort texts and members of documents their own way."""
    records = [json.loads(line) for line in lines[1:-1]]
    own = ("change_counter", "leases")
    return {json.dumps(record, sort_keys=True) for record in records if record[0] not in own}


async def feed(lines):
    for line in lines:
        yield line


@pytest.mark.parametrize(
    ("one", "other"), [("sqlite", "postgres"), ("postgres", "sqlite"), ("sqlite", "sqlite")]
)
async def test_everything_comes_back(make_store, one, other):
    """In the same and in the other database; numbers never given out twice go on higher."""
    source, target = await make_store(one), await make_store(other)
    old = await fill(source)
    lines = await lines_of(source)
    assert await restore(target, feed(lines), force=False) == len(lines) - 2
    assert rows(await lines_of(target)) == rows(lines)
    assert await target.namespace("acme") == await source.namespace("acme")
    assert [r.id for r in await target.deleted_namespaces(NOW_S + 1)] == [old.id]
    assert await target.last_change() > await source.last_change() + 1_000_000
    assert not (await target.changes_since(await source.last_change())).complete
    assert (await target.take_lease("l", "other", 1000)).epoch > 1_000_000
    first, last = await source.changes_since(0), await target.changes_since(0)
    assert last.revocations == first.revocations
    await target.revoke([token("more")])
    await target.append_events("acme", [event(4)])


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_it_is_of_one_moment(make_store, database):
    """What is changed while it is written is not in it, whichever table is read later."""
    store = await make_store(database)
    await fill(store)
    before = (await lines_of(store))[1:]
    other = store if database == "postgres" else await make_store(database, same=True)
    chunks, written = [], False
    async for chunk in backup(store, NOW_S):
        chunks.append(chunk)
        if not written and len(chunks) > 1:
            written = True
            await other.revoke([token("late")])
            await other.create_user("late", password_hash=None, email=None)
    assert written
    assert (await other.user_named("late")).username == "late"
    assert b"".join(chunks).splitlines(keepends=True)[1:] == before


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_a_store_with_metadata_is_not_overwritten(make_store, database):
    """Except by force, and then nothing of it is left."""
    source, target = await make_store("sqlite"), await make_store(database)
    await source.create_namespace("acme", "root", MOUNTS)
    await fill(target)
    lines = await lines_of(source)
    with pytest.raises(Conflict):
        await restore(target, feed(lines), force=False)
    assert await target.users() != []
    await restore(target, feed(lines), force=True)
    assert await target.namespaces() == await source.namespaces()
    assert await target.users() == []
    assert (await target.changes_since(0)).revocations == ()


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_a_damaged_one_changes_nothing(make_store, database):
    """Cut, changed, longer, of another version, or something else."""
    source, target = await make_store("sqlite"), await make_store(database)
    await source.create_namespace("acme", "root", MOUNTS)
    lines = await lines_of(source)
    head = msgspec.json.decode(lines[0])
    head[1]["version"] = 99
    for wrong in (
        lines[:-1],
        [*lines[:-2], lines[-1]],
        [*lines[:-1], lines[-1][:20]],
        [lines[0], lines[1].replace(b"root", b"evil"), *lines[2:]],
        [lines[0], lines[1].replace(b"root", b"r\xb2ot"), *lines[2:]],
        [lines[0], b"[" * 100_000, *lines[1:]],
        [*lines, lines[-1]],
        [msgspec.json.encode(head), *lines[1:]],
        lines[1:],
        [],
        [b"SQLite format 3\0"],
        [lines[0], b'["migrations",{"version":1}]\n'],
        [lines[0], b'["users",{"id":"1"}]\n'],
    ):
        with pytest.raises(InvalidArgument):
            await restore(target, feed(wrong), force=False)
        assert await target.namespaces() == []
    assert await target.last_change() == 0
    await restore(target, feed(lines), force=False)
