"""What every provider must do, whatever lies between it and the caller.

A test module derives a class from `FileSuite` (files in one directory) or `TreeSuite` (all of
a POSIX-like tree) and gives it a `driver` fixture; see `tests/conformance/driver.py`. A new
provider adds a fixture, not tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    Fs9Error,
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from fs9.path import join
from fs9.types import (
    MKDIR,
    READ,
    REPLACE,
    WRITE,
    Capability,
    Condition,
    FileType,
    OpenFlags,
    StatChanges,
)
from tests.conformance import truth

if TYPE_CHECKING:
    from tests.conformance.driver import Driver

RW_CREATE = OpenFlags(read=True, write=True, create=True)
OVERWRITE = OpenFlags(read=True, write=True, create=True, truncate=True)
APPEND = OpenFlags(write=True, append=True)
SECOND_NS = 1_000_000_000


async def make_file(driver: Driver, path: str, content: bytes = b"") -> None:
    handle, _ = await driver.open(path, OVERWRITE)
    if content:
        assert await driver.write(handle, 0, content) == len(content)
    await driver.close(handle)


async def make_directory(driver: Driver, path: str) -> None:
    handle, info = await driver.open(path, MKDIR)
    assert info.is_dir
    await driver.close(handle)


async def make_link(driver: Driver, path: str, target: str) -> None:
    await driver.wstat(path, StatChanges(symlink_target=target))


async def rename(driver: Driver, path: str, target: str) -> None:
    await driver.wstat(path, StatChanges(name=target))


async def content_of(driver: Driver, path: str) -> bytes:
    handle, info = await driver.open(path, READ)
    try:
        return bytes(await driver.read(handle, 0, info.size + 1))
    finally:
        await driver.close(handle)


async def names_in(driver: Driver, path: str) -> list[str]:
    return [info.path.rpartition("/")[2] for info in await driver.readdir(path)]


async def exists(driver: Driver, path: str) -> bool:
    try:
        await driver.stat(path)
    except NotFound:
        return False
    return True


def needs(driver: Driver, feature: str) -> None:
    if feature not in driver.features:
        pytest.skip(f"this way to the provider has no {feature}")


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


class TreeSuite(FileSuite):
    """A whole POSIX-like tree: directories, links, renames, attributes."""

    # -- the table recorded from Linux ----------------------------------------------------------

    async def test_open_as_linux(self, driver: Driver) -> None:
        """Every combination of flags on every kind of target does what Linux does."""
        await check_table(driver, "open", open_case)

    async def test_rename_as_linux(self, driver: Driver) -> None:
        await check_table(driver, "rename", rename_case)

    async def test_remove_as_linux(self, driver: Driver) -> None:
        await check_table(driver, "remove", remove_case)

    async def test_wstat_as_linux(self, driver: Driver) -> None:
        await check_table(driver, "wstat", wstat_case)

    # -- directories ----------------------------------------------------------------------------

    async def test_directories(self, driver: Driver) -> None:
        """Made one in another, listed, removed from the bottom up."""
        await make_directory(driver, "/a")
        assert await driver.readdir("/a") == []
        await make_directory(driver, "/a/b")
        await make_file(driver, "/a/b/f", b"x")
        info = await driver.stat("/a/b")
        assert (info.path, info.is_dir, info.mode & 0o777) == ("/a/b", True, 0o755)
        assert [entry.path for entry in await driver.readdir("/a/b")] == ["/a/b/f"]
        for path in ("/a", "/a/b"):
            with pytest.raises(DirectoryNotEmpty):
                await driver.remove(path)
        for path in ("/a/b/f", "/a/b", "/a"):
            await driver.remove(path)
        assert not await exists(driver, "/a")

    async def test_new_files_have_the_usual_mode(self, driver: Driver) -> None:
        await make_file(driver, "/f")
        assert (await driver.stat("/f")).mode == 0o644

    async def test_listing_costs_the_directory_only(self, driver: Driver) -> None:
        """Entries of other directories, with names that begin alike, do not show."""
        for path in ("/a", "/a/sub", "/ab"):
            await make_directory(driver, path)
        for path in ("/a/1", "/a/sub/2", "/ab/3"):
            await make_file(driver, path)
        assert await names_in(driver, "/a") == ["1", "sub"]

    async def test_a_directory_knows_when_it_changed(self, driver: Driver) -> None:
        """Creating and removing entries sets the directory's times."""
        await make_directory(driver, "/d")
        for change in ("create", "remove"):
            await driver.wstat("/d", StatChanges(mtime_ns=SECOND_NS))
            if change == "create":
                await make_file(driver, "/d/f")
            else:
                await driver.remove("/d/f")
            assert (await driver.stat("/d")).mtime_ns > SECOND_NS

    async def test_replace_when_the_directory_vanished(self, driver: Driver) -> None:
        needs(driver, "replace")
        await make_directory(driver, "/d")
        handle, _ = await driver.open("/d/f", REPLACE)
        await driver.write(handle, 0, b"x")
        await driver.remove("/d")
        with pytest.raises(NotFound):
            await driver.close(handle)
        assert not await exists(driver, "/d")

    async def test_replace_when_a_directory_took_the_name(self, driver: Driver) -> None:
        needs(driver, "replace")
        handle, _ = await driver.open("/f", REPLACE)
        await driver.write(handle, 0, b"x")
        await make_directory(driver, "/f")
        with pytest.raises(IsDirectory):
            await driver.close(handle)
        assert await driver.readdir("/f") == []

    async def test_replace_keeps_the_mode(self, driver: Driver) -> None:
        needs(driver, "replace")
        await make_file(driver, "/f", b"old")
        await driver.wstat("/f", StatChanges(mode=0o600))
        handle, _ = await driver.open("/f", REPLACE)
        await driver.write(handle, 0, b"new")
        await driver.close(handle)
        info = await driver.stat("/f")
        assert (info.mode, info.size) == (0o600, 3)

    # -- rename ---------------------------------------------------------------------------------

    async def test_rename_moves_what_is_in_a_directory(self, driver: Driver) -> None:
        for path in ("/a", "/a/b", "/to"):
            await make_directory(driver, path)
        await make_file(driver, "/a/b/f", b"deep")
        await rename(driver, "/a", "/to/c")
        assert await content_of(driver, "/to/c/b/f") == b"deep"
        assert not await exists(driver, "/a")
        with pytest.raises(NotFound):
            await driver.stat("/a/b/f")
        assert await names_in(driver, "/to") == ["c"]

    async def test_a_handle_follows_a_rename(self, driver: Driver) -> None:
        """Also when the directory above is renamed."""
        await make_directory(driver, "/d")
        await make_file(driver, "/d/f", b"abc")
        handle, _ = await driver.open("/d/f", OpenFlags(read=True, write=True))
        await rename(driver, "/d/f", "/d/g")
        await rename(driver, "/d", "/e")
        await driver.write(handle, 3, b"d")
        assert bytes(await driver.read(handle, 0, 9)) == b"abcd"
        await driver.close(handle)
        assert await content_of(driver, "/e/g") == b"abcd"

    async def test_a_replaced_file_lives_on_in_its_handles(self, driver: Driver) -> None:
        await make_file(driver, "/old", b"old")
        await make_file(driver, "/new", b"new")
        handle, _ = await driver.open("/old", READ)
        await rename(driver, "/new", "/old")
        assert bytes(await driver.read(handle, 0, 9)) == b"old"
        await driver.close(handle)
        assert await content_of(driver, "/old") == b"new"

    async def test_rename_of_the_root(self, driver: Driver) -> None:
        await make_file(driver, "/f")
        with pytest.raises(PermissionDenied):
            await rename(driver, "/", "/x")
        with pytest.raises(PermissionDenied):
            await rename(driver, "/f", "/")

    async def test_conditional_rename(self, driver: Driver) -> None:
        needs(driver, "condition")
        await make_file(driver, "/f", b"x")
        etag = (await driver.stat("/f")).etag
        with pytest.raises(PreconditionFailed):
            await driver.wstat("/f", StatChanges(name="/g"), Condition(if_match=("other",)))
        await driver.wstat("/f", StatChanges(name="/g"), Condition(if_match=(etag,)))
        assert await content_of(driver, "/g") == b"x"

    # -- links and attributes -------------------------------------------------------------------

    async def test_symbolic_links_are_data(self, driver: Driver) -> None:
        """A link is stored as it is given, never followed, and removed by itself."""
        await make_directory(driver, "/d")
        await make_file(driver, "/d/f", b"x")
        for target in ("d", "/d", "../../etc/passwd", "no where"):
            await make_link(driver, "/link", target)
            info = await driver.stat("/link")
            assert (info.file_type, info.symlink_target) == (FileType.SYMLINK, target)
            assert info.size == len(target)
            with pytest.raises(InvalidArgument, match="symlink"):
                await driver.open("/link", READ)
            with pytest.raises(InvalidArgument, match="symlink"):
                await driver.open("/link", OVERWRITE)
            for path in ("/link/f", "/link/new"):
                with pytest.raises(NotDirectory):
                    await driver.stat(path)
                with pytest.raises(NotDirectory):
                    await driver.open(path, RW_CREATE)
            with pytest.raises(NotDirectory):
                await driver.readdir("/link")
            await driver.remove("/link")
        assert await names_in(driver, "/d") == ["f"]

    async def test_a_link_needs_a_target(self, driver: Driver) -> None:
        for target in ("", "a\0b"):
            with pytest.raises(InvalidArgument):
                await make_link(driver, "/link", target)
        with pytest.raises(AlreadyExists):
            await make_link(driver, "/", "x")

    async def test_times_and_mode_together(self, driver: Driver) -> None:
        """All attributes of one wstat arrive; times to the second at least."""
        await make_file(driver, "/f", b"0123456789")
        changes = StatChanges(
            mode=0o640, size=4, atime_ns=3 * SECOND_NS, mtime_ns=1_234_567_890 * SECOND_NS
        )
        await driver.wstat("/f", changes)
        info = await driver.stat("/f")
        assert (info.mode & 0o777, info.size) == (0o640, 4)
        assert (info.atime_ns, info.mtime_ns) == (3 * SECOND_NS, 1_234_567_890 * SECOND_NS)
        assert await content_of(driver, "/f") == b"0123"

    async def test_nanoseconds(self, driver: Driver) -> None:
        needs(driver, "ns")
        await make_file(driver, "/f")
        await driver.wstat("/f", StatChanges(mtime_ns=1_000_000_000_123_456_789))
        assert (await driver.stat("/f")).mtime_ns == 1_000_000_000_123_456_789

    async def test_no_change_at_all(self, driver: Driver) -> None:
        """An empty change succeeds on what exists."""
        await make_file(driver, "/f", b"x")
        before = await driver.stat("/f")
        await driver.wstat("/f", StatChanges())
        assert await driver.stat("/f") == before
        with pytest.raises(NotFound):
            await driver.wstat("/g", StatChanges())

    async def test_a_refused_change_changes_nothing(self, driver: Driver) -> None:
        """Mode and size in one call on a directory: neither happens."""
        await make_directory(driver, "/d")
        with pytest.raises(IsDirectory):
            await driver.wstat("/d", StatChanges(mode=0o700, size=0))
        assert (await driver.stat("/d")).mode & 0o777 == 0o755

    async def test_conditional_truncate(self, driver: Driver) -> None:
        needs(driver, "condition")
        await make_file(driver, "/f", b"12345")
        etag = (await driver.stat("/f")).etag
        with pytest.raises(PreconditionFailed):
            await driver.wstat("/f", StatChanges(size=1), Condition(if_none_match=(etag,)))
        await driver.wstat("/f", StatChanges(size=1), Condition(if_match=("other", etag)))
        assert await content_of(driver, "/f") == b"1"

    async def test_shrinking_and_growing_reads_zeros(self, driver: Driver) -> None:
        """Bytes that were cut off never come back."""
        await make_file(driver, "/f", b"x" * 100_000)
        await driver.wstat("/f", StatChanges(size=65_540))
        await driver.wstat("/f", StatChanges(size=140_000))
        assert await content_of(driver, "/f") == b"x" * 65_540 + bytes(74_460)


# -- the recorded table -------------------------------------------------------------------------


async def check_table(driver: Driver, table: str, run: Any) -> None:
    """Run every case of a table; a changed tree is not used again."""
    wrong, number, base = [], 0, ""
    for case in truth.cases(table):
        if "exclusive" not in driver.features and "x" in "".join(case.arguments[1:]):
            continue
        if not base:
            number += 1
            base = f"/tree{number}"
            await make_tree(driver, base)
        outcome = await run(driver, base, case.arguments)
        if outcome != case.outcome:
            wrong.append(f"{case.arguments}: {outcome} instead of {case.outcome}")
        if outcome[0] == "ok":
            base = ""
    assert not wrong, "\n".join(wrong)


async def make_tree(driver: Driver, base: str) -> None:
    """The tree that `tools/record_open_table.py` makes, below `base`."""
    await make_directory(driver, base)
    for name, what in truth.TREE.items():
        path = join(base, name)
        if what.startswith("file"):
            await make_file(driver, path, f"<{name}>".encode())
        elif what.startswith("link"):
            await make_link(driver, path, what.removeprefix("link to "))
        else:
            await make_directory(driver, path)
            if what.endswith("inner,sub"):
                await make_file(driver, path + "/inner", f"<{name}/inner>".encode())
                await make_directory(driver, path + "/sub")


async def what_is(driver: Driver, path: str) -> str:
    try:
        info = await driver.stat(path)
    except (NotFound, NotDirectory):
        return "nothing"
    if info.is_symlink:
        return f"link to {info.symlink_target}"
    if info.is_dir:
        return "directory of " + ",".join(await names_in(driver, path))
    return "file of " + (await content_of(driver, path)).decode()


async def kind_of(operation: Any) -> tuple[str, Any]:
    """("ok", the result) of an awaitable, or (the kind of its error, None)."""
    try:
        return "ok", await operation
    except Fs9Error as error:
        return error.kind, None


async def open_case(driver: Driver, base: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    path = join(base, arguments[0])
    letters = arguments[1] if len(arguments) > 1 else ""
    flags = OpenFlags(**{truth.FLAGS[letter]: True for letter in letters})
    outcome, opened = await kind_of(driver.open(path, flags))
    if opened is None:
        return outcome, "", "", await what_is(driver, path)
    handle = opened[0]
    read, data = await kind_of(driver.read(handle, 0, 4))
    written, _ = await kind_of(driver.write(handle, 0, b"XY"))
    await driver.close(handle)
    if read == "ok":
        read = bytes(data).decode()
    return outcome, read, written, await what_is(driver, path)


async def rename_case(driver: Driver, base: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    source, target = (join(base, name) for name in arguments)
    outcome, _ = await kind_of(rename(driver, source, target))
    return outcome, await what_is(driver, source), await what_is(driver, target)


async def remove_case(driver: Driver, base: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    path = join(base, arguments[0])
    outcome, _ = await kind_of(driver.remove(path))
    return outcome, await what_is(driver, path)


async def wstat_case(driver: Driver, base: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    change, path = arguments[0].partition("="), join(base, arguments[1])
    changes = {
        "size": lambda text: StatChanges(size=int(text)),
        "mode": lambda text: StatChanges(mode=int(text, 8)),
        "mtime": lambda text: StatChanges(mtime_ns=int(text) * SECOND_NS),
        "symlink": lambda text: StatChanges(symlink_target=text),
    }[change[0]](change[2])
    outcome, _ = await kind_of(driver.wstat(path, changes))
    after = await what_is(driver, path)
    if outcome != "ok":
        return outcome, after, "", ""
    info = await driver.stat(path)
    mtime_s = info.mtime_ns // SECOND_NS
    return outcome, after, f"{info.mode & 0o777:o}", f"{mtime_s}" if mtime_s < 1_000_000 else "now"
