"""fs9.vfs.revival: handles outlive the worker that opened them, and reach no other file.

Two owners of one namespace, one after the other, on the same directories. A crash is simulated
by forgetting the first: only its lock is freed, as the kernel does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from fs9.errors import (
    BackendUnavailable,
    InvalidHandle,
    NotFound,
    QuotaExceeded,
)
from fs9.limits import Limits
from fs9.observe.audit import EventFilter
from fs9.principal import Principal
from fs9.providers.localfs import LocalFs
from fs9.types import MKDIR, READ, REPLACE, OpenFlags, StatChanges
from tests.vfs.fix_owners import ALICE, APPEND, CREATE, Owners, owners, put
from tests.vfs.fix_watched import Seen

if TYPE_CHECKING:
    from fs9.clock import ManualClock

__all__ = ["owners"]


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


@pytest.mark.parametrize("how", ["crash", "give_up"])
async def test_a_new_namespace_of_the_same_name_takes_nothing_over(owners: Owners, how: str):
    """No handle of the deleted one, none of its events and no word of what changed there."""
    first = await owners.next()
    seen = Seen(first)
    handle_id, _ = await first.open("/secret", CREATE)
    await first.write(handle_id, 0, b"abc")
    assert await seen.all()
    if how == "crash":
        owners.crash()
    else:
        await owners.give_up()
    told = len(owners.events._kept["acme"])
    owners.storage = "acme.2"
    second = await owners.next()
    with pytest.raises(InvalidHandle):
        await second.read(handle_id, 0, 9)
    assert len(await second.events(EventFilter())) == told
    new = Seen(second)
    await second.open("/new", CREATE)
    told_now = await new.all()
    epoch = new.cursor.partition("-")[0]
    assert await Seen(second, cursor=f"{epoch}-0").all() == told_now != []
