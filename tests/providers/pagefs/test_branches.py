"""Snapshots stay as they were, forks are trees of their own, and both cost nothing to make."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fs9.clock import ManualClock
from fs9.errors import (
    AlreadyExists,
    Fs9Error,
    InvalidArgument,
    InvalidHandle,
    IsDirectory,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Transient,
)
from fs9.limits import Limits
from fs9.providers.pagefs.core import Core, Policy
from fs9.providers.pagefs.fsck import Checker
from fs9.providers.pagefs.memory import Memory, MemoryBlocks, MemoryStore
from fs9.providers.pagefs.provider import PageFs
from fs9.quota import Quota
from fs9.types import MKDIR, READ, WRITE, OpenFlags, StatChanges
from tests.providers.pagefs.scenario import BIG, is_there, look, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Disk:
    """The data of a pagefs in memory, to be opened again."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.objects: dict[str, bytearray] = {}

    async def start(self, quota: Quota | None = None, *, control: bool = True) -> PageFs:
        blocks = MemoryBlocks(self.objects, 2**30)
        store = MemoryStore(self.memory)
        policy = Policy(inline_bytes=64, control_file=control)
        core = Core(store, blocks, policy, Limits(), ManualClock(), quota)
        fs = PageFs(core)
        await fs.start()
        return fs


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def fs(disk: Disk) -> AsyncIterator[PageFs]:
    fs = await disk.start()
    await make(fs, "/d")
    await write(fs, "/d/f", BIG)
    await write(fs, "/small", b"small")
    yield fs
    report = await Checker(fs).check()
    assert (report.faults, report.garbage) == ([], [])
    await fs.aclose()


async def content(fs: PageFs, path: str) -> bytes:
    file, info = await fs.open(path, READ)
    data = bytes(await fs.read(file, 0, info.size))
    await fs.close(file)
    return data


async def make(fs: PageFs, path: str) -> None:
    file, info = await fs.open(path, MKDIR)
    assert info.is_dir
    await fs.close(file)


async def test_a_snapshot_is_a_directory(fs: PageFs) -> None:
    """Made by mkdir, seen by path, read-only, deleted by remove; no listing of the root has it."""
    assert [info.path for info in await fs.readdir("/.snapshots", "", 9)] == []
    await make(fs, "/.snapshots/one")
    await write(fs, "/d/f", b"new", 10)
    await fs.remove("/small")
    assert await content(fs, "/.snapshots/one/d/f") == BIG
    assert await content(fs, "/.snapshots/one/small") == b"small"
    assert (await content(fs, "/d/f"))[10:13] == b"new"
    assert [info.path for info in await fs.readdir("/.snapshots/one", "", 9)] == [
        "/.snapshots/one/d",
        "/.snapshots/one/small",
    ]
    assert (await fs.stat("/.snapshots/one/d/f")).path == "/.snapshots/one/d/f"
    assert [info.path for info in await fs.readdir("/.snapshots", "", 9)] == ["/.snapshots/one"]
    assert [info.path for info in await fs.readdir("/", "", 9)] == ["/d"]
    for change in (
        fs.open("/.snapshots/one/new", OpenFlags(write=True, create=True)),
        fs.open("/.snapshots/one/d/f", WRITE),
        fs.wstat("/.snapshots/one/d/f", StatChanges(mode=0o600)),
        fs.remove("/.snapshots/one/d/f"),
    ):
        with pytest.raises(PermissionDenied):
            await change
    await fs.remove("/.snapshots/one")
    with pytest.raises(NotFound):
        await fs.stat("/.snapshots/one/d/f")


async def test_reserved_names(fs: PageFs) -> None:
    for path in ("/.snapshots", "/.forks"):
        assert (await fs.stat(path)).is_dir
        with pytest.raises(AlreadyExists):
            await fs.open(path, MKDIR)
        with pytest.raises(IsDirectory):
            await fs.open(path, OpenFlags(write=True, create=True))
        with pytest.raises(PermissionDenied):
            await fs.remove(path)
        with pytest.raises(PermissionDenied):
            await fs.wstat("/small", StatChanges(name=path))
        with pytest.raises(NotFound):
            await fs.remove(f"{path}/none")
    await make(fs, "/.snapshots/one")
    with pytest.raises(AlreadyExists):
        await make(fs, "/.snapshots/one")
    for name in ("", "a/b", "..", "x" * 256):
        with pytest.raises(InvalidArgument):
            await fs.branches.snapshot(name)
    with pytest.raises(NotFound):
        await fs.wstat("/small", StatChanges(name="/.forks/none/x"))
    await make(fs, "/.forks/a")
    with pytest.raises(InvalidArgument):
        await fs.wstat("/small", StatChanges(name="/.forks/a/x"))


async def test_a_snapshot_costs_two_rows(fs: PageFs) -> None:
    """However many files there are; only what changes later takes space."""
    rows = len(fs.core.store._memory.table.keys)
    await fs.branches.snapshot("one")
    assert len(fs.core.store._memory.table.keys) == rows + 1  # and the superblock anew
    await write(fs, "/small", b"SMALL")
    assert len(fs.core.store._memory.table.keys) <= rows + 8


async def test_restore(fs: PageFs) -> None:
    """The tree is as it was, also what it counts; open files go on reading what they had."""
    before = await look(fs)
    counters = (fs.core.head.counters.bytes, fs.core.head.counters.files)
    await fs.branches.snapshot("one")
    await write(fs, "/d/f", b"changed", 5)
    await fs.wstat("/d", StatChanges(name="/e"))
    file, _ = await fs.open("/new", OpenFlags(read=True, write=True, create=True))
    await fs.write(file, 0, BIG)
    old, _ = await fs.open("/e/f", OpenFlags(read=True, write=True))
    await fs.branches.restore("one")
    live = {path: what for path, what in (await look(fs)).items() if not path.startswith("/.")}
    assert live == before
    assert (fs.core.head.counters.bytes, fs.core.head.counters.files) == counters
    assert bytes(await fs.read(file, 0, len(BIG))) == BIG
    for opened in (file, old):
        with pytest.raises(InvalidHandle, match="restored"):
            await fs.write(opened, 0, b"x")
    await write(fs, "/d/f", b"again", 5)
    await fs.core.settle()
    assert bytes(await fs.read(old, 5, 7)) == b"changed"
    await fs.branches.snapshot("two")
    await fs.branches.restore("two")
    await fs.close(file)
    await fs.core.settle()
    assert bytes(await fs.read(old, 5, 7)) == b"changed"
    await fs.close(old)
    assert not fs.core.replaced
    await fs.core.settle()
    await fs.branches.delete_snapshot("two")
    await fs.core.settle()
    assert (await content(fs, "/.snapshots/one/d/f")) == BIG


async def test_forks(fs: PageFs, disk: Disk) -> None:
    """A fork and the tree change apart; both begin to write in objects of their own."""
    await make(fs, "/.forks/a")
    await write(fs, "/d/f", b"tree", 100_000)
    await write(fs, "/.forks/a/d/f", b"fork", 100_000)
    await write(fs, "/.forks/a/only", b"here")
    assert await content(fs, "/d/f") == BIG + b"tree"
    assert await content(fs, "/.forks/a/d/f") == BIG + b"fork"
    assert not await is_there(fs, "/only")
    await fs.wstat("/.forks/a/only", StatChanges(name="/.forks/a/d/moved"))
    assert await content(fs, "/.forks/a/d/moved") == b"here"
    await fs.branches.snapshot("one")
    await fs.remove("/d/f")
    await fs.branches.fork("b", "one")
    assert await content(fs, "/.forks/b/d/f") == BIG + b"tree"
    file, _ = await fs.open("/.forks/b/d/f", OpenFlags(read=True, write=True))
    await fs.remove("/.forks/b")
    for call in (fs.write(file, 0, b"x"),):
        with pytest.raises(InvalidHandle):
            await call
    await fs.close(file)
    await fs.core.settle()
    await fs.aclose()
    again = await disk.start()
    assert await content(again, "/.forks/a/d/f") == BIG + b"fork"
    assert sorted(again.core.snapshots) == ["one"]
    await again.aclose()
    fs.core.store = MemoryStore(disk.memory)  # for the check at the end


async def test_nothing_stays_behind(fs: PageFs) -> None:
    """When the last branch is gone, so are old versions, and keys have one generation again."""
    rows = len(fs.core.store._memory.table.keys)
    for number in range(5):
        await fs.branches.snapshot(f"{number}")
        await write(fs, "/d/f", b"%d" % number * 3000, number * 1000)
        await write(fs, f"/new{number}", BIG[:1000])
    for number in range(5):
        await fs.remove(f"/new{number}")
    for number in (2, 0, 4, 1, 3):
        await fs.branches.delete_snapshot(f"{number}")
        await fs.core.settle()
        report = await Checker(fs).check()
        assert report.faults == []
    assert len(fs.core.head.lineage) == 1
    assert len(fs.core.store._memory.table.keys) <= rows + 12  # pieces of the overwritten file
    expected = bytearray(BIG)
    for number in range(5):
        expected[number * 1000 : number * 1000 + 3000] = b"%d" % number * 3000
    assert await content(fs, "/d/f") == expected


async def test_an_interrupted_collection_goes_on(disk: Disk) -> None:
    """The mark in the superblock is only gone when everything is."""
    fs = await disk.start()
    await write(fs, "/f", BIG)
    await fs.branches.snapshot("one")
    await fs.remove("/f")
    fs.core._closed = True
    fs.core.spawn = lambda work: work.close()  # type: ignore[method-assign, assignment]
    await fs.branches.delete_snapshot("one")
    again = await disk.start()
    assert again.core.superblock.collect
    await again.core.settle()
    assert not again.core.superblock.collect
    assert disk.objects == {}
    await again.aclose()


async def test_forks_count(disk: Disk) -> None:
    """A fork counts as a copy, against the quota; a deleted one is given back."""
    quota = Quota(bytes_max=250_000, files_max=100)
    fs = await disk.start(quota)
    await write(fs, "/f", BIG)
    assert (quota.bytes_used, quota.files_used) == (100_000, 1)
    await fs.branches.fork("a")
    assert (quota.bytes_used, quota.files_used) == (200_000, 3)
    with pytest.raises(QuotaExceeded):
        await fs.branches.fork("b")
    with pytest.raises(QuotaExceeded):
        await write(fs, "/g", BIG)
    await fs.branches.delete_fork("a")
    await fs.core.settle()
    await write(fs, "/h", BIG)
    assert fs.core.head.counters.bytes == quota.bytes_used
    await fs.aclose()
    assert (quota.bytes_used, quota.files_used) == (0, 0)


async def test_a_refused_write_charges_nothing(disk: Disk) -> None:
    """At the maximum every kind of growth is refused, and what is counted stays exact."""
    quota = Quota(bytes_max=1000, files_max=2)
    fs = await disk.start(quota)
    await write(fs, "/f", b"x" * 900)
    for call in (
        lambda: write(fs, "/f", b"y" * 500, 800),
        lambda: write(fs, "/f", b"y" * 50_000, 800),
        lambda: fs.wstat("/f", StatChanges(size=2000)),
        lambda: write(fs, "/g", b"y" * 101),
    ):
        with pytest.raises(QuotaExceeded):
            await call()
    with pytest.raises(QuotaExceeded):
        await write(fs, "/h", b"")
    assert (quota.bytes_used, quota.files_used) == (900, 2)
    await fs.remove("/f")
    await write(fs, "/h", b"z" * 1000)
    assert (quota.bytes_used, quota.files_used) == (1000, 2)
    await fs.core.settle()
    report = await Checker(fs).check()
    assert (report.faults, report.garbage) == ([], [])
    with pytest.raises(Fs9Error):
        await fs.branches.restore("none")
    await fs.aclose()


CONTROL = "/.snapshots/.ctl"


async def command(fs: PageFs, text: str) -> None:
    file, _ = await fs.open(CONTROL, OpenFlags(write=True, create=True, truncate=True))
    try:
        assert await fs.write(file, 0, text.encode()) == len(text)
    finally:
        await fs.close(file, sync=True)


async def test_the_control_file_commands(fs: PageFs) -> None:
    """Each write is one command; names are quoted as in a shell, also in what is read."""
    await command(fs, "snapshot one\n")
    await write(fs, "/small", b"SMALL")
    await command(fs, "snapshot 'two words'")
    await command(fs, "fork one first")
    await command(fs, "restore one")
    assert await content(fs, "/small") == b"small"
    await command(fs, 'restore "two words"\n')
    assert await content(fs, "/small") == b"SMALL"
    assert await content(fs, "/.forks/first/small") == b"small"
    status = "snapshot one\nsnapshot 'two words'\nfork first\n"
    assert await content(fs, CONTROL) == status.encode()
    assert (await fs.stat(CONTROL)).size == len(status)
    await command(fs, "delete one")
    assert [info.path for info in await fs.readdir("/.snapshots", "", 9)] == [
        "/.snapshots/two words"
    ]
    await fs.core.settle()


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n", "restore", "restore a b", "fork one", "Restore one", "mount one"),
        *("restore 'one", "restore one\ndelete one\n", "delete " + "x" * 5000),
    ],
)
async def test_what_is_no_command(fs: PageFs, text: str) -> None:
    """Nothing is done, and the error says what there is."""
    await fs.branches.snapshot("one")
    file, _ = await fs.open(CONTROL, WRITE)
    if text:
        with pytest.raises(InvalidArgument, match="restore NAME, fork NAME NEW, snapshot NAME"):
            await fs.write(file, 0, text.encode())
    with pytest.raises(InvalidArgument):
        await fs.write(file, 0, b"\xff")
    await fs.close(file)
    assert sorted(fs.core.snapshots) == ["one"]


async def test_commands_that_fail(fs: PageFs) -> None:
    await command(fs, "snapshot one")
    for text, error in (
        ("restore none", NotFound),
        ("fork none new", NotFound),
        ("delete none", NotFound),
        ("snapshot one", AlreadyExists),
        ("snapshot .ctl", InvalidArgument),
    ):
        with pytest.raises(error):
            await command(fs, text)
    file, _ = await fs.open(CONTROL, READ)
    with pytest.raises(PermissionDenied):
        await fs.write(file, 0, b"delete one")
    await fs.close(file)


async def test_the_control_file_is_reserved(fs: PageFs) -> None:
    """It is a file, in no listing, that stays what it is; with or without a snapshot."""
    for _ in range(2):
        assert [info.path for info in await fs.readdir("/.snapshots", ".", 1)] == sorted(
            f"/.snapshots/{name}" for name in fs.core.snapshots
        )
        assert not (await fs.stat(CONTROL)).is_dir
        await fs.wstat(CONTROL, StatChanges(size=0))
        for change in (
            fs.wstat(CONTROL, StatChanges(mode=0o666)),
            fs.wstat(CONTROL, StatChanges(size=1)),
            fs.wstat(CONTROL, StatChanges(name="/x")),
            fs.wstat("/small", StatChanges(name=CONTROL)),
            fs.remove(CONTROL),
        ):
            with pytest.raises(PermissionDenied):
                await change
        with pytest.raises(AlreadyExists):
            await make(fs, CONTROL)
        with pytest.raises(InvalidArgument, match="cannot be replaced"):
            await fs.open(CONTROL, OpenFlags(write=True, create=True, replace=True))
        if not fs.core.snapshots:
            await make(fs, "/.snapshots/one")


async def test_without_control_file(disk: Disk) -> None:
    """Unless it is configured there is nothing at its path, and no snapshot can be called so."""
    fs = await disk.start(control=False)
    for flags in (READ, WRITE, OpenFlags(write=True, create=True)):
        with pytest.raises(NotFound):
            await fs.open(CONTROL, flags)
    with pytest.raises(NotFound):
        await fs.stat(CONTROL)
    with pytest.raises(InvalidArgument):
        await make(fs, CONTROL)
    await fs.aclose()


async def test_a_change_that_a_restore_overtakes(fs: PageFs) -> None:
    """What was looked up in the tree before is refused, to be tried again; never half there."""
    await fs.branches.snapshot("one")
    head = fs.core.head
    await fs.core.lock.acquire()
    writing = asyncio.ensure_future(fs.open("/late", OpenFlags(write=True, create=True)))
    await asyncio.sleep(0)
    fs.core.lock.release()
    counters = await fs.core.read_counters(head)
    fs.branches._replace(fs.branches._superblock(9, (*head.lineage, 9)), counters)
    with pytest.raises(Transient):
        await writing
    assert not await is_there(fs, "/late")
    await fs.branches.restore("one")
