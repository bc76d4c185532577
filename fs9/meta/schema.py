"""The tables of the meta store: numbered migrations, applied in order, never edited afterwards.

Both databases use the same numbers; PostgreSQL begins with 2, with which its first tables were
made. The tables are written once, with PostgreSQL's types, which are replaced for SQLite. Names are
unique among rows that are not deleted, so that the name of a deleted namespace can be used again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    statements: tuple[str, ...]

    @property
    def checksum(self) -> str:
        """A checksum of the migration, to notice edits after databases have applied it."""
        return hashlib.sha256("\0".join(self.statements).encode()).hexdigest()


#: What has been applied; made before the first migration.
MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    version INTEGER PRIMARY KEY,
    checksum TEXT NOT NULL,
    applied_at BIGINT NOT NULL
)
"""

#: Sorted by bytes, as SQLite sorts; whatever the locale of the database.
_NAME = 'TEXT COLLATE "C"'

_TABLES_2 = (
    f"""
    CREATE TABLE namespaces (
        id TEXT PRIMARY KEY,
        name {_NAME} NOT NULL,
        status TEXT NOT NULL DEFAULT 'active',
        storage TEXT NOT NULL UNIQUE,
        description TEXT NOT NULL DEFAULT '',
        quota JSONB NOT NULL,
        created_at TIMESTAMPTZ NOT NULL,
        created_by TEXT NOT NULL,
        updated_at TIMESTAMPTZ,
        deleted_at TIMESTAMPTZ
    )
    """,
    "CREATE UNIQUE INDEX namespaces_name ON namespaces (name) WHERE deleted_at IS NULL",
    "CREATE INDEX namespaces_deleted ON namespaces (name, deleted_at) WHERE deleted_at IS NOT NULL",
    f"""
    CREATE TABLE mounts (
        id TEXT PRIMARY KEY,
        namespace_id TEXT NOT NULL REFERENCES namespaces (id) ON DELETE CASCADE,
        path {_NAME} NOT NULL,
        provider TEXT NOT NULL,
        config JSONB NOT NULL,
        created_at TIMESTAMPTZ NOT NULL,
        created_by TEXT NOT NULL,
        UNIQUE (namespace_id, path)
    )
    """,
    f"""
    CREATE TABLE users (
        id TEXT PRIMARY KEY,
        username {_NAME} NOT NULL,
        password_hash TEXT,
        email TEXT,
        status TEXT NOT NULL DEFAULT 'active',
        created_at TIMESTAMPTZ NOT NULL,
        updated_at TIMESTAMPTZ
    )
    """,
    "CREATE UNIQUE INDEX users_username ON users (username) WHERE status <> 'deleted'",
    f"""
    CREATE TABLE user_roles (
        id TEXT PRIMARY KEY,
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        namespace_id TEXT NOT NULL REFERENCES namespaces (id) ON DELETE CASCADE,
        role {_NAME} NOT NULL,
        created_at TIMESTAMPTZ NOT NULL,
        created_by TEXT NOT NULL,
        UNIQUE (user_id, namespace_id, role)
    )
    """,
    "CREATE INDEX user_roles_namespace ON user_roles (namespace_id)",
    """
    CREATE TABLE api_keys (
        id TEXT PRIMARY KEY,
        user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
        namespace_id TEXT NOT NULL REFERENCES namespaces (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        key_hash TEXT NOT NULL UNIQUE,
        roles JSONB NOT NULL,
        created_at TIMESTAMPTZ NOT NULL,
        expires_at TIMESTAMPTZ,
        last_used_at TIMESTAMPTZ,
        revoked_at TIMESTAMPTZ
    )
    """,
    "CREATE INDEX api_keys_user ON api_keys (user_id)",
    "CREATE INDEX api_keys_namespace ON api_keys (namespace_id)",
    # One row; who changes it is alone until the end of the transaction (fs9.meta.sql.changes).
    """
    CREATE TABLE change_counter (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        last_id BIGINT NOT NULL,
        trimmed_to BIGINT NOT NULL
    )
    """,
    "INSERT INTO change_counter (id, last_id, trimmed_to) VALUES (1, 0, 0)",
    """
    CREATE TABLE changes (
        id BIGINT PRIMARY KEY,
        namespace TEXT NOT NULL,
        created_at TIMESTAMPTZ NOT NULL
    )
    """,
    "CREATE INDEX changes_created ON changes (created_at)",
    """
    CREATE TABLE revocations (
        id BIGINT PRIMARY KEY,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        namespace TEXT NOT NULL,
        expires_at TIMESTAMPTZ NOT NULL,
        issued_until TIMESTAMPTZ,
        created_at TIMESTAMPTZ NOT NULL,
        created_by TEXT NOT NULL,
        UNIQUE (kind, subject, namespace)
    )
    """,
    "CREATE INDEX revocations_expires ON revocations (expires_at)",
    # The details are not JSONB: their text is part of what the digest was made of.
    """
    CREATE TABLE audit_events (
        namespace_id TEXT NOT NULL REFERENCES namespaces (id) ON DELETE CASCADE,
        sequence BIGINT NOT NULL,
        timestamp_ns BIGINT NOT NULL,
        event_type TEXT NOT NULL,
        path TEXT NOT NULL,
        user_name TEXT NOT NULL,
        count BIGINT NOT NULL,
        outcome TEXT NOT NULL,
        details TEXT NOT NULL,
        digest TEXT NOT NULL,
        previous TEXT NOT NULL,
        PRIMARY KEY (namespace_id, sequence)
    )
    """,
    """
    CREATE TABLE leases (
        name TEXT PRIMARY KEY,
        holder TEXT NOT NULL,
        epoch BIGINT NOT NULL,
        expires_at TIMESTAMPTZ NOT NULL
    )
    """,
)


def _for_sqlite(statements: tuple[str, ...]) -> tuple[str, ...]:
    types = (
        (' COLLATE "C"', ""),
        ("TIMESTAMPTZ", "INTEGER"),
        ("JSONB", "TEXT"),
        ("BIGINT PRIMARY KEY", "INTEGER PRIMARY KEY"),
        ("BIGINT", "INTEGER"),
    )
    for name, ours in types:
        statements = tuple(statement.replace(name, ours) for statement in statements)
    return statements


#: A UUID of version 4, other ones for each row.
_UUID = (
    "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4'"
    " || substr(hex(randomblob(2)), 2) || '-' || substr('89ab', 1 + abs(random() % 4), 1)"
    " || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))"
)

#: The tables of version 1 give their names to those of version 2 ...
_ASIDE_2 = (
    "DROP INDEX namespaces_name",
    "ALTER TABLE mounts RENAME TO mounts_1",
    "ALTER TABLE namespaces RENAME TO namespaces_1",
)

#: ... and then their rows. The data stays where it is: in the directory of the name.
_COPY_2 = (
    f"""
    CREATE TEMPORARY TABLE ids AS
    SELECT id AS old, {_UUID} AS new FROM namespaces_1
    """,
    """
    INSERT INTO namespaces (id, name, status, storage, quota, created_at, created_by, updated_at,
                            deleted_at)
    SELECT ids.new, name, CASE WHEN deleted_at IS NULL THEN status ELSE 'deleted' END,
           CASE WHEN deleted_at IS NULL THEN name ELSE name || '.' || ids.new END, '{}',
           created_at, created_by, updated_at, deleted_at
    FROM namespaces_1 JOIN ids ON ids.old = namespaces_1.id
    """,
    f"""
    INSERT INTO mounts (id, namespace_id, path, provider, config, created_at, created_by)
    SELECT {_UUID}, ids.new, path, provider, config, created_at, created_by
    FROM mounts_1 JOIN ids ON ids.old = mounts_1.namespace_id
    """,
    "DROP TABLE mounts_1",
    "DROP TABLE namespaces_1",
    "DROP TABLE ids",
)

SQLITE_MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        1,
        (
            """
            CREATE TABLE namespaces (
                id INTEGER PRIMARY KEY,
                name TEXT NOT NULL,
                status TEXT NOT NULL DEFAULT 'active',
                created_at INTEGER NOT NULL,
                created_by TEXT NOT NULL,
                updated_at INTEGER,
                deleted_at INTEGER
            )
            """,
            "CREATE UNIQUE INDEX namespaces_name ON namespaces (name) WHERE deleted_at IS NULL",
            """
            CREATE TABLE mounts (
                id INTEGER PRIMARY KEY,
                namespace_id INTEGER NOT NULL REFERENCES namespaces (id) ON DELETE CASCADE,
                path TEXT NOT NULL,
                provider TEXT NOT NULL,
                config TEXT NOT NULL CHECK (json_valid(config)),
                created_at INTEGER NOT NULL,
                created_by TEXT NOT NULL,
                UNIQUE (namespace_id, path)
            )
            """,
        ),
    ),
    Migration(2, (*_ASIDE_2, *_for_sqlite(_TABLES_2), *_COPY_2)),
)

POSTGRES_MIGRATIONS: tuple[Migration, ...] = (Migration(2, _TABLES_2),)
