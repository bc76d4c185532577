"""The SQL of the meta store: numbered migrations, applied in order, never edited afterwards.

Names are unique among what is not deleted, so that a deleted namespace's name can be used
again. Times are whole seconds since 1970.
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
        """Changes when somebody edits a migration that databases may have applied already."""
        return hashlib.sha256("\0".join(self.statements).encode()).hexdigest()


#: What has been applied; made before the first migration.
MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    version INTEGER PRIMARY KEY,
    checksum TEXT NOT NULL,
    applied_at INTEGER NOT NULL
)
"""

MIGRATIONS: tuple[Migration, ...] = (
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
)
