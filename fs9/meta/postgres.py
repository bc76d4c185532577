"""The meta store in PostgreSQL, for more than one host.

Each process has a pool of connections. A connection that turns out to be dead when a call begins
(the server was restarted, or another one took over) is replaced, and the call goes on with the new
one. When a call has no answer by its deadline, its connection is cut, so that the caller gets an
error whatever the network does.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import psycopg
from psycopg import errors as sqlstate
from psycopg.adapt import AdaptersMap, Buffer, Dumper, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Format
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from fs9.errors import BackendUnavailable, Fs9Error, InvalidArgument, Transient
from fs9.meta.migrate import migrate
from fs9.meta.schema import POSTGRES_MIGRATIONS
from fs9.meta.sql.query import At, Json, Query, check_values
from fs9.meta.sql.store import SqlStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fs9.clock import Clock
    from fs9.meta.sql.query import Operation, Row
    from fs9.meta.sql.store import Ask

T = TypeVar("T")

Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]

#: Key of the advisory lock under which one process migrates.
_MIGRATING = 0x6673395F6D657461

#: Where each transaction that changes something says so (NOTIFY).
_CHANNEL = "fs9_changes"

#: The server's own deadline comes first, so that it ends what nobody waits for any more.
_STATEMENT_SHARE = 0.5

#: PostgreSQL counts microseconds from the year 2000.
_EPOCH_S = 946_684_800

#: While no connection can be had, so that an outage does not pile up callers.
_PATIENCE_DOWN_S = 1.0

_SECONDS = re.compile(r"\{seconds (\w+)\}")

_BUSY = (
    sqlstate.QueryCanceled,
    sqlstate.LockNotAvailable,
    sqlstate.DeadlockDetected,
    sqlstate.SerializationFailure,
    sqlstate.TooManyConnections,
)


class PostgresStore(SqlStore):
    """`Store` on PostgreSQL; see there for the contracts."""

    def __init__(
        self, clock: Clock, conninfo: str, pool: AsyncConnectionPool[Connection], timeout_s: float
    ) -> None:
        super().__init__(clock)
        self._conninfo = conninfo
        self._pool = pool
        self._timeout_s = timeout_s
        #: How long a call waits for a connection; less once there was none to be had.
        self._patience_s = timeout_s
        #: Calls that run; some after their caller was cancelled.
        self._running: set[asyncio.Task[object]] = set()

    @classmethod
    async def open(
        cls, dsn: str, clock: Clock, *, connections_max: int = 20, timeout_s: float = 10.0
    ) -> PostgresStore:
        """Connect, make or migrate the tables. Raises BackendUnavailable when that cannot be.

        `timeout_s` is the deadline of each call, its wait for a connection included.
        """
        conninfo = _conninfo(dsn, timeout_s)
        pool = AsyncConnectionPool[Connection](
            conninfo,
            kwargs={"autocommit": True, "context": _adapters()},
            min_size=1,
            max_size=connections_max,
            open=False,
            timeout=timeout_s,
            # Not the pool's growing delays: each call that needs a connection asks for one.
            reconnect_timeout=timeout_s / 2,
        )
        store = cls(clock, conninfo, pool, timeout_s)
        await pool.open()
        try:
            await store._migrate()
        except BaseException:
            await store.aclose()
            raise
        return store

    async def aclose(self) -> None:
        await self.notifications.aclose()
        if self._running:
            await asyncio.wait(self._running, timeout=self._timeout_s)
        await self._pool.close()

    async def _migrate(self) -> None:
        async with self.session(write=True) as ask:
            await ask(Query("SELECT 1 FROM (SELECT pg_advisory_xact_lock(?)) AS _", (_MIGRATING,)))
            operation = migrate(POSTGRES_MIGRATIONS, self._now_s())
            try:
                query = next(operation)
                while True:
                    query = operation.send(await ask(query))
            except StopIteration:
                return

    async def _read(self, operation: Operation[T]) -> T:
        async def read(lent: _Lent) -> T:
            try:
                query = next(operation)
                while True:
                    try:
                        rows = await _rows(lent.connection, query)
                    except psycopg.OperationalError:
                        if not lent.connection.broken:
                            raise
                        await lent.replace()
                        continue
                    query = operation.send(rows)
            except StopIteration as end:
                result: T = end.value
                return result

        return await self._call(read)

    async def _write(self, operation: Operation[T]) -> T:
        async def write(lent: _Lent) -> T:
            await lent.begin()
            try:
                query = next(operation)
                while True:
                    query = operation.send(await _rows(lent.connection, query))
            except StopIteration as end:
                await lent.connection.execute("COMMIT")
                result: T = end.value
                return result

        return await self._call(write)

    @asynccontextmanager
    async def session(self, *, write: bool) -> AsyncIterator[Ask]:
        lent = _Lent(self._pool, self._timeout_s)
        with _Translated():
            await lent.take()
            try:
                await lent.begin(
                    "BEGIN" if write else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
                )
                await lent.connection.execute("SET LOCAL statement_timeout = 0")
                yield lambda query: _rows(lent.connection, query)
                await lent.connection.execute("COMMIT")
            finally:
                await lent.give_back()

    async def _call(self, work: Callable[[_Lent], Awaitable[T]]) -> T:
        """The result of `work`, which goes on to its end when the caller is cancelled."""
        lent = _Lent(self._pool, self._patience_s)

        async def run() -> T:
            with _Translated():
                try:
                    await lent.take()
                    self._patience_s = self._timeout_s
                    return await work(lent)
                except PoolTimeout:
                    self._patience_s = min(self._timeout_s, _PATIENCE_DOWN_S)
                    raise
                finally:
                    await lent.give_back()

        task = asyncio.create_task(run())
        self._running.add(task)
        task.add_done_callback(self._done)
        deadline = asyncio.get_running_loop().call_later(self._timeout_s, lent.cut)
        task.add_done_callback(lambda _: deadline.cancel())
        return await asyncio.shield(task)

    async def _watch(self, heard: Callable[[int], None]) -> None:
        """Listen, by a connection beside the pool's: notifications come in the order of the ids."""
        with _Translated():
            connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
            try:
                await connection.execute(f"LISTEN {_CHANNEL}")
                # What was committed before anybody listened here.
                cursor = await connection.execute("SELECT last_id FROM change_counter")
                heard((await cursor.fetchall())[0][0])
                async for notification in connection.notifies():
                    heard(int(notification.payload))
            finally:
                await connection.close()

    def _done(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen: a cancelled caller does not look


class _Lent:
    """A connection of the pool while a call uses it."""

    def __init__(self, pool: AsyncConnectionPool[Connection], patience_s: float) -> None:
        self._pool = pool
        self._patience_s = patience_s
        self._connection: Connection | None = None
        self._attempts = 0
        self._late = False

    @property
    def connection(self) -> Connection:
        assert self._connection is not None
        return self._connection

    async def take(self) -> None:
        self._connection = await self._pool.getconn(timeout=self._patience_s)
        if self._late:
            raise BackendUnavailable("the metadata store did not answer in time")

    async def replace(self) -> None:
        """Replace a dead connection by a new one; those in the pool may all be dead."""
        self._attempts += 1
        if self._late or self._attempts > self._pool.max_size:
            raise BackendUnavailable("the metadata store ended the connection")
        await self.give_back()
        await self.take()

    async def begin(self, statement: str = "BEGIN") -> None:
        while True:
            try:
                await self.connection.execute(statement)
            except psycopg.OperationalError:
                if not self.connection.broken:
                    raise
                await self.replace()
            else:
                return

    def cut(self) -> None:
        """Close the connection at the deadline, which ends the wait for the server."""
        self._late = True
        if self._connection is None or self._connection.closed:
            return
        with socket.socket(fileno=os.dup(self._connection.fileno())) as connected:
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it has ended by itself

    async def give_back(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # Not the pool's rollback, which has no deadline; and a server that takes no changes is
        # not the one to stay with.
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            try:
                await connection.execute("ROLLBACK")
            except psycopg.Error:
                await connection.close()
        await self._pool.putconn(connection)


async def _rows(connection: Connection, query: Query) -> list[Row]:
    check_values(query.values)
    cursor = await connection.execute(_sql(query.sql), query.values or None, binary=True)
    return [] if cursor.description is None else await cursor.fetchall()


@lru_cache(1024)
def _sql(sql: str) -> bytes:
    return (
        _SECONDS.sub(r"extract(epoch FROM \1)::bigint", sql)
        .replace("{now}", "clock_timestamp()")
        .replace("{later}", "(clock_timestamp() + make_interval(secs => ?))")
        .replace("{notify}", f", pg_notify('{_CHANNEL}', last_id::text)")
        .replace("?", "%s")
        .encode()
    )


def _conninfo(dsn: str, timeout_s: float) -> str:
    """The DSN, completed by defaults. Raises BackendUnavailable when it is not valid."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # Not in the parser's words: they may contain the password.
        raise BackendUnavailable("the DSN of the metadata cannot be read") from None
    statement_ms = int(timeout_s * _STATEMENT_SHARE * 1000)
    merged: dict[str, Any] = {
        "application_name": "fs9",
        "connect_timeout": max(2, int(timeout_s / 2)),
        # After a failover: not the one that became a replica.
        "target_session_attrs": "read-write",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        **given,
    }
    options = (
        f"-c statement_timeout={statement_ms} -c lock_timeout={statement_ms}"
        f" -c idle_in_transaction_session_timeout={int(timeout_s * 1000)}"
        f" {given.pop('options', None) or ''}"
    )
    return make_conninfo("", **{**merged, "options": options.strip()})


class _Translated:
    """Turns errors of the database into those of `fs9.errors`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, Fs9Error):
            return
        if isinstance(error, PoolTimeout | PoolClosed | TooManyRequests):
            raise BackendUnavailable("no connection to the metadata store") from error
        if isinstance(error, _BUSY):
            raise Transient("the metadata store is busy") from error
        if isinstance(error, psycopg.DataError):
            raise InvalidArgument(f"the metadata store: {error}") from error
        if isinstance(error, psycopg.Error):
            raise BackendUnavailable(f"the metadata store failed: {error}") from error


# -- Values ---------------------------------------------------------------------------------


class _AtDumper(Dumper):
    oid = psycopg.adapters.types["timestamptz"].oid
    format = Format.BINARY

    def dump(self, obj: At) -> bytes:
        return struct.pack(">q", (int(obj) - _EPOCH_S) * 1_000_000)


class _JsonDumper(Dumper):
    oid = psycopg.adapters.types["jsonb"].oid

    def dump(self, obj: Json) -> bytes:
        return obj.encode()


class _AtLoader(Loader):
    """Seconds since 1970, with their fraction."""

    format = Format.BINARY

    def load(self, data: Buffer) -> float:
        return float(struct.unpack(">q", data)[0] / 1_000_000 + _EPOCH_S)


class _JsonLoader(Loader):
    """Leaves JSON as text, for the reader of the row to decode."""

    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        return bytes(data[1:]).decode()  # the first byte is the version of the format


def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_dumper(At, _AtDumper)
    adapters.register_dumper(Json, _JsonDumper)
    adapters.register_loader("timestamptz", _AtLoader)
    adapters.register_loader("jsonb", _JsonLoader)
    return adapters
