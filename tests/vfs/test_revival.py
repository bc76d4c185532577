"""fs9.vfs.revival: handles outlive the worker that opened them, and reach no other file.

Two owners of one namespace, one after the other, on the same directories. A crash is simulated
by forgetting the first: only its lock is freed, as the kernel does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from fs9.errors import (
    BackendUnavailable,
    InvalidHandle,
    NotFound,
    OwnerUnavailable,
    QuotaExceeded,
)
from fs9.limits import Limits
from fs9.principal import Principal
from fs9.providers import builtin
from fs9.providers.localfs import LocalFs
from fs9.types import MKDIR, READ, REPLACE, FileInfo, MountSpec, OpenFlags, StatChanges
from fs9.vfs.journal import HandleJournal
from fs9.vfs.locks import FileLocks
from fs9.vfs.namespaces import Namespaces
from tests.vfs.fix_namespaces import Record, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.threads import BlockingPool
    from fs9.vfs.session import Session

CREATE = OpenFlags(read=True, write=True, create=True, exclusive=True)
APPEND = OpenFlags(write=True, append=True, create=True)
ALICE = Principal("alice", "acme")


class Owners:
    """Makes owners of the namespace `acme`: localfs at "/" and "/m", memfs at "/mem"."""

    def __init__(self, clock: ManualClock, pool: BlockingPool, path: Path) -> None:
        self.clock, self.pool, self.path = clock, pool, path
        self.limits = Limits(owner_wait_s=5.0)
        self.volatile = (MountSpec("/mem", "memfs"),)
        self.made: list[Namespaces] = []

    async def next(self, revoked: Callable[[Principal], bool] = lambda by: False) -> Session:
        store = Store()
        root = MountSpec("/", "localfs", {"root": str(self.path / "files")})
        mounted = MountSpec("/m", "localfs", {"root": str(self.path / "mounted")})
        store.records["acme"] = Record(mounts=(root, mounted, *self.volatile))
        namespaces = Namespaces(
            store=store,
            registry=builtin.registry(),
            template=(),
            limits=self.limits,
            clock=self.clock,
            pool=self.pool,
            data_dir=self.path,
            locks=FileLocks(self.path / "locks", self.limits.owner_wait_s),
            journal=HandleJournal(self.path / "handles", self.pool),
        )
        namespaces.revoked = revoked
        self.made.append(namespaces)
        return (await namespaces.find("acme", create=False)).attach(ALICE)

    def crash(self) -> None:
        """The last owner is no more: no record of it follows, and its lock is free."""
        namespaces = self.made[-1]
        session = namespaces._loaded.pop("acme")
        session.handles.journal._broken = True
        namespaces.locks.release("acme")

    async def give_up(self) -> None:
        assert await self.made[-1].give_up("acme")


@pytest.fixture
async def owners(clock: ManualClock, pool: BlockingPool, tmp_path: Path) -> AsyncIterator[Owners]:
    for name in ("files", "mounted"):
        (tmp_path / name).mkdir()
    owners = Owners(clock, pool, tmp_path)
    yield owners
    for namespaces in owners.made:
        await namespaces.aclose()


async def put(session: Session, path: str, content: bytes) -> None:
    file = await session.open_file(path, REPLACE)
    await session.write_file(file, 0, content)
    await session.commit_file(file)


@pytest.mark.parametrize("how", ["crash", "give_up"])
async def test_handles_go_on_at_the_next_owner(owners: Owners, how: str):
    """Reading, writing, appending, directories, on every lasting mount; then they close."""
    first = await owners.next()
    plain, _ = await first.open("/f", CREATE)
    await first.write(plain, 0, b"abc")
    appending, _ = await first.open("/m/log", APPEND)
    await first.write(appending, 0, b"one")
    directory, _ = await first.open("/d", MKDIR)
    truncating, _ = await first.open("/t", OpenFlags(write=True, create=True, truncate=True))
    await first.write(truncating, 0, b"kept")
    if how == "crash":
        owners.crash()
    else:
        await owners.give_up()
    second = await owners.next()
    assert len(second.namespace.handles) == 4
    assert second.namespace.vfs.in_use.files == 0  # opened at their first use
    assert bytes(await second.read(plain, 0, 9)) == b"abc"
    assert await second.write(plain, 3, b"d") == 1
    await second.write(appending, 0, b"two")
    await second.write(truncating, 4, b"!")
    assert second.namespace.handles.get(truncating, "alice").flags.truncate
    assert len(second.namespace.handles) == 4
    for handle_id in (plain, appending, directory, truncating):
        await second.close(handle_id, sync=handle_id != plain)
        with pytest.raises(InvalidHandle):
            await second.close(handle_id)
    assert (len(second.namespace.handles), second.namespace.vfs.in_use.files) == (0, 0)
    assert (owners.path / "files/f").read_bytes() == b"abcd"
    assert (owners.path / "files/t").read_bytes() == b"kept!"
    assert (owners.path / "mounted/log").read_bytes() == b"onetwo"


async def test_handles_of_volatile_files_and_replacements_end(owners: Owners):
    """Those of memfs are lost with its files, an unfinished replacement with its owner."""
    first = await owners.next()
    lost = [(await first.open("/mem/f", CREATE))[0], (await first.open("/f", REPLACE))[0]]
    await owners.give_up()
    second = await owners.next()
    assert len(second.namespace.handles) == 0
    for handle_id in lost:
        with pytest.raises(InvalidHandle):
            await second.read(handle_id, 0, 1)
    with pytest.raises(NotFound):
        await second.stat("/f")


async def test_many_owners_later(owners: Owners):
    """Dormant handles stay in the journal of owner after owner, closed ones do not."""
    session = await owners.next()
    handle_id, _ = await session.open("/f", CREATE)
    gone, _ = await session.open("/f", READ)
    for number in range(6):
        owners.crash()
        session = await owners.next()
        if number == 1:
            await session.close(gone)
        if number % 3 == 2:
            await session.write(handle_id, 0, b"%d" % number)
    assert bytes(await session.read(handle_id, 0, 1)) == b"5"
    with pytest.raises(InvalidHandle):
        await session.read(gone, 0, 1)


async def test_a_file_that_was_renamed_is_found(owners: Owners):
    """By the old owner, with its directory, and by the new one before the first use."""
    first = await owners.next()
    await first.close((await first.open("/d", MKDIR))[0])
    handle_id, _ = await first.open("/d/f", CREATE)
    await first.write(handle_id, 0, b"x")
    await first.wstat("/d/f", StatChanges(name="/d/g"))
    await first.wstat("/d", StatChanges(name="/e"))
    await put(first, "/other", b"other")
    owners.crash()
    second = await owners.next()
    await second.wstat("/e", StatChanges(name="/h"))
    await second.wstat("/other", StatChanges(name="/taken"))
    assert bytes(await second.read(handle_id, 0, 9)) == b"x"


@pytest.mark.parametrize("who", ["old", "new"])
@pytest.mark.parametrize("how", ["remove", "replace", "rename"])
async def test_a_file_that_is_gone_is_no_other_file(owners: Owners, who: str, how: str):
    """Removed and made again, replaced, overwritten by a rename: the old handle is invalid.

    A file system may give the new file the inode of the old one.
    """
    session = await owners.next()
    await put(session, "/f", b"old")
    await put(session, "/g", b"new")
    handle_id, _ = await session.open("/f", READ)
    closing, _ = await session.open("/f", READ)
    if who == "new":
        owners.crash()
        session = await owners.next()
    if how == "remove":
        await session.remove("/f")
        await put(session, "/f", b"new")
    elif how == "replace":
        await put(session, "/f", b"new")
    else:
        await session.wstat("/g", StatChanges(name="/f"))
    fresh, _ = await session.open("/f", READ)
    if who == "old":
        # A live handle keeps its file, until the owner ends.
        assert bytes(await session.read(handle_id, 0, 9)) == b"old"
        owners.crash()
        session = await owners.next()
    with pytest.raises(InvalidHandle):
        await session.read(handle_id, 0, 9)
    await session.close(closing)  # a close needs no file
    assert bytes(await session.read(fresh, 0, 9)) == b"new"
    assert len(session.namespace.handles) == 1


async def test_the_inode_is_given_again(owners: Owners):
    """The very same number at the very same path, through the session: still not the file."""
    session = await owners.next()
    file = owners.path / "files/f"
    for _ in range(20):
        handle_id, _ = await session.open("/f", CREATE)
        owners.crash()
        inode = file.stat().st_ino
        old, session = session, await owners.next()
        await session.remove("/f")
        for live in list(old.namespace.handles._files.values()):
            await live.close()  # the crash closed it: the inode is free
        again, _ = await session.open("/f", CREATE)
        reused = file.stat().st_ino == inode
        with pytest.raises(InvalidHandle):
            await session.write(handle_id, 0, b"wrong")
        assert file.read_bytes() == b""
        await session.close(again)
        await session.remove("/f")
        if reused:
            return


async def test_another_file_put_there_behind_our_back(owners: Owners):
    """By another inode or another kind: invalid."""
    first = await owners.next()
    ids = [(await first.open(f"/{name}", CREATE))[0] for name in "abc"]
    owners.crash()
    files = owners.path / "files"
    (files / "new").write_bytes(b"new")
    os.replace(files / "new", files / "a")
    (files / "b").rename(files / "kept")  # or the directory may get its inode
    (files / "b").mkdir()
    (files / "c").rename(files / "kept too")
    (files / "c").symlink_to("a")
    second = await owners.next()
    for handle_id in ids:
        with pytest.raises(InvalidHandle):
            await second.read(handle_id, 0, 1)
    assert len(second.namespace.handles) == 0


async def test_first_uses_at_once_share_one_open(owners: Owners, monkeypatch):
    first = await owners.next()
    handle_id, _ = await first.open("/f", CREATE)
    await first.write(handle_id, 0, b"abc")
    owners.crash()
    second = await owners.next()
    opened = []

    async def counted(self, path: str, *args: Any) -> Any:
        opened.append(path)
        await asyncio.sleep(0.01)
        return await original(self, path, *args)

    original = LocalFs.open
    monkeypatch.setattr(LocalFs, "open", counted)
    reads = [asyncio.create_task(second.read(handle_id, 0, 9)) for _ in range(20)]
    await asyncio.sleep(0)
    reads[0].cancel()  # the others are not
    results = await asyncio.gather(*reads[1:])
    assert {bytes(result) for result in results} == {b"abc"}
    assert opened == ["/f"]
    assert second.namespace.vfs.in_use.files == 1


async def test_a_failure_that_passes_keeps_the_handle(owners: Owners, monkeypatch):
    first = await owners.next()
    handle_id, _ = await first.open("/f", CREATE)
    owners.crash()
    second = await owners.next()

    async def down(self, *args: Any) -> Any:
        raise BackendUnavailable("disk")

    with monkeypatch.context() as patched:
        patched.setattr(LocalFs, "open", down)
        for _ in range(2):
            with pytest.raises(BackendUnavailable):
                await second.read(handle_id, 0, 1)
    assert await second.write(handle_id, 0, b"x") == 1


async def test_a_first_use_during_a_rename_waits_for_its_end(owners: Owners, monkeypatch):
    """Between the rename at the provider and its record the file is at neither path for us."""
    first = await owners.next()
    handle_id, _ = await first.open("/f", CREATE)
    await first.write(handle_id, 0, b"abc")
    owners.crash()
    second = await owners.next()
    renamed, go_on = asyncio.Event(), asyncio.Event()

    async def slow(self, *args: Any) -> None:
        await original(self, *args)
        renamed.set()
        await go_on.wait()

    original = LocalFs.wstat
    monkeypatch.setattr(LocalFs, "wstat", slow)
    renaming = asyncio.create_task(second.wstat("/f", StatChanges(name="/g")))
    await renamed.wait()
    reading = asyncio.create_task(second.read(handle_id, 0, 9))
    await asyncio.sleep(0.03)
    assert not reading.done()
    go_on.set()
    assert bytes(await reading) == b"abc"
    await renaming


async def test_a_first_use_during_a_rename_to_and_fro_finds_the_file(owners: Owners, monkeypatch):
    """The open met the file at its other path; by the time it says so the file is back."""
    first = await owners.next()
    handle_id, _ = await first.open("/f", CREATE)
    await first.write(handle_id, 0, b"abc")
    owners.crash()
    second = await owners.next()
    missed, go_on = asyncio.Event(), asyncio.Event()

    async def slow(self, *args: Any) -> Any:
        try:
            return await original(self, *args)
        except NotFound:
            missed.set()
            await go_on.wait()
            raise

    original = LocalFs.open
    monkeypatch.setattr(LocalFs, "open", slow)
    (owners.path / "files/f").rename(owners.path / "files/away")
    reading = asyncio.create_task(second.read(handle_id, 0, 9))
    await missed.wait()
    (owners.path / "files/away").rename(owners.path / "files/f")
    await second.wstat("/f", StatChanges(name="/g"))
    await second.wstat("/g", StatChanges(name="/f"))
    go_on.set()
    assert bytes(await reading) == b"abc"


async def test_closed_while_it_is_reopened(owners: Owners, monkeypatch):
    """The close wins, and no file stays open."""
    first = await owners.next()
    handle_id, _ = await first.open("/f", CREATE)
    owners.crash()
    second = await owners.next()
    go_on = asyncio.Event()

    async def slow(self, *args: Any) -> Any:
        await go_on.wait()
        return await original(self, *args)

    original = LocalFs.open
    monkeypatch.setattr(LocalFs, "open", slow)
    reading = asyncio.create_task(second.read(handle_id, 0, 9))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await second.close(handle_id)
    go_on.set()
    with pytest.raises(InvalidHandle):
        await reading
    assert (len(second.namespace.handles), second.namespace.vfs.in_use.files) == (0, 0)


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("change", ["rename", "remove"])
async def test_a_crash_in_the_middle_of_a_change(owners: Owners, change: str, done: bool):
    """The next owner looks which of the two it was."""
    first = await owners.next()
    handle_id, _ = await first.open("/f", CREATE)
    await first.write(handle_id, 0, b"abc")
    journal = first.namespace.handles.journal
    assert journal is not None
    journal.begin("/f", "/g" if change == "rename" else "")
    owners.crash()
    if done:
        file = owners.path / "files/f"
        file.rename(file.with_name("g")) if change == "rename" else file.unlink()
    second = await owners.next()
    if done and change == "remove":
        await put(second, "/f", b"other")
        with pytest.raises(InvalidHandle):
            await second.read(handle_id, 0, 9)
    else:
        assert bytes(await second.read(handle_id, 0, 9)) == b"abc"


async def test_dormant_handles_count_and_expire(owners: Owners, clock: ManualClock):
    """For the limit, for the status, and for the time to live from the load on."""
    owners.limits = Limits(handles_per_namespace_max=2)
    first = await owners.next()
    used, _ = await first.open("/a", CREATE)
    unused, _ = await first.open("/b", CREATE)
    owners.crash()
    clock.advance(1000)
    second = await owners.next()
    assert owners.made[-1].open_handles == 2
    with pytest.raises(QuotaExceeded):
        await second.open("/c", CREATE)
    clock.advance(299)
    await owners.made[-1].sweep()
    await second.read(used, 0, 1)
    clock.advance(1)
    await owners.made[-1].sweep()
    assert owners.made[-1].open_handles == 1
    await second.read(used, 0, 1)
    with pytest.raises(InvalidHandle):
        await second.read(unused, 0, 1)
    owners.crash()
    with pytest.raises(InvalidHandle):
        await (await owners.next()).close(unused)


async def test_a_namespace_with_dormant_handles_is_not_idle(owners: Owners, clock: ManualClock):
    """Unloading would begin their time anew; once they expired the journal goes as well."""
    owners.volatile = ()
    first = await owners.next()
    await first.open("/a", CREATE)
    owners.crash()
    second = await owners.next()
    journal = owners.path / "handles/acme"
    for expired in (False, True):
        for _ in range(4):
            assert owners.made[-1].loaded("acme") is second.namespace
            assert journal.exists() is not expired
            clock.advance(60)
            await owners.made[-1].sweep()
        clock.advance(60)
        await owners.made[-1].sweep()
    clock.advance(60)
    await owners.made[-1].sweep()
    assert owners.made[-1].loaded("acme") is None
    await (await owners.next()).stat("/a")  # and its lock is free


async def test_a_volatile_mount_does_not_matter_to_the_others(owners: Owners):
    """Renames in memfs are journaled too, and harm nothing."""
    first = await owners.next()
    handle_id, _ = await first.open("/f", CREATE)
    await first.close((await first.open("/mem/f", CREATE))[0])
    await first.wstat("/mem/f", StatChanges(name="/mem/g"))
    await first.remove("/mem/g")
    owners.crash()
    assert await (await owners.next()).write(handle_id, 0, b"x") == 1


async def test_operations_race_with_changes(owners: Owners):
    """Renames to and fro with first uses in between: never an error, never another file."""
    first = await owners.next()
    ids = {}
    for number in range(20):
        handle_id, _ = await first.open(f"/f{number}", CREATE)
        await first.write(handle_id, 0, b"%d" % number)
        ids[number] = handle_id
    for round_ in range(4):
        owners.crash()
        session = await owners.next()

        async def rename(session: Session, number: int) -> None:
            for source, target in (("f", "g"), ("g", "f")):
                await session.wstat(f"/{source}{number}", StatChanges(name=f"/{target}{number}"))

        async def read(session: Session, number: int) -> bytes:
            return bytes(await session.read(ids[number], 0, 9))

        renames = [rename(session, number) for number in ids]
        results = await asyncio.gather(*renames, *(read(session, number) for number in ids))
        assert results[20:] == [b"%d" % number for number in ids], round_


async def test_given_up_while_a_handle_is_reopened(owners: Owners, monkeypatch):
    """That use ends well or at the next owner; the handle goes on."""
    first = await owners.next()
    handle_id, _ = await first.open("/f", CREATE)
    await first.write(handle_id, 0, b"abc")
    owners.crash()
    second = await owners.next()
    go_on = asyncio.Event()

    async def slow(self, *args: Any) -> tuple[Any, FileInfo]:
        await go_on.wait()
        return await original(self, *args)

    original = LocalFs.open
    with monkeypatch.context() as patched:
        patched.setattr(LocalFs, "open", slow)
        reading = asyncio.create_task(second.read(handle_id, 0, 9))
        closing = asyncio.create_task(second.close(handle_id, sync=True))
        await asyncio.sleep(0.01)
        leaving = asyncio.create_task(owners.give_up())
        await asyncio.sleep(0.01)
        assert not leaving.done()
        go_on.set()
        await leaving
    with contextlib.suppress(OwnerUnavailable):
        await reading
    with pytest.raises(OwnerUnavailable):
        await closing
    assert bytes(await (await owners.next()).read(handle_id, 0, 9)) == b"abc"


async def test_a_dormant_handle_is_its_users_and_its_places(owners: Owners):
    """Whoever may not use it live may not use it dormant; what made its file still may fill it."""
    first = await owners.next()
    await first.close((await first.open("/in", MKDIR))[0])
    kept, _ = await first.open("/f", CREATE)
    closed, _ = await first.open("/g", CREATE)
    creator = Principal("alice", "acme", permissions=("create:/in",))
    made, _ = await first.namespace.attach(creator).open(
        "/in/new", OpenFlags(write=True, create=True)
    )
    await owners.give_up()
    second = await owners.next()
    bob = second.namespace.attach(Principal("bob", "acme", ("admin",)))
    narrowed = second.namespace.attach(creator)
    for other in (bob, narrowed):
        for operation in (
            other.read(kept, 0, 1),
            other.write(kept, 0, b"x"),
            other.close(kept),
            other.close(kept, sync=True),
        ):
            with pytest.raises(InvalidHandle, match=f"^invalid handle: {kept}$"):
                await operation
    assert await narrowed.write(made, 0, b"abc") == 3
    await second.wstat("/in/new", StatChanges(name="/out"))
    with pytest.raises(InvalidHandle):
        await narrowed.write(made, 0, b"abc")
    await second.write(kept, 0, b"x")
    await second.close(closed)


@pytest.mark.parametrize("when", ["dormant", "not loaded", "used again"])
async def test_handles_of_a_revoked_token_end(owners: Owners, when: str):
    """Whatever they are at that moment; those that another token of the user opened stay."""
    first = await owners.next()
    old = first.namespace.attach(structs.replace(ALICE, credential=b"o" * 32))
    new = first.namespace.attach(structs.replace(ALICE, credential=b"n" * 32))
    ended, _ = await old.open("/f", CREATE)
    kept, _ = await new.open("/g", CREATE)
    owners.crash()

    def revoked(by: Principal) -> bool:
        return by.credential[:16] == b"o" * 16

    second = await owners.next(revoked if when == "not loaded" else lambda by: False)
    if when == "used again":
        assert bytes(await second.read(ended, 0, 9)) == b""
    if when != "not loaded":
        await owners.made[-1]._close_handles_of(revoked)
    with pytest.raises(InvalidHandle):
        await second.read(ended, 0, 9)
    assert bytes(await second.read(kept, 0, 9)) == b""
    owners.crash()
    assert len((await owners.next()).namespace.handles) == 1
