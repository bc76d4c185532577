"""pagefs on PostgreSQL and S3, as one host and as several."""

from __future__ import annotations

import asyncio
import builtins
import itertools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from fs9.clock import SystemClock
from fs9.errors import BackendUnavailable, Fs9Error, InvalidArgument, OwnerUnavailable
from fs9.limits import Limits
from fs9.providers.pagefs import backends
from fs9.providers.registry import ProviderContext
from fs9.types import OpenFlags
from tests.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fs9.providers.pagefs.provider import PageFs
    from fs9.threads import BlockingPool
    from tests.fix_postgres import PostgresServer
    from tests.fix_s3 import S3Server

_numbers = itertools.count()
READ, WRITE = OpenFlags(read=True), OpenFlags(write=True, create=True)
Host: TypeAlias = Callable[..., Awaitable["PageFs"]]


@pytest.fixture(scope="module")
def module_dsn(postgres: PostgresServer) -> str:
    return postgres.new_database()


@pytest.fixture
def backend(module_dsn: str, s3: S3Server, s3_bucket: str) -> dict[str, Any]:
    blocks = {"type": "s3", "bucket": s3_bucket, "prefix": "distributed", **s3.settings}
    return {"type": "postgres", "dsn": module_dsn, "blocks": blocks, "lease_secs": 30}


@pytest.fixture
async def host(tmp_path: Path, pool: BlockingPool, backend: dict[str, Any]) -> AsyncIterator[Host]:
    """`await host("a")`: the namespace of the test as the host of that name serves it."""
    namespace = f"ns{next(_numbers)}"
    made: list[PageFs] = []

    async def host(name: str, *, wait_s: float = 0.01, lost=lambda: None, **changes: Any) -> PageFs:
        limits = Limits(owner_wait_s=wait_s)
        context = ProviderContext(
            *(namespace, tmp_path / name, limits, SystemClock(), pool), lost=lost
        )
        made.append(await backends.create({"backend": backend | changes}, context))
        return made[-1]

    yield host
    for fs in reversed(made):
        try:
            await fs.aclose()
        except Fs9Error:
            continue


async def put(fs: PageFs, path: str, data: bytes, *, sync: bool = True) -> None:
    file, _ = await fs.open(path, WRITE)
    offset = 0
    while offset < len(data):
        offset += await fs.write(file, offset, data[offset : offset + 2**20])
    await fs.close(file, sync=sync)


async def content(fs: PageFs, path: str) -> bytes:
    file, info = await fs.open(path, READ)
    found = b""
    while len(found) < info.size:
        found += bytes(await fs.read(file, len(found), 2**20))
    await fs.close(file)
    return found


async def test_files_move_from_host_to_host(host: Host) -> None:
    """The second is refused while the first serves; when that has closed it has everything."""
    first = await host("a")
    data = bytes(range(256)) * 12_000
    await put(first, "/big", data)
    await put(first, "/small", b"small")
    with pytest.raises(OwnerUnavailable, match="another host serves"):
        await host("b")
    await first.aclose()
    second = await host("b")
    assert await content(second, "/big") == data
    assert [info.path for info in await second.readdir("/", "", 9)] == ["/big", "/small"]
    await second.remove("/big")
    await second.core.settle()
    assert second.core.blocks is not None
    assert await second.core.blocks.list("", "", 9) == []


async def test_a_writer_that_was_fenced_leaves_nothing_behind(host: Host) -> None:
    """Its uploads fail, and it removes their blocks: the new owner has looked for garbage."""
    lost: list[int] = []
    old = await host("a", lost=lambda: lost.append(1))
    await put(old, "/kept", b"k" * 100_000)
    file, _ = await old.open("/late", WRITE)
    new = await host("a")  # the same host: its workers exclude one another by file locks
    await new.core.settle()
    with pytest.raises(OwnerUnavailable):
        await old.write(file, 0, b"l" * 100_000)
    with pytest.raises(OwnerUnavailable):
        await old.stat("/kept")
    assert lost == [1]
    assert await content(new, "/kept") == b"k" * 100_000
    with pytest.raises(OwnerUnavailable):
        await old.aclose()
    await new.aclose()
    again = await host("b")
    await again.core.settle()
    assert again.core.blocks is not None
    assert len(await again.core.blocks.list("", "", 9)) == 1


@pytest.mark.parametrize("mode", ["error", "silent", "cut"])
async def test_object_storage_that_fails_and_comes_back(
    host: Host, backend: dict[str, Any], s3: S3Server, mode
) -> None:
    """Operations are errors that may be tried again; what was there stays, garbage goes."""
    async with FaultProxy(s3.port) as proxy:
        blocks = backend["blocks"] | {
            "endpoint": f"http://127.0.0.1:{proxy.port}",
            "deadline_secs": 0.6,
            "request_secs": 0.3,
        }
        fs = await host("a", blocks=blocks)
        await put(fs, "/kept", b"k" * 100_000)
        proxy.set(mode)
        with pytest.raises(Fs9Error) as caught:
            await put(fs, "/lost", b"l" * 100_000)
        assert caught.value.retryable
        with pytest.raises(Fs9Error) as caught:
            await content(fs, "/kept")
        assert caught.value.retryable
        proxy.set("pass")
        assert await content(fs, "/kept") == b"k" * 100_000
        await put(fs, "/lost", b"m" * 100_000)
        assert await content(fs, "/lost") == b"m" * 100_000
        await fs.aclose()
    again = await host("b")
    assert await content(again, "/lost") == b"m" * 100_000
    await again.core.settle()
    assert again.core.blocks is not None
    assert len(await again.core.blocks.list("", "", 9)) == 2


async def test_a_bit_that_flipped_on_the_way_is_an_error(
    host: Host, backend: dict[str, Any], s3: S3Server
) -> None:
    """Never a wrong byte."""
    async with FaultProxy(s3.port) as proxy:
        endpoint = f"http://127.0.0.1:{proxy.port}"
        fs = await host("a", blocks=backend["blocks"] | {"endpoint": endpoint, "deadline_secs": 2})
        await put(fs, "/f", b"k" * 100_000)
        proxy.set("damage")
        with pytest.raises(Fs9Error):
            await content(fs, "/f")
        proxy.set("pass")
        assert await content(fs, "/f") == b"k" * 100_000
        await fs.aclose()


async def test_the_database_restarts_under_writers(host: Host, postgres: PostgresServer) -> None:
    """What was acknowledged is there; what was not is an error that may be tried again."""
    fs = await host("a")
    done: list[str] = []
    failures: list[Fs9Error] = []
    enough = asyncio.Event()

    async def write(who: int) -> None:
        for number in range(40):
            path = f"/{who}-{number}"
            try:
                await put(fs, path, path.encode() * 2000)
            except Fs9Error as error:
                failures.append(error)
            else:
                done.append(path)
            if len(done) >= 20:
                enough.set()

    writing = asyncio.gather(*(write(who) for who in range(3)))
    await enough.wait()
    await asyncio.to_thread(postgres.stop, "immediate")
    await asyncio.to_thread(postgres.start)
    await writing
    assert all(error.retryable for error in failures)
    try:
        await fs.aclose()
    except OwnerUnavailable:
        assert fs.core.store.lease.lost
    again = await host("a")
    assert len(done) >= 20
    for path in done[::7] + done[15:25]:
        assert await content(again, path) == path.encode() * 2000


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "postgres", "dsn": "x", "blocks": {"type": "files"}}, "use 's3' or 'inline'"),
        ({"type": "lmdb", "blocks": {"type": "s3"}}, "'postgres' or 'slatedb' with 's3'"),
        ({"type": "memory", "blocks": {"type": "s3"}}, "cannot be 's3'"),
        ({"type": "slatedb", "bucket": "b", "blocks": {"type": "files"}}, "use 's3' or 'inline'"),
        ({"type": "tikv"}, "not supported; use"),
        ({"type": "postgres"}, "dsn"),
        ({"type": "postgres", "dsn": "x", "lease_secs": 0}, "lease_secs"),
        ({"type": "s3"}, "bucket"),
        ({"type": "s3", "bucket": "b", "prefix": "a/../b"}, "prefix"),
        ({"type": "s3", "bucket": "b", "region": "r"}, "no setting 'region'"),
        (
            {"type": "postgres", "dsn": "x", "blocks": {"type": "s3", "bucket": ""}},
            "need a bucket",
        ),
        (
            {
                "type": "postgres",
                "dsn": "x",
                "blocks": {"type": "s3", "bucket": "b", "access_key_id": "a"},
            },
            "belong together",
        ),
    ],
)
async def test_what_cannot_be_used_is_an_error_where_it_is_made(
    tmp_path: Path, pool: BlockingPool, config: dict[str, Any], message: str
) -> None:
    """It says what to use instead."""
    context = ProviderContext("acme", tmp_path, Limits(), SystemClock(), pool)
    with pytest.raises(InvalidArgument, match=message):
        await backends.create({"backend": config}, context)


async def test_a_missing_bucket_is_an_error_at_the_mount(host: Host, backend) -> None:
    with pytest.raises(InvalidArgument, match="'nowhere' does not exist; make it first"):
        await host("a", blocks=backend["blocks"] | {"bucket": "nowhere"})


async def test_a_database_that_is_down_is_an_error_at_the_mount(host: Host) -> None:
    with pytest.raises(BackendUnavailable):
        await host("a", dsn="postgresql://x@127.0.0.1:1/x", timeout_secs=0.5)


@pytest.mark.parametrize(
    ("library", "config"),
    [
        (
            "s3blocks",
            {"type": "postgres", "dsn": "dbname=x", "blocks": {"type": "s3", "bucket": "b"}},
        ),
        ("slatestore", {"type": "slatedb", "bucket": "b"}),
    ],
)
async def test_a_library_that_is_not_installed(
    tmp_path: Path, pool: BlockingPool, monkeypatch, library: str, config: dict[str, Any]
) -> None:
    """The error says what to install."""
    original = builtins.__import__

    def without(name, globals=None, locals=None, fromlist=(), level=0):  # noqa: A002
        if library in (fromlist or ()):
            raise ImportError(name)
        return original(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", without)
    context = ProviderContext("acme", tmp_path, Limits(), SystemClock(), pool)
    with pytest.raises(InvalidArgument, match="pip install 'fs9"):
        await backends.create({"backend": config}, context)


@pytest.mark.parametrize("kind", ["slatedb", "s3"])
async def test_all_in_one_bucket(
    tmp_path: Path, pool: BlockingPool, s3: S3Server, s3_bucket: str, monkeypatch, kind: str
) -> None:
    """The contract's form; who opens it takes it from who had it."""
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    config = {"backend": {"type": kind, "bucket": s3_bucket, "prefix": f"whole-{kind}"}}
    lost: list[int] = []
    context = ProviderContext(
        *("acme", tmp_path, Limits(), SystemClock(), pool), lost=lambda: lost.append(1)
    )
    fs = await backends.create(config, context)
    await put(fs, "/big", b"b" * 100_000)
    await put(fs, "/small", b"s")
    other = await backends.create(config, context)
    assert await content(other, "/big") == b"b" * 100_000
    with pytest.raises(OwnerUnavailable):
        await put(fs, "/late", b"l" * 100_000)
    assert lost == [1]
    with pytest.raises(OwnerUnavailable):
        await fs.aclose()
    await put(other, "/small", b"t")
    await other.aclose()
    again = await backends.create(config, context)
    assert await content(again, "/small") == b"t"
    await again.aclose()
