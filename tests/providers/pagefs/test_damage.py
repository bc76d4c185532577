"""Damaged bytes are errors, never wrong bytes; the check and the scrub find them and mend."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from fs9.clock import SystemClock
from fs9.errors import Fs9Error, Internal, NotFound
from fs9.limits import Limits
from fs9.providers.pagefs import backends, records, view
from fs9.providers.pagefs.fsck import Checker
from fs9.providers.pagefs.store import Batch
from fs9.providers.registry import ProviderContext
from fs9.types import READ, OpenFlags, StatChanges
from tests.providers.pagefs.scenario import BIG, is_there, write
from tests.providers.pagefs.test_branches import Disk, content, make

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.providers.pagefs.provider import PageFs
    from fs9.threads import BlockingPool


@pytest.fixture
def disk() -> Disk:
    return Disk()


async def number_of(fs: PageFs, path: str) -> int:
    return (await fs.tree.locate(fs.core.head, path))[0]


async def test_every_flipped_bit_of_an_object_is_an_error(disk: Disk) -> None:
    """Or does not matter to the bytes that are read: never another byte."""
    fs = await disk.start()
    await write(fs, "/f", BIG)
    await write(fs, "/f", b"x" * 5000, 20_000)
    expected = await content(fs, "/f")
    (name,) = disk.objects
    dice, errors = random.Random(5), 0
    file, _ = await fs.open("/f", READ)
    for _ in range(400):
        at, bit = dice.randrange(len(disk.objects[name])), 1 << dice.randrange(8)
        disk.objects[name][at] ^= bit
        offset, size = dice.randrange(100_000), dice.randrange(40_000)
        try:
            assert await fs.read(file, offset, size) == expected[offset : offset + size]
        except Internal:
            errors += 1
        disk.objects[name][at] ^= bit
    assert errors > 50
    await fs.close(file)
    await fs.aclose()


async def test_every_flipped_bit_of_a_large_read_is_an_error(disk: Disk) -> None:
    """Also after a first read of the same bytes; and of the checksums themselves."""
    fs = await disk.start()
    dice = random.Random(6)
    whole = dice.randbytes(records.EXTENT_BYTES_MAX)
    await write(fs, "/f", whole)
    (name,) = disk.objects
    file, _ = await fs.open("/f", READ)
    for offset, size in ((0, len(whole)), (70_000, 300_000)):
        for _ in range(50):
            assert await fs.read(file, offset, size) == whole[offset : offset + size]
            at, bit = offset + dice.randrange(size), 1 << dice.randrange(8)
            disk.objects[name][at] ^= bit
            with pytest.raises(Internal, match="checksum"):
                await fs.read(file, offset, size)
            disk.objects[name][at] ^= bit
    await fs.close(file)
    items = disk.memory.table.items
    (key,) = [key for key in items if key[:1] == b"E"]
    row, sums = items[key], 4 + len(whole) // fs.core.unit_bytes * 4
    for at in range(len(row) - sums, len(row)):
        items[key] = row[:at] + bytes([row[at] ^ 0x10]) + row[at + 1 :]
        assert len((await Checker(fs).scrub()).faults) == 1
    items[key] = row
    assert (await Checker(fs).scrub()).ok
    await fs.aclose()


def object_below(directory: Path) -> Path:
    (found,) = [path for path in directory.rglob("objects/*/*/*") if path.is_file()]
    return found


async def test_a_bit_that_flips_in_a_file_after_a_read(tmp_path: Path, pool: BlockingPool) -> None:
    """Nothing remembers that the bytes were right once: each read looks again."""
    context = ProviderContext("acme", tmp_path, Limits(), SystemClock(), pool)
    fs = await backends.create({}, context)
    whole = random.Random(9).randbytes(records.EXTENT_BYTES_MAX + 70_000)
    await write(fs, "/f", whole)
    path = object_below(tmp_path)
    file, _ = await fs.open("/f", READ)
    for offset, size in ((0, records.EXTENT_BYTES_MAX), (records.EXTENT_BYTES_MAX, 70_000), (9, 9)):
        assert await fs.read(file, offset, size) == whole[offset : offset + size]
        with path.open("r+b") as damaged:
            damaged.seek(offset + size // 2)
            damaged.write(bytes([whole[offset + size // 2] ^ 4]))
        with pytest.raises(Internal, match="checksum"):
            await fs.read(file, offset, size)
        with path.open("r+b") as mended:
            mended.write(whole)
        assert await fs.read(file, offset, size) == whole[offset : offset + size]
    await fs.close(file)
    await fs.aclose()


async def test_rows_without_a_checksum_of_all_are_read(disk: Disk) -> None:
    """As they were written before there was one."""
    fs = await disk.start()
    whole = random.Random(8).randbytes(records.EXTENT_BYTES_MAX)
    await write(fs, "/f", whole)
    items = disk.memory.table.items
    (key,) = [key for key in items if key[:1] == b"E"]
    extent = records.decode_extent(key[: -view.SUFFIX_BYTES], items[key])
    assert extent.whole is not None
    extent.whole = None
    items[key] = extent.encode()
    assert await content(fs, "/f") == whole
    (name,) = disk.objects
    disk.objects[name][500_000] ^= 1
    with pytest.raises(Internal, match="checksum"):
        await content(fs, "/f")
    await fs.aclose()


async def test_every_flipped_bit_of_an_inline_page_is_an_error(disk: Disk) -> None:
    fs = await disk.start()
    await write(fs, "/f", b"small")
    items = disk.memory.table.items
    (key,) = [key for key in items if key[:1] == b"E"]
    whole = items[key]
    for at in range(1, len(whole)):
        items[key] = whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
        with pytest.raises(Internal, match="checksum"):
            await content(fs, "/f")
    items[key] = whole
    assert await content(fs, "/f") == b"small"
    await fs.aclose()


async def test_a_torn_object_is_an_error(disk: Disk) -> None:
    """Cut off, replaced by another of the same length, or gone."""
    fs = await disk.start()
    await write(fs, "/f", BIG)
    await write(fs, "/g", BIG[::-1])
    first, second = sorted(disk.objects)
    whole, other = bytes(disk.objects[first]), bytes(disk.objects[second])
    for wrong in (whole[:50_000], whole[:-1], b"", other, None):
        if wrong is None:
            del disk.objects[first]
        else:
            disk.objects[first] = bytearray(wrong)
        with pytest.raises(Internal):
            await content(fs, "/f")
    disk.objects[first] = bytearray(whole)
    assert await content(fs, "/f") == BIG
    await fs.aclose()


async def test_scrub_finds_what_no_one_reads(disk: Disk) -> None:
    fs = await disk.start()
    await write(fs, "/f", BIG)
    await write(fs, "/small", b"small")
    await fs.branches.snapshot("one")
    await fs.remove("/f")
    report = await Checker(fs).scrub()
    assert (report.ok, report.files, report.bytes) == (True, 3, 100_010)
    (name,) = disk.objects
    disk.objects[name][77_777] ^= 1
    report = await Checker(fs).scrub()
    assert not report.ok
    assert len(report.faults) == 1
    assert "/.snapshots/one" in report.faults[0]
    assert report.faults[0].endswith("(/f)")
    await fs.aclose()


async def test_the_check_names_the_files_whose_bytes_are_lost(disk: Disk) -> None:
    """By a path, also in the trash; not those that no name leads to."""
    fs = await disk.start()
    await make(fs, "/d")
    await make(fs, "/d/e")
    await write(fs, "/d/e/f", BIG)
    await write(fs, "/other", BIG)
    disk.objects.clear()
    report = await Checker(fs).check()
    assert sorted(fault.rpartition(" ")[2] for fault in report.faults) == ["(/d/e/f)", "(/other)"]
    view, changes = fs.core.head, {}
    view.delete(changes, records.entry_key(records.ROOT, "d"))
    await fs.core.store.commit(Batch(changes))
    report = await Checker(fs).check()
    assert len([fault for fault in report.faults if fault.endswith("(/other)")]) == 1
    assert not any("/d/e" in fault for fault in report.faults)
    await fs.aclose()


async def damage(disk: Disk, fs: PageFs, what: str) -> None:
    """Harm the rows as no operation does."""
    view, changes = fs.core.head, {}
    number = await number_of(fs, "/d/f")
    inode = await fs.tree.inode(view, number)
    if what == "lost inode":
        view.delete(changes, records.inode_key(number))
    elif what == "lost entry":
        view.delete(changes, records.entry_key(await number_of(fs, "/d"), "f"))
    elif what == "lost directory":
        view.delete(changes, records.entry_key(records.ROOT, "d"))
    elif what == "links":
        inode.nlink = 7
        view.put(changes, records.inode_key(number), records.encode(inode))
    elif what == "kind":
        key = records.entry_key(await number_of(fs, "/d"), "f")
        view.put(changes, key, records.pack_entry(number, records.DIRECTORY))
    elif what == "counters":
        counters = records.encode(records.Counters(5, 5))
        view.put(changes, records.COUNTERS, counters)
        view.counters = records.Counters(5, 5)
    await fs.core.store.commit(Batch(changes))


@pytest.mark.parametrize(
    "what", ["lost inode", "lost entry", "lost directory", "links", "kind", "counters"]
)
async def test_the_check_finds_and_mends(what: str, disk: Disk) -> None:
    """Found, mended, and then in order; what was lost is in /lost+found."""
    fs = await disk.start()
    await make(fs, "/d")
    await make(fs, "/d/e")
    await write(fs, "/d/f", b"small")
    assert (await Checker(fs).check()).ok
    await damage(disk, fs, what)
    report = await Checker(fs).check()
    assert report.faults
    assert not report.ok
    for _ in range(3):  # mending one thing may bring another one to light
        report = await Checker(fs, repair=True).check()
    assert (report.faults, report.garbage) == ([], [])
    if what == "lost entry":
        (info,) = await fs.readdir("/lost+found", "", 9)
        assert await content(fs, info.path) == b"small"
    elif what == "lost directory":
        (info,) = await fs.readdir("/lost+found", "", 9)
        assert await content(fs, info.path + "/f") == b"small"
    elif what == "lost inode":
        assert not await is_there(fs, "/d/f")
    await fs.aclose()


async def test_a_lost_object_and_garbage(disk: Disk) -> None:
    """A file whose bytes are gone is a fault; an object that nobody has is garbage."""
    fs = await disk.start()
    await write(fs, "/f", BIG)
    (name,) = disk.objects
    disk.objects["00000100000fffff-0000000000000001"] = bytearray(b"x")
    report = await Checker(fs, repair=True).check()
    assert (report.faults, len(report.garbage)) == ([], 1)
    assert list(disk.objects) == [name]
    del disk.objects[name]
    report = await Checker(fs).check()
    assert not report.ok
    await fs.aclose()


async def test_compaction(disk: Disk) -> None:
    """A file that was overwritten again and again takes about its size in the end."""
    fs = await disk.start()
    file, _ = await fs.open("/f", OpenFlags(read=True, write=True, create=True))
    expected = bytearray(BIG)
    await fs.write(file, 0, BIG)
    for number in range(100):
        await fs.write(file, number * 10, BIG[number:90_000])
        expected[number * 10 : number * 10 + 90_000 - number] = BIG[number:90_000]
    assert sum(map(len, disk.objects.values())) > 8_000_000
    await fs.close(file)
    await fs.core.settle()
    assert sum(map(len, disk.objects.values())) < 8_000_000
    await fs._compact(fs.core.head, await number_of(fs, "/f"))
    await fs.core.settle()
    assert sum(map(len, disk.objects.values())) == 100_000
    assert await content(fs, "/f") == expected
    report = await Checker(fs).check()
    assert (report.faults, report.garbage) == ([], [])
    await fs.aclose()


async def test_holes_take_no_space(disk: Disk) -> None:
    """A sparse file stores what was written; a large one is cut and removed in batches."""
    fs = await disk.start()
    await write(fs, "/f", b"end", 2**40)
    await fs.wstat("/g", StatChanges(symlink_target="x"))
    assert (await fs.stat("/f")).size == 2**40 + 3
    assert sum(map(len, disk.objects.values())) == 3
    file, _ = await fs.open("/f", OpenFlags(read=True, write=True))
    assert bytes(await fs.read(file, 2**40 - 2, 9)) == b"\0\0end"
    for number in range(900):
        await fs.write(file, number * 1000, b"piece" * 20)
    await fs.wstat("/f", StatChanges(size=1000))
    await fs.wstat("/f", StatChanges(size=900_000))
    assert not any(bytes(await fs.read(file, 1000, 900_000)))
    for number in range(900):
        await fs.write(file, number * 1000, b"piece" * 20)
    assert await fs.write(file, 0, bytes(900_000)) < 900_000  # in several batches
    await fs.remove("/f")
    await fs.close(file)
    await fs.core.settle()
    assert disk.objects == {}
    report = await Checker(fs).check()
    assert (report.faults, report.garbage) == ([], [])
    with pytest.raises(NotFound):
        await fs.stat("/f")
    with pytest.raises(Fs9Error):
        await fs.link("/g", "/g")
    await fs.aclose()


async def test_an_extent_that_is_not_found_is_an_error_and_no_hole(disk: Disk) -> None:
    """A flipped bit in a key hides a row; zeros are read only where nothing was written."""
    fs = await disk.start()
    await write(fs, "/inline", b"x" * 40_000)
    await write(fs, "/f", BIG)
    await write(fs, "/sparse", b"x", 70_000)
    for path in ("/inline", "/f"):
        number = await number_of(fs, path)
        items = disk.memory.table.items
        key = next(key for key in items if key[:9] == b"E" + number.to_bytes(8, "big"))
        row = items[key]
        await fs.core.store.commit(Batch({key: None}))
        await fs.aclose()
        fs = await disk.start()  # nothing is remembered
        with pytest.raises(Internal, match="missing"):
            await content(fs, path)
        await fs.core.store.commit(Batch({key: row}))
        assert b"\0" * 100 not in await content(fs, path)
    assert await content(fs, "/sparse") == bytes(70_000) + b"x"
    await fs.wstat("/f", StatChanges(size=len(BIG) + 10))
    assert await content(fs, "/f") == BIG + bytes(10)
    await fs.aclose()
