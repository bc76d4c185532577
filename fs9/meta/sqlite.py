"""The meta store in one SQLite file, `meta.db` in the data directory.

Each process has one connection, used by one call at a time, in the blocking pool. Between
processes SQLite's own locks serve (WAL: readers never wait; writers wait up to the busy timeout).
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec

from fs9.errors import AlreadyExists, BackendUnavailable, NotFound, Transient
from fs9.meta.models import NamespaceRecord
from fs9.meta.schema import MIGRATIONS, MIGRATIONS_TABLE
from fs9.names import check_namespace_name
from fs9.types import MountSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fs9.clock import Clock
    from fs9.threads import BlockingPool

T = TypeVar("T")

#: How long a call waits for another process's transaction before it is Transient.
BUSY_TIMEOUT_S = 10.0

# One statement, so that a namespace and its mounts come from one snapshot.
_SELECT = """
    SELECT id, name, status, created_at, created_by, (
        SELECT json_group_array(json_array(path, provider, config))
        FROM mounts WHERE namespace_id = namespaces.id
    )
    FROM namespaces WHERE deleted_at IS NULL
"""


class SqliteStore:
    """`Store` on SQLite; see there for the contracts."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, pool: BlockingPool) -> None:
        self._connection = connection
        self._clock = clock
        self._pool = pool
        # One call at a time: a transaction is a state of the connection. Callers wait here and
        # not in the pool, whose threads serve files too.
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path, clock: Clock, pool: BlockingPool) -> SqliteStore:
        """Open the file, make or migrate it. Raises BackendUnavailable when it cannot be used."""
        connection = await pool.run(_open, path, int(clock.now_s()))
        return cls(connection, clock, pool)

    async def aclose(self) -> None:
        await self._call(self._connection.close)

    async def create_namespace(
        self, name: str, created_by: str, mounts: Sequence[MountSpec]
    ) -> NamespaceRecord:
        check_namespace_name(name)

        def create() -> NamespaceRecord:
            with _transaction(self._connection):
                if _find(self._connection, name) is not None:
                    raise AlreadyExists(f"Namespace '{name}' already exists")
                return self._insert(name, created_by, mounts)

        return await self._call(create)

    async def ensure_namespace(
        self, name: str, created_by: str, mounts: Sequence[MountSpec]
    ) -> NamespaceRecord:
        check_namespace_name(name)

        def ensure() -> NamespaceRecord:
            with _transaction(self._connection):
                found = _find(self._connection, name)
                if found is None:
                    return self._insert(name, created_by, mounts)
                row_id, record = found
                if record.mounts == _sorted(mounts):
                    return record
                self._replace_mounts(row_id, created_by, mounts)
                return msgspec.structs.replace(record, mounts=_sorted(mounts))

        return await self._call(ensure)

    async def namespace(self, name: str) -> NamespaceRecord:
        found = await self._call(lambda: _find(self._connection, name))
        if found is None:
            raise NotFound(f"Namespace '{name}' not found")
        return found[1]

    async def namespaces(self) -> list[NamespaceRecord]:
        return await self._call(lambda: _all(self._connection))

    async def _call(self, call: Callable[[], T]) -> T:
        async with self._lock:
            return await self._pool.run(_translating, call)

    def _insert(self, name: str, created_by: str, mounts: Sequence[MountSpec]) -> NamespaceRecord:
        now_s = int(self._clock.now_s())
        row_id = self._connection.execute(
            "INSERT INTO namespaces (name, created_at, created_by) VALUES (?, ?, ?)",
            (name, now_s, created_by),
        ).lastrowid
        assert row_id is not None
        self._insert_mounts(row_id, created_by, mounts, now_s)
        return NamespaceRecord(name, "active", now_s, created_by, _sorted(mounts))

    def _replace_mounts(self, row_id: int, created_by: str, mounts: Sequence[MountSpec]) -> None:
        now_s = int(self._clock.now_s())
        self._connection.execute("DELETE FROM mounts WHERE namespace_id = ?", (row_id,))
        self._connection.execute(
            "UPDATE namespaces SET updated_at = ? WHERE id = ?", (now_s, row_id)
        )
        self._insert_mounts(row_id, created_by, mounts, now_s)

    def _insert_mounts(
        self, row_id: int, created_by: str, mounts: Sequence[MountSpec], now_s: int
    ) -> None:
        self._connection.executemany(
            "INSERT INTO mounts (namespace_id, path, provider, config, created_at, created_by)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [
                (row_id, spec.path, spec.provider, _encode(spec), now_s, created_by)
                for spec in mounts
            ],
        )


# -- Rows -----------------------------------------------------------------------------------


def _encode(spec: MountSpec) -> str:
    return msgspec.json.encode(spec.config).decode()


def _sorted(mounts: Sequence[MountSpec]) -> tuple[MountSpec, ...]:
    return tuple(sorted(mounts, key=lambda spec: spec.path))


def _find(connection: sqlite3.Connection, name: str) -> tuple[int, NamespaceRecord] | None:
    row = connection.execute(f"{_SELECT} AND name = ?", (name,)).fetchone()
    return None if row is None else (row[0], _record(row))


def _all(connection: sqlite3.Connection) -> list[NamespaceRecord]:
    return [_record(row) for row in connection.execute(f"{_SELECT} ORDER BY name")]


def _record(row: tuple[int, str, str, int, str, str]) -> NamespaceRecord:
    _, name, status, created_at_s, created_by, mounts = row
    specs = [
        MountSpec(path, provider, msgspec.json.decode(config))
        for path, provider, config in msgspec.json.decode(mounts)
    ]
    return NamespaceRecord(name, status, created_at_s, created_by, _sorted(specs))


# -- The database ---------------------------------------------------------------------------


def _open(path: Path, now_s: int) -> sqlite3.Connection:
    with _translated(), _alone(path):
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection, now_s)
        except BaseException:
            connection.close()
            raise
        return connection


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
        _migrate(connection, now_s)


def _migrate(connection: sqlite3.Connection, now_s: int) -> None:
    connection.execute(MIGRATIONS_TABLE)
    applied: dict[int, str] = dict(
        connection.execute("SELECT version, checksum FROM migrations").fetchall()
    )
    newest = MIGRATIONS[-1].version
    if max(applied, default=0) > newest:
        raise BackendUnavailable(
            f"the metadata has version {max(applied)} and this program knows {newest}:"
            " it was written by a newer one"
        )
    for migration in MIGRATIONS:
        if migration.version not in applied:
            for statement in migration.statements:
                connection.execute(statement)
            connection.execute(
                "INSERT INTO migrations (version, checksum, applied_at) VALUES (?, ?, ?)",
                (migration.version, migration.checksum, now_s),
            )
        elif applied[migration.version] != migration.checksum:
            raise BackendUnavailable(
                f"version {migration.version} of the metadata was made by other statements than"
                " this program has"
            )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Take the write lock at once, so that what is read stays true until the commit."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


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
