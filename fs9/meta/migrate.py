"""Applies migrations: one operation for both databases, which runs under their locks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.errors import BackendUnavailable
from fs9.meta.schema import MIGRATIONS_TABLE
from fs9.meta.sql.query import Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fs9.meta.schema import Migration
    from fs9.meta.sql.query import Operation


def migrate(migrations: Sequence[Migration], now_s: int) -> Operation[list[int]]:
    """Apply the missing migrations; returns their versions.

    Nobody else may do the same at the same time. Raises BackendUnavailable when the database
    was made by a newer program, or by other statements.
    """
    yield Query(MIGRATIONS_TABLE)
    rows = yield Query("SELECT version, checksum FROM migrations")
    applied: dict[int, str] = {row[0]: row[1] for row in rows}
    newest = migrations[-1].version
    if max(applied, default=0) > newest:
        raise BackendUnavailable(
            f"the metadata has version {max(applied)} and this program knows {newest}:"
            " it was written by a newer one"
        )
    new: list[int] = []
    for migration in migrations:
        if migration.version not in applied:
            for statement in migration.statements:
                yield Query(statement)
            yield Query(
                "INSERT INTO migrations (version, checksum, applied_at) VALUES (?, ?, ?)",
                (migration.version, migration.checksum, now_s),
            )
            new.append(migration.version)
        elif applied[migration.version] != migration.checksum:
            raise BackendUnavailable(
                f"version {migration.version} of the metadata was made by other statements than"
                " this program has"
            )
    return new
