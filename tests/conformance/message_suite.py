"""What a provider of messages must do (Capability.STREAMING): one write is one entry of a log.

`pubsubfs` and `streamfs` run it bare, through a session, over HTTP and through both clients. A
test module gives it a `driver`, and `ends` where each entry is followed by a newline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.errors import (
    AlreadyExists,
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotFound,
    NotSupported,
    PayloadTooLarge,
    PermissionDenied,
)
from fs9.limits import MIB
from fs9.types import MKDIR, READ, WRITE, Capability, FileType, OpenFlags, StatChanges
from tests.conformance.steps import APPEND, OVERWRITE, exists, names_in, needs

if TYPE_CHECKING:
    from tests.conformance.driver import Driver


async def publish(driver: Driver, path: str, *words: bytes) -> None:
    handle, _ = await driver.open(path, WRITE)
    for word in words:
        assert await driver.write(handle, 0, word) == len(word)
    await driver.close(handle)


async def all_of(driver: Driver, path: str) -> bytes:
    """What a new reader gets, by one read."""
    handle, _ = await driver.open(path, READ)
    data = bytes(await driver.read(handle, 0, MIB))
    await driver.close(handle)
    return data


class MessageSuite:
    end = b""

    def text(self, *words: bytes) -> bytes:
        return b"".join(word + self.end for word in words)

    async def test_what_is_written_is_read(self, driver: Driver) -> None:
        """In order, once each, whichever handle wrote it, by who reads later and who waits."""
        await publish(driver, "/t", b"one")
        early, _ = await driver.open("/t", READ)
        await publish(driver, "/t", b"two", b"three")
        assert bytes(await driver.read(early, 0, 100)) == self.text(b"one", b"two", b"three")
        assert await all_of(driver, "/t") == self.text(b"one", b"two", b"three")
        await driver.close(early)

    async def test_reading_at_a_growing_offset(self, driver: Driver) -> None:
        """As `tail -f` does: empty is nothing yet; each byte comes once, in pieces of any size."""
        await publish(driver, "/t", b"first")
        handle, _ = await driver.open("/t", READ)
        seen = b""
        for word in (b"", b"second", b"", b"third", b"x" * 1000):
            if word:
                await publish(driver, "/t", word)
            while piece := bytes(await driver.read(handle, len(seen), 7)):
                seen += piece
        assert seen == self.text(b"first", b"second", b"third", b"x" * 1000)
        assert bytes(await driver.read(handle, len(seen), 100)) == b""
        await driver.close(handle)

    async def test_an_offset_always_has_the_same_bytes(self, driver: Driver) -> None:
        """A reader whose answer was lost asks again, and gets it again."""
        await publish(driver, "/t", b"abc", b"defg")
        handle, _ = await driver.open("/t", READ)
        whole = self.text(b"abc", b"defg")
        for offset in (0, 5, 2, 0, len(whole)):
            assert bytes(await driver.read(handle, offset, 4)) == whole[offset : offset + 4]
        await driver.close(handle)

    async def test_shell_redirections_write(self, driver: Driver) -> None:
        """`>` opens to read and write, and truncates; nothing that was written goes."""
        for flags, word in ((OVERWRITE, b"1"), (APPEND, b"2"), (OVERWRITE, b"3")):
            handle, info = await driver.open("/t", flags)
            assert info.file_type is FileType.REGULAR
            await driver.write(handle, 10, word)
            await driver.close(handle)
        assert await all_of(driver, "/t") == self.text(b"1", b"2", b"3")

    async def test_one_write_is_one_entry(self, driver: Driver) -> None:
        """Up to a mebibyte, whole; a larger one is refused and leaves nothing."""
        await publish(driver, "/t", b"x" * MIB)
        handle, _ = await driver.open("/t", WRITE)
        with pytest.raises(PayloadTooLarge):
            await driver.write(handle, 0, b"y" * (MIB + 1))
        await driver.close(handle)
        assert await all_of(driver, "/t") == b"x" * MIB
        await publish(driver, "/t", b"after")
        handle, _ = await driver.open("/t", READ)
        start = len(self.text(b"x" * MIB))
        assert bytes(await driver.read(handle, start, 100)) == self.text(b"after")
        await driver.close(handle)

    async def test_the_tree(self, driver: Driver) -> None:
        """One directory with a README; it cannot be changed, nor can directories be made."""
        before = await names_in(driver, "/")
        assert before == ["README"]
        readme = await driver.stat("/README")
        assert (readme.mode, readme.is_file) == (0o444, True)
        assert len(await all_of(driver, "/README")) == readme.size > 0
        for refused in (
            driver.open("/README", WRITE),
            driver.open("/README", OVERWRITE),
            driver.remove("/README"),
            driver.remove("/"),
        ):
            with pytest.raises(PermissionDenied):
                await refused
        with pytest.raises(AlreadyExists):
            await driver.open("/README", MKDIR)
        with pytest.raises(AlreadyExists):
            await driver.open("/", MKDIR)
        with pytest.raises(IsDirectory):
            await driver.open("/", WRITE)
        with pytest.raises(NotSupported):
            await driver.open("/d", MKDIR)
        with pytest.raises(NotSupported):
            await driver.wstat("/README", StatChanges(name="/other"))
        handle, info = await driver.open("/", READ)
        assert info.is_dir
        with pytest.raises(IsDirectory):
            await driver.read(handle, 0, 1)
        await driver.close(handle)

    async def test_what_is_missing(self, driver: Driver) -> None:
        """Reading does not make a file, nor is anything below one."""
        for flags in (READ, OpenFlags(), OpenFlags(read=True, create=True)):
            with pytest.raises(NotFound):
                await driver.open("/missing", flags)
        for missing in (driver.stat("/missing"), driver.remove("/missing"), driver.readdir("/m")):
            with pytest.raises(NotFound):
                await missing
        with pytest.raises(NotFound):
            await driver.open("/d/t", OVERWRITE)
        await publish(driver, "/t", b"x")
        for below in (driver.stat("/t/x"), driver.open("/t/x", OVERWRITE), driver.readdir("/t")):
            with pytest.raises(NotDirectory):
                await below
        assert not await exists(driver, "/missing")

    async def test_rights_of_the_handle(self, driver: Driver) -> None:
        await publish(driver, "/t", b"x")
        reader, _ = await driver.open("/t", READ)
        with pytest.raises(PermissionDenied, match="not opened for writing"):
            await driver.write(reader, 0, b"y")
        writer, _ = await driver.open("/t", WRITE)
        with pytest.raises(PermissionDenied, match="not opened for reading"):
            await driver.read(writer, 0, 1)
        for handle in (reader, writer):
            await driver.close(handle)
        with pytest.raises(InvalidArgument):
            await driver.open("/t", OpenFlags(read=True, truncate=True))
        assert await all_of(driver, "/t") == self.text(b"x")

    async def test_exclusive_create(self, driver: Driver) -> None:
        needs(driver, "exclusive")
        flags = OpenFlags(write=True, create=True, exclusive=True)
        handle, _ = await driver.open("/t", flags)
        await driver.close(handle)
        for path in ("/t", "/README", "/"):
            with pytest.raises(AlreadyExists):
                await driver.open(path, flags)

    async def test_after_a_removal(self, driver: Driver) -> None:
        """Who reads gets what was kept; who writes is told; the name is free for another."""
        await publish(driver, "/t", b"old")
        reader, _ = await driver.open("/t", READ)
        writer, _ = await driver.open("/t", WRITE)
        await driver.remove("/t")
        assert not await exists(driver, "/t")
        with pytest.raises(NotFound):
            await driver.write(writer, 0, b"lost?")
        await publish(driver, "/t", b"new")
        assert bytes(await driver.read(reader, 0, 100)) == self.text(b"old")
        for handle in (reader, writer):
            await driver.close(handle)
        assert await all_of(driver, "/t") == self.text(b"new")

    async def test_listing(self, driver: Driver) -> None:
        """Sorted by bytes, in pages of any size, names as they were given."""
        names = ["b", "a", "é", " x ", "z" * 240, "ж"]
        for name in names:
            await publish(driver, "/" + name, b"x")
        listed = await names_in(driver, "/")
        assert listed == sorted(listed, key=str.encode)
        assert set(names) <= set(listed)
        needs(driver, "paging")
        joined: list[str] = []
        while page := await driver.readdir("/", joined[-1] if joined else "", 2):
            joined += [info.path[1:] for info in page]
        assert joined == listed

    async def test_each_message_is_a_version(self, driver: Driver) -> None:
        seen = set()
        for word in (b"a", b"b", b"a"):
            await publish(driver, "/t", word)
            seen.add((await driver.stat("/t")).etag)
        await driver.remove("/t")
        await publish(driver, "/t", b"a")
        seen.add((await driver.stat("/t")).etag)
        assert len(seen) == 4

    async def test_statfs_and_capabilities(self, driver: Driver) -> None:
        await publish(driver, "/t", b"x")
        stats = await driver.statfs("/")
        assert 0 < stats.free_bytes <= stats.total_bytes < 2**63
        assert 0 < stats.free_inodes < stats.total_inodes < 2**63
        assert (stats.block_size, stats.max_name_len) == (4096, 255)
        found = await driver.capabilities()
        for bit in (Capability.READ, Capability.WRITE, Capability.CREATE, Capability.DELETE):
            assert bit in found
        assert Capability.RENAME not in found
