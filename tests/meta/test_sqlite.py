"""The meta store in SQLite does what every one must, also between processes."""

import asyncio
import contextlib
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from fs9.clock import ManualClock
from fs9.errors import AlreadyExists, BackendUnavailable, Transient
from fs9.meta import sqlite as sqlite_store
from fs9.meta.sqlite import SqliteStore
from fs9.threads import BlockingPool
from tests.meta.feed_suite import FeedSuite
from tests.meta.store_suite import MOUNTS, NOW_S, StoreSuite, event, token

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
async def open_store(tmp_path, clock, pool):
    async with contextlib.AsyncExitStack() as stack:

        async def open_store():
            store = await SqliteStore.open(tmp_path / "meta.db", clock, pool)
            stack.push_async_callback(store.aclose)
            return store

        yield open_store


@pytest.fixture
async def store(open_store):
    return await open_store()


class TestSqlite(StoreSuite, FeedSuite):
    pass


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


ROUNDS = 60


def _use(path: Path, number: int, start: object, results: object) -> None:
    """One of many workers: parallel calls of every kind, and what it saw of the feed."""

    async def use() -> tuple[int, int]:
        pool = BlockingPool(2)
        store = await SqliteStore.open(path, ManualClock(NOW_S), pool)
        last_id, seen = 0, 0
        for n in range(ROUNDS):
            _, page, *_ = await asyncio.gather(
                store.revoke([token(f"{number}-{n}")]),
                store.changes_since(last_id),
                store.append_events(f"own-{number}", [event(n + 1)]),
                store.namespace("default"),
                store.last_event("default"),
            )
            last_id, seen = page.last_id, seen + len(page.revocations)
        await store.aclose()
        pool.shutdown()
        return last_id, seen

    start.wait()
    results.put(asyncio.run(use()))


async def test_thousands_of_calls_of_many_processes(open_store, tmp_path):
    """Eight processes call at once; nothing is lost, nothing fails, the feed has no gap."""
    store = await open_store()
    for name in ("default", *(f"own-{number}" for number in range(PROCESSES))):
        await store.create_namespace(name, "root", ())
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(PROCESSES), context.Queue()
    processes = [
        context.Process(target=_use, args=(tmp_path / "meta.db", number, start, results))
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    everything = PROCESSES * ROUNDS
    for last_id, seen in [results.get(timeout=120) for _ in processes]:
        # The ids before are those of the namespaces; each later one was seen once.
        assert seen == max(0, last_id - PROCESSES - 1)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    revocations = (await store.changes_since(0)).revocations
    first = PROCESSES + 2
    assert [r.id for r in revocations] == [*range(first, first + everything)]
    for number in range(PROCESSES):
        last = await store.last_event(f"own-{number}")
        assert last is not None
        assert (last.sequence, last.previous) == (ROUNDS, f"d{ROUNDS - 1}")
