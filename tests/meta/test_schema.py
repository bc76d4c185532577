"""The migrations are numbered and never edited."""

import pytest

from fs9.meta.schema import POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS

#: Checksums of what databases may have applied. Add one for a new migration; change none.
APPLIED_SQLITE = {
    1: "dfd180a7833128195019f0b5e4865965ec87ff56c9b95348114b147f36e40619",
    2: "450d71b7bfe874c7524d733505d17740aadbc03d4d97d0d8c68e1dbdffd6d258",
}
APPLIED_POSTGRES = {
    2: "9b178811c4802f829d7092aed2626099af16f2300f11d0c850fb15f960f4dcd6",
}


@pytest.mark.parametrize("migrations", [SQLITE_MIGRATIONS, POSTGRES_MIGRATIONS])
def test_migrations_are_numbered_in_order(migrations):
    """Without a gap, and both databases end with the same."""
    versions = [migration.version for migration in migrations]
    assert versions == [*range(versions[0], SQLITE_MIGRATIONS[-1].version + 1)]


def test_no_migration_was_edited():
    """A database that has applied a migration must not meet another one of that number."""
    assert {m.version: m.checksum for m in SQLITE_MIGRATIONS} == APPLIED_SQLITE
    assert {m.version: m.checksum for m in POSTGRES_MIGRATIONS} == APPLIED_POSTGRES
