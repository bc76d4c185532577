"""Metadata that an earlier version has written is there afterwards, whatever version that was."""

import json
import re
import sqlite3

import pytest

from fs9.clock import ManualClock
from fs9.errors import BackendUnavailable
from fs9.meta import sqlite as sqlite_store
from fs9.meta.schema import MIGRATIONS_TABLE, SQLITE_MIGRATIONS, Migration
from fs9.meta.sqlite import SqliteStore
from fs9.types import MountSpec
from tests.meta.store_suite import NOW_S

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

CONFIG = {"root": "/srv/ü", "n": [1, None]}


def version_1(path):
    """A database as version 1 has written it: two namespaces, one deleted, three mounts."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA foreign_keys = ON")
    database.execute(MIGRATIONS_TABLE)
    for statement in SQLITE_MIGRATIONS[0].statements:
        database.execute(statement)
    database.execute("INSERT INTO migrations VALUES (1, ?, 0)", (SQLITE_MIGRATIONS[0].checksum,))
    columns = "(id, name, status, created_at, created_by, updated_at, deleted_at)"
    database.executemany(
        f"INSERT INTO namespaces {columns} VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (1, "default", "active", 10, "system", 20, None),
            (2, "acme", "active", 11, "alice", None, 15),
            (3, "acme", "suspended", 12, "bob", None, None),
        ],
    )
    database.executemany(
        "INSERT INTO mounts (namespace_id, path, provider, config, created_at, created_by)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (1, "/", "localfs", json.dumps(CONFIG), 10, "system"),
            (1, "/m", "memfs", "{}", 21, "alice"),
            (2, "/", "memfs", "{}", 11, "alice"),
        ],
    )
    database.close()


async def test_from_version_1(tmp_path, pool):
    """Namespaces keep their mounts, and their data where it is; ids become UUIDs."""
    path = tmp_path / "meta.db"
    version_1(path)
    store = await SqliteStore.open(path, ManualClock(NOW_S), pool)
    default, acme = await store.namespace("default"), await store.namespace("acme")
    assert default.mounts == (MountSpec("/", "localfs", CONFIG), MountSpec("/m", "memfs"))
    assert (default.created_at_s, default.created_by, default.updated_at_s) == (10, "system", 20)
    assert (default.storage, acme.storage) == ("default", "acme")
    assert (acme.status, acme.created_by, acme.mounts) == ("suspended", "bob", ())
    (deleted,) = await store.deleted_namespaces(NOW_S)
    assert (deleted.status, deleted.deleted_at_s, len(deleted.mounts)) == ("deleted", 15, 1)
    mounts = await store.mounts("default")
    assert [(m.created_at_s, m.created_by) for m in mounts] == [(10, "system"), (21, "alice")]
    ids = [default.id, acme.id, deleted.id, *(mount.id for mount in mounts)]
    assert len(set(ids)) == 5
    assert all(map(_UUID.fullmatch, ids))
    await store.forget_namespace(deleted.id)
    await store.add_mount("acme", MountSpec("/new", "memfs"), "root")
    await store.aclose()


@pytest.mark.parametrize("done", [0, 5, len(SQLITE_MIGRATIONS[1].statements)])
async def test_a_migration_that_fails_changes_nothing(tmp_path, pool, monkeypatch, done):
    """It is one transaction, however far it came; the next try starts where this one started."""
    path = tmp_path / "meta.db"
    version_1(path)
    broken = (*SQLITE_MIGRATIONS[1].statements[:done], "SELECT 1 FROM nothing")
    monkeypatch.setattr(
        sqlite_store, "SQLITE_MIGRATIONS", (SQLITE_MIGRATIONS[0], Migration(2, broken))
    )
    with pytest.raises(BackendUnavailable, match="nothing"):
        await SqliteStore.open(path, ManualClock(NOW_S), pool)
    monkeypatch.undo()
    store = await SqliteStore.open(path, ManualClock(NOW_S), pool)
    assert [record.name for record in await store.namespaces()] == ["acme", "default"]
    await store.aclose()
