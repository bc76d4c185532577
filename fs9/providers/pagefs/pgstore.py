"""The metadata store in PostgreSQL, for namespaces that more than one host may serve.

Each namespace's mount is a row of `pagefs_spaces` and its items rows of `pagefs_items`; `bytea`
sorts by bytes. A commit is one call of a function in the database, hence one transaction. In it
the epoch is checked, under the row's lock, so a writer that was fenced cannot commit whatever it
believes; and the number of the batch, so one that was sent twice is applied once, and a database
that went back in time (restored, or a replica that had not got everything) is noticed. Commits
wait for the disk always: a restarted server has all that was acknowledged. Rows are sealed
(`rowseals`), but for those of spaces that an earlier version made.

The row has the lease, too: while it holds, no other host takes the storage, and this one may
answer from it. One task renews the leases of a process with one statement; each commit renews.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from fs9.errors import Fs9Error, OwnerUnavailable, Transient
from fs9.providers.pagefs import lease as leases
from fs9.providers.pagefs.lease import Lease
from fs9.providers.pagefs.pgconnections import Attempt, Connection, Connections
from fs9.providers.pagefs.rowseals import sealed, unsealed
from fs9.providers.pagefs.store import Batch, ChecksFailed, Item

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from fs9.clock import Clock

#: Key of the advisory lock under which one process makes the tables.
_MAKING = 0x6673395F70616765
#: How often it is looked which leases are due; a shorter one that comes has not long to wait.
_TICK_S = 1.0
_WAIT_POLL_S = 0.1

_TABLES = """
CREATE TABLE IF NOT EXISTS pagefs_spaces (
    id bigserial PRIMARY KEY, name text NOT NULL UNIQUE, epoch bigint NOT NULL,
    number bigint NOT NULL, holder text NOT NULL, expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);
ALTER TABLE pagefs_spaces ADD COLUMN IF NOT EXISTS sealed boolean NOT NULL DEFAULT false;
CREATE TABLE IF NOT EXISTS pagefs_items (
    space bigint NOT NULL, key bytea NOT NULL, value bytea NOT NULL, PRIMARY KEY (space, key)
);
ALTER TABLE pagefs_items ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS pagefs_batches (
    space bigint NOT NULL, id bytea NOT NULL, number bigint NOT NULL, PRIMARY KEY (space, id)
);
CREATE OR REPLACE FUNCTION pagefs_commit_1(
    of_space bigint, of_epoch bigint, of_number bigint, ttl_s float8, batch bytea,
    absent bytea[], present bytea[], expected bytea[], gone bytea[], keys bytea[], vals bytea[]
) RETURNS text LANGUAGE plpgsql AS $body$
DECLARE
    found pagefs_spaces%ROWTYPE;
BEGIN
    SELECT * INTO found FROM pagefs_spaces WHERE id = of_space FOR UPDATE;
    IF found.epoch IS DISTINCT FROM of_epoch THEN RETURN 'fenced'; END IF;
    IF found.number = of_number THEN RETURN 'applied'; END IF;
    IF found.number <> of_number - 1 THEN RETURN 'other'; END IF;
    IF batch <> '' AND EXISTS (
        SELECT FROM pagefs_batches b WHERE b.space = of_space AND b.id = batch
    ) THEN RETURN 'known'; END IF;
    IF EXISTS (
        SELECT FROM unnest(absent) AS c(key)
        JOIN pagefs_items i ON i.space = of_space AND i.key = c.key
    ) OR EXISTS (
        SELECT FROM unnest(present, expected) AS c(key, value)
        LEFT JOIN pagefs_items i ON i.space = of_space AND i.key = c.key
        WHERE i.value IS DISTINCT FROM c.value
    ) THEN RETURN 'refused'; END IF;
    DELETE FROM pagefs_items i USING unnest(gone) AS c(key)
        WHERE i.space = of_space AND i.key = c.key;
    INSERT INTO pagefs_items (space, key, value)
        SELECT of_space, c.key, c.value FROM unnest(keys, vals) AS c(key, value)
        ON CONFLICT (space, key) DO UPDATE SET value = excluded.value;
    IF batch <> '' THEN
        INSERT INTO pagefs_batches VALUES (of_space, batch, of_number);
        IF of_number % 100 = 0 THEN
            DELETE FROM pagefs_batches b WHERE b.space = of_space AND b.number < of_number - 2000;
        END IF;
    END IF;
    UPDATE pagefs_spaces SET number = of_number,
        expires_at = clock_timestamp() + make_interval(secs => ttl_s) WHERE id = of_space;
    RETURN 'applied';
END $body$;
"""
_MADE = """
SELECT to_regproc('pagefs_commit_1') IS NOT NULL AND EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = to_regclass('pagefs_spaces') AND attname = 'sealed'
)
"""
_ANY = "SELECT to_regclass('pagefs_spaces') IS NOT NULL"
_EXISTS = "SELECT id FROM pagefs_spaces WHERE name = %s"
_TAKE = """
INSERT INTO pagefs_spaces AS s (name, holder, epoch, number, expires_at, sealed)
VALUES (%s, %s, 1, 0, clock_timestamp() + make_interval(secs => %s), true)
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder, epoch = s.epoch + 1, expires_at = excluded.expires_at
WHERE s.holder IN ('', excluded.holder) OR s.expires_at <= clock_timestamp()
RETURNING id, epoch, number, sealed
"""
_RENEW = """
UPDATE pagefs_spaces s SET expires_at = clock_timestamp() + make_interval(secs => c.ttl_s)
FROM unnest(%s::bigint[], %s::bigint[], %s::float8[]) AS c(id, epoch, ttl_s)
WHERE s.id = c.id AND s.epoch = c.epoch RETURNING s.id
"""
_LET_GO = "UPDATE pagefs_spaces SET holder = '' WHERE id = %s AND epoch = %s"
_ERASE = """
WITH gone AS (DELETE FROM pagefs_spaces WHERE id = %s AND epoch = %s RETURNING id),
items AS (DELETE FROM pagefs_items i USING gone WHERE i.space = gone.id)
DELETE FROM pagefs_batches b USING gone WHERE b.space = gone.id
"""
_COMMIT = f"SELECT pagefs_commit_1(%s, %s, %s, %s, %b{6 * ', %b::bytea[]'})"
_GET = "SELECT value FROM pagefs_items WHERE space = %s AND key = %s"
_SCAN = (
    "SELECT key, value FROM pagefs_items"
    " WHERE space = %s AND key >= %s AND key < %s ORDER BY key LIMIT %s"
)


def _items(rows: Sequence[tuple[Any, ...]], *, sealed: bool) -> list[Item]:
    return [(row[0], unsealed(row[0], row[1]) if sealed else row[1]) for row in rows]


class PostgresSnapshot:
    """One moment: a transaction in REPEATABLE READ on a connection of its own."""

    def __init__(
        self, connection: Connection, space: int, opened: AsyncExitStack, *, sealed: bool
    ) -> None:
        self._connection = connection
        self._space = space
        self._opened = opened
        self._sealed = sealed

    async def get(self, key: bytes) -> bytes | None:
        cursor = await self._connection.execute(_GET.encode(), (self._space, key), binary=True)
        row = await cursor.fetchone()
        if row is None:
            return None
        return unsealed(key, row[0]) if self._sealed else row[0]

    async def scan(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        values = (self._space, first, end, limit)
        cursor = await self._connection.execute(_SCAN.encode(), values, binary=True)
        return _items(await cursor.fetchall(), sealed=self._sealed)

    async def aclose(self) -> None:
        await self._opened.aclose()


class PostgresStore:
    """A `MetaStore`; made by `open_store`."""

    volatile = False
    wants_sync = False

    def __init__(
        self,
        connections: Connections,
        lease: Lease,
        row: tuple[int, int, int, bool],
        asked_s: float,
    ) -> None:
        self._connections = connections
        #: Spaces that earlier versions made have rows without checksums.
        self._space, self.epoch, self._number, self._sealed = row
        self._committing = asyncio.Lock()
        self._closed = False
        self.lease = lease
        lease.renewed(asked_s)
        _renewals(connections).held[self._space] = self

    def when_lost(self, call: Callable[[], None]) -> None:
        self.lease.when_lost(call)

    def _check(self) -> None:
        """Raises OwnerUnavailable."""
        if self._closed:
            raise OwnerUnavailable("the storage is closed")
        self.lease.check()

    async def _ours(self) -> None:
        """Raises OwnerUnavailable, BackendUnavailable (it cannot be known)."""
        self._check()
        if self.lease.over:
            await _renew(self._connections, [self])
            self.lease.check()

    # -- reading --------------------------------------------------------------------------------

    async def get(self, key: bytes) -> bytes | None:
        await self._ours()
        rows = await self._connections.run(_GET, (self._space, key))
        if not rows:
            return None
        return unsealed(key, rows[0][0]) if self._sealed else rows[0][0]

    async def scan(self, first: bytes, end: bytes, limit: int) -> list[Item]:
        await self._ours()
        rows = await self._connections.run(_SCAN, (self._space, first, end, limit))
        return _items(rows, sealed=self._sealed)

    async def snapshot(self) -> PostgresSnapshot:
        await self._ours()
        opened = AsyncExitStack()
        async with opened:
            connection = await opened.enter_async_context(self._connections.alone())
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await connection.execute("SELECT 1")  # the moment is that of the first statement
            return PostgresSnapshot(connection, self._space, opened.pop_all(), sealed=self._sealed)

    # -- writing --------------------------------------------------------------------------------

    async def commit(self, batch: Batch, *, sync: bool = False) -> None:
        """Durable with or without `sync`. A cancelled caller waits for the outcome."""
        self._check()
        task = self._connections.spawn(self._commit(batch))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
            raise

    async def _commit(self, batch: Batch) -> None:
        absent = [key for key, value in batch.checks.items() if value is None]
        present = self._stored(batch.checks)
        gone = [key for key, value in batch.changes.items() if value is None]
        kept = self._stored(batch.changes)
        lists = (
            *(absent, list(present), list(present.values())),
            *(gone, list(kept), list(kept.values())),
        )
        async with self._committing:
            self.lease.check()
            number = self._number + 1
            head = (self._space, self.epoch, number, self.lease.ttl_s, batch.id)
            asked_s = self.lease.now_s()
            attempt = Attempt()
            try:
                rows = await self._connections.run(_COMMIT, (*head, *lists), attempt)
            except Fs9Error as error:
                # Busy: the server ended it, and nothing of it is there. Else, and where it was
                # sent before, perhaps it is, or will be: what we remember may be wrong.
                harmless = 1 if isinstance(error, Transient) else 0
                if attempt.sent > harmless:
                    self.lease.lose(leases.UNKNOWN_OUTCOME)
                raise
            if attempt.sent > 1 and rows[0][0] != "applied":
                self.lease.lose(leases.UNKNOWN_OUTCOME)
            self._done(rows[0][0], number, asked_s)

    def _stored(self, values: Mapping[bytes, bytes | None]) -> dict[bytes, bytes]:
        """The values as rows have them, but for those that are to be absent."""
        found = {key: value for key, value in values.items() if value is not None}
        if self._sealed:
            return {key: sealed(key, value) for key, value in found.items()}
        return found

    def _done(self, outcome: str, number: int, asked_s: float) -> None:
        match outcome:
            case "applied":
                self._number = number
                self.lease.renewed(asked_s)
            case "known":
                return
            case "refused":
                raise ChecksFailed
            case "fenced":
                self.lease.lose(leases.TAKEN_OVER)
            case _:
                self.lease.lose("the database has another history than the one that was loaded")
        self.lease.check()

    async def sync(self, before: Callable[[], Awaitable[None]] | None = None) -> None:
        """What was committed is durable already; is it still ours?"""
        self._check()
        if before is not None:
            await before()
        await _renew(self._connections, [self])
        self.lease.check()

    async def erase(self) -> None:
        """Of the space nothing stays, not even its name."""
        await self._end(_ERASE)

    async def aclose(self) -> None:
        """Lets the lease go, so that another host need not wait for its end."""
        await self._end(_LET_GO)

    async def _end(self, statement: str) -> None:
        if self._closed:
            return
        self._closed = True
        held = _renewals(self._connections).held
        if held.get(self._space) is self:
            del held[self._space]
        try:
            if not self.lease.lost:
                await self._connections.run(statement, (self._space, self.epoch))
        finally:
            await self._connections.release()


# -- Leases -----------------------------------------------------------------------------------


class _Renewals:
    """The stores of a process whose leases one task renews."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.held: dict[int, PostgresStore] = {}
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            ttl_s = min((store.lease.ttl_s for store in self.held.values()), default=_TICK_S)
            await asyncio.sleep(min(_TICK_S, ttl_s / 4))
            due = [store for store in self.held.values() if store.lease.due]
            with contextlib.suppress(Fs9Error):  # tried again; a lease that is over says so
                await _renew(self._connections, due)


def _renewals(connections: Connections) -> _Renewals:
    found: _Renewals | None = connections.attached.get("renewals")
    if found is None:
        found = connections.attached["renewals"] = _Renewals(connections)
    return found


async def _renew(connections: Connections, stores: list[PostgresStore]) -> None:
    """Those that another host has are lost afterwards. Raises BackendUnavailable, Transient."""
    if not stores:
        return
    asked_s = stores[0].lease.now_s()
    columns = (
        [store._space for store in stores],
        [store.epoch for store in stores],
        [store.lease.ttl_s for store in stores],
    )
    granted = {row[0] for row in await connections.run(_RENEW, columns)}
    for store in stores:
        if store._space in granted:
            store.lease.renewed(asked_s)
        elif not store._closed:
            store.lease.lose(leases.TAKEN_OVER)


async def open_store(
    dsn: str,
    name: str,
    holder: str,
    clock: Clock,
    *,
    lease_s: float,
    wait_s: float,
    connections_max: int = 8,
    timeout_s: float = 10.0,
) -> PostgresStore:
    """The store of that name, with a new epoch, as soon as no other holder has its lease.

    Raises OwnerUnavailable after `wait_s`, InvalidArgument (the DSN), BackendUnavailable.
    """
    connections = Connections.acquire(dsn, connections_max, timeout_s)
    try:
        await _make_tables(connections)
        deadline_s = clock.monotonic_s() + wait_s
        while True:
            lease = Lease(clock, lease_s)
            asked_s = lease.now_s()
            rows = await connections.run(_TAKE, (name, holder, lease_s))
            if rows:
                space, epoch, number, is_sealed = rows[0]
                row = (space, epoch, number, is_sealed)
                return PostgresStore(connections, lease, row, asked_s)
            if clock.monotonic_s() >= deadline_s:
                raise OwnerUnavailable("another host serves the namespace")
            await asyncio.sleep(min(_WAIT_POLL_S, lease_s / 10))
    except BaseException:
        await connections.release()
        raise


async def exists(dsn: str, name: str, timeout_s: float) -> bool:
    """Is there a store of that name? Makes nothing. Raises InvalidArgument, BackendUnavailable."""
    connections = Connections.acquire(dsn, 1, timeout_s)
    try:
        if not (await connections.run(_ANY))[0][0]:
            return False
        return bool(await connections.run(_EXISTS, (name,)))
    finally:
        await connections.release()


async def _make_tables(connections: Connections) -> None:
    async with connections.making:
        if (await connections.run(_MADE))[0][0]:
            return
        async with connections.alone() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
            await connection.execute(_TABLES.encode())
