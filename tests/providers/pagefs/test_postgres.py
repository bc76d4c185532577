"""The PostgreSQL store keeps the contract, fences, and survives the server and the network."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import psycopg
import pytest

from fs9.clock import ManualClock, SystemClock
from fs9.errors import BackendUnavailable, Internal, InvalidArgument, OwnerUnavailable, Transient
from fs9.providers.pagefs import pgstore
from fs9.providers.pagefs.store import Batch, ChecksFailed
from tests.fault_proxy import FaultProxy
from tests.providers.pagefs.store_suite import END, MetaStoreSuite, OpenStore

if TYPE_CHECKING:
    from fs9.providers.pagefs.pgstore import PostgresStore
    from tests.fix_postgres import PostgresServer

_numbers = itertools.count()


@pytest.fixture(scope="module")
def module_dsn(postgres: PostgresServer) -> str:
    """One database for the module: each test has a space of its own."""
    return postgres.new_database()


@pytest.fixture
def name() -> str:
    return f"space {next(_numbers)}"


async def open_one(
    dsn: str, name: str, holder: str = "a", *, lease_s=30.0, wait_s=0.0, clock=None, timeout_s=20.0
) -> PostgresStore:
    clock = clock or SystemClock()
    limits = {"lease_s": lease_s, "wait_s": wait_s, "timeout_s": timeout_s}
    return await pgstore.open_store(dsn, name, holder, clock, **limits)


class TestPostgresStore(MetaStoreSuite):
    @pytest.fixture
    def open_store(self, module_dsn: str, name: str) -> OpenStore:
        async def open_store() -> PostgresStore:
            return await open_one(module_dsn, name)

        return open_store


async def test_damaged_rows_are_errors(postgres: PostgresServer) -> None:
    """A flipped bit and a row under another key, of one get, a scan, a snapshot."""
    dsn = postgres.new_database()
    store = await open_one(dsn, "s")
    await store.commit(Batch({b"a": b"1", b"b": b"2", b"c": b""}))
    assert await store.scan(b"a", b"z", 9) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"")]
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(
            "UPDATE pagefs_items SET value = set_byte(value, 0, get_byte(value, 0) # 1)"
            " WHERE key = 'a'"
        )
        await connection.execute(
            "UPDATE pagefs_items SET value = (SELECT value FROM pagefs_items WHERE key = 'b')"
            " WHERE key = 'c'"
        )
    snapshot = await store.snapshot()
    for read in (store.get, snapshot.get):
        assert await read(b"b") == b"2"
        for key in (b"a", b"c"):
            with pytest.raises(Internal, match="a checksum does not match"):
                await read(key)
    for scan in (store.scan, snapshot.scan):
        with pytest.raises(Internal, match="a checksum does not match"):
            await scan(b"b", b"z", 9)
    await snapshot.aclose()
    await store.aclose()


async def test_a_space_of_an_earlier_version_goes_on_without_checksums(
    postgres: PostgresServer,
) -> None:
    """Beside new ones in the same database, which have them."""
    dsn = postgres.new_database()
    await (await open_one(dsn, "made")).aclose()
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("ALTER TABLE pagefs_spaces DROP COLUMN sealed")
        await connection.execute("UPDATE pagefs_spaces SET name = 'old'")
        await connection.execute(
            "INSERT INTO pagefs_items SELECT id, 'a', 'old' FROM pagefs_spaces"
        )
        for _ in range(2):
            old, new = await open_one(dsn, "old"), await open_one(dsn, "new")
            assert await old.get(b"a") == b"old"
            for store in (old, new):
                await store.commit(Batch({b"b": b"1"}))
                await store.commit(Batch({b"b": b"2"}, {b"b": b"1"}))
                with pytest.raises(ChecksFailed):
                    await store.commit(Batch({b"b": b"3"}, {b"b": b"1"}))
                assert await store.scan(b"b", b"z", 9) == [(b"b", b"2")]
                await store.aclose()
        cursor = await connection.execute("SELECT octet_length(value) FROM pagefs_items ORDER BY 1")
        assert await cursor.fetchall() == [(1,), (3,), (5,)]


async def test_another_host_waits_for_the_lease(module_dsn: str, name: str) -> None:
    """It is refused while the lease holds, and gets it when it is let go or over."""
    first = await open_one(module_dsn, name, "one")
    with pytest.raises(OwnerUnavailable):
        await open_one(module_dsn, name, "two")
    same_host = await open_one(module_dsn, name, "one")
    await first.aclose()  # it is not the holder any more, so this lets nothing go
    with pytest.raises(OwnerUnavailable):
        await open_one(module_dsn, name, "two", wait_s=0.3)
    await same_host.commit(Batch({b"a": b"1"}))
    waiting = asyncio.create_task(open_one(module_dsn, name, "two", wait_s=30))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await same_host.aclose()
    second = await waiting
    assert await second.get(b"a") == b"1"
    await second.aclose()


async def test_a_lease_is_renewed_while_the_store_is_open(module_dsn: str, name: str) -> None:
    """Many times its length later another host still waits."""
    store = await open_one(module_dsn, name, "one", lease_s=1.0)
    with pytest.raises(OwnerUnavailable):
        await open_one(module_dsn, name, "two", wait_s=2.5)
    await store.commit(Batch({b"a": b"1"}))
    await store.aclose()


async def test_a_writer_that_slept_through_its_lease(module_dsn: str, name: str) -> None:
    """It neither commits nor answers from what it knows, and says once that it has lost."""
    clock = ManualClock()
    old = await open_one(module_dsn, name, "one", lease_s=0.2, clock=clock)
    pgstore._renewals(old._connections).held.clear()  # as if the process were stopped
    lost = []
    old.when_lost(lambda: lost.append(1))
    await old.commit(Batch({b"a": b"1"}))
    new = await open_one(module_dsn, name, "two", wait_s=30)
    await new.commit(Batch({b"a": b"2"}))
    clock.advance(60)
    with pytest.raises(OwnerUnavailable):
        await old.get(b"a")
    with pytest.raises(OwnerUnavailable):
        await old.commit(Batch({b"a": b"3"}))
    await asyncio.sleep(0)
    assert lost == [1]
    assert await new.get(b"a") == b"2"
    for store in (old, new):
        await store.aclose()


async def test_the_epoch_keeps_out_who_believes_to_hold_the_lease(
    module_dsn: str, name: str
) -> None:
    """A clock that stands still does not let an old writer commit."""
    old = await open_one(module_dsn, name, "one", lease_s=0.2, clock=ManualClock())
    pgstore._renewals(old._connections).held.clear()
    new = await open_one(module_dsn, name, "two", wait_s=30)
    assert not old.lease.over
    with pytest.raises(OwnerUnavailable):
        await old.commit(Batch({b"a": b"3"}))
    assert await new.get(b"a") is None
    for store in (old, new):
        await store.aclose()


async def test_a_batch_that_is_sent_twice_is_applied_once(module_dsn: str, name: str) -> None:
    """The connection breaks before the answer: the call goes on, checks and all."""
    port = int(psycopg.conninfo.conninfo_to_dict(module_dsn)["port"])
    async with FaultProxy(port) as proxy:
        store = await open_one(module_dsn.replace(f":{port}/", f":{proxy.port}/"), name)
        for number in range(20):
            before = None if number == 0 else b"%d" % (number - 1)
            commit = asyncio.create_task(
                store.commit(Batch({b"n": b"%d" % number}, {b"n": before}))
            )
            await asyncio.sleep(0.0005 * number)
            proxy.set("pass")  # ends the connections, wherever the call is
            await commit
            assert await store.get(b"n") == b"%d" % number
        await store.aclose()


async def test_a_batch_that_may_yet_arrive_is_not_forgotten(
    module_dsn: str, name: str, monkeypatch
) -> None:
    """Sent twice, the second time refused as busy: the first may still be at it."""
    store = await open_one(module_dsn, name)
    await store.commit(Batch({b"a": b"1"}))
    run = store._connections.run

    async def busy(sql, values=(), attempt=None):
        attempt.sent += 2
        raise Transient("busy")

    monkeypatch.setattr(store._connections, "run", busy)
    with pytest.raises(Transient):
        await store.commit(Batch({b"a": b"2"}))
    monkeypatch.setattr(store._connections, "run", run)
    with pytest.raises(OwnerUnavailable):
        await store.commit(Batch({b"a": b"3"}))
    await store.aclose()


async def test_a_busy_database_changes_nothing(module_dsn: str, name: str) -> None:
    """A commit that waits too long for a lock is an error, and the next one is as ever."""
    store = await open_one(module_dsn, name, timeout_s=2.0)
    await store.commit(Batch({b"a": b"1"}))
    async with await psycopg.AsyncConnection.connect(module_dsn) as connection:
        await connection.execute("SELECT * FROM pagefs_spaces FOR UPDATE")
        with pytest.raises(Transient):
            await store.commit(Batch({b"a": b"2"}))
    assert await store.get(b"a") == b"1"
    await store.commit(Batch({b"a": b"3"}))
    await store.aclose()


@pytest.mark.parametrize("changing", [False, True], ids=["get", "commit"])
async def test_a_partition_is_an_error_by_the_deadline(
    module_dsn: str, name: str, changing: bool
) -> None:
    """What became of a change is not guessed: all is loaded anew. Else it goes on afterwards."""
    port = int(psycopg.conninfo.conninfo_to_dict(module_dsn)["port"])
    async with FaultProxy(port) as proxy:
        dsn = module_dsn.replace(f":{port}/", f":{proxy.port}/")
        store = await open_one(dsn, name, timeout_s=2.0)
        await store.commit(Batch({b"a": b"1"}))
        proxy.set("silent", keep=True)
        with pytest.raises(BackendUnavailable):
            await (store.commit(Batch({b"a": b"2"})) if changing else store.get(b"a"))
        proxy.set("pass")
        if changing:
            with pytest.raises(OwnerUnavailable):
                await store.get(b"a")
        else:
            assert await store.get(b"a") == b"1"
            await store.commit(Batch({b"a": b"2"}))
        await store.aclose()
    again = await open_one(module_dsn, name)
    assert await again.get(b"a") in {b"1", b"2"}
    await again.aclose()


async def test_a_restart_of_the_server_loses_nothing(postgres: PostgresServer) -> None:
    """Stopped as in a crash while batches are committed: each is there, or was an error."""
    store = await open_one(postgres.new_database(), "x")
    begun = asyncio.Event()

    async def write() -> None:
        for number in range(300):
            await store.commit(Batch({b"%04d" % number: b""}))
            if number == 30:
                begun.set()

    writing = asyncio.create_task(write())
    await begun.wait()
    await asyncio.to_thread(postgres.stop, "immediate")
    await asyncio.to_thread(postgres.start)
    await writing
    assert [int(key) for key, _ in await store.scan(b"", END, 1000)] == list(range(300))
    await store.aclose()


async def test_a_database_with_another_history_is_noticed(module_dsn: str, name: str) -> None:
    """As after a restore of an old copy: no commit on top of what is not there any more."""
    store = await open_one(module_dsn, name)
    await store.commit(Batch({b"a": b"1"}))
    await store.commit(Batch({b"a": b"2"}))
    async with await psycopg.AsyncConnection.connect(module_dsn, autocommit=True) as connection:
        await connection.execute("UPDATE pagefs_spaces SET number = 1 WHERE name = %s", (name,))
    with pytest.raises(OwnerUnavailable, match="history"):
        await store.commit(Batch({b"a": b"3"}))
    await store.aclose()


async def test_a_cancelled_commit_is_over_when_it_is_cancelled(module_dsn: str, name: str) -> None:
    store = await open_one(module_dsn, name)
    for number in range(10):
        task = asyncio.create_task(store.commit(Batch({b"n": b"%d" % number})))
        await asyncio.sleep(0.0003 * number)
        task.cancel()
        await asyncio.wait([task])
        found = await store.get(b"n")
        await store.commit(Batch({b"other": b""}, {b"n": found}))
    with pytest.raises(ChecksFailed):
        await store.commit(Batch({}, {b"n": b"never"}))
    await store.aclose()


async def test_a_dsn_that_is_none_is_refused() -> None:
    """Without showing it: there may be a password in it."""
    with pytest.raises(InvalidArgument) as caught:
        await open_one("postgresql://user:secret word@", "x")
    assert "secret" not in str(caught.value)
