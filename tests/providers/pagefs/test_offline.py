"""`fs9 fsck` and `fs9 scrub` on storages in databases and buckets, found by the metadata."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import obstore
import psycopg
import pytest
from obstore.store import S3Store

from fs9.cli.main import main
from fs9.clock import SystemClock
from fs9.directories import locks_directory
from fs9.limits import Limits
from fs9.meta.calls import Hooks, Wire
from fs9.meta.client import MetaClient
from fs9.meta.sqlite import SqliteStore
from fs9.providers.pagefs import backends, records
from fs9.providers.registry import ProviderContext
from fs9.types import MountSpec
from fs9.vfs.locks import FileLocks
from tests.fix_meta import META_KEY
from tests.providers.pagefs.scenario import BIG, write
from tests.providers.pagefs.test_branches import content, make
from tests.providers.pagefs.test_damage import number_of
from tests.providers.pagefs.test_killed import check_acknowledged, run_killed
from tests.providers.pagefs.test_lmdbstore import change_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fs9.providers.pagefs.provider import PageFs
    from fs9.threads import BlockingPool
    from tests.fix_meta import MetaProcesses
    from tests.fix_postgres import PostgresServer
    from tests.fix_s3 import S3Server

_numbers = itertools.count()


@dataclass
class Server:
    """What is left of a server that has stopped: its data directory, and what it stored."""

    data_dir: Path
    backend: dict[str, Any]
    pool: BlockingPool
    dsn: str
    bucket: S3Store
    prefix: str
    capsys: pytest.CaptureFixture[str]

    async def start(self, data_dir: Path | None = None) -> PageFs:
        where = data_dir or self.data_dir
        context = ProviderContext("acme", where, Limits(), SystemClock(), self.pool)
        return await backends.create({"backend": self.backend}, context)

    async def run(self, *words: str) -> tuple[int, str]:
        """The exit code of the command, and all that it said."""
        command = [words[0], "--data-dir", str(self.data_dir), *words[1:]]
        code = await self.pool.run(main, command)
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def objects(self) -> list[str]:
        """The paths of the blocks in the bucket."""
        prefix = f"{self.prefix}/acme/=2F/objects"
        return [each["path"] for page in obstore.list(self.bucket, prefix=prefix) for each in page]


@pytest.fixture(params=["postgres+inline", "postgres+s3", "slatedb+s3"])
async def server(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    pool: BlockingPool,
    postgres: PostgresServer,
    s3: S3Server,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Server:
    """With a namespace `acme`: `/big`, `/small`, `/d/e`."""
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    prefix, dsn = f"offline-{next(_numbers)}", postgres.new_database()
    blocks: dict[str, Any] = {"type": "inline"}
    if "s3" in request.param:
        blocks = {"type": "s3", "bucket": s3_bucket, "prefix": prefix, **s3.settings}
    backend: dict[str, Any] = {"type": "postgres", "dsn": dsn, "blocks": blocks}
    if "slatedb" in request.param:
        backend = {"type": "slatedb", "bucket": s3_bucket, "prefix": prefix}
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    metadata = await SqliteStore.open(data_dir / "meta.db", SystemClock(), pool)
    spec = MountSpec("/", "pagefs", {"backend": backend})
    await metadata.create_namespace("acme", "test", [spec, MountSpec("/m", "memfs", {})])
    await metadata.create_namespace("other", "test", [MountSpec("/", "memfs", {})])
    await metadata.aclose()
    bucket = S3Store(s3_bucket, config=s3.settings, client_options={"allow_http": True})
    found = Server(data_dir, backend, pool, dsn, bucket, prefix, capsys)
    fs = await found.start()
    await write(fs, "/big", BIG)
    await write(fs, "/small", b"small")
    await make(fs, "/d")
    await write(fs, "/d/e", b"")
    await fs.aclose()
    return found


async def test_what_is_in_order(server: Server, tmp_path: Path) -> None:
    """Nobody else's lease, and no worker of this host, is disturbed."""
    code, said = await server.run("fsck")
    assert (code, said) == (0, "acme:/: ok, 5 files, 100005 bytes\n")
    code, said = await server.run("scrub")
    assert (code, said) == (0, "acme:/: ok, 3 files, 100005 bytes\n")
    locks = FileLocks(locks_directory(server.data_dir), 1.0)
    await locks.acquire("acme")
    code, said = await server.run("fsck")
    assert (code, "a server has it open; stop the server first" in said) == (1, True)
    locks.release("acme")
    (tmp_path / "fs9.yaml").write_text("server: {limits: {owner_wait_secs: 0.5}}")
    elsewhere = await server.start(tmp_path / "another host")
    code, said = await server.run("fsck", "--repair")
    assert (code, "another host serves the namespace" in said) == (1, True)
    assert await content(elsewhere, "/small") == b"small"
    await elsewhere.aclose()
    assert (await server.run("fsck"))[0] == 0


async def test_a_kill(server: Server) -> None:
    """Of a real process, at a step: it is in order, with everything that was acknowledged."""
    steps = {"slatedb": "commit.after#60", "postgres": "commit.before#80"}
    step = "put.after#9" if "dsn" in server.backend and server.objects() else ""
    config = json.dumps({"backend": server.backend})
    step = step or steps[server.backend["type"]]
    done = await server.pool.run(run_killed, server.data_dir, step, config)
    for command in ("fsck", "scrub"):
        code, said = await server.run(command)
        assert (code, "acme:/: ok" in said) == (0, True), done.stderr + said
    await check_acknowledged(await server.start(), done)


async def test_a_trial_leaves_nothing_behind(server: Server) -> None:
    """As when a mount is looked at before it is made: another host may do the same just then."""
    before = await everything(server)
    for _ in range(2):
        context = ProviderContext(
            *("acme", server.data_dir, Limits(), SystemClock(), server.pool), trial=True
        )
        tried = await backends.create({"backend": server.backend}, context)
        await tried.aclose()
    assert await everything(server) == before
    assert (await server.run("fsck"))[0] == 0


async def everything(server: Server) -> list[str]:
    """The objects and the spaces that there are."""
    found = [each["path"] for page in obstore.list(server.bucket, server.prefix) for each in page]
    if server.backend["type"] == "postgres":
        async with await psycopg.AsyncConnection.connect(server.dsn) as connection:
            cursor = await connection.execute("SELECT name FROM pagefs_spaces")
            found += [name for (name,) in await cursor.fetchall()]
    return sorted(path for path in found if "/meta/" not in path or ".trial" in path)


async def test_damaged_objects(server: Server) -> None:
    """A flipped byte, an orphan, a lost object."""
    paths = server.objects()
    if not paths:
        pytest.skip("no objects")
    (path,) = paths
    whole = bytes(obstore.get(server.bucket, path).bytes())
    obstore.put(server.bucket, path, whole[:777] + bytes([whole[777] ^ 4]) + whole[778:])
    assert (await server.run("fsck"))[0] == 0
    code, said = await server.run("scrub")
    assert (code, "FAULTY" in said, "checksum" in said) == (1, True, True)
    obstore.put(server.bucket, path, whole)
    orphan = path[: -len("0000000000000000-0000000000000000")] + f"{99:016x}-{77:016x}"
    obstore.put(server.bucket, orphan, b"orphan")
    code, said = await server.run("fsck")
    assert (code, "garbage: object" in said) == (0, True)
    assert sorted(server.objects()) == sorted([path, orphan])
    code, said = await server.run("fsck", "--repair")
    assert (code, "garbage: object" in said) == (0, True)
    assert server.objects() == [path]
    obstore.delete(server.bucket, path)
    for command in ("fsck", "scrub"):
        code, said = await server.run(command)
        assert (code, "FAULTY" in said) == (1, True)
    obstore.put(server.bucket, path, whole)
    assert (await server.run("scrub"))[0] == 0


async def test_a_flipped_page_in_the_database(server: Server) -> None:
    if server.backend["type"] != "postgres":
        pytest.skip("no rows")
    async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
        flip = (
            "UPDATE pagefs_items SET value = set_byte(value, 6, get_byte(value, 6) # 16)"
            " WHERE get_byte(key, 0) = ascii('E') AND get_byte(value, 0) = ascii('i')"
        )
        assert (await connection.execute(flip)).rowcount > 0
        for command in ("fsck", "scrub"):
            code, said = await server.run(command)
            assert (code, "checksum does not match" in said) == (1, True)
        await connection.execute(flip)
        assert (await server.run("scrub"))[0] == 0


async def test_damaged_rows_of_the_database_are_named_and_the_check_goes_on(server: Server) -> None:
    """Each with its file; nothing is mended meanwhile. A row that opening needs is named, too."""
    if server.backend["type"] != "postgres":
        pytest.skip("no rows")

    async def damage(kind: str, count: int, *, at: int = -1) -> None:
        cursor = await connection.execute(
            "UPDATE pagefs_items SET value = set_byte(value, 0, get_byte(value, 0) # 16)"
            " WHERE get_byte(key, 0) = ascii(%s) AND (%s < 0 OR get_byte(key, 8) = %s)",
            (kind, at, at),
        )
        assert cursor.rowcount == count

    opened = await server.start()
    numbers = [await number_of(opened, path) & 255 for path in ("/small", "/d")]
    await opened.aclose()
    async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
        for kind, at, path in (("I", numbers[0], "/small"), ("D", numbers[1], "/d")):
            await damage(kind, 1, at=at)
            for words in (("fsck",), ("scrub",), ("fsck", "--repair")):
                code, said = await server.run(*words)
                (line,) = [line for line in said.splitlines() if "the row" in line]
                assert (code, line.endswith(f"does not match ({path})")) == (1, True), said
                assert ("nothing is mended" in said) == ("--repair" in words)
                assert "mended:" not in said
            await damage(kind, 1, at=at)
            assert (await server.run("fsck"))[0] == 0
        await damage("E", len(await rows_of(connection, "E")))
        code, said = await server.run("scrub")
        assert said.count("before byte") == said.count("does not match (/") > 0
        await damage("\1", len(await rows_of(connection, "\1")))
        code, said = await server.run("fsck")
        assert (code, "the superblock: the row 0153 is damaged" in said) == (1, True)


async def rows_of(connection: psycopg.AsyncConnection, kind: str) -> list[Any]:
    cursor = await connection.execute(
        "SELECT key FROM pagefs_items WHERE get_byte(key, 0) = ascii(%s)", (kind,)
    )
    return await cursor.fetchall()


async def test_metadata_that_cannot_be_reached(
    tmp_path: Path, pool: BlockingPool, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """It is an error, not "all is well"."""
    monkeypatch.chdir(tmp_path)
    nowhere = "meta: {dsn: 'postgresql://x@127.0.0.1:1/x', timeout_secs: 0.5}"
    await pool.run((tmp_path / "fs9.yaml").write_text, nowhere)
    assert await pool.run(main, ["fsck", "--data-dir", str(tmp_path)]) == 1
    assert "metadata" in capsys.readouterr().err


async def test_mounts_that_a_metadata_service_knows(
    server: Server, start_meta: Callable[..., MetaProcesses]
) -> None:
    """Those of namespaces that were deleted, and are kept for a while, too."""
    if server.objects() or server.backend["type"] != "postgres":
        pytest.skip("one kind is enough")
    service = await server.pool.run(start_meta)
    calls = Wire((service.url,), META_KEY, Limits(), SystemClock(), Hooks())
    async with contextlib.aclosing(MetaClient(calls)) as metadata:
        for name in ("acme", "gone"):
            spec = MountSpec("/", "pagefs", {"backend": server.backend})
            await metadata.create_namespace(name, "test", [spec])
        await metadata.set_status("gone", "deleted", "test")
    (server.data_dir / "meta.db").unlink()
    settings = f"server: {{meta_url: '{service.url}', meta_key: '{META_KEY}'}}"
    (server.data_dir.parent / "fs9.yaml").write_text(settings)
    code, said = await server.run("fsck")
    assert code == 0
    assert said.splitlines() == [
        "acme:/: ok, 5 files, 100005 bytes",
        "gone:/: ok, never used",
    ]


async def test_a_mount_that_was_never_used(server: Server) -> None:
    """It is in order, and stays unused; objects without their metadata are no such mount."""
    metadata = await SqliteStore.open(server.data_dir / "meta.db", SystemClock(), server.pool)
    spec = MountSpec("/", "pagefs", {"backend": server.backend})
    await metadata.create_namespace("new", "test", [spec])
    await metadata.aclose()
    before = await everything(server)
    for command in ("fsck", "scrub"):
        code, said = await server.run(command)
        assert (code, said.splitlines()[1]) == (0, "new:/: ok, never used")
    code, said = await server.run("fsck", "--json")
    assert json.loads(said)["findings"][1] == {
        "namespace": "new",
        "mount": "/",
        "ok": True,
        "unused": True,
    }
    assert await everything(server) == before
    assert not (locks_directory(server.data_dir) / "new").exists()
    if server.objects():
        orphan = f"{server.prefix}/new/=2F/objects/{1:016x}-{2:016x}"
        obstore.put(server.bucket, orphan, b"orphan")
        code, said = await server.run("fsck")
        assert (code, "there are objects and no metadata" in said) == (1, True)


async def test_findings_as_json(
    tmp_path: Path, pool: BlockingPool, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """The same as the text, with the same exit code; also where there is nothing."""
    monkeypatch.chdir(tmp_path)

    async def run(*words: str) -> tuple[int, dict[str, Any]]:
        code = await pool.run(main, [*words, "--data-dir", str(tmp_path), "--json"])
        return code, json.loads(capsys.readouterr().out)

    counts = {"storages": 0, "not_ok": 0, "faults": 0, "mended": 0, "garbage": 0}
    assert await run("fsck") == (0, {"ok": True, "counts": counts, "findings": []})
    context = ProviderContext("acme", tmp_path, Limits(), SystemClock(), pool)
    fs = await backends.create({}, context)
    await write(fs, "/big", BIG)
    await fs.aclose()
    (found,) = (tmp_path / "pagefs/acme/%2F/objects").glob("**/*-*")
    whole = found.read_bytes()
    found.write_bytes(whole[:777] + bytes([whole[777] ^ 4]) + whole[778:])
    code, document = await run("scrub")
    (finding,) = document["findings"]
    assert (code, document["ok"], finding["ok"], document["counts"]["not_ok"]) == (1, 0, 0, 1)
    assert (finding["namespace"], finding["mount"], finding["files"]) == ("acme", "/", 1)
    (fault,) = finding["faults"]
    assert ("/big" in fault["fault"], fault["mended"]) == (True, False)
    orphan = found.with_name(f"{99:016x}-{77:016x}")
    orphan.write_bytes(whole)
    code, document = await run("fsck", "--repair")
    assert (code, document["ok"]) == (0, True)
    assert document["findings"][0]["garbage"] == [orphan.name]
    assert document["counts"] == counts | {"storages": 1, "garbage": 1}


async def test_where_there_is_nothing(
    tmp_path: Path, pool: BlockingPool, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert await pool.run(main, ["fsck", "--data-dir", str(tmp_path)]) == 0
    assert "there is no pagefs" in capsys.readouterr().out
    assert await pool.run(os.listdir, tmp_path) == []


async def test_a_storage_that_cannot_be_opened(
    tmp_path: Path, pool: BlockingPool, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """It is one error; the others are checked."""
    monkeypatch.chdir(tmp_path)
    for name in ("acme", "broken"):
        context = ProviderContext(name, tmp_path, Limits(), SystemClock(), pool)
        await (await backends.create({}, context)).aclose()
    lock = tmp_path / "pagefs/broken/%2F/lock"
    lock.unlink()
    lock.symlink_to("lock")
    for command in ("fsck", "scrub"):
        assert await pool.run(main, [command, "--data-dir", str(tmp_path)]) == 1
        said = capsys.readouterr()
        assert "acme:/: ok" in said.out
        assert "broken:/: " in said.err


async def test_damage_that_ends_the_process_that_reads_it(
    tmp_path: Path, pool: BlockingPool, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """It is an error of its namespace, with what to do; those before and after it are checked."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        context = ProviderContext(name, tmp_path, Limits(), SystemClock(), pool)
        fs = await backends.create({}, context)
        await write(fs, "/f", b"x")
        await fs.aclose()
    # Pages that are missing at the end of a mapped file are SIGBUS.
    os.truncate(tmp_path / "pagefs/b/%2F/meta/data.mdb", 2 * 4096)
    for command in ("fsck", "scrub"):
        assert await pool.run(main, [command, "--data-dir", str(tmp_path)]) == 1
        said = capsys.readouterr()
        assert [line.partition(",")[0] for line in said.out.splitlines()] == ["a:/: ok", "c:/: ok"]
        assert f"fs9: {command}: b:/: the LMDB file is damaged" in said.err
        assert "(SIGBUS); restore the metadata from a backup" in said.err


async def test_a_damaged_row_in_lmdb_is_named(
    tmp_path: Path, pool: BlockingPool, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """With its file, by both commands."""
    monkeypatch.chdir(tmp_path)
    fs = await backends.create({}, ProviderContext("a", tmp_path, Limits(), SystemClock(), pool))
    await write(fs, "/f", b"x")
    number = await number_of(fs, "/f")
    await fs.aclose()
    key = records.inode_key(number)
    change_rows(
        tmp_path / "pagefs/a/%2F",
        lambda k, v: v[:-1] + bytes([v[-1] ^ 1]) if k.startswith(key) else v,
    )
    for command in ("fsck", "scrub"):
        assert await pool.run(main, [command, "--data-dir", str(tmp_path)]) == 1
        assert "is damaged: a checksum does not match (/f)" in capsys.readouterr().out
