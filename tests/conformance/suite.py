"""What every provider must do, whatever lies between it and the caller.

A test module derives a class from `FileSuite` (files in one directory) or `TreeSuite` (all of
a POSIX-like tree) and gives it a `driver` fixture; see `tests/conformance/driver.py`. A new
provider adds a fixture, not tests.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from fs9.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
)
from fs9.types import MKDIR, READ, REPLACE, Capability, Condition, FileType, OpenFlags, StatChanges
from tests.conformance.file_suite import FileSuite
from tests.conformance.steps import (
    OVERWRITE,
    RW_CREATE,
    SECOND_NS,
    content_of,
    exists,
    make_directory,
    make_file,
    make_link,
    names_in,
    needs,
    needs_links,
    rename,
)
from tests.conformance.table import check_table, open_case, remove_case, rename_case, wstat_case

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.conformance.driver import Driver

__all__ = ["FileSuite", "TreeSuite"]


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

    async def test_replace_when_a_link_took_the_name(self, driver: Driver) -> None:
        """It is refused as at open, and the link stays."""
        needs(driver, "replace")
        await needs_links(driver)
        handle, _ = await driver.open("/f", REPLACE)
        await make_link(driver, "/f", "elsewhere")
        with pytest.raises(InvalidArgument, match="symlink"):
            await driver.close(handle)
        assert (await driver.stat("/f")).symlink_target == "elsewhere"

    async def test_replace_follows_its_directory(self, driver: Driver) -> None:
        """A directory that is renamed meanwhile takes the new version with it."""
        needs(driver, "replace")
        await make_directory(driver, "/d")
        handle, _ = await driver.open("/d/f", REPLACE)
        await driver.write(handle, 0, b"new")
        await rename(driver, "/d", "/e")
        await driver.close(handle)
        assert await content_of(driver, "/e/f") == b"new"

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
        await needs_links(driver)
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

    async def test_the_name_of_a_file_does_not_make_it_an_invalid_handle(
        self, driver: Driver
    ) -> None:
        """The first clients take any text of a 400 in which "handle" stands for that."""
        await make_directory(driver, "/handle")
        calls: list[Callable[[], Awaitable[object]]] = [
            partial(driver.wstat, "/handle", StatChanges(name="/handle/in"))
        ]
        if await driver.capabilities() & Capability.SYMLINK:
            await make_link(driver, "/a Handle", "/handle")
            calls += (partial(driver.open, "/a Handle", flags) for flags in (READ, OVERWRITE))
            calls.append(partial(driver.wstat, "/a Handle", StatChanges(size=1)))
        for call in calls:
            with pytest.raises(InvalidArgument) as caught:
                await call()
            assert "handle" not in str(caught.value).lower()

    async def test_a_link_needs_a_target(self, driver: Driver) -> None:
        await needs_links(driver)
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

    async def test_no_program_runs_as_another_user(self, driver: Driver) -> None:
        """Set-user-id goes, of files also set-group-id and sticky: the same everywhere."""
        await make_file(driver, "/f")
        await driver.wstat("/f", StatChanges(mode=0o7755))
        assert (await driver.stat("/f")).mode == 0o755
        await make_directory(driver, "/d")
        await driver.wstat("/d", StatChanges(mode=0o7755))
        assert (await driver.stat("/d")).mode == 0o3755

    async def test_no_owner_is_minus_one(self, driver: Driver) -> None:
        await make_file(driver, "/f")
        for changes in (StatChanges(uid=2**32 - 1), StatChanges(gid=2**32 - 1)):
            with pytest.raises(InvalidArgument):
                await driver.wstat("/f", changes)

    async def test_an_error_names_the_path_that_was_asked_for(self, driver: Driver) -> None:
        """Not its parent, though that is what is missing or is no directory."""
        await make_file(driver, "/f")
        for target, kind in (("/f/x", NotDirectory), ("/m/x", NotFound)):
            calls: list[Callable[[], Awaitable[object]]] = [
                partial(driver.wstat, "/f", StatChanges(name=target)),
                partial(driver.open, target, RW_CREATE),
                partial(driver.open, target, MKDIR),
                partial(driver.remove, target),
            ]
            if await driver.capabilities() & Capability.SYMLINK:
                link = StatChanges(symlink_target="t")
                calls.append(partial(driver.wstat, target, link))
            for call in calls:
                with pytest.raises(kind) as caught:
                    await call()
                assert caught.value.detail == target

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
