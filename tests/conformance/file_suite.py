"""What every provider must do with the files of one directory. See `suite`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from fs9.types import MKDIR, READ, REPLACE, WRITE, Capability, Condition, FileType, OpenFlags
from tests.conformance.steps import (
    APPEND,
    OVERWRITE,
    RW_CREATE,
    content_of,
    exists,
    make_file,
    names_in,
    needs,
)

if TYPE_CHECKING:
    from tests.conformance.driver import Driver


class FileSuite:
    """Files in the root: open, read, write, close, list, remove."""

    async def test_write_then_read(self, driver: Driver) -> None:
        """What was written is read back, whole and in part, and stat knows its size."""
        handle, info = await driver.open("/f", OVERWRITE)
        assert (info.path, info.size, info.file_type) == ("/f", 0, FileType.REGULAR)
        assert await driver.write(handle, 0, b"hello ") == 6
        assert await driver.write(handle, 6, b"world") == 5
        assert bytes(await driver.read(handle, 0, 100)) == b"hello world"
        assert bytes(await driver.read(handle, 4, 3)) == b"o w"
        await driver.close(handle)
        info = await driver.stat("/f")
        assert (info.path, info.size, info.is_file) == ("/f", 11, True)
        assert info.symlink_target is None

    async def test_read_past_the_end_is_empty(self, driver: Driver) -> None:
        """At and after the end, and for no bytes, reading gives nothing and no error."""
        await make_file(driver, "/f", b"abc")
        handle, _ = await driver.open("/f", READ)
        for offset, size in ((3, 10), (1000, 10), (2**40, 1), (0, 0)):
            assert bytes(await driver.read(handle, offset, size)) == b""
        assert bytes(await driver.read(handle, 2, 10)) == b"c"
        await driver.close(handle)

    async def test_a_gap_reads_as_zeros(self, driver: Driver) -> None:
        await make_file(driver, "/f", b"ab")
        handle, _ = await driver.open("/f", OpenFlags(read=True, write=True))
        await driver.write(handle, 70_000, b"z")
        assert bytes(await driver.read(handle, 0, 80_000)) == b"ab" + bytes(69_998) + b"z"
        await driver.close(handle)
        assert (await driver.stat("/f")).size == 70_001

    async def test_large_content_with_a_change_in_the_middle(self, driver: Driver) -> None:
        """Writes over page borders of a large file change those bytes and no others."""
        content = bytearray(i * 7 % 251 for i in range(300_000))
        handle, _ = await driver.open("/f", RW_CREATE)
        await driver.write(handle, 0, bytes(content))
        for offset, size in ((65_530, 12), (131_072, 65_536), (1, 1), (299_990, 20)):
            content[offset : offset + size] = b"#" * size
            await driver.write(handle, offset, b"#" * size)
        assert bytes(await driver.read(handle, 0, 400_000)) == content
        assert bytes(await driver.read(handle, 65_000, 70_000)) == content[65_000:135_000]
        await driver.close(handle)

    async def test_every_byte_value_survives(self, driver: Driver) -> None:
        content = bytes(range(256)) * 3
        await make_file(driver, "/f", content)
        assert await content_of(driver, "/f") == content

    async def test_create_keeps_what_is_there(self, driver: Driver) -> None:
        """`create` on an existing file opens it; only `truncate` empties it."""
        await make_file(driver, "/f", b"long content")
        handle, info = await driver.open("/f", RW_CREATE)
        assert info.size == 12
        await driver.close(handle)
        await make_file(driver, "/f", b"short")
        assert await content_of(driver, "/f") == b"short"

    async def test_append_ignores_the_offset(self, driver: Driver) -> None:
        await make_file(driver, "/f", b"start")
        for word in (b"_one", b"_two"):
            handle, _ = await driver.open("/f", APPEND)
            await driver.write(handle, 0, word)
            await driver.close(handle)
        assert await content_of(driver, "/f") == b"start_one_two"

    async def test_two_appenders_add_to_the_common_end(self, driver: Driver) -> None:
        await make_file(driver, "/f")
        first, _ = await driver.open("/f", APPEND)
        second, _ = await driver.open("/f", APPEND)
        for handle, word in ((first, b"1"), (second, b"2"), (first, b"3")):
            await driver.write(handle, 0, word)
        await driver.close(first)
        await driver.close(second)
        assert await content_of(driver, "/f") == b"123"

    async def test_rights_of_the_handle(self, driver: Driver) -> None:
        """A handle does only what it was opened for; a refused write changes nothing."""
        await make_file(driver, "/f", b"same")
        reader, _ = await driver.open("/f", READ)
        with pytest.raises(PermissionDenied, match="file not opened for writing"):
            await driver.write(reader, 0, b"x")
        writer, _ = await driver.open("/f", WRITE)
        with pytest.raises(PermissionDenied, match="file not opened for reading"):
            await driver.read(writer, 0, 1)
        neither, _ = await driver.open("/f", OpenFlags())
        with pytest.raises(PermissionDenied):
            await driver.read(neither, 0, 1)
        with pytest.raises(PermissionDenied):
            await driver.write(neither, 0, b"x")
        for handle in (reader, writer, neither):
            await driver.close(handle)
        assert await content_of(driver, "/f") == b"same"

    async def test_handles_on_one_file_see_each_other(self, driver: Driver) -> None:
        writer, _ = await driver.open("/f", RW_CREATE)
        reader, _ = await driver.open("/f", READ)
        await driver.write(writer, 0, b"now")
        assert bytes(await driver.read(reader, 0, 10)) == b"now"
        await driver.close(writer)
        await driver.close(reader)

    async def test_open_a_missing_file(self, driver: Driver) -> None:
        for flags in (READ, WRITE, APPEND, OpenFlags()):
            with pytest.raises(NotFound, match="/missing"):
                await driver.open("/missing", flags)
        with pytest.raises(NotFound):
            await driver.stat("/missing")
        with pytest.raises(NotFound):
            await driver.remove("/missing")
        with pytest.raises(NotFound):
            await driver.readdir("/missing")

    async def test_exclusive_create(self, driver: Driver) -> None:
        """`exclusive` makes a new file or fails."""
        needs(driver, "exclusive")
        exclusive = OpenFlags(write=True, create=True, exclusive=True)
        handle, _ = await driver.open("/f", exclusive)
        await driver.close(handle)
        with pytest.raises(AlreadyExists):
            await driver.open("/f", exclusive)
        with pytest.raises(AlreadyExists):
            await driver.open("/", exclusive)

    async def test_truncate_needs_write(self, driver: Driver) -> None:
        """Emptying a file without the right to write is refused, and the file is not emptied."""
        await make_file(driver, "/f", b"same")
        with pytest.raises(InvalidArgument):
            await driver.open("/f", OpenFlags(read=True, truncate=True))
        assert await content_of(driver, "/f") == b"same"

    async def test_a_file_has_no_children(self, driver: Driver) -> None:
        """Nothing is below a file: neither found there nor made."""
        await make_file(driver, "/f", b"x")
        with pytest.raises(NotDirectory):
            await driver.stat("/f/child")
        with pytest.raises(NotDirectory):
            await driver.open("/f/child", RW_CREATE)
        with pytest.raises(NotDirectory):
            await driver.readdir("/f")
        with pytest.raises(NotDirectory):
            await driver.open("/f", OpenFlags(read=True, directory=True))

    async def test_create_in_a_missing_directory(self, driver: Driver) -> None:
        """It is not found, and nothing appears."""
        with pytest.raises(NotFound, match="not found: /gone"):
            await driver.open("/gone/f", RW_CREATE)
        assert not await exists(driver, "/gone")

    async def test_root_is_a_directory_that_stays(self, driver: Driver) -> None:
        info = await driver.stat("/")
        assert (info.path, info.is_dir) == ("/", True)
        with pytest.raises(PermissionDenied, match="cannot remove root"):
            await driver.remove("/")
        with pytest.raises(AlreadyExists):
            await driver.open("/", MKDIR)
        with pytest.raises(IsDirectory):
            await driver.open("/", RW_CREATE)

    async def test_a_directory_opens_for_reading_and_has_no_bytes(self, driver: Driver) -> None:
        handle, info = await driver.open("/", READ)
        assert info.is_dir
        with pytest.raises(IsDirectory):
            await driver.read(handle, 0, 10)
        await driver.close(handle)
        with pytest.raises(IsDirectory):
            await driver.open("/", WRITE)

    async def test_listing_is_sorted_by_bytes(self, driver: Driver) -> None:
        """Entries have whole paths and come in the order of their names' UTF-8 bytes."""
        names = ["b", "a", "B", "é", "z z", ".hidden", "\U0001f600", "\uffee", "a1"]
        before = set(await names_in(driver, "/"))
        for name in names:
            await make_file(driver, "/" + name, name.encode())
        infos = await driver.readdir("/")
        listed = [info.path for info in infos if info.path[1:] not in before]
        assert listed == sorted(("/" + name for name in names), key=str.encode)
        sizes = {info.path: info.size for info in infos}
        assert all(sizes["/" + name] == len(name.encode()) for name in names)

    async def test_listing_in_pages(self, driver: Driver) -> None:
        """Pages of any size, joined, are the listing."""
        needs(driver, "paging")
        for number in range(23):
            await make_file(driver, f"/f{number}")
        whole = await names_in(driver, "/")
        for size in (1, 7, 23, 1000):
            joined: list[str] = []
            while page := await driver.readdir("/", joined[-1] if joined else "", size):
                assert len(page) <= size
                joined += [info.path[1:] for info in page]
            assert joined == whole

    async def test_unusual_names(self, driver: Driver) -> None:
        """Names are kept byte for byte: blanks at the ends, dots, quotes, 255 bytes."""
        before = await names_in(driver, "/")
        names = [" a ", "a", "...", "-", "a\nb", "%2F", "a+b", "\\", '"', "x" * 255, "ж" * 127]
        for name in names:
            await make_file(driver, "/" + name, name.encode())
        assert sorted(await names_in(driver, "/")) == sorted(before + names)
        for name in names:
            assert await content_of(driver, "/" + name) == name.encode()
            await driver.remove("/" + name)
        assert await names_in(driver, "/") == before

    async def test_remove_keeps_open_files_alive(self, driver: Driver) -> None:
        """After a removal handles still read and write; a new file of the name is another."""
        await make_file(driver, "/f", b"old")
        handle, _ = await driver.open("/f", OpenFlags(read=True, write=True))
        await driver.remove("/f")
        assert not await exists(driver, "/f")
        await make_file(driver, "/f", b"new")
        assert bytes(await driver.read(handle, 0, 10)) == b"old"
        await driver.write(handle, 3, b"er")
        assert bytes(await driver.read(handle, 0, 10)) == b"older"
        await driver.close(handle)
        assert await content_of(driver, "/f") == b"new"

    async def test_etag_tells_versions_apart(self, driver: Driver) -> None:
        """Every change of the content changes the etag, also two within one clock tick."""
        if not await driver.capabilities() & Capability.ETAG:
            pytest.skip("no etags")
        handle, info = await driver.open("/f", RW_CREATE)
        seen = {info.etag}
        for word in (b"a", b"b", b"c", b"d"):
            await driver.write(handle, 0, word)
            seen.add((await driver.stat("/f")).etag)
        await driver.close(handle)
        assert len(seen) == 5
        assert (await driver.stat("/f")).etag in seen
        await driver.remove("/f")
        await make_file(driver, "/f", b"d")
        assert (await driver.stat("/f")).etag not in seen

    async def test_closing_with_sync(self, driver: Driver) -> None:
        handle, _ = await driver.open("/f", RW_CREATE)
        await driver.write(handle, 0, b"kept")
        await driver.close(handle, sync=True)
        assert await content_of(driver, "/f") == b"kept"

    async def test_statfs_is_plausible(self, driver: Driver) -> None:
        stats = await driver.statfs("/")
        assert 0 <= stats.free_bytes <= stats.total_bytes
        assert 0 <= stats.free_inodes <= stats.total_inodes
        assert stats.total_bytes > 0
        assert stats.block_size > 0
        assert stats.max_name_len == 255

    # -- replace --------------------------------------------------------------------------------

    async def test_replace_swaps_at_close(self, driver: Driver) -> None:
        """Until the close, readers see the old file; after it the new one; nothing between."""
        needs(driver, "replace")
        await make_file(driver, "/f", b"old version")
        reader, _ = await driver.open("/f", READ)
        before = await names_in(driver, "/")
        handle, info = await driver.open("/f", REPLACE)
        assert info.size == 0
        await driver.write(handle, 0, b"new")
        assert await content_of(driver, "/f") == b"old version"
        assert await names_in(driver, "/") == before
        await driver.close(handle)
        assert await content_of(driver, "/f") == b"new"
        assert bytes(await driver.read(reader, 0, 20)) == b"old version"
        await driver.close(reader)
        assert await names_in(driver, "/") == before

    async def test_replace_discarded_leaves_nothing(self, driver: Driver) -> None:
        needs(driver, "replace")
        await make_file(driver, "/f", b"old")
        before = await names_in(driver, "/")
        for path in ("/f", "/new"):
            handle, _ = await driver.open(path, REPLACE)
            await driver.write(handle, 0, b"half of a new vers")
            await driver.close(handle, discard=True)
        assert await content_of(driver, "/f") == b"old"
        assert await names_in(driver, "/") == before

    async def test_replace_creates(self, driver: Driver) -> None:
        """A missing file appears at the close; without `create` it is an error at once."""
        needs(driver, "replace")
        handle, _ = await driver.open("/f", REPLACE)
        await driver.write(handle, 0, b"x")
        assert not await exists(driver, "/f")
        await driver.close(handle)
        assert await content_of(driver, "/f") == b"x"
        with pytest.raises(NotFound):
            await driver.open("/g", OpenFlags(write=True, truncate=True, replace=True))

    async def test_replace_of_a_file_removed_meanwhile(self, driver: Driver) -> None:
        needs(driver, "replace")
        await make_file(driver, "/f", b"old")
        handle, _ = await driver.open("/f", REPLACE)
        await driver.write(handle, 0, b"new")
        await driver.remove("/f")
        await driver.close(handle)
        assert await content_of(driver, "/f") == b"new"

    async def test_replace_without_create_needs_the_file(self, driver: Driver) -> None:
        """Removed meanwhile means not found, and nothing is made."""
        needs(driver, "update")
        await make_file(driver, "/f", b"old")
        handle, _ = await driver.open("/f", OpenFlags(write=True, truncate=True, replace=True))
        await driver.remove("/f")
        with pytest.raises(NotFound):
            await driver.close(handle)
        assert not await exists(driver, "/f")

    async def test_replace_refuses_directories(self, driver: Driver) -> None:
        needs(driver, "replace")
        with pytest.raises(IsDirectory):
            await driver.open("/", REPLACE)
        with pytest.raises(InvalidArgument):
            await driver.open("/f", OpenFlags(read=True, create=True, replace=True))

    async def test_replace_when_the_condition_holds(self, driver: Driver) -> None:
        """If-Match with the current etag swaps; with another it is refused at open."""
        needs(driver, "condition")
        await make_file(driver, "/f", b"v1")
        etag = (await driver.stat("/f")).etag
        handle, _ = await driver.open("/f", REPLACE, Condition(if_match=(etag,)))
        await driver.write(handle, 0, b"v2")
        await driver.close(handle)
        assert await content_of(driver, "/f") == b"v2"
        for condition in (
            Condition(if_match=(etag,)),
            Condition(if_none_match=("*",)),
        ):
            with pytest.raises(PreconditionFailed):
                await driver.open("/f", REPLACE, condition)
        with pytest.raises(PreconditionFailed):
            await driver.open("/missing", REPLACE, Condition(if_match=("*",)))

    async def test_replace_checks_the_condition_again(self, driver: Driver) -> None:
        """Of two writers that saw one version only the first succeeds; so it is with creators."""
        needs(driver, "condition")
        await make_file(driver, "/f", b"v1")
        etag = (await driver.stat("/f")).etag
        for path, condition in (
            ("/f", Condition(if_match=(etag,))),
            ("/new", Condition(if_none_match=("*",))),
        ):
            first, _ = await driver.open(path, REPLACE, condition)
            second, _ = await driver.open(path, REPLACE, condition)
            await driver.write(first, 0, b"first")
            await driver.write(second, 0, b"second")
            await driver.close(first)
            with pytest.raises(PreconditionFailed):
                await driver.close(second)
            assert await content_of(driver, path) == b"first"

    async def test_conditional_create(self, driver: Driver) -> None:
        """If-None-Match `*` creates only where nothing is."""
        needs(driver, "condition")
        absent = Condition(if_none_match=("*",))
        handle, _ = await driver.open("/f", RW_CREATE, absent)
        await driver.close(handle)
        with pytest.raises(PreconditionFailed):
            await driver.open("/f", RW_CREATE, absent)

    async def test_conditional_remove(self, driver: Driver) -> None:
        needs(driver, "condition")
        await make_file(driver, "/f", b"x")
        etag = (await driver.stat("/f")).etag
        with pytest.raises(PreconditionFailed):
            await driver.remove("/f", Condition(if_match=(etag + "0",)))
        await driver.remove("/f", Condition(if_match=(etag,)))
        assert not await exists(driver, "/f")
