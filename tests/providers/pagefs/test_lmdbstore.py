"""The embedded stores keep both contracts, and what a crash leaves is a prefix."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
from typing import TYPE_CHECKING

import lmdb
import pytest

from fs9.errors import Internal, OwnerUnavailable
from fs9.providers.pagefs import fileblocks, journal, lmdbenvironment, lmdbstore
from fs9.providers.pagefs.store import Batch
from tests.providers.pagefs.block_suite import BlockStoreSuite, OpenBlocks
from tests.providers.pagefs.store_suite import END, MetaStoreSuite, OpenStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fs9.providers.pagefs.lmdbstore import LmdbStore
    from fs9.threads import BlockingPool


class TestLmdbStore(MetaStoreSuite):
    @pytest.fixture
    def open_store(self, tmp_path: Path, pool: BlockingPool) -> OpenStore:
        async def open_store() -> LmdbStore:
            return await lmdbstore.open_store(tmp_path, pool)

        return open_store


class TestLmdbStoreThatMovesOften(MetaStoreSuite):
    """The same with journals of a few keys, so that three layers are merged."""

    @pytest.fixture
    def open_store(self, tmp_path: Path, pool: BlockingPool, monkeypatch) -> OpenStore:
        monkeypatch.setattr(lmdbstore, "JOURNAL_KEYS_MAX", 3)

        async def open_store() -> LmdbStore:
            return await lmdbstore.open_store(tmp_path, pool)

        return open_store


class TestFileBlocks(BlockStoreSuite):
    @pytest.fixture
    def open_blocks(self, tmp_path: Path, pool: BlockingPool) -> OpenBlocks:
        async def open_blocks() -> fileblocks.FileBlocks:
            return await fileblocks.open_blocks(tmp_path / "objects", pool)

        return open_blocks


def crashed(store: LmdbStore) -> None:
    """The process is gone: nothing is written any more, the kernel's locks are free."""
    store._closing.close()
    store._closed = True


async def no_blocks() -> None:
    """The rows refer to none."""


async def items_after(directory: Path, pool: BlockingPool, boot: str) -> dict[bytes, bytes]:
    store = await lmdbstore.open_store(directory, pool, boot)
    found = dict(await store.scan(b"", END, 1000))
    await store.sync(no_blocks)
    await store.aclose()
    return found


async def test_where_blocks_cannot_be_allocated_beforehand(
    tmp_path: Path, pool: BlockingPool, monkeypatch
) -> None:
    """They are written all the same, and the file system is not asked again."""
    asked = []

    def refuse(fd: int, mode: int, offset: int, size: int) -> int:
        asked.append((offset, size))
        ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    monkeypatch.setattr(fileblocks, "_libc_fallocate", refuse)
    blocks = await fileblocks.open_blocks(tmp_path, pool)
    data = bytes(range(256)) * 4096
    for number in range(2):
        await blocks.put("0" * 16, number * len(data), data)
    assert bytes(await blocks.get("0" * 16, 0, 2 * len(data))) == 2 * data
    assert asked == [(0, len(data))]
    await blocks.aclose()


def size_and_space(directory: Path, name: str) -> tuple[int, int]:
    (found,) = [path.stat() for path in directory.rglob(name)]
    return found.st_size, found.st_blocks * 512


async def test_space_that_was_taken_ahead_is_given_back(tmp_path: Path, pool: BlockingPool) -> None:
    """A large object has more blocks than it needs while it grows, and no more after `trim`."""
    blocks = await fileblocks.open_blocks(tmp_path, pool)
    data, name = bytes(range(256)) * 4096, "0" * 16
    for number in range(5):
        await blocks.put(name, number * len(data), data)
    if size_and_space(tmp_path, name)[1] <= 5 * len(data):
        pytest.skip("the file system does not allocate ahead")
    await blocks.trim(name)
    size, space = size_and_space(tmp_path, name)
    assert size == 5 * len(data) <= space < 6 * len(data)
    await blocks.put(name, 5 * len(data), data)
    assert bytes(await blocks.get(name, 4 * len(data), 9 * len(data))) == 2 * data
    await blocks.aclose()


async def test_where_it_cannot_be_said_whether_a_read_waits(
    tmp_path: Path, pool: BlockingPool, monkeypatch
) -> None:
    """A thread reads, and the file system (a tmpfs) is not asked again."""
    asked = []

    def refuse(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        if flags:
            asked.append(offset)
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return preadv(fd, buffers, offset)

    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", refuse)
    blocks = await fileblocks.open_blocks(tmp_path, pool)
    await blocks.put("0" * 16, 0, b"one two")
    assert bytes(await blocks.get("0" * 16, 0, 3)) == b"one"
    assert bytes(await blocks.get("0" * 16, 4, 9)) == b"two"
    assert asked == [0]
    await blocks.aclose()


async def test_folders_are_synced_once(tmp_path: Path, pool: BlockingPool, monkeypatch) -> None:
    """Those that got a name since; files with their sizes, but without their times."""
    synced: list[str] = []
    for name in ("fsync", "fdatasync"):

        def note(fd: int, name: str = name) -> None:
            synced.append(
                f"{name} {os.readlink(f'/proc/self/fd/{fd}').removeprefix(str(tmp_path))}"
            )

        monkeypatch.setattr(os, name, note)
    blocks = await fileblocks.open_blocks(tmp_path, pool)
    first, second = "0" * 15 + "1", "0" * 15 + "2"
    await blocks.put(first, 0, b"one")
    await blocks.sync([first])
    assert synced.pop(0) == f"fdatasync /000000/0000000/{first}"
    assert sorted(synced) == ["fsync ", "fsync /000000", "fsync /000000/0000000"]
    for name, expected in (
        (first, [f"fdatasync /000000/0000000/{first}"]),
        (second, [f"fdatasync /000000/0000000/{second}", "fsync /000000/0000000"]),
    ):
        synced.clear()
        await blocks.put(name, 0, b"two")
        await blocks.sync([name])
        assert synced == expected
    await blocks.aclose()
    # The next process cannot know which of them were.
    synced.clear()
    blocks = await fileblocks.open_blocks(tmp_path, pool)
    blocks.adopt([first])
    await blocks.sync([first])
    assert synced.pop(0) == f"fdatasync /000000/0000000/{first}"
    assert sorted(synced) == ["fsync ", "fsync /000000", "fsync /000000/0000000"]
    await blocks.aclose()


async def test_a_kill_loses_nothing(tmp_path: Path, pool: BlockingPool) -> None:
    """What was committed without a sync is there after the process died."""
    store = await lmdbstore.open_store(tmp_path, pool, "one")
    for number in range(5):
        await store.commit(Batch({b"%d" % number: b"v"}))
    crashed(store)
    assert len(await items_after(tmp_path, pool, "one")) == 5


async def test_kills_without_a_change_lose_nothing_of_later_ones(
    tmp_path: Path, pool: BlockingPool
) -> None:
    """A journal without a record has the name of the next one."""
    store = await lmdbstore.open_store(tmp_path, pool, "one")
    for number in range(5):
        for _ in range(number):
            crashed(store)
            store = await lmdbstore.open_store(tmp_path, pool, "one")
        await store.commit(Batch({b"%d" % number: b"v"}), sync=True)
        crashed(store)
        store = await lmdbstore.open_store(tmp_path, pool, "one")
        assert len(await store.scan(b"", END, 10)) == number + 1, number
    crashed(store)


async def test_a_power_loss_keeps_what_was_synced(tmp_path: Path, pool: BlockingPool) -> None:
    """And no later commit, though its record may have survived by chance."""
    store = await lmdbstore.open_store(tmp_path, pool, "one")
    await store.commit(Batch({b"a": b"1"}))
    await store.commit(Batch({b"b": b"1"}), sync=True)
    await store.commit(Batch({b"a": b"2"}))
    crashed(store)
    assert await items_after(tmp_path, pool, "two") == {b"a": b"1", b"b": b"1"}


async def test_any_cut_of_the_journal_is_a_prefix(tmp_path: Path, pool: BlockingPool) -> None:
    """Whatever byte the journal ends at, or is flipped: a prefix of the batches."""
    store = await lmdbstore.open_store(tmp_path / "a", pool, "one")
    for number in range(6):
        await store.commit(Batch({b"n": b"%d" % number, b"%d" % number: b""}))
    crashed(store)
    (path,) = journal.files(tmp_path / "a")
    whole = path.read_bytes()[: store._journal.size_bytes]
    seen = set()
    for cut in range(0, len(whole), 5):
        for data in (whole[:cut], whole[:cut] + bytes([whole[cut] ^ 1]) + whole[cut + 1 :]):
            path.write_bytes(data)
            records, _ = journal.replay(journal.read(tmp_path / "a"), "one")
            numbers = [record.number for record in records]
            assert numbers == list(range(1, len(numbers) + 1))
            seen.add(len(numbers))
    assert seen == set(range(6))


async def test_a_crash_while_moving_into_lmdb(
    tmp_path: Path, pool: BlockingPool, monkeypatch
) -> None:
    """Before, between and after: journals that were moved already change nothing."""
    monkeypatch.setattr(lmdbstore, "JOURNAL_KEYS_MAX", 4)
    store = await lmdbstore.open_store(tmp_path, pool, "one")
    monkeypatch.setattr(journal.Journal, "remove", lambda self: None)
    for number in range(30):
        await store.commit(Batch({b"%d" % (number % 7): b"%d" % number}), sync=number % 3 == 0)
    while store._moving is not None:
        await store._moving
    crashed(store)
    monkeypatch.undo()
    assert len(journal.files(tmp_path)) > 2
    expected = {b"%d" % (number % 7): b"%d" % number for number in range(30)}
    assert await items_after(tmp_path, pool, "one") == expected
    assert len(journal.files(tmp_path)) == 0


async def test_what_a_crash_left_is_moved_with_the_first_sync(
    tmp_path: Path, pool: BlockingPool
) -> None:
    """Not while it is opened, which others wait for; however many crashes there were."""
    for number in range(3):
        store = await lmdbstore.open_store(tmp_path, pool)
        await store.commit(Batch({b"%d" % number: b"", b"n": b"%d" % number}))
        crashed(store)
    store = await lmdbstore.open_store(tmp_path, pool)
    assert len(journal.files(tmp_path)) == 4
    assert [key for key, _ in await store.scan(b"", END, 10)] == [b"0", b"1", b"2", b"n"]
    assert await store.get(b"n") == b"2"
    await store.sync()
    while store._moving is not None:
        await store._moving
    assert journal.files(tmp_path) == [store._journal.path]
    assert store.environment.get(b"n") == b"2"
    crashed(store)
    assert len(await items_after(tmp_path, pool, journal.boot_id())) == 4


async def test_what_comes_too_late_hides_nothing(tmp_path: Path, pool: BlockingPool) -> None:
    """A writer that was stopped adds a record to its journal, after another has gone on."""
    late = await lmdbstore.open_store(tmp_path, pool)
    await late.commit(Batch({b"n": b"1"}))
    store = await lmdbstore.open_store(tmp_path, pool)
    late._append(Batch({b"n": b"late"}))
    with pytest.raises(OwnerUnavailable):
        late._check()
    await store.commit(Batch({b"n": b"2"}))
    await store.commit(Batch({b"n": b"3"}))
    crashed(late)
    crashed(store)
    assert await items_after(tmp_path, pool, journal.boot_id()) == {b"n": b"3"}


async def test_the_map_grows(tmp_path: Path, pool: BlockingPool, monkeypatch) -> None:
    monkeypatch.setattr(lmdbenvironment, "_MAP_BYTES_MIN", 256 * 1024)
    store = await lmdbstore.open_store(tmp_path, pool)
    for number in range(64):
        await store.commit(Batch({b"%d" % number: bytes(60_000)}))
    await store.aclose()
    assert len(await items_after(tmp_path, pool, journal.boot_id())) == 64


async def test_a_full_disk_changes_nothing(tmp_path: Path, pool: BlockingPool, monkeypatch) -> None:
    """A commit that could not be written is an error, and the next one is as if it never was."""
    store = await lmdbstore.open_store(tmp_path, pool)
    await store.commit(Batch({b"a": b"1"}))

    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(28, "full")

    monkeypatch.setattr(journal.os, "pwrite", full)
    with pytest.raises(OSError, match="full"):
        await store.commit(Batch({b"a": b"2"}))
    assert await store.get(b"a") == b"1"
    monkeypatch.undo()
    await store.commit(Batch({b"b": b"2"}))
    await store.aclose()
    assert await items_after(tmp_path, pool, journal.boot_id()) == {b"a": b"1", b"b": b"2"}


async def test_a_sync_that_failed_is_not_believed_later(
    tmp_path: Path, pool: BlockingPool, monkeypatch
) -> None:
    store = await lmdbstore.open_store(tmp_path, pool)

    def broken(fd: int) -> None:
        raise OSError(5, "broken")

    monkeypatch.setattr(journal.os, "fdatasync", broken)
    with pytest.raises(OSError, match="broken"):
        await store.commit(Batch({b"a": b"1"}), sync=True)
    monkeypatch.undo()
    for call in (store.sync, store.aclose):
        with pytest.raises(OSError, match="broken"):
            await call()


async def test_tools_see_that_it_is_in_use(tmp_path: Path, pool: BlockingPool) -> None:
    assert not lmdbstore.in_use(tmp_path)
    store = await lmdbstore.open_store(tmp_path, pool)
    assert lmdbstore.in_use(tmp_path)
    await store.aclose()
    assert not lmdbstore.in_use(tmp_path)


def change_rows(directory: Path, change: Callable[[bytes, bytes], bytes]) -> None:
    """Behind the store's back, while nobody has it open."""
    with lmdb.open(str(directory / "meta"), max_dbs=2) as environment:
        data = environment.open_db(b"data")
        with environment.begin(write=True, db=data) as transaction:
            for key, value in list(transaction.cursor()):
                transaction.put(key, change(key, value))


async def test_every_flipped_bit_of_a_row_is_an_error(tmp_path: Path, pool: BlockingPool) -> None:
    """Of a get, a listing and a snapshot: never another value."""
    store = await lmdbstore.open_store(tmp_path, pool)
    await store.commit(Batch({b"key": b"value", b"other": b""}))
    await store.aclose()
    for at in range(len(b"value") + 4):
        for wrong in (1 << at % 8, 0):
            change_rows(
                tmp_path,
                lambda _, v, at=at: (
                    v[:at] + bytes([v[at] ^ 1 << at % 8]) + v[at + 1 :] if len(v) > at else v
                ),
            )
            store = await lmdbstore.open_store(tmp_path, pool)
            snapshot = await store.snapshot()
            for reader in (store, snapshot):
                if wrong:
                    with pytest.raises(Internal, match="damaged"):
                        await reader.get(b"key")
                    with pytest.raises(Internal, match="damaged"):
                        await reader.scan(b"", END, 9)
                else:
                    assert await reader.get(b"key") == b"value"
                    assert await reader.scan(b"", END, 9) == [(b"key", b"value"), (b"other", b"")]
            await snapshot.aclose()
            await store.aclose()


async def test_what_an_earlier_version_made_has_no_checksums(
    tmp_path: Path, pool: BlockingPool
) -> None:
    """It is read, and goes on so."""
    store = await lmdbstore.open_store(tmp_path, pool)
    await store.commit(Batch({b"key": b"value"}))
    await store.aclose()
    change_rows(tmp_path, lambda _, value: value[:-4])
    with lmdb.open(str(tmp_path / "meta"), max_dbs=2) as environment:
        system = environment.open_db(b"system")
        with environment.begin(write=True, db=system) as transaction:
            assert transaction.delete(lmdbenvironment.SEALED)
    for number in range(3):
        store = await lmdbstore.open_store(tmp_path, pool)
        assert await store.get(b"key") == b"value"
        await store.commit(Batch({b"n": b"%d" % number}))
        await store.aclose()
    store = await lmdbstore.open_store(tmp_path, pool)
    assert await store.scan(b"", END, 9) == [(b"key", b"value"), (b"n", b"2")]
    await store.aclose()


def hide_last(page: bytearray, lower: int) -> None:
    """One row less: `lower` is where the page's list of rows ends."""
    page[12:14] = (lower - 2).to_bytes(2, "little")


def swap_first(page: bytearray, lower: int) -> None:
    page[16:20] = page[18:20] + page[16:18]


def rename_first(page: bytearray, lower: int) -> None:
    page[first_key(page)] ^= 1


def first_key(page: bytearray) -> int:
    """Where in the page the key of its first row is (behind 8 bytes of its own)."""
    return int.from_bytes(page[16:18], "little") + 8


def damage_leaves(directory: Path, first: bytes, damage: Callable[[bytearray, int], None]) -> None:
    """Damage the pages whose first row's key begins so."""
    (path,) = directory.rglob("data.mdb")
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), mmap.PAGESIZE):
        page = data[at : at + mmap.PAGESIZE]
        is_leaf = page[10:12] == b"\2\0"
        if is_leaf and page[first_key(page) :].startswith(first):
            damage(page, int.from_bytes(page[12:14], "little"))
            data[at : at + mmap.PAGESIZE] = page
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "text"), [(hide_last, r"rows are found of 100"), (swap_first, "wrong place")]
)
async def test_damage_that_hides_rows_is_named(
    tmp_path: Path, pool: BlockingPool, damage: Callable[[bytearray, int], None], text: str
) -> None:
    """Where a page's own structure is hit all rows that are seen have the right checksums."""
    store = await lmdbstore.open_store(tmp_path, pool)
    await store.commit(Batch({b"row-%03d" % number: b"value" * 9 for number in range(100)}))
    await store.aclose()
    store = await lmdbstore.open_store(tmp_path, pool)
    assert await store.faults() == []
    await store.aclose()
    damage_leaves(tmp_path, b"row-", damage)
    store = await lmdbstore.open_store(tmp_path, pool)
    assert len(await store.scan(b"row-", b"row.", 100)) <= 100  # and no error
    faults = await store.faults()
    assert any(re.search(text, fault) for fault in faults), faults
    await store.aclose()


async def test_a_table_that_is_not_found_is_damage_and_not_a_new_store(
    tmp_path: Path, pool: BlockingPool
) -> None:
    """One flipped bit in the list of LMDB's tables must not look like an empty tree."""
    store = await lmdbstore.open_store(tmp_path, pool)
    await store.commit(Batch({b"row": b"value"}))
    await store.aclose()
    damage_leaves(tmp_path, b"data", rename_first)
    with pytest.raises(Internal, match="damaged"):
        await lmdbstore.open_store(tmp_path, pool)
