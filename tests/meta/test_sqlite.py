"""The meta store keeps namespaces and mounts, over restarts and between processes."""

import asyncio
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from fs9.clock import ManualClock
from fs9.errors import (
    AlreadyExists,
    BackendUnavailable,
    InvalidArgument,
    NotFound,
    Transient,
)
from fs9.meta import sqlite as sqlite_store
from fs9.meta.models import NamespaceRecord
from fs9.meta.sqlite import SqliteStore
from fs9.threads import BlockingPool
from fs9.types import MountSpec

MOUNTS = (MountSpec("/", "memfs"), MountSpec("/a", "x", {"n": [1, 2.5, None, {"ü": "\0'\""}]}))
NOW_S = 1_800_000_000
PROCESSES = 8


@pytest.fixture
def pool():
    pool = BlockingPool(4)
    yield pool
    pool.shutdown()


@pytest.fixture
def clock():
    return ManualClock(NOW_S)


@pytest.fixture
async def store(tmp_path, clock, pool):
    store = await SqliteStore.open(tmp_path / "meta.db", clock, pool)
    yield store
    await store.aclose()


async def test_a_namespace_is_kept_with_its_mounts(store, tmp_path, clock, pool):
    """What was created is there after a restart, as it was."""
    created = await store.create_namespace("acme", "alice", MOUNTS)
    assert created == NamespaceRecord("acme", "active", NOW_S, "alice", MOUNTS)
    again = await SqliteStore.open(tmp_path / "meta.db", clock, pool)
    assert await again.namespace("acme") == created
    await again.aclose()


async def test_mounts_are_sorted_by_path(store):
    """Whatever the order in which they were given."""
    record = await store.create_namespace("acme", "alice", tuple(reversed(MOUNTS)))
    assert record.mounts == MOUNTS == (await store.namespace("acme")).mounts


async def test_a_name_is_taken_once(store):
    """The second creation is refused in the contract's words and changes nothing."""
    first = await store.create_namespace("acme", "alice", MOUNTS)
    with pytest.raises(AlreadyExists) as caught:
        await store.create_namespace("acme", "bob", ())
    assert caught.value.detail == "Namespace 'acme' already exists"
    assert await store.namespace("acme") == first


async def test_an_unknown_namespace_is_not_found(store):
    """The text is the contract's."""
    with pytest.raises(NotFound) as caught:
        await store.namespace("nobody")
    assert caught.value.detail == "Namespace 'nobody' not found"


async def test_a_bad_name_is_refused(store):
    """The store holds no name that a token could not carry."""
    for create in (store.create_namespace, store.ensure_namespace):
        with pytest.raises(InvalidArgument):
            await create("Bad", "alice", ())
    assert await store.namespaces() == []


async def test_all_namespaces_are_listed_by_name(store):
    """Sorted, each with its own mounts."""
    for name in ("b", "a", "c"):
        await store.create_namespace(name, "alice", (MountSpec(f"/{name}", "memfs"),))
    records = await store.namespaces()
    assert [(r.name, r.mounts[0].path) for r in records] == [("a", "/a"), ("b", "/b"), ("c", "/c")]


async def test_ensuring_makes_it_so(store, clock):
    """Created when missing, its mounts replaced when they differ, else left alone."""
    first = await store.ensure_namespace("default", "system", MOUNTS)
    clock.advance(5)
    assert await store.ensure_namespace("default", "other", MOUNTS) == first
    changed = await store.ensure_namespace("default", "system", MOUNTS[:1])
    assert changed == NamespaceRecord("default", "active", NOW_S, "system", MOUNTS[:1])
    assert await store.namespace("default") == changed
    assert (await store.ensure_namespace("default", "system", ())).mounts == ()


async def test_a_failed_creation_leaves_nothing(store):
    """One transaction: when a mount cannot be kept, there is no namespace either."""
    twice = (MountSpec("/", "memfs"), MountSpec("/", "memfs"))
    with pytest.raises(BackendUnavailable):
        await store.create_namespace("acme", "alice", twice)
    assert await store.namespaces() == []
    await store.create_namespace("acme", "alice", MOUNTS)


async def test_a_deleted_name_can_be_used_again(store, tmp_path):
    """Names are unique among what is not deleted."""
    await store.create_namespace("acme", "alice", MOUNTS)
    other = sqlite3.connect(tmp_path / "meta.db")
    other.execute("UPDATE namespaces SET deleted_at = 1")
    other.commit()
    other.close()
    with pytest.raises(NotFound):
        await store.namespace("acme")
    assert (await store.create_namespace("acme", "bob", ())).created_by == "bob"
    assert len(await store.namespaces()) == 1


async def test_parallel_calls_of_one_process(store):
    """Exactly one of many parallel creations of a name succeeds."""
    calls = (store.create_namespace("acme", f"user{n}", MOUNTS) for n in range(16))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, NamespaceRecord) for result in results) == 1
    assert sum(isinstance(result, AlreadyExists) for result in results) == 15


async def test_a_busy_database_is_transient(store, tmp_path, clock, pool, monkeypatch):
    """A lock that another process keeps too long is an error that may be tried again."""
    monkeypatch.setattr(sqlite_store, "BUSY_TIMEOUT_S", 0.01)
    impatient = await SqliteStore.open(tmp_path / "meta.db", clock, pool)
    other = sqlite3.connect(tmp_path / "meta.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Transient):
        await impatient.create_namespace("acme", "alice", ())
    other.execute("ROLLBACK")
    other.close()
    assert (await impatient.create_namespace("acme", "alice", ())).name == "acme"
    await impatient.aclose()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("INSERT INTO migrations VALUES (99, 'x', 0)", "written by a newer one"),
        ("UPDATE migrations SET checksum = 'x'", "made by other statements"),
    ],
)
async def test_a_foreign_schema_is_refused(tmp_path, clock, pool, statement, reason):
    """A database of a newer or a changed program is not touched."""
    path = tmp_path / "meta.db"
    await (await SqliteStore.open(path, clock, pool)).aclose()
    with sqlite3.connect(path) as other:
        other.execute(statement)
    other.close()
    with pytest.raises(BackendUnavailable, match=reason):
        await SqliteStore.open(path, clock, pool)


async def test_a_file_that_is_no_database_is_refused(tmp_path, clock, pool):
    """It is not overwritten either."""
    path = tmp_path / "meta.db"
    path.write_bytes(b"precious data" * 100)
    with pytest.raises(BackendUnavailable):
        await SqliteStore.open(path, clock, pool)
    assert path.read_bytes() == b"precious data" * 100
    with pytest.raises(BackendUnavailable, match="cannot open"):
        await SqliteStore.open(tmp_path / "missing" / "meta.db", clock, pool)


def _work(path: Path, number: int, start: object, results: object) -> None:
    """One of many processes: opens the store for the first time and creates namespaces."""

    async def work() -> list[str]:
        pool = BlockingPool(2)
        store = await SqliteStore.open(path, ManualClock(NOW_S), pool)
        await store.ensure_namespace("default", "system", MOUNTS)
        won = []
        for name in ("shared-1", "shared-2", f"own-{number}"):
            try:
                await store.create_namespace(name, f"p{number}", MOUNTS)
                won.append(name)
            except AlreadyExists:
                pass
        await store.aclose()
        pool.shutdown()
        return won

    start.wait()
    results.put(asyncio.run(work()))


async def test_many_processes_open_it_at_the_same_time(tmp_path, clock, pool):
    """Eight processes make the database together; each creation succeeds exactly once."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(PROCESSES), context.Queue()
    path = tmp_path / "meta.db"
    processes = [
        context.Process(target=_work, args=(path, number, start, results))
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    won = [name for _ in processes for name in results.get(timeout=60)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    own = [f"own-{number}" for number in range(PROCESSES)]
    assert sorted(won) == sorted(["shared-1", "shared-2", *own])
    store = await SqliteStore.open(path, clock, pool)
    names = [record.name for record in await store.namespaces()]
    assert sorted(names) == sorted([*won, "default"])
    await store.aclose()
