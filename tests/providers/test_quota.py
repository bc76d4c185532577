"""memfs and localfs charge the namespace's quota exactly, whatever is done in whatever order."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fs9.clock import SystemClock
from fs9.errors import Fs9Error, NotFound, QuotaExceeded
from fs9.limits import Limits
from fs9.providers import builtin, localfs, localquota, memfs
from fs9.providers.jail import RESERVED_PREFIX
from fs9.providers.localfile import LocalFile
from fs9.providers.memfs import MemOpen
from fs9.providers.memtree import Directory
from fs9.providers.registry import ProviderContext
from fs9.quota import Quota
from fs9.threads import BlockingPool
from fs9.types import MKDIR, READ, REPLACE, WRITE, MountSpec, OpenFlags, StatChanges

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from fs9.provider import Provider

CREATE = OpenFlags(write=True, create=True)
APPEND = OpenFlags(write=True, create=True, append=True)
TRUNCATE = OpenFlags(write=True, create=True, truncate=True)


async def make_provider(kind: str, quota: Quota, directory: Path, pool: BlockingPool) -> Provider:
    context = ProviderContext("acme", directory, Limits(), SystemClock(), pool, quota)
    if kind == "memfs":
        return await memfs.create({}, context)
    return await localfs.create({"root": "{data_dir}/files"}, context)


@pytest.fixture(params=["memfs", "localfs"])
async def make(request, tmp_path: Path, pool: BlockingPool) -> AsyncIterator[Any]:
    made: list[Provider] = []

    async def make(quota: Quota) -> Provider:
        made.append(await make_provider(request.param, quota, tmp_path, pool))
        return made[-1]

    yield make
    for provider in made:
        await provider.aclose()


def used(quota: Quota) -> tuple[int, int]:
    return quota.bytes_used, quota.files_used


async def put(provider: Provider, path: str, data: bytes) -> None:
    file, _ = await provider.open(path, REPLACE)
    try:
        await provider.write(file, 0, data)
    except Fs9Error:
        await provider.close(file, discard=True)
        raise
    await provider.close(file)


async def walk(provider: Provider, path: str = "/") -> tuple[int, int]:
    """(bytes, files) that a client finds."""
    bytes_ = files = 0
    for info in await provider.readdir(path, "", 10_000):
        files += 1
        if info.is_dir:
            below = await walk(provider, info.path)
            bytes_, files = bytes_ + below[0], files + below[1]
        else:
            bytes_ += info.size
    return bytes_, files


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
        namespace="acme",
        data_dir=tmp_path,
        limits=Limits(),
        clock=SystemClock(),
        pool=pool,
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


# -- random programs --------------------------------------------------------------------------

PATHS = st.sampled_from(["/a", "/b", "/d", "/d/a", "/d/b"])
FLAGS = st.sampled_from([READ, WRITE, CREATE, APPEND, TRUNCATE, REPLACE, MKDIR])


class Machine(RuleBasedStateMachine):
    """After each step the counts are those of a walk, and of what is open without a name."""

    kind = "memfs"
    bounds: tuple[int | None, int | None] = (100, 5)

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.pool = BlockingPool(1)
        self.quota = Quota(*self.bounds)
        path = Path(self.directory.name)
        self.provider = self.run(make_provider(self.kind, self.quota, path, self.pool))
        self.files: list[Any] = []

    def run(self, operation: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(operation)

    def attempt(self, operation: Coroutine[Any, Any, Any]) -> Any:
        try:
            return self.run(operation)
        except Fs9Error:
            return None

    @rule(path=PATHS, flags=FLAGS)
    def open(self, path: str, flags: OpenFlags) -> None:
        found = self.attempt(self.provider.open(path, flags))
        if found is not None:
            self.files.append(found[0])

    @precondition(lambda self: self.files)
    @rule(number=st.integers(0, 9), offset=st.sampled_from([0, 5, 60]), size=st.integers(1, 40))
    def write(self, number: int, offset: int, size: int) -> None:
        file = self.files[number % len(self.files)]
        self.attempt(self.provider.write(file, offset, b"x" * size))

    @precondition(lambda self: self.files)
    @rule(number=st.integers(0, 9), discard=st.booleans())
    def close(self, number: int, discard: bool) -> None:
        file = self.files.pop(number % len(self.files))
        self.attempt(self.provider.close(file, discard=discard))

    @rule(path=PATHS, size=st.integers(0, 120))
    def truncate(self, path: str, size: int) -> None:
        self.attempt(self.provider.wstat(path, StatChanges(size=size)))

    @rule(path=PATHS, to=PATHS)
    def rename(self, path: str, to: str) -> None:
        self.attempt(self.provider.wstat(path, StatChanges(name=to)))

    @rule(path=PATHS)
    def link(self, path: str) -> None:
        self.attempt(self.provider.wstat(path, StatChanges(symlink_target="target")))

    @rule(path=PATHS)
    def remove(self, path: str) -> None:
        self.attempt(self.provider.remove(path))

    @rule(bytes_max=st.sampled_from([None, 50, 200]), files_max=st.sampled_from([None, 3, 9]))
    def limit(self, bytes_max: int | None, files_max: int | None) -> None:
        self.run(self.quota.limit(bytes_max, files_max))

    @invariant()
    def counts_are_true(self) -> None:
        if self.quota.uncounted:
            return
        bytes_, files = self.run(walk(self.provider))
        nameless = dict(filter(None, map(_nameless, self.files)))
        assert used(self.quota) == (bytes_ + sum(nameless.values()), files + len(nameless))

    def teardown(self) -> None:
        for file in self.files:
            self.attempt(self.provider.close(file))
        self.files.clear()
        self.counts_are_true()
        self.run(self.provider.aclose())
        assert used(self.quota) == (0, 0)
        self.pool.shutdown()
        self.loop.close()
        self.directory.cleanup()


def _nameless(file: Any) -> tuple[Any, int] | None:
    """(identity, size) of an open file that no directory has."""
    if isinstance(file, MemOpen):
        node = file.node
        return None if node.linked or isinstance(node, Directory) else (id(node), node.size)
    if not isinstance(file, LocalFile):
        return None
    with file.descriptor as fd:
        found = os.fstat(fd)
    return None if found.st_nlink or stat.S_ISDIR(found.st_mode) else (found.st_ino, found.st_size)


class LocalMachine(Machine):
    kind = "localfs"


class LateMachine(LocalMachine):
    """Counted from some step on."""

    bounds = (None, None)


_PROGRAMS = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMemFs = Machine.TestCase
TestLocalFs = LocalMachine.TestCase
TestLocalFsLate = LateMachine.TestCase
TestMemFs.settings = TestLocalFs.settings = TestLocalFsLate.settings = _PROGRAMS
