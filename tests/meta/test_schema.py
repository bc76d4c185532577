"""The migrations are numbered from 1 and never edited."""

from fs9.meta.schema import MIGRATIONS

#: Checksums of what databases may have applied. Add one for a new migration; change none.
APPLIED = {1: "dfd180a7833128195019f0b5e4865965ec87ff56c9b95348114b147f36e40619"}


def test_migrations_are_numbered_in_order():
    """1, 2, 3, …, without a gap."""
    assert [migration.version for migration in MIGRATIONS] == [*range(1, len(MIGRATIONS) + 1)]


def test_no_migration_was_edited():
    """A database that has applied a migration must not meet another one of that number."""
    assert {m.version: m.checksum for m in MIGRATIONS} == APPLIED
