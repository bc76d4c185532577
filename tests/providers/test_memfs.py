"""memfs: bounds and accounts, sparse files, and what the conformance suite cannot see."""

from __future__ import annotations

import pytest

from fs9.clock import ManualClock
from fs9.errors import InvalidArgument, InvalidHandle, QuotaExceeded
from fs9.limits import KIB, MIB, Limits
from fs9.providers import memfs as module
from fs9.providers.memfs import MemFs, MemOpen
from fs9.providers.memtree import File, find
from fs9.providers.pages import PAGE_BYTES, Pages
from fs9.providers.registry import ProviderContext
from fs9.types import MKDIR, READ, REPLACE, Capability, OpenFlags, StatChanges

CREATE = OpenFlags(read=True, write=True, create=True)


@pytest.fixture
def small(clock: ManualClock) -> MemFs:
    """At most 1000 bytes, 5 inodes, 800 bytes a file."""
    return MemFs(Limits(memfs_bytes_max=1000, memfs_files_max=5, file_bytes_max=800), clock)


async def used(provider: MemFs) -> tuple[int, int]:
    """(bytes, inodes) in use."""
    stats = await provider.statfs("/")
    return stats.total_bytes - stats.free_bytes, stats.total_inodes - stats.free_inodes


def stored(provider: MemFs, path: str) -> int:
    """Bytes that a file really takes."""
    node = find(provider._root, path)
    assert isinstance(node, File)
    return node.pages.stored


async def put(provider: MemFs, path: str, content: bytes) -> None:
    opened, _ = await provider.open(path, CREATE)
    await provider.write(opened, 0, content)
    await provider.close(opened)


async def test_capabilities(memfs: MemFs):
    """All ten that HTTP tells, and etags."""
    for name in [
        "READ",
        "WRITE",
        "CREATE",
        "DELETE",
        "RENAME",
        "TRUNCATE",
        "CHMOD",
        "CHOWN",
        "SYMLINK",
        "DIRECTORY",
    ]:
        assert Capability[name] in memfs.capabilities()
    assert Capability.ETAG in memfs.capabilities()


async def test_statfs_tells_the_limits(memfs: MemFs, limits: Limits):
    stats = await memfs.statfs("/")
    assert (stats.total_bytes, stats.total_inodes) == (1024 * MIB, 1_000_000)
    assert (stats.block_size, stats.max_name_len) == (4096, 255)


async def test_bytes_are_counted_to_the_last(small: MemFs):
    """Written, truncated, appended, overwritten, removed: always the sum of the sizes."""
    await put(small, "/a", b"x" * 100)
    await put(small, "/b", b"x" * 10)
    assert await used(small) == (110, 3)
    opened, _ = await small.open("/a", OpenFlags(write=True, append=True))
    await small.write(opened, 0, b"y" * 5)
    assert await used(small) == (115, 3)
    await small.wstat("/a", StatChanges(size=50))
    assert await used(small) == (60, 3)
    await small.remove("/a")
    assert await used(small) == (60, 3)  # still open
    await small.write(opened, 0, b"y" * 5)
    assert await used(small) == (65, 3)
    await small.close(opened)
    assert await used(small) == (10, 2)
    await small.wstat("/l", StatChanges(symlink_target="é"))
    assert await used(small) == (12, 3)
    await small.wstat("/b", StatChanges(name="/l"))
    assert await used(small) == (10, 2)


async def test_a_replacement_counts_until_it_is_discarded(small: MemFs):
    await put(small, "/a", b"x" * 100)
    for discard in (True, False):
        opened, _ = await small.open("/a", REPLACE)
        await small.write(opened, 0, b"y" * 30)
        assert await used(small) == (130, 3)
        await small.close(opened, discard=discard)
        assert await used(small) == ((100, 2) if discard else (30, 2))


@pytest.mark.parametrize("offset", [901, 2**40, 2**62, 2**63, 2**100])
async def test_a_huge_offset_is_refused_before_anything_is_allocated(memfs: MemFs, offset: int):
    """Neither memory nor the file nor the account changes."""
    limits = Limits(memfs_bytes_max=1000)
    provider = MemFs(limits, ManualClock())
    await put(provider, "/a", b"x" * 100)
    opened, before = await provider.open("/a", CREATE)
    with pytest.raises(QuotaExceeded):
        await provider.write(opened, offset, b"y" * 100)
    with pytest.raises(QuotaExceeded):
        await provider.wstat("/a", StatChanges(size=offset + 100))
    assert await provider.stat("/a") == before
    assert await used(provider) == (100, 2)


async def test_the_last_byte_may_be_used(small: MemFs):
    """Exactly the limit fits, one byte more does not; shrinking makes room again."""
    await put(small, "/a", b"x" * 800)
    await put(small, "/b", b"x" * 200)
    assert await used(small) == (1000, 3)
    opened, _ = await small.open("/b", OpenFlags(write=True, append=True))
    with pytest.raises(QuotaExceeded, match="1000 bytes"):
        await small.write(opened, 0, b"y")
    await small.wstat("/a", StatChanges(size=799))
    assert await small.write(opened, 0, b"y") == 1
    with pytest.raises(QuotaExceeded, match="800 bytes"):
        await small.wstat("/b", StatChanges(size=801))
    with pytest.raises(QuotaExceeded):
        await small.wstat("/l", StatChanges(symlink_target="x"))


async def test_inodes_are_limited(small: MemFs):
    """Files, directories, links and replacements count; a removed one makes room."""
    await small.open("/d", MKDIR)
    await put(small, "/d/f", b"")
    await small.wstat("/l", StatChanges(symlink_target="x"))
    await put(small, "/g", b"")
    assert await used(small) == (1, 5)
    for flags in (CREATE, MKDIR, REPLACE):
        with pytest.raises(QuotaExceeded, match="5 files"):
            await small.open("/new", flags)
    with pytest.raises(QuotaExceeded):
        await small.wstat("/new", StatChanges(symlink_target="x"))
    await small.remove("/d/f")
    await put(small, "/new", b"")
    assert [info.path for info in await small.readdir("/", "", 9)] == ["/d", "/g", "/l", "/new"]


async def test_holes_take_no_memory(memfs: MemFs):
    """A byte far out and a long truncate store a page at most, and read as zeros."""
    opened, _ = await memfs.open("/f", CREATE)
    await memfs.write(opened, 500 * MIB, b"x")
    assert stored(memfs, "/f") <= PAGE_BYTES
    assert await memfs.read(opened, 499 * MIB, 10) == bytes(10)
    assert await memfs.read(opened, 500 * MIB - 1, 10) == b"\0x"
    await memfs.wstat("/f", StatChanges(size=900 * MIB))
    assert stored(memfs, "/f") <= PAGE_BYTES
    await memfs.wstat("/f", StatChanges(size=0))
    assert stored(memfs, "/f") == 0


async def test_small_files_take_little_memory(memfs: MemFs):
    """A file of some bytes does not take a whole page."""
    await put(memfs, "/f", b"x" * 100)
    assert stored(memfs, "/f") == 100


async def test_what_was_read_does_not_change(memfs: MemFs):
    """The bytes of a read are the reader's: later writes do not show in them, nor are refused."""
    opened, _ = await memfs.open("/f", CREATE)
    await memfs.write(opened, 0, b"a" * (3 * PAGE_BYTES))
    data = await memfs.read(opened, 10, 2 * PAGE_BYTES)
    small = await memfs.read(opened, 10, 20)
    await memfs.write(opened, 0, b"b" * (4 * PAGE_BYTES))
    await memfs.wstat("/f", StatChanges(size=0))
    assert data == b"a" * (2 * PAGE_BYTES)
    assert small == b"a" * 20


async def test_data_is_the_callers_again_after_a_write(memfs: MemFs):
    """A reused buffer does not change what was written."""
    opened, _ = await memfs.open("/f", CREATE)
    buffer = bytearray(b"x" * PAGE_BYTES)
    await memfs.write(opened, 0, memoryview(buffer))
    buffer[:] = b"y" * PAGE_BYTES
    assert await memfs.read(opened, 0, PAGE_BYTES) == b"x" * PAGE_BYTES


async def test_mode_keeps_permission_bits_only(memfs: MemFs):
    await put(memfs, "/f", b"")
    await memfs.wstat("/f", StatChanges(mode=0o107777))
    assert (await memfs.stat("/f")).mode == 0o777


async def test_times(memfs: MemFs, clock: ManualClock):
    """Writing sets mtime and ctime, chmod ctime; reading nothing; a rename both parents' mtime."""
    opened, made = await memfs.open("/f", CREATE)
    await memfs.open("/d", MKDIR)
    assert made.atime_ns == made.mtime_ns == made.ctime_ns == clock.now_ns()
    clock.advance(1)
    await memfs.write(opened, 0, b"x")
    written_ns = clock.now_ns()
    clock.advance(1)
    await memfs.read(opened, 0, 9)
    info = await memfs.stat("/f")
    assert (info.atime_ns, info.mtime_ns, info.ctime_ns) == (made.atime_ns, written_ns, written_ns)
    await memfs.wstat("/f", StatChanges(mode=0o600))
    info = await memfs.stat("/f")
    assert (info.mtime_ns, info.ctime_ns) == (written_ns, clock.now_ns())
    clock.advance(1)
    await memfs.wstat("/f", StatChanges(name="/d/f"))
    assert (await memfs.stat("/")).mtime_ns == clock.now_ns()
    assert (await memfs.stat("/d")).mtime_ns == clock.now_ns()
    assert (await memfs.stat("/d/f")).mtime_ns == written_ns


async def test_etags_of_a_new_process_are_new(clock: ManualClock, limits: Limits):
    """The first file of another memfs, a moment later, has another etag."""
    etags = set()
    for _ in range(3):
        provider = MemFs(limits, clock)
        await put(provider, "/f", b"x")
        etags.add((await provider.stat("/f")).etag)
        clock.advance(0.001)
    assert len(etags) == 3


async def test_attributes_do_not_change_the_etag(memfs: MemFs):
    """It names the content."""
    await put(memfs, "/f", b"x")
    before = (await memfs.stat("/f")).etag
    await memfs.wstat("/f", StatChanges(mode=0o600, uid=5, mtime_ns=0))
    await memfs.wstat("/f", StatChanges(name="/g"))
    assert (await memfs.stat("/g")).etag == before


async def test_chown(memfs: MemFs):
    await put(memfs, "/f", b"")
    await memfs.wstat("/f", StatChanges(uid=1000))
    await memfs.wstat("/f", StatChanges(gid=2**32 - 2))
    info = await memfs.stat("/f")
    assert (info.uid, info.gid) == (1000, 2**32 - 2)


@pytest.mark.parametrize(
    "changes",
    [
        StatChanges(uid=-1),
        StatChanges(gid=2**32 - 1),
        StatChanges(mode=-1),
        StatChanges(size=-1),
    ],
)
async def test_impossible_values_are_refused(memfs: MemFs, changes: StatChanges):
    await put(memfs, "/f", b"x")
    before = await memfs.stat("/f")
    with pytest.raises(InvalidArgument):
        await memfs.wstat("/f", changes)
    assert await memfs.stat("/f") == before


async def test_negative_offsets_are_refused(memfs: MemFs):
    opened, _ = await memfs.open("/f", CREATE)
    with pytest.raises(InvalidArgument):
        await memfs.write(opened, -1, b"x")
    for offset, size in ((-1, 1), (0, -1)):
        with pytest.raises(InvalidArgument):
            await memfs.read(opened, offset, size)


async def test_a_closed_file_is_an_invalid_handle(memfs: MemFs):
    opened, _ = await memfs.open("/f", CREATE)
    await memfs.close(opened)
    for operation in (
        memfs.read(opened, 0, 1),
        memfs.write(opened, 0, b"x"),
        memfs.close(opened),
    ):
        with pytest.raises(InvalidHandle):
            await operation


async def test_listing_a_large_directory_in_pages_sorts_it_once(memfs: MemFs):
    """The order is kept until an entry comes or goes; replacing a file's content keeps it."""
    for number in range(100):
        await put(memfs, f"/{number:03}", b"")
    await memfs.readdir("/", "", 10)
    names = memfs._root.names()
    await put(memfs, "/050", b"new content")
    assert memfs._root.names() is names
    assert [info.path for info in await memfs.readdir("/", "097", 10)] == ["/098", "/099"]
    await put(memfs, "/0975", b"")
    assert [info.path for info in await memfs.readdir("/", "097", 1)] == ["/0975"]


async def test_create_takes_no_settings(limits: Limits, clock: ManualClock, pool, tmp_path):
    context = ProviderContext("acme", tmp_path, limits, clock, pool)
    assert (await module.create({}, context)).name == "memfs"
    with pytest.raises(InvalidArgument, match="memfs has no setting 'size'"):
        await module.create({"size": 1}, context)


async def test_an_open_directory_survives_its_removal(memfs: MemFs):
    opened, _ = await memfs.open("/d", MKDIR)
    reader, _ = await memfs.open("/d", READ)
    await memfs.remove("/d")
    assert isinstance(reader, MemOpen)
    await memfs.close(opened)
    await memfs.close(reader)
    assert await used(memfs) == (0, 1)


def test_pages_like_a_byte_array():
    """Invariant tested: pages hold what a bytearray holds after the same steps."""
    import random

    random.seed(2)
    pages, expected = Pages(), bytearray()
    for _ in range(300):
        offset = random.choice([0, 5, PAGE_BYTES - 3, PAGE_BYTES, 2 * PAGE_BYTES + 7])
        size = random.choice([1, 9, 4 * KIB, PAGE_BYTES, PAGE_BYTES + 1])
        if random.random() < 0.3:
            pages.resize(offset)
            expected[:] = expected[:offset].ljust(offset, b"\0")
        else:
            data = random.randbytes(size)
            pages.write(offset, data)
            if len(expected) < offset:
                expected.extend(bytes(offset - len(expected)))
            expected[offset : offset + size] = data
        assert pages.size == len(expected)
        assert (
            pages.read(offset - 3 if offset else 0, size) == expected[max(0, offset - 3) :][:size]
        )
    assert pages.read(0, 10**9) == expected
