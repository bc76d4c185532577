"""fs9.vfs.session: who may do what, handles, transfers, and what is recorded."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import (
    BackendUnavailable,
    InvalidArgument,
    InvalidHandle,
    PermissionDenied,
    QuotaExceeded,
)
from fs9.limits import Limits
from fs9.observe.audit import EventFilter
from fs9.principal import Principal
from fs9.providers.memfs import MemFs
from fs9.types import MKDIR, READ, REPLACE, WRITE, Capability, OpenFlags, StatChanges
from fs9.vfs.namespace import Namespace

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fs9.clock import ManualClock
    from fs9.provider import OpenFile
    from fs9.vfs.session import Session

CREATE = OpenFlags(read=True, write=True, create=True)


@pytest.fixture
def reader(namespace: Namespace) -> Session:
    """Of the same user as `session`: a handle is of no use to others anyway."""
    return namespace.attach(Principal("alice", "acme", ("read-only",)))


async def put(session: Session, path: str, content: bytes = b"") -> None:
    file = await session.open_file(path, REPLACE)
    await session.write_file(file, 0, content)
    await session.commit_file(file)


def drive(operation: Coroutine[Any, Any, Any]) -> Any:
    """The result of an operation that must not suspend."""
    try:
        operation.send(None)
    except StopIteration as stop:
        return stop.value
    operation.close()
    raise AssertionError("the operation suspended")


async def test_hot_operations_on_memfs_never_suspend(session: Session):
    """So the fast lane needs no task for them."""
    handle_id, _ = drive(session.open("/f", CREATE))
    assert drive(session.write(handle_id, 0, b"abc")) == 3
    assert drive(session.read(handle_id, 0, 9)) == b"abc"
    assert drive(session.stat("/f")).size == 3
    assert len(drive(session.readdir("/"))) == 1
    drive(session.close(handle_id))
    drive(session.remove("/f"))


async def test_a_session_lives_as_long_as_token_and_namespace(namespace: Namespace):
    session = namespace.attach(Principal("alice", "acme", expires_at_s=1000))
    assert session.alive(999.9)
    assert not session.alive(1000)
    assert namespace.attach(Principal("alice", "acme")).alive(1e12)
    await namespace.aclose()
    assert not session.alive(0)


async def test_a_reader_reads_and_changes_nothing(session: Session, reader: Session):
    """Every changing operation is refused before anything happens."""
    await put(session, "/f", b"same")
    shared, _ = await session.open("/f", OpenFlags(read=True, write=True))
    staged, _ = await session.open("/f", REPLACE)
    refused = [
        reader.open("/new", CREATE),
        reader.open("/f", WRITE),
        reader.open("/d", MKDIR),
        reader.open_file("/f", REPLACE),
        reader.wstat("/f", StatChanges(mode=0)),
        reader.remove("/f"),
        reader.write(shared, 0, b"x"),
        reader.write_file(await session.wake_file(shared), 0, b"x"),
        reader.close(staged),
        reader.commit_file(await session.wake_file(staged)),
    ]
    for operation in refused:
        with pytest.raises(PermissionDenied, match="read-only"):
            await operation
    handle_id, info = await reader.open("/f", READ)
    assert info.size == 4
    assert await reader.read(handle_id, 0, 9) == b"same"
    await reader.close(handle_id)
    assert len(await reader.readdir("/")) == 1
    await session.close(staged)


async def test_handles_belong_to_a_user_of_the_namespace(session: Session, make_namespace):
    """W-A13: another session of the user may use an id; nobody else, not even an admin."""
    await put(session, "/f", b"x")
    handle_id, _ = await session.open("/f", READ)
    other = make_namespace().attach(Principal("alice", "other"))
    with pytest.raises(InvalidHandle):
        await other.read(handle_id, 0, 1)
    with pytest.raises(InvalidHandle):
        await other.close(handle_id)
    carol = session.namespace.attach(Principal("carol", "acme", ("admin",)))
    for operation in (
        carol.read(handle_id, 0, 1),
        carol.write(handle_id, 0, b"y"),
        carol.close(handle_id),
        carol.close(handle_id, sync=True),
        carol.wake_file(handle_id),
    ):
        with pytest.raises(InvalidHandle, match=f"^invalid handle: {handle_id}$"):
            await operation
    again = session.namespace.attach(Principal("alice", "acme", ("read-write",), 4_000_000_000))
    assert await again.read(handle_id, 0, 1) == b"x"


async def test_a_closed_handle_is_invalid(session: Session):
    handle_id, _ = await session.open("/f", CREATE)
    await session.close(handle_id)
    for operation in (
        session.read(handle_id, 0, 1),
        session.write(handle_id, 0, b"x"),
        session.write(handle_id, 0, b""),
        session.close(handle_id),
    ):
        with pytest.raises(InvalidHandle, match=f"^invalid handle: {handle_id}$"):
            await operation
    with pytest.raises(InvalidHandle):
        await session.wake_file("")


async def test_no_data_is_no_write(session: Session):
    """An empty write returns 0 without asking the provider, whatever the handle is for."""
    await put(session, "/f", b"x")
    before = await session.stat("/f")
    handle_id, _ = await session.open("/f", READ)
    assert await session.write(handle_id, 5, b"") == 0
    assert await session.stat("/f") == before


async def test_too_many_handles_open_nothing(make_namespace, clock: ManualClock):
    """The refused open has not created its file."""
    namespace = make_namespace(limits=Limits(handles_per_namespace_max=1))
    session = namespace.attach(Principal("alice", "acme"))
    handle_id, _ = await session.open("/a", CREATE)
    with pytest.raises(QuotaExceeded):
        await session.open("/b", CREATE)
    assert [info.path for info in await session.readdir("/")] == ["/a"]
    await session.close(handle_id)
    await session.open("/b", CREATE)


async def test_parallel_opens_keep_to_the_limit_and_leak_nothing(clock: ManualClock):
    """Opens that pass the check together: one gets the handle, the others' files are closed."""

    class Slow(MemFs):
        async def open(self, *args: Any) -> Any:
            await asyncio.sleep(0)
            return await super().open(*args)

    from fs9.vfs.mounts import Mount, MountTable

    limits = Limits(handles_per_namespace_max=1)
    namespace = Namespace("acme", MountTable([Mount.of("/", Slow(limits, clock))]), limits, clock)
    session = namespace.attach(Principal("alice", "acme"))
    opened = await asyncio.gather(
        *(session.open(f"/{number}", CREATE) for number in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, QuotaExceeded) for result in opened) == 4
    assert namespace.vfs.in_use.files == 1


async def test_names_of_renames_are_namespace_paths(session: Session):
    """A bare name means one in the root; "." and ".." are resolved before anything is moved."""
    await put(session, "/f", b"x")
    handle_id, _ = await session.open("/d", MKDIR)
    await session.close(handle_id)
    await session.wstat("/f", StatChanges(name="/d/./x/../g/"))
    assert (await session.stat("/d/g")).size == 1
    await session.wstat("/d/g", StatChanges(name="h"))
    assert (await session.stat("/h")).size == 1


async def test_precedence_of_changes(session: Session):
    """A link alone, else a rename alone, else the attributes."""
    await put(session, "/f", b"x")
    await session.wstat("/f", StatChanges(name="/g", mode=0o600, size=0))
    info = await session.stat("/g")
    assert (info.mode, info.size) == (0o644, 1)
    await session.wstat("/l", StatChanges(symlink_target="g", name="/x", mode=0))
    assert (await session.stat("/l")).symlink_target == "g"


async def test_listing_limits(make_namespace):
    """All entries or an error that says how; pages are never larger than the limit."""
    namespace = make_namespace(limits=Limits(listing_entries_max=3))
    session = namespace.attach(Principal("alice", "acme"))
    for number in range(3):
        await put(session, f"/{number}")
    assert len(await session.readdir("/")) == 3
    await put(session, "/3")
    with pytest.raises(InvalidArgument, match="limit and cursor"):
        await session.readdir("/")
    assert len(await session.readdir("/", limit=100)) == 3
    assert [info.path for info in await session.readdir("/", after="2", limit=100)] == ["/3"]
    with pytest.raises(InvalidArgument):
        await session.readdir("/", limit=0)


async def test_mounts_and_capabilities(session: Session):
    """Any path inside a mount tells the mount's."""
    capabilities, provider = session.capabilities("/any/where")
    assert provider == "memfs"
    assert Capability.RENAME in capabilities
    assert session.mounts() == [("/", "memfs")]


async def test_upload_is_all_or_nothing(session: Session):
    """Readers see the old version until the commit; a discarded one never was."""
    await put(session, "/f", b"old")
    file = await session.open_file("/f", REPLACE)
    await session.write_file(file, 0, b"new version")
    handle_id, _ = await session.open("/f", READ)
    assert await session.read(handle_id, 0, 99) == b"old"
    info = await session.commit_file(file)
    assert info is not None
    assert (info.path, info.size) == ("/f", 11)
    assert info == await session.stat("/f")
    file = await session.open_file("/f", REPLACE)
    await session.write_file(file, 0, b"half")
    await session.discard_file(file)
    assert await session.stat("/f") == info
    assert session.namespace.vfs.in_use.files == 1  # the reader's


async def test_appends_in_pieces_do_not_mix(session: Session):
    """While one appends under the lock, a whole append waits; another file's does not."""
    await put(session, "/f")
    append = OpenFlags(write=True, append=True)
    first, _ = await session.open("/f", append)
    second, _ = await session.open("/f", append)
    other, _ = await session.open("/g", OpenFlags(write=True, append=True, create=True))
    file = await session.wake_file(first)
    async with session.append_lock(file):
        await session.write_file(file, 0, b"one-")
        waiting = asyncio.create_task(session.write(second, 0, b"three"))
        await session.write(other, 0, b"else")
        await asyncio.sleep(0)
        await session.write_file(file, 0, b"two-")
    await waiting
    handle_id, _ = await session.open("/f", READ)
    assert await session.read(handle_id, 0, 99) == b"one-two-three"


async def test_a_long_transfer_keeps_its_handle(
    session: Session, clock: ManualClock, namespace: Namespace
):
    """Each piece begins the handle's idle time again."""
    handle_id, _ = await session.open("/f", CREATE)
    file = await session.wake_file(handle_id)
    for _ in range(3):
        clock.advance(200)
        await session.write_file(file, 0, b"x")
        await session.read_file(file, 0, 1)
        assert await namespace.handles.sweep() == 0
    clock.advance(301)
    assert await namespace.handles.sweep() == 1
    with pytest.raises(InvalidHandle):
        await session.read_file(file, 0, 1)


async def test_closing_during_a_read(clock: ManualClock, limits: Limits, make_namespace):
    """The read in progress ends well; the close comes after it; the handle is gone at once."""

    class Slow(MemFs):
        def __init__(self) -> None:
            super().__init__(limits, clock)
            self.go_on = asyncio.Event()
            self.order: list[str] = []

        async def read(self, file: OpenFile, offset: int, size: int) -> bytes:
            await self.go_on.wait()
            self.order.append("read")
            return await super().read(file, offset, size)

        async def close(self, file: OpenFile, **how: bool) -> Any:
            self.order.append("close")
            return await super().close(file, **how)

    provider = Slow()
    session = make_namespace({"/": provider}).attach(Principal("alice", "acme"))
    handle_id, _ = await session.open("/f", CREATE)
    await session.write(handle_id, 0, b"abc")
    reading = asyncio.create_task(session.read(handle_id, 0, 9))
    await asyncio.sleep(0)
    closing = asyncio.create_task(session.close(handle_id))
    await asyncio.sleep(0)
    with pytest.raises(InvalidHandle):
        await session.read(handle_id, 0, 9)
    provider.go_on.set()
    assert await reading == b"abc"
    await closing
    assert provider.order == ["read", "close"]


async def test_changes_are_recorded(session: Session, clock: ManualClock):
    """One event for each change that succeeded, with its user; nothing for the others."""
    handle_id, _ = await session.open("/f", CREATE)
    await session.write(handle_id, 0, b"x")
    await session.write(handle_id, 1, b"yz")
    await session.close(handle_id)
    handle_id, _ = await session.open("/d", MKDIR)
    await session.close(handle_id)
    await session.wstat("/f", StatChanges(size=0, mode=0o600))
    await session.wstat("/f", StatChanges(mtime_ns=0))
    await session.wstat("/l", StatChanges(symlink_target="f"))
    await session.wstat("/f", StatChanges(name="d//g"))
    await put(session, "/d/g", b"y")
    handle_id, _ = await session.open("/d/g", OpenFlags(write=True, create=True, truncate=True))
    await session.close(handle_id)
    await session.remove("/d/g/")
    for refused in (
        session.remove("/missing"),
        session.open("/f/x/y", CREATE),
        session.wstat("/missing", StatChanges(mode=0)),
    ):
        with pytest.raises(Exception, match="not found"):
            await refused
    events = await session.events(EventFilter())
    assert [(event.event_type, event.path, event.details) for event in events[::-1]] == [
        ("create", "/f", {}),
        ("write", "/f", {"bytes": 3, "writes": 2}),
        ("mkdir", "/d", {}),
        ("truncate", "/f", {"size": 0, "mode": 0o600}),
        ("chmod", "/f", {"mtime_ns": "0"}),
        ("create", "/l", {"symlink": "f"}),
        ("rename", "/f", {"target": "/d/g"}),
        ("upload", "/d/g", {"bytes": 1}),
        ("truncate", "/d/g", {"size": 0}),
        ("delete", "/d/g", {}),
    ]
    assert {event.user for event in events} == {"alice"}
    assert events[0].timestamp_ns == clock.now_ns()


async def test_what_changed_nothing_is_not_recorded(session: Session):
    """Opening what is there, also with `create`; a wstat of nothing; an upload given up."""
    await put(session, "/f", b"abc")
    for flags in (CREATE, OpenFlags(write=True), READ):
        handle_id, _ = await session.open("/f", flags)
        await session.write(handle_id, 0, b"") if flags.write else None
        await session.close(handle_id)
    await session.wstat("/f", StatChanges())
    file = await session.open_file("/f", REPLACE)
    await session.write_file(file, 0, b"x")
    await session.discard_file(file)
    events = await session.events(EventFilter())
    assert [event.event_type for event in events] == ["upload"]


async def test_an_upload_that_fails_after_it_changed_the_file_is_recorded(session: Session):
    """Where a provider cannot swap versions, the old content has gone by then."""
    await put(session, "/f", b"abc")
    flags = OpenFlags(write=True, create=True, truncate=True)
    for path in ("/f", "/g"):
        file = await session.open_file(path, flags)
        await session.write_file(file, 0, b"xy")
        await session.discard_file(file)
    file = await session.open_file("/h", flags)
    await session.write_file(file, 0, b"xyz")
    await session.commit_file(file)
    events = await session.events(EventFilter())
    assert [(event.event_type, event.path) for event in events[::-1]] == [
        ("upload", "/f"),
        ("truncate", "/f"),
        ("write", "/f"),
        ("create", "/g"),
        ("write", "/g"),
        ("upload", "/h"),
    ]
    assert events[0].details == {"bytes": 3}


async def test_changes_wait_for_a_trail_that_has_room(
    make_namespace: Any, limits: Limits, clock: ManualClock
):
    """When the store takes no events, a bounded number of changes goes on, then none."""
    limits = dataclasses.replace(limits, events_waiting_max=3)
    namespace = make_namespace(limits=limits)
    session = namespace.attach(Principal("alice", "acme"))
    for name in "abc":
        await put(session, f"/{name}")
    with pytest.raises(BackendUnavailable, match="audit trail"):
        await put(session, "/d")
    assert (await session.stat("/a")).size == 0
    await namespace.audit.flush(everything=True)
    await put(session, "/d")
