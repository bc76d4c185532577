"""The meta store in one SQLite file, `meta.db` in the data directory.

Each process has one connection, used by one call at a time, in the blocking pool. Between processes
SQLite's own locks are used (WAL: readers never wait; writers wait up to the busy timeout).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import sqlite3
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeVar

from fs9.errors import BackendUnavailable, Transient
from fs9.meta.migrate import migrate
from fs9.meta.schema import SQLITE_MIGRATIONS
from fs9.meta.sql.changes import last_change
from fs9.meta.sql.query import check_values
from fs9.meta.sql.store import SqlStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from fs9.clock import Clock
    from fs9.meta.sql.query import Operation, Query, Row
    from fs9.meta.sql.store import Ask
    from fs9.threads import BlockingPool

T = TypeVar("T")

#: How long a call waits for another process's transaction before it is Transient.
BUSY_TIMEOUT_S = 10.0
#: How often a process looks whether another one has committed something.
_LOOK_EVERY_S = 0.2

# Seconds since 1970 with their fraction; `unixepoch('subsec')` is newer than what systems have.
_NOW = "((julianday('now') - 2440587.5) * 86400.0)"
_SECONDS = re.compile(r"\{seconds (\w+)\}")


class SqliteStore(SqlStore):
    """`Store` on SQLite; see there for the contracts."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, clock: Clock, pool: BlockingPool
    ) -> None:
        super().__init__(clock)
        self._path = path
        self._connection = connection
        self._pool = pool
        # One call at a time: a transaction is a state of the connection. Callers wait here and
        # not in the pool, whose threads serve files too.
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path, clock: Clock, pool: BlockingPool) -> SqliteStore:
        """Open the file, make or migrate it. Raises BackendUnavailable when it cannot be used."""
        connection = await pool.run(_open, path, int(clock.now_s()))
        return cls(path, connection, clock, pool)

    async def aclose(self) -> None:
        await self.notifications.aclose()
        await self._call(self._connection.close)

    async def _read(self, operation: Operation[T]) -> T:
        return await self._call(lambda: _drive(self._connection, operation))

    async def _write(self, operation: Operation[T]) -> T:
        def write() -> T:
            with _transaction(self._connection):
                return _drive(self._connection, operation)

        return await self._call(write)

    @asynccontextmanager
    async def session(self, *, write: bool) -> AsyncIterator[Ask]:
        async def ask(query: Query) -> list[Row]:
            return await self._pool.run(_translating, lambda: _rows(self._connection, query))

        def run(statement: str) -> Callable[[], object]:
            return lambda: self._connection.execute(statement)

        async with self._lock:
            begin = "BEGIN IMMEDIATE" if write else "BEGIN"
            await self._pool.run(_translating, run(begin))
            try:
                yield ask
                await self._pool.run(_translating, run("COMMIT"))
            finally:
                if self._connection.in_transaction:
                    await self._pool.run(_translating, run("ROLLBACK"))

    async def _call(self, call: Callable[[], T]) -> T:
        async with self._lock:
            return await self._pool.run(_translating, call)

    async def _watch(self, heard: Callable[[int], None]) -> None:
        """Ask SQLite for the number that it changes with every commit, whatever the process.

        On a connection of its own, because the number does not change for the one that commits.
        """
        looking = await self._pool.run(_translating, lambda: _connect(self._path))
        try:
            version = -1
            while True:
                look = partial(_look, looking, version)
                seen, last_id = await self._pool.run(_translating, look)
                if seen != version:
                    heard(last_id)
                version = seen
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            await self._pool.run(looking.close)


# -- Operations -----------------------------------------------------------------------------


def _drive(connection: sqlite3.Connection, operation: Operation[T]) -> T:
    try:
        query = next(operation)
        while True:
            query = operation.send(_rows(connection, query))
    except StopIteration as end:
        result: T = end.value
        return result


def _rows(connection: sqlite3.Connection, query: Query) -> list[Row]:
    check_values(query.values)
    sql = query.sql if "{" not in query.sql else _filled_in(query.sql)
    return connection.execute(sql, query.values).fetchall()


@lru_cache(256)
def _filled_in(sql: str) -> str:
    sql = sql.replace("{now}", _NOW).replace("{later}", f"({_NOW} + ?)").replace("{notify}", "")
    return _SECONDS.sub(r"\1", sql)


# -- The database ---------------------------------------------------------------------------


def _open(path: Path, now_s: int) -> sqlite3.Connection:
    with _translated(), _alone(path):
        _make_private(path)
        connection = _connect(path)
        try:
            _prepare(connection, now_s)
        except BaseException:
            connection.close()
            raise
        return connection


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )


def _look(connection: sqlite3.Connection, version: int) -> tuple[int, int]:
    """The version of the data; when it is another one, also the id of the last change."""
    (seen,) = connection.execute("PRAGMA data_version").fetchone()
    if seen == version:
        return version, 0
    last_id: int = _drive(connection, last_change())
    return seen, last_id


def _make_private(path: Path) -> None:
    """Make a new file for its owner alone; SQLite gives those beside it the same mode.

    An existing file is not opened: closing it would release SQLite's locks in this process.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise BackendUnavailable(f"cannot open {path}: {error.strerror}") from None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time: SQLite does not wait for its locks when it switches to WAL."""
    try:
        lock = path.with_suffix(".lock").open("wb")
    except OSError as error:
        raise BackendUnavailable(f"cannot open {path}: {error.strerror}") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prepare(connection: sqlite3.Connection, now_s: int) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    # An acknowledged change survives a loss of power; changes are rare.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    with _transaction(connection):
        _drive(connection, migrate(SQLITE_MIGRATIONS, now_s))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Take the write lock at once, so that what is read stays true until the commit."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors have rolled it back already
            connection.execute("ROLLBACK")
        raise


def _translating(call: Callable[[], T]) -> T:
    with _translated():
        return call()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise Transient("the metadata store is busy") from error
        raise BackendUnavailable(f"the metadata store failed: {error}") from error
    except sqlite3.Error as error:
        raise BackendUnavailable(f"the metadata store failed: {error}") from error
