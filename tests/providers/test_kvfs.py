"""kvfs beyond the common suite: keys that expire, what a write costs, what is counted."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import (
    DirectoryNotEmpty,
    InvalidArgument,
    IsDirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
)
from fs9.limits import MIB, Limits
from fs9.providers import kvfs, kvtree
from fs9.providers.registry import ProviderContext
from fs9.quota import Quota
from fs9.types import MKDIR, READ, REPLACE, Condition, OpenFlags, StatChanges
from tests.conformance.driver import ProviderDriver
from tests.conformance.steps import content_of, exists, make_directory, make_file, names_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.threads import BlockingPool

RW = OpenFlags(read=True, write=True, create=True)


@pytest.fixture(params=[True, False], ids=["disk", "memory"])
def persistent(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
async def make(
    tmp_path: Path, clock: ManualClock, pool: BlockingPool, persistent: bool
) -> AsyncIterator[Any]:
    """Makes a driver of kvfs with a quota (`driver.quota`), on the same store each time."""
    made: list[ProviderDriver] = []

    async def make(*, quota: Quota | None = None, **config: Any) -> ProviderDriver:
        quota = quota or Quota()
        context = ProviderContext("acme", tmp_path, Limits(), clock, pool, quota)
        driver = ProviderDriver(await kvfs.create({"persistent": persistent, **config}, context))
        driver.quota = quota  # type: ignore[attr-defined]
        made.append(driver)
        return driver

    yield make
    for driver in made:
        await driver.aclose()


async def test_a_key_of_a_mount_with_a_ttl_expires(make: Any, clock: ManualClock):
    """It is gone for every operation, and each change of its value starts its time again."""
    kv = await make(ttl_s=10)
    await make_file(kv, "/k", b"v")
    await make_directory(kv, "/d")
    clock.advance(9)
    handle, _ = await kv.open("/k", RW)
    await kv.write(handle, 0, b"w")
    await kv.close(handle)
    clock.advance(9)
    assert await content_of(kv, "/k") == b"w"
    clock.advance(1)
    assert not await exists(kv, "/k")
    assert await names_in(kv, "/") == ["d"]
    for refused in (kv.open("/k", READ), kv.remove("/k"), kv.wstat("/k", StatChanges(size=0))):
        with pytest.raises(NotFound):
            await refused
    handle, _ = await kv.open("/k", OpenFlags(write=True, create=True, exclusive=True))
    await kv.close(handle)
    assert (await kv.stat("/k")).size == 0


async def test_an_open_key_outlives_its_time(make: Any, clock: ManualClock):
    """As a removed one does: its handles read and write on; its name is free."""
    kv = await make(ttl_s=5)
    await make_file(kv, "/k", b"old")
    handle, _ = await kv.open("/k", OpenFlags(read=True, write=True))
    clock.advance(6)
    await make_file(kv, "/k", b"new")
    await kv.write(handle, 3, b"er")
    assert bytes(await kv.read(handle, 0, 9)) == b"older"
    await kv.close(handle)
    assert await content_of(kv, "/k") == b"new"


async def test_a_directory_of_expired_keys_is_empty(make: Any, clock: ManualClock):
    kv = await make()
    await make_directory(kv, "/d")
    for name in ("a", "b"):
        await make_file(kv, f"/d/{name}", b"x")
    await make_file(kv, "/.ttl/d/a", b"5")
    with pytest.raises(DirectoryNotEmpty):
        await kv.remove("/d")
    await make_file(kv, "/.ttl/d/b", b"5")
    clock.advance(5)
    await kv.remove("/d")
    assert not await exists(kv, "/d")


async def test_the_ttl_of_a_key_is_a_file(make: Any, clock: ManualClock):
    """It reads what is left; what is written holds at once and for the key's later values."""
    kv = await make()
    await make_directory(kv, "/d")
    await make_file(kv, "/d/k", b"v")
    assert await content_of(kv, "/.ttl/d/k") == b"never\n"
    await make_file(kv, "/.ttl/d/k", b"60\n")
    assert await names_in(kv, "/.ttl") == ["d"]
    assert await names_in(kv, "/.ttl/d") == ["k"]
    assert ".ttl" not in await names_in(kv, "/")
    clock.advance(20.5)
    assert float(await content_of(kv, "/.ttl/d/k")) == 39.5
    await _upload(kv, "/d/k", b"another value")
    assert float(await content_of(kv, "/.ttl/d/k")) == 60
    clock.advance(60)
    assert not await exists(kv, "/d/k")
    with pytest.raises(NotFound):
        await kv.stat("/.ttl/d/k")


async def test_never_and_removal_end_a_ttl(make: Any, clock: ManualClock):
    kv = await make(ttl_s=5)
    for name in ("a", "b"):
        await make_file(kv, f"/{name}", b"v")
    await _upload(kv, "/.ttl/a", b"never")
    await kv.remove("/.ttl/b")
    clock.advance(1000)
    assert await names_in(kv, "/") == ["a", "b"]


async def test_a_ttl_is_seconds(make: Any):
    """Anything else is refused with what is expected, and changes nothing."""
    kv = await make()
    await make_file(kv, "/k", b"v")
    handle, _ = await kv.open("/.ttl/k", OpenFlags(write=True, truncate=True))
    for text in (b"", b"soon", b"0", b"-1", b"nan", b"inf", b"9" * 20, b"1" * 65):
        with pytest.raises(InvalidArgument, match="seconds"):
            await kv.provider.write(handle, 0, text)
    await kv.close(handle)
    assert await content_of(kv, "/.ttl/k") == b"never\n"
    for refused in (
        kv.open("/.ttl/missing", OpenFlags(write=True, create=True)),
        kv.open("/.ttl", OpenFlags(write=True)),
        kv.remove("/.ttl"),
        kv.wstat("/.ttl/k", StatChanges(mode=0)),
    ):
        with pytest.raises((PermissionDenied, IsDirectory)):
            await refused
    with pytest.raises(PermissionDenied, match="times to live"):
        await kv.wstat("/k", StatChanges(name="/.ttl"))


async def test_a_ttl_with_a_condition(make: Any):
    """Of two who saw one setting only the first changes it."""
    kv = await make()
    await make_file(kv, "/k", b"v")
    seen = Condition(if_match=((await kv.stat("/.ttl/k")).etag,))
    first, _ = await kv.open("/.ttl/k", REPLACE, seen)
    second, _ = await kv.open("/.ttl/k", REPLACE, seen)
    for handle in (first, second):
        await kv.write(handle, 0, b"10")
    await kv.close(first)
    with pytest.raises(PreconditionFailed):
        await kv.close(second)


@pytest.mark.parametrize("config", [{"ttl_s": 0}, {"ttl_s": -1}, {"ttl": 5}, {"persistent": "no"}])
async def test_a_wrong_config_is_refused(make: Any, config: dict[str, Any]):
    with pytest.raises(InvalidArgument, match="kvfs"):
        await make(**config)


# -- values -------------------------------------------------------------------------------------


async def test_compare_and_set_has_one_winner(make: Any):
    """Twenty who read, add one and replace under the etag they saw: every success counts once."""
    kv = await make()
    await make_file(kv, "/n", b"0")

    async def add_one() -> bool:
        etag = (await kv.stat("/n")).etag
        value = int(await content_of(kv, "/n"))
        await asyncio.sleep(0)
        try:
            handle, _ = await kv.open("/n", REPLACE, Condition(if_match=(etag,)))
            await kv.write(handle, 0, b"%d" % (value + 1))
            await kv.close(handle)
        except PreconditionFailed:
            return False
        return True

    won = await asyncio.gather(*(add_one() for _ in range(20)))
    assert 1 <= sum(won) == int(await content_of(kv, "/n"))


async def test_a_write_touches_its_chunks_alone(make: Any):
    """One byte into a value of 10 MiB: one chunk is read and written, whatever the size."""
    kv = await make()
    await make_file(kv, "/big", bytes(10 * MIB))
    put: list[int] = []
    write = kvtree.write

    def watched(tx: Any, number: int, offset: int, data: Any) -> None:
        class Watched:
            get = tx.get

            def put(self, key: bytes, value: bytes) -> None:
                put.append(len(value))
                tx.put(key, value)

        write(Watched(), number, offset, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kvtree, "write", watched)
        handle, _ = await kv.open("/big", OpenFlags(write=True))
        await kv.write(handle, 5 * MIB, b"x")
        await kv.close(handle)
    assert put == [kvtree.CHUNK_BYTES]


async def test_a_hole_takes_no_room(make: Any):
    """A byte at 8 TiB: a size, and one chunk; past the largest file it is refused."""
    kv = await make()
    if kv.provider.volatile:
        pytest.skip("what is in memory is bounded by its size, holes included")
    handle, _ = await kv.open("/f", RW)
    await kv.write(handle, 8 * 2**40, b"x")
    assert (await kv.stat("/f")).size == 8 * 2**40 + 1
    with kv.provider._store.reading() as tx:
        assert len(list(tx.scan(b"D", b"D"))) == 1
    for offset in (2**62, 2**63 - 2):
        with pytest.raises(QuotaExceeded):
            await kv.write(handle, offset, b"x")
    with pytest.raises(QuotaExceeded):
        await kv.wstat("/f", StatChanges(size=2**62))
    await kv.wstat("/f", StatChanges(size=3))
    assert await content_of(kv, "/f") == bytes(3)
    await kv.close(handle)


async def test_memory_is_bounded(pool: BlockingPool, clock: ManualClock, tmp_path: Path):
    limits = Limits(memfs_bytes_max=1000, memfs_files_max=3)
    context = ProviderContext("acme", tmp_path, limits, clock, pool)
    kv = ProviderDriver(await kvfs.create({"persistent": False}, context))
    handle, _ = await kv.open("/f", RW)
    for offset in (1000, 2**40):
        with pytest.raises(QuotaExceeded):
            await kv.write(handle, offset, b"x")
    await kv.write(handle, 999, b"x")
    await make_file(kv, "/g")
    with pytest.raises(QuotaExceeded):
        await make_file(kv, "/h")
    stats = await kv.statfs("/")
    assert (stats.free_bytes, stats.free_inodes) == (0, 0)


async def test_the_quota_counts_exactly(make: Any):
    """What is refused changes neither the file nor the count; what is removed is given back."""
    kv = await make(quota=Quota(bytes_max=1000, files_max=3))
    await make_file(kv, "/a", b"x" * 600)
    handle, _ = await kv.open("/b", RW)
    with pytest.raises(QuotaExceeded):
        await kv.write(handle, 0, b"x" * 500)
    assert (kv.quota.bytes_used, kv.quota.files_used) == (600, 2)
    staged, _ = await kv.open("/a", REPLACE)
    await kv.write(staged, 0, b"y" * 400)
    with pytest.raises(QuotaExceeded):
        await kv.open("/c", MKDIR)
    await kv.close(staged)
    await kv.provider._writer.settle()
    assert (kv.quota.bytes_used, kv.quota.files_used) == (400, 2)
    await kv.remove("/a")
    await kv.write(handle, 0, b"x" * 1000)
    await kv.remove("/b")
    assert kv.quota.bytes_used == 1000  # still open
    await kv.close(handle)
    await make_directory(kv, "/d")
    await kv.provider._writer.settle()
    assert (kv.quota.bytes_used, kv.quota.files_used) == (0, 1)
    await kv.aclose()
    assert (kv.quota.bytes_used, kv.quota.files_used) == (0, 0)


async def test_a_cancelled_open_leaves_nothing_open(make: Any):
    kv = await make()
    await make_file(kv, "/f", b"x" * 10)
    opening = asyncio.create_task(kv.open("/f", REPLACE))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    if opening.cancelled():
        assert not kv.provider._opens
        await make_directory(kv, "/d")
        await kv.provider._writer.settle()
        assert (kv.quota.bytes_used, kv.quota.files_used) == (10, 2)
    else:  # in memory there is nothing to wait for
        await kv.close(opening.result()[0], discard=True)


async def test_handles_opened_and_closed_while_keys_go(make: Any):
    """Many at once on few keys: every handle reads what it was opened on; nothing is left."""
    kv = await make()
    dice = random.Random(5)

    async def life(number: int) -> None:
        path = f"/k{dice.randrange(3)}"
        word = b"%d" % number
        await _upload(kv, path, word)
        try:
            handle, info = await kv.open(path, OpenFlags(read=True, write=True, create=True))
            if info.size:
                read = bytes(await kv.read(handle, 0, 99))
                assert read.isdigit()
                assert bytes(await kv.read(handle, 0, 99)) == read
            await kv.remove(path)
            await kv.close(handle)
        except NotFound:
            await kv.close(handle)

    for start in range(0, 120, 12):
        await asyncio.gather(*(life(start + number) for number in range(12)))
    for path in await kv.readdir("/"):
        await kv.remove(path.path)
    await make_directory(kv, "/d")
    await kv.provider._writer.settle()
    assert (kv.quota.bytes_used, kv.quota.files_used) == (0, 1)
    assert not kv.provider._opens


# -------------------------------------------------------------------------------------------


async def _upload(kv: ProviderDriver, path: str, content: bytes) -> None:
    handle, _ = await kv.open(path, REPLACE)
    await kv.write(handle, 0, content)
    await kv.close(handle)
