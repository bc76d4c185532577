"""The meta store in PostgreSQL does what every one must, and outlives its server's troubles."""

import asyncio
import contextlib
import signal

import psycopg
import pytest
import uvloop

from fs9.clock import ManualClock
from fs9.errors import BackendUnavailable, Fs9Error, InvalidArgument, Transient
from fs9.meta.postgres import PostgresStore
from tests.fix_postgres import PostgresServer
from tests.meta.feed_suite import FeedSuite
from tests.meta.store_suite import MOUNTS, NOW_S, StoreSuite, token

TIMEOUT_S = 60.0
#: Where a test waits for the deadline of a call.
SHORT_S = 2.0


@pytest.fixture
def clock():
    return ManualClock(NOW_S)


@pytest.fixture
async def open_store(postgres_dsn, clock):
    async with contextlib.AsyncExitStack() as stack:

        async def open_store(timeout_s=TIMEOUT_S):
            store = await PostgresStore.open(
                postgres_dsn, clock, connections_max=4, timeout_s=timeout_s
            )
            stack.push_async_callback(store.aclose)
            return store

        yield open_store


@pytest.fixture
async def store(open_store):
    return await open_store()


@pytest.fixture
def own_server(postgres):
    """A server that a test may ill-treat."""
    server = PostgresServer(postgres.programs)
    server.start()
    yield server
    server.remove()


class TestPostgres(StoreSuite, FeedSuite):
    pass


async def reached(items, count):
    """Returns when there are so many of them."""
    while len(items) < count:  # noqa: ASYNC110  a plain collection, filled by many
        await asyncio.sleep(0.01)


async def works_again(store):
    """Calls succeed again, sooner or later."""
    while True:
        try:
            await store.ping()
            return
        except (BackendUnavailable, Transient):
            await asyncio.sleep(0.05)


async def test_the_server_is_restarted(own_server):
    """No call notices: those dead connections that the pool still has are replaced."""
    store = await PostgresStore.open(own_server.dsn(), ManualClock(NOW_S), connections_max=4)
    await store.create_namespace("acme", "root", MOUNTS)
    await asyncio.gather(*(store.ping() for _ in range(20)))  # several connections
    own_server.stop()
    own_server.start()
    await asyncio.gather(*(store.namespace("acme") for _ in range(20)))
    own_server.stop()
    own_server.start()
    await asyncio.gather(*(store.revoke([token(f"t{n}")]) for n in range(20)))
    assert await store.last_change() == 21
    await store.aclose()


async def test_one_whose_connection_ends_listens_again(store, postgres_dsn):
    """And what was committed meanwhile is told, too."""
    waiting = asyncio.create_task(store.wait_change(0, 300))
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        killed = 0
        while not killed:
            cursor = await admin.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query LIKE 'SELECT last_id%'"
                " AND pid <> pg_backend_pid()"
            )
            ((killed,),) = await cursor.fetchall()
    await store.revoke([token("t")])
    assert await asyncio.wait_for(waiting, 60)


async def test_the_server_is_killed_among_calls(own_server):
    """Calls fail with an error that may be tried again; what was acknowledged is kept."""
    store = await PostgresStore.open(
        own_server.dsn(), ManualClock(NOW_S), connections_max=4, timeout_s=SHORT_S
    )
    kept, failed, over = set(), [], asyncio.Event()

    async def write(number):
        n = 0
        while not over.is_set():
            n += 1
            try:
                await store.revoke([token(f"{number}-{n}")])
            except Fs9Error as error:
                failed.append(error)
                await asyncio.sleep(0.05)
            else:
                kept.add(f"{number}-{n}")

    writers = [asyncio.create_task(write(number)) for number in range(6)]
    await reached(kept, 50)
    own_server.signal(signal.SIGKILL)
    await reached(failed, 6)
    with pytest.raises((BackendUnavailable, Transient)):
        await store.ping()
    before = len(kept)
    await asyncio.to_thread(own_server.start)
    await works_again(store)
    await reached(kept, before + 50)
    over.set()
    await asyncio.gather(*writers)
    assert {type(error) for error in failed} <= {BackendUnavailable, Transient}
    there = {r.subject for r in (await store.changes_since(0)).revocations}
    assert there >= kept
    await store.aclose()


async def test_a_server_that_hangs_has_a_deadline(own_server):
    """Whatever the call waits for, it ends; and calls work once the server goes on."""
    store = await PostgresStore.open(
        own_server.dsn(), ManualClock(NOW_S), connections_max=2, timeout_s=SHORT_S
    )
    own_server.signal(signal.SIGSTOP)
    try:
        calls = (store.revoke([token(f"t{n}")]) for n in range(6))
        async with asyncio.timeout(60):
            results = await asyncio.gather(*calls, store.ping(), return_exceptions=True)
    finally:
        own_server.signal(signal.SIGCONT)
    assert {type(result) for result in results} == {BackendUnavailable}
    await works_again(store)
    await store.aclose()


async def test_a_lock_kept_too_long_is_transient(open_store, postgres_dsn):
    """The server gives up before the deadline of the call."""
    store = await open_store(SHORT_S)
    other = await psycopg.AsyncConnection.connect(postgres_dsn)
    await other.execute("UPDATE change_counter SET last_id = last_id")
    with pytest.raises(Transient):
        await store.revoke([token("t")])
    await other.close()
    assert (await store.revoke([token("t")]))[0].id == 1


async def test_a_cancelled_call_leaves_no_broken_connection(store):
    """The call goes on to its end; the pool is as before."""
    for _ in range(10):
        calls = [asyncio.create_task(store.revoke([token(f"t{n}")])) for n in range(4)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    await store.revoke([token("last")])
    assert {r.subject for r in (await store.changes_since(0)).revocations} >= {"last"}


async def test_many_open_an_empty_database_at_the_same_time(open_store):
    """One makes the tables, the others wait for it."""
    stores = await asyncio.gather(*(open_store() for _ in range(6)))
    await asyncio.gather(*(s.ensure_namespace("default", "root", MOUNTS) for s in stores))
    assert len(await stores[0].namespaces()) == 1


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("INSERT INTO migrations VALUES (99, 'x', 0)", "written by a newer one"),
        ("UPDATE migrations SET checksum = 'x'", "made by other statements"),
    ],
)
async def test_a_foreign_schema_is_refused(open_store, postgres_dsn, statement, reason):
    """A database of a newer or a changed program is not touched."""
    await open_store()
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as other:
        await other.execute(statement)
    with pytest.raises(BackendUnavailable, match=reason):
        await open_store()


async def test_no_server_is_an_error_that_does_not_tell_the_password(clock):
    """Nor does a DSN that cannot be read."""
    for dsn in ("postgresql://u:s3cret@127.0.0.1:1/x", "postgresql://u:s3cret@[bad/x"):
        with pytest.raises(BackendUnavailable) as caught:
            await PostgresStore.open(dsn, clock, timeout_s=1)
        assert "s3cret" not in str(caught.value)


async def test_times_and_json_are_kept_in_their_own_types(store, postgres_dsn):
    """Others who look into the database see times and documents."""
    await store.create_namespace("acme", "root", MOUNTS)
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as other:
        query = "SELECT extract(epoch FROM created_at)::int, quota FROM namespaces"
        assert await (await other.execute(query)).fetchone() == (NOW_S, {})


async def test_values_are_never_part_of_the_statement(store):
    """Quotes, semicolons and percent signs are data."""
    nasty = "'; DROP TABLE users; -- %s %(x)s {now} ?"
    user = await store.create_user(nasty, password_hash=nasty, email=nasty)
    assert await store.user_named(nasty) == user
    with pytest.raises(InvalidArgument):
        await store.user_named("\0")


def test_under_the_loop_of_the_workers(postgres_dsn):
    """uvloop, with parallel calls."""

    async def use():
        store = await PostgresStore.open(
            postgres_dsn, ManualClock(NOW_S), connections_max=4, timeout_s=TIMEOUT_S
        )
        await asyncio.gather(*(store.revoke([token(f"t{n}")]) for n in range(50)))
        changes = await store.changes_since(0)
        await store.aclose()
        return [revocation.id for revocation in changes.revocations]

    assert uvloop.run(use()) == [*range(1, 51)]


async def test_an_outage_does_not_pile_up_callers(own_server):
    """After a call that found no connection in all its time the next ones wait for a second."""
    store = await PostgresStore.open(own_server.dsn(), ManualClock(NOW_S), timeout_s=6)
    await store.ping()
    own_server.stop("immediate")
    with pytest.raises(BackendUnavailable):
        await store.ping()
    async with asyncio.timeout(5.5):
        results = await asyncio.gather(*(store.ping() for _ in range(50)), return_exceptions=True)
    assert {type(result) for result in results} == {BackendUnavailable}
    own_server.start()
    await works_again(store)
    await store.aclose()
