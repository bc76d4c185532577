"""`fs9 meta` makes, copies and brings back metadata."""

import asyncio
import os
import stat

import pytest

from fs9.cli.main import main
from fs9.cli.meta import main as program
from fs9.clock import ManualClock
from fs9.meta.postgres import PostgresStore
from fs9.meta.sqlite import SqliteStore
from fs9.threads import BlockingPool

NOW_S = 1_800_000_000
SECRET = "a secret of the tests, longer than 32 bytes"


@pytest.fixture
def meta(tmp_path, monkeypatch, capsys):
    """Runs `fs9 meta` in an empty directory."""
    for name in ("FS9_CONFIG", "FS9_META_DSN", "FS9_DATA_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main(["meta", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def create(path, name):
    """A namespace in the file."""

    async def run():
        pool = BlockingPool(1)
        store = await SqliteStore.open(path, ManualClock(NOW_S), pool)
        await store.create_namespace(name, "root", ())
        await store.aclose()
        pool.shutdown()

    asyncio.run(run())


def test_migrate_makes_the_database(meta, tmp_path):
    """That of the settings, or another one."""
    code, out, _ = meta("migrate")
    assert (code, (tmp_path / "fs9-data" / "meta.db").exists()) == (0, True)
    assert "version 2" in out
    assert meta("migrate", "--data-dir", "other")[0] == 0
    assert (tmp_path / "other" / "meta.db").exists()
    assert meta("migrate", "--dsn", "sqlite:third.db")[0] == 0
    assert (tmp_path / "third.db").exists()


def test_a_copy_goes_from_database_to_database(meta, tmp_path, postgres_dsn):
    """SQLite to PostgreSQL and back; the file is for this user alone."""
    create(tmp_path / "a.db", "acme")
    code, out, _ = meta("backup", "copy", "--dsn", "sqlite:a.db")
    assert (code, out) == (0, "3 rows of sqlite:a.db are in copy\n")
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    assert meta("restore", "copy", "--dsn", postgres_dsn)[0] == 0
    code, _, err = meta("restore", "copy", "--dsn", postgres_dsn)
    assert code == 5
    assert "--force" in err
    assert meta("restore", "copy", "--force", "--dsn", postgres_dsn)[0] == 0

    async def names():
        store = await PostgresStore.open(postgres_dsn, ManualClock(NOW_S))
        names = [record.name for record in await store.namespaces()]
        await store.aclose()
        return names

    assert asyncio.run(names()) == ["acme"]
    assert not (tmp_path / "copy.partial").exists()


def test_a_copy_takes_the_place_of_a_file_alone(meta, tmp_path):
    """Not of a device, a FIFO or a directory; through a link it goes where that leads."""
    create(tmp_path / "a.db", "acme")
    source = ("--dsn", "sqlite:a.db")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("fifo")
    (tmp_path / "full").symlink_to("/dev/full")
    for name in ("fifo", "directory", "link", "full", "/", ".", "..", "", "directory/none/x"):
        before = sorted(tmp_path.rglob("*"))
        code, out, err = meta("backup", name, *source)
        assert (code != 0, out) == (True, ""), name
        assert err.startswith("fs9: meta backup: ")
        assert sorted(tmp_path.rglob("*")) == before
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    (tmp_path / "to-copy").symlink_to("directory/copy")
    assert meta("backup", "to-copy", *source)[0] == 0
    assert (tmp_path / "to-copy").is_symlink()
    assert (tmp_path / "directory" / "copy").stat().st_size > 0


def test_a_database_is_for_its_owner_alone(meta, tmp_path):
    """It has the hashes of passwords and keys in it; whatever the umask."""
    before = os.umask(0o022)
    try:
        create(tmp_path / "a.db", "acme")
    finally:
        os.umask(before)
    modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.glob("a.db*")}
    assert set(modes.values()) == {0o600}, modes


def test_what_cannot_be_done_is_said(meta, tmp_path):
    """Without passwords and without traces."""
    code, _, err = meta("backup", "copy")
    assert code == 1
    assert "there is no metadata" in err
    assert not (tmp_path / "fs9-data").exists()
    assert meta("restore", "missing")[0] == 3
    (tmp_path / "junk").write_text("junk")
    assert meta("restore", "junk")[0] == 1
    code, _, err = meta("migrate", "--dsn", "mysql://u:p4ss@h/d")
    assert code == 1
    assert "sqlite:PATH" in err
    assert "p4ss" not in err
    code, _, err = meta("migrate", "--dsn", "postgresql://u:p4ss@[bad/d")
    assert code == 7
    assert "p4ss" not in err
    assert meta("restore")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        ((), {}, "no secret"),
        (("--host", "0.0.0.0"), {"FS9_JWT_SECRET": SECRET}, "without an admin key"),
        (("--dsn", "sqlite:no/where.db"), {"FS9_JWT_SECRET": SECRET}, "no directory"),
        (("--port", "99999"), {"FS9_JWT_SECRET": SECRET}, "from 0 to 65535"),
        (("-c", "nothing.yaml"), {"FS9_JWT_SECRET": SECRET}, "nothing.yaml"),
        (("--admin-key", "admin-key-change-me"), {"FS9_JWT_SECRET": SECRET}, "published example"),
    ],
)
def test_serving_is_refused_when_it_would_not_be_safe(meta, monkeypatch, arguments, environ, says):
    """With what to do; nothing is started or made."""
    monkeypatch.delenv("FS9_JWT_SECRET", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    code, out, err = meta("serve", *arguments)
    assert (code, out) == (1, "")
    assert says in err
    assert SECRET not in err


def test_the_program_fs9_meta_has_the_same_flags(monkeypatch, capsys, tmp_path):
    """As the contract names them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FS9_JWT_SECRET", raising=False)
    flags = ["--host", "127.0.0.1", "--port", "0", "--dsn", "sqlite:x", "--admin-key", "short"]
    monkeypatch.setattr("sys.argv", ["fs9-meta", *flags, "--jwt-secret", SECRET])
    assert program() == 1
    assert "admin_key has fewer than" in capsys.readouterr().err
