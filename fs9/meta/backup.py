"""All metadata as lines of JSON, and back: one format for both databases.

The first line names the version of the tables, the last one the number of rows and the SHA-256 of
all lines before it, so that a file that was cut or changed is not restored. A backup is a snapshot
of one moment, however long it takes and whatever changes meanwhile. It contains the hashes of
passwords and keys: keep it as carefully as the database.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from fs9.errors import Conflict, InvalidArgument
from fs9.meta.schema import SQLITE_MIGRATIONS
from fs9.meta.sql.query import At, Query, json_of, rows_of, seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fs9.meta.sql.query import Row
    from fs9.meta.sql.store import Ask, SqlStore

#: Of the tables below; an older file is restored when its difference is known here.
VERSION = SQLITE_MIGRATIONS[-1].version

#: Each table after those that it refers to: the columns of its key, then the others. `:at` is a
#: time, `:json` a document.
_TABLES = {
    "namespaces": (
        "id|name status storage description quota:json created_at:at created_by updated_at:at"
        " deleted_at:at"
    ),
    "mounts": "id|namespace_id path provider config:json created_at:at created_by",
    "users": "id|username password_hash email status created_at:at updated_at:at",
    "user_roles": "id|user_id namespace_id role created_at:at created_by",
    "api_keys": (
        "id|user_id namespace_id name key_hash roles:json created_at:at expires_at:at"
        " last_used_at:at revoked_at:at"
    ),
    "change_counter": "id|last_id trimmed_to",
    "changes": "id|namespace created_at:at",
    "revocations": (
        "id|kind subject namespace expires_at:at issued_until:at created_at:at created_by"
    ),
    "audit_events": (
        "namespace_id sequence|timestamp_ns event_type path user_name count outcome details digest"
        " previous"
    ),
    "leases": "name|holder epoch expires_at:at",
}

_ROWS_MAX = 1_000

#: What is restored is older than what was lost. These numbers must not be given out again, so
#: they jump over all that can have been given out since.
_JUMP = 1_000_000_000


class _Table:
    def __init__(self, name: str) -> None:
        self.name = name
        key, others = _TABLES[name].split("|")
        given = [text.partition(":") for text in f"{key} {others}".split()]
        self.key = key.split()
        self.columns = [column for column, _, _ in given]
        self.kinds = [kind for _, _, kind in given]

    def page(self, after: Sequence[object]) -> Query:
        """The rows that follow the one with this key; none: the first ones."""
        key = ", ".join(self.key)
        condition = f" WHERE ({key}) > ({', '.join('?' * len(after))})" if after else ""
        return Query(
            f"SELECT {', '.join(self.columns)} FROM {self.name}{condition}"
            f" ORDER BY {key} LIMIT {_ROWS_MAX}",
            tuple(after),
        )

    def line(self, row: Row) -> bytes:
        values = zip(self.columns, self.kinds, row, strict=True)
        record = {column: _plain(kind, value) for column, kind, value in values}
        return msgspec.json.encode([self.name, record]) + b"\n"

    def values(self, record: dict[str, Any]) -> tuple[object, ...]:
        """A row for the database. Raises InvalidArgument."""
        if set(record) != set(self.columns):
            raise InvalidArgument(f"the backup has different columns in {self.name}")
        kinds = zip(self.columns, self.kinds, strict=True)
        try:
            return tuple(_kept(kind, record[column]) for column, kind in kinds)
        except (TypeError, ValueError):
            raise InvalidArgument(f"the backup has a row of {self.name} that is none") from None


def _plain(kind: str, value: Any) -> object:  # noqa: ANN401  whatever a column holds
    if value is None:
        return None
    if kind == "at":
        return seconds(value)
    return msgspec.Raw(value.encode()) if kind == "json" else value


def _kept(kind: str, value: Any) -> object:  # noqa: ANN401  whatever a column holds
    if value is None:
        return None
    if kind == "at":
        return At(value)
    return json_of(value) if kind == "json" else value


async def backup(store: SqlStore, now_s: int) -> AsyncIterator[bytes]:
    """The lines, some at a time. Raises as the calls of the store."""
    digest, count = hashlib.sha256(), 0
    head = msgspec.json.encode(["fs9-metadata", {"version": VERSION, "written_at": now_s}]) + b"\n"
    digest.update(head)
    yield head
    async with store.session(write=False) as ask:
        for table in map(_Table, _TABLES):
            after: Sequence[object] = ()
            while rows := await ask(table.page(after)):
                lines = b"".join(map(table.line, rows))
                digest.update(lines)
                count += len(rows)
                yield lines
                after = rows[-1][: len(table.key)]
    yield msgspec.json.encode(["end", {"rows": count, "sha256": digest.hexdigest()}]) + b"\n"


async def restore(store: SqlStore, lines: AsyncIterator[bytes], *, force: bool) -> int:
    """Restore what `backup` has written, in one transaction; returns the number of rows.

    Raises Conflict when there is metadata already, unless `force`, which removes it first; and
    InvalidArgument when this is no backup, or not a whole one. Nothing is changed then.
    """
    async with store.session(write=True) as ask:
        if not force and not await _is_empty(ask):
            raise Conflict("there is metadata in the store already")
        for name in reversed(_TABLES):
            await ask(Query(f"DELETE FROM {name}"))
        count = await _Restoring(ask).run(lines)
        await ask(
            Query(
                "UPDATE change_counter SET last_id = last_id + ?, trimmed_to = last_id + ?",
                (_JUMP, _JUMP),
            )
        )
        await ask(
            Query(
                "UPDATE leases SET holder = '', expires_at = ?, epoch = epoch + ?", (At(0), _JUMP)
            )
        )
    return count


async def _is_empty(ask: Ask) -> bool:
    for name in ("namespaces", "users", "revocations"):
        if await ask(Query(f"SELECT 1 FROM {name} LIMIT 1")):
            return False
    return True


class _Restoring:
    """Reads the lines in order and inserts rows of one table together."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._digest = hashlib.sha256()
        self._table: _Table | None = None
        self._rows: list[tuple[object, ...]] = []
        self._count = 0
        self._ended = False

    async def run(self, lines: AsyncIterator[bytes]) -> int:
        first = True
        async for line in lines:
            kind, record = _decoded(line)
            if first:
                _check_head(kind, record)
            elif self._ended:
                raise InvalidArgument("the backup goes on after its end")
            elif kind == "end":
                self._check_end(record)
            else:
                await self._add(kind, record)
            self._digest.update(line)
            first = False
        if not self._ended:
            raise InvalidArgument("the backup is not whole: its end is missing")
        await self._flush()
        return self._count

    async def _add(self, name: str, record: dict[str, Any]) -> None:
        if name not in _TABLES:
            raise InvalidArgument(f"the backup has a table {name!r}, which is unknown here")
        if self._table is None or self._table.name != name or len(self._rows) == _ROWS_MAX:
            await self._flush()
            self._table = _Table(name)
        self._rows.append(self._table.values(record))
        self._count += 1

    async def _flush(self) -> None:
        if self._table is not None and self._rows:
            places, values = rows_of(self._rows)
            columns = ", ".join(self._table.columns)
            await self._ask(
                Query(f"INSERT INTO {self._table.name} ({columns}) VALUES {places}", values)
            )
        self._rows = []

    def _check_end(self, record: dict[str, Any]) -> None:
        if record != {"rows": self._count, "sha256": self._digest.hexdigest()}:
            raise InvalidArgument("the backup was changed after it was written")
        self._ended = True


def _decoded(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        return msgspec.json.decode(line, type=tuple[str, dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidArgument("this is not a backup of metadata, or not a whole one") from None


def _check_head(kind: str, record: dict[str, Any]) -> None:
    if kind != "fs9-metadata":
        raise InvalidArgument("this is not a backup of metadata")
    if record.get("version") != VERSION:
        raise InvalidArgument(
            f"the backup has version {record.get('version')} and this program reads {VERSION}"
        )
