"""memfs and localfs charge the namespace's quota, and refuse what it does not allow."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fs9.clock import SystemClock
from fs9.errors import Fs9Error, NotFound, QuotaExceeded
from fs9.limits import Limits
from fs9.providers import builtin, localfs, localquota
from fs9.providers.jail import RESERVED_PREFIX
from fs9.quota import Quota
from fs9.resources import Resources
from fs9.threads import BlockingPool
from fs9.types import MKDIR, READ, REPLACE, WRITE, MountSpec, OpenFlags, StatChanges
from tests.providers.fix_quota import APPEND, CREATE, TRUNCATE, make, make_provider, put, used, walk

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fs9.provider import Provider
    from fs9.providers.localfile import LocalFile

__all__ = ["make"]


async def test_each_change_is_counted(make: Any):
    """Growth, holes, truncation, links, directories, replacement, renames over, removal."""
    quota = Quota(1000, 10)
    provider = await make(quota)
    file, _ = await provider.open("/f", CREATE)
    assert used(quota) == (0, 1)
    await provider.write(file, 90, b"x" * 10)
    assert used(quota) == (100, 1)
    await provider.write(file, 0, b"y" * 50)
    assert used(quota) == (100, 1)
    await provider.close(file)
    await provider.wstat("/f", StatChanges(size=300))
    assert used(quota) == (300, 1)
    await provider.wstat("/f", StatChanges(size=7))
    await provider.close((await provider.open("/d", MKDIR))[0])
    await provider.wstat("/d/l", StatChanges(symlink_target="target"))
    assert used(quota) == (13, 3)
    file, _ = await provider.open("/f", APPEND)
    await provider.write(file, 0, b"abc")
    assert used(quota) == (16, 3)
    await provider.close(file)
    await put(provider, "/f", b"x" * 20)
    assert used(quota) == (26, 3)
    await put(provider, "/d/g", b"x" * 100)
    await provider.wstat("/f", StatChanges(name="/d/g"))
    assert used(quota) == (26, 3)
    await provider.close((await provider.open("/d/g", TRUNCATE))[0])
    assert used(quota) == (6, 3) == await walk(provider)
    await provider.remove("/d/g")
    await provider.remove("/d/l")
    await provider.remove("/d")
    assert used(quota) == (0, 0)


async def test_what_is_removed_counts_until_its_last_handle_is_closed(make: Any):
    quota = Quota(1000, 10)
    provider = await make(quota)
    await put(provider, "/f", b"x" * 10)
    one, _ = await provider.open("/f", WRITE)
    two, _ = await provider.open("/f", READ)
    await provider.remove("/f")
    assert used(quota) == (10, 1)
    await put(provider, "/f", b"y" * 5)
    await provider.close(two)
    await provider.write(one, 10, b"more")
    assert used(quota) == (19, 2)
    await provider.close(one)
    assert used(quota) == (5, 1)
    # The same for what an upload and what a rename replaces.
    held, _ = await provider.open("/f", READ)
    await put(provider, "/f", b"z" * 3)
    assert used(quota) == (8, 2)
    await provider.close(held)
    held, _ = await provider.open("/f", READ)
    await put(provider, "/g", b"")
    await provider.wstat("/g", StatChanges(name="/f"))
    assert used(quota) == (3, 2)
    await provider.close(held)
    assert used(quota) == (0, 1)


async def test_an_upload_counts_until_it_is_thrown_away(make: Any):
    quota = Quota(100, 3)
    provider = await make(quota)
    await put(provider, "/f", b"x" * 60)
    with pytest.raises(QuotaExceeded, match="40 are free"):
        await put(provider, "/f", b"y" * 41)
    assert used(quota) == (60, 1)
    staged, _ = await provider.open("/f", REPLACE)
    await provider.write(staged, 0, b"z" * 40)
    assert used(quota) == (100, 2)
    await provider.close(staged, discard=True)
    assert used(quota) == (60, 1)


async def test_a_refusal_changes_nothing(make: Any):
    """In any of the ways to need a file or a byte more."""
    quota = Quota(10, 2)
    provider = await make(quota)
    await put(provider, "/f", b"x" * 6)
    file, _ = await provider.open("/f", WRITE)
    appending, _ = await provider.open("/f", APPEND)
    refused: list[Coroutine[Any, Any, Any]] = [
        provider.write(file, 5, b"x" * 6),
        provider.write(file, 100, b"x"),
        provider.write(appending, 0, b"x" * 5),
        provider.wstat("/f", StatChanges(size=11, mode=0o600)),
        provider.wstat("/l", StatChanges(symlink_target="12345")),
    ]
    for operation in refused:
        with pytest.raises(QuotaExceeded, match="10 bytes; 4 are free"):
            await operation
    await provider.close((await provider.open("/d", MKDIR))[0])
    for operation in (
        provider.open("/g", CREATE),
        provider.open("/g", MKDIR),
        provider.open("/g", REPLACE),
        provider.open("/f", REPLACE),
        provider.wstat("/l", StatChanges(symlink_target="x")),
    ):
        with pytest.raises(QuotaExceeded, match="may hold 2 files"):
            await operation
    assert used(quota) == (6, 2) == await walk(provider)
    assert (await provider.stat("/f")).mode == 0o644
    await provider.write(file, 6, b"xxxx")
    await provider.close(file)
    await provider.close(appending)
    assert (quota.refusals.bytes, quota.refusals.files) == (5, 5)


async def test_failed_changes_give_back(make: Any):
    quota = Quota(100, 10)
    provider = await make(quota)
    await put(provider, "/f", b"x")
    for operation in (
        provider.open("/f", OpenFlags(write=True, create=True, exclusive=True)),
        provider.open("/f", MKDIR),
        provider.open("/none/f", CREATE),
        provider.open("/none/f", REPLACE),
        provider.wstat("/f", StatChanges(symlink_target="x")),
        provider.wstat("/f", StatChanges(name="/none/g")),
        provider.remove("/none"),
    ):
        with pytest.raises(Fs9Error):
            await operation
    assert used(quota) == (1, 1)


async def test_concurrent_writers_end_exactly_at_the_limit(make: Any):
    """Two mounts of one namespace, many files, in pieces and by appending; not a byte more."""
    quota = Quota(bytes_max=30_000, files_max=100)
    one = await make(quota)
    pool = BlockingPool(4)
    with tempfile.TemporaryDirectory() as directory:
        two = await make_provider("localfs", quota, Path(directory), pool)

        async def fill(provider: Provider, number: int) -> int:
            flags = APPEND if number % 2 else CREATE
            # Some share a file, so that its size changes under their hands.
            file, _ = await provider.open(f"/f{number // 3}", flags)
            written = 0
            try:
                while True:
                    written += await provider.write(file, written, b"x" * 10)
                    await asyncio.sleep(0)
            except QuotaExceeded:
                return written
            finally:
                await provider.close(file)

        await asyncio.gather(*(fill([one, two][n % 2], n) for n in range(12)))
        assert quota.bytes_used == 30_000
        held = [await walk(provider) for provider in (one, two)]
        assert sum(bytes_ for bytes_, _ in held) == 30_000
        assert sum(files for _, files in held) == quota.files_used
        await two.aclose()
        assert used(quota) == held[0]
    pool.shutdown()


async def test_unmounting_gives_all_back(make: Any):
    quota = Quota(1000, 100)
    quota.found(5, 1)
    provider = await make(quota)
    await put(provider, "/f", b"x" * 10)
    await provider.aclose()
    assert used(quota) == (5, 1)
    provider.aclose = _nothing  # type: ignore[method-assign]


async def _nothing() -> None:
    pass


async def test_statfs_shows_the_quota(make: Any):
    quota = Quota(1000, 10)
    provider = await make(quota)
    await put(provider, "/f", b"x" * 100)
    stats = await provider.statfs("/")
    assert (stats.total_bytes, stats.free_bytes) == (1000, 900)
    assert (stats.total_inodes, stats.free_inodes) == (10, 9)
    await quota.limit(None, None)
    assert (await provider.statfs("/")).total_bytes > 1000


@pytest.mark.parametrize("kind", ["kvfs", "pagefs", "memfs"])
async def test_statfs_of_every_provider_that_counts(kind: str, tmp_path: Path, pool: BlockingPool):
    quota = Quota(5000, 50)
    provider = await builtin.registry().create(
        MountSpec("/", kind),
        Resources(tmp_path, Limits(), SystemClock(), pool),
        namespace="acme",
        quota=quota,
    )
    before = quota.bytes_used
    await put(provider, "/f", b"x" * 1000)
    assert quota.bytes_used == before + 1000
    stats = await provider.statfs("/")
    assert (stats.total_bytes, stats.total_inodes) == (5000, 50)
    assert stats.free_bytes == 5000 - quota.bytes_used
    assert stats.free_inodes == 50 - quota.files_used
    await provider.aclose()


# -- localfs alone ----------------------------------------------------------------------------


def fill_tree(root: Path) -> tuple[int, int]:
    """Some of everything; what of it counts."""
    (root / "d/e").mkdir(parents=True)
    (root / "f").write_bytes(b"12345")
    (root / "d/e/g").write_bytes(b"123")
    (root / "h").hardlink_to(root / "f")
    (root / "l").symlink_to("../../secret")
    (root / f"{RESERVED_PREFIX}abc").write_bytes(b"left by a crash")
    os.mkfifo(root / "fifo")
    os.truncate(root / "d/e/g", 1000)
    return 5 + 1000 + len("../../secret"), 5


async def test_localfs_counts_what_is_there(tmp_path: Path, pool: BlockingPool):
    """Once, at its start; a file with two names is one, and freed with the second one."""
    root = tmp_path / "files"
    bytes_, files = fill_tree(root)
    quota = Quota(10_000)
    provider = await make_provider("localfs", quota, tmp_path, pool)
    assert used(quota) == (bytes_, files)
    await provider.remove("/h")
    assert used(quota) == (bytes_, files)
    await provider.remove("/f")
    assert used(quota) == (bytes_ - 5, files - 1)
    await provider.aclose()


async def test_localfs_counts_only_when_there_is_a_bound(tmp_path: Path, pool: BlockingPool):
    """A bound that comes later finds all of it, also what has no name; changes wait meanwhile."""
    root = tmp_path / "files"
    bytes_, files = fill_tree(root)
    quota = Quota()
    provider = await make_provider("localfs", quota, tmp_path, pool)
    assert isinstance(provider, localfs.LocalFs)
    gone, _ = await provider.open("/d/e/g", READ)
    await provider.remove("/d/e/g")
    staged, _ = await provider.open("/new", REPLACE)
    await provider.write(staged, 0, b"1234567")
    kept, _ = await provider.open("/f", WRITE)
    assert used(quota) == (0, 0)
    writing = asyncio.create_task(provider.write(kept, 5, b"6"))
    await asyncio.sleep(0)
    counting = asyncio.gather(quota.limit(10_000, None), quota.limit(10_000, None))
    removing = asyncio.create_task(provider.remove("/l"))
    await asyncio.gather(counting, removing, writing)
    await provider.write(kept, 6, b"7")
    removed = len("../../secret")
    assert used(quota) == (bytes_ + 7 + 2 - removed, files + 1 - 1)
    await provider.close(gone)
    await provider.close(staged)
    await provider.remove("/new")
    await provider.close(kept)
    assert used(quota) == (5 + 2, 3)  # f, also called h, and two directories
    await provider.aclose()
    assert (used(quota), quota.uncounted) == ((0, 0), [])
    again = await make_provider("localfs", Quota(), tmp_path, pool)
    await again.aclose()


async def test_a_count_that_fails_leaves_all_as_it_was(
    tmp_path: Path, pool: BlockingPool, monkeypatch: pytest.MonkeyPatch
):
    quota = Quota()
    provider = await make_provider("localfs", quota, tmp_path, pool)

    def broken(fd: int) -> tuple[int, int]:
        raise FileNotFoundError(2, "gone")

    monkeypatch.setattr(localfs, "scan", broken)
    with pytest.raises(NotFound):
        await quota.limit(10, None)
    await put(provider, "/f", b"x" * 20)
    monkeypatch.undo()
    await quota.limit(10, None)
    assert used(quota) == (20, 1)
    await provider.aclose()
    monkeypatch.setattr(localfs, "scan", broken)
    with pytest.raises(NotFound):
        await make_provider("localfs", Quota(10), tmp_path, pool)


async def test_an_open_that_lost_to_a_removal_finds_nothing(
    tmp_path: Path, pool: BlockingPool, monkeypatch: pytest.MonkeyPatch
):
    """It was looked up before and would be counted after the removal: once too often."""
    quota = Quota(1000)
    provider = await make_provider("localfs", quota, tmp_path, pool)
    await put(provider, "/f", b"x")
    opened = localquota.Accounts.opened

    def late(self: Any, file: LocalFile, **more: Any) -> None:
        (tmp_path / "files/f").unlink(missing_ok=True)
        opened(self, file, **more)

    monkeypatch.setattr(localquota.Accounts, "opened", late)
    for flags in (READ, WRITE, CREATE):
        with pytest.raises(NotFound):
            await provider.open("/f", flags)
    monkeypatch.undo()
    await provider.aclose()


async def test_a_cancelled_open_is_forgotten(tmp_path: Path, pool: BlockingPool):
    quota = Quota(1000)
    provider = await make_provider("localfs", quota, tmp_path, pool)
    for flags in (CREATE, REPLACE):
        task = asyncio.create_task(provider.open("/f", flags))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await put(provider, "/f", b"x")
    await provider.remove("/f")
    assert used(quota) == (0, 0)
    await provider.aclose()
