"""fs9.vfs.namespaces: one owner at a time, by its lock, and how a namespace is given up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fs9.errors import (
    BackendUnavailable,
    Forbidden,
    NotFound,
    OwnerUnavailable,
)
from fs9.limits import Limits
from fs9.types import REPLACE, MountSpec, OpenFlags
from fs9.vfs.journal import HandleJournal
from fs9.vfs.ownership import Ownership
from tests.vfs.fix_namespaces import (
    CREATE,
    Kept,
    Record,
    attach,
    idle_for,
    limits,
    make_namespaces,
    namespaces,
    registry,
    store,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.vfs.namespaces import Namespaces

__all__ = ["limits", "make_namespaces", "namespaces", "registry", "store"]


class Locks:
    """Locks within one process, as those of a fleet: shared by its Namespaces."""

    def __init__(self) -> None:
        self.held: set[str] = set()

    async def acquire(self, name: str) -> None:
        while name in self.held:  # noqa: ASYNC110 — as FileLocks does
            await asyncio.sleep(0.001)
        self.held.add(name)

    def release(self, name: str) -> None:
        self.held.remove(name)

    def busy(self, name: str) -> bool:
        return name in self.held


@pytest.fixture
async def locks() -> Locks:
    return Locks()


@pytest.fixture
async def shared_locks(namespaces: Namespaces, locks: Locks) -> Locks:
    """`namespaces` is one of a fleet."""
    namespaces.locks = locks
    return locks


@pytest.fixture
def elsewhere(make_namespaces: Callable[..., Namespaces], shared_locks: Locks) -> Namespaces:
    """The namespaces of another worker."""
    return make_namespaces(ownership=Ownership(locks=shared_locks))


async def test_the_lock_is_around_everything(namespaces, store, registry, shared_locks):
    """Taken before the record is read, let go after the providers are closed."""
    shared_locks.held.add("acme")
    loading = asyncio.create_task(namespaces.find("acme", create=False))
    await asyncio.sleep(0.01)
    assert (store.asked, registry.made) == (0, [])
    shared_locks.release("acme")
    await loading
    registry.made[0].gate = asyncio.Event()
    leaving = asyncio.create_task(namespaces.give_up("acme"))
    await asyncio.sleep(0.01)
    assert shared_locks.held == {"acme"}
    registry.made[0].gate.set()
    assert await leaving
    assert registry.made[0].closed
    assert shared_locks.held == set()


async def test_a_mount_that_cannot_be_made_hides_no_file_as_missing(namespaces, store, registry):
    """Clients take 404 for an answer about the file; so the whole namespace is unavailable."""
    store.records["acme"] = Record(mounts=(MountSpec("/", "kept"), MountSpec("/kv", "kept")))
    registry.error = NotFound("provider kept")
    text = "mount /kv: not found: provider kept$"
    with pytest.raises(BackendUnavailable, match=text):
        await namespaces.find("acme", create=False)
    assert [provider.closed for provider in registry.made] == [True]


async def test_a_failed_load_lets_the_lock_go(namespaces, store, registry, shared_locks):
    store.records["acme"] = Record(mounts=(MountSpec("/", "kept"), MountSpec("/s3", "kept")))
    registry.error = BackendUnavailable("s3")
    with pytest.raises(BackendUnavailable):
        await namespaces.find("acme", create=False)
    with pytest.raises(Forbidden):
        await namespaces.find("unknown", create=False)
    assert shared_locks.held == set()


async def test_an_unloaded_namespace_lets_the_lock_go(namespaces, elsewhere, clock, shared_locks):
    await namespaces.find("acme", create=False)
    await idle_for(namespaces, clock, 360)
    assert shared_locks.held == set()
    await elsewhere.find("acme", create=False)
    await elsewhere.aclose()
    assert shared_locks.held == set()


async def test_what_is_left_behind_keeps_the_lock(namespaces, registry, shared_locks):
    """aclose does not wait for ever; the lock does."""
    session = await attach(namespaces)
    provider = registry.made[0]
    provider.gate = asyncio.Event()
    provider.aclose = lambda: asyncio.sleep(0)
    waiting = asyncio.create_task(session.stat("/"))
    await asyncio.sleep(0)
    await asyncio.wait_for(namespaces.aclose(), 5)
    assert shared_locks.held == {"acme"}
    provider.gate.set()
    await waiting
    await asyncio.sleep(0.01)
    assert shared_locks.held == set()


async def test_given_up_here_and_loaded_there(namespaces, elsewhere):
    """New operations are refused at once; the other worker gets it when all is closed."""
    session = await attach(namespaces)
    handle_id, _ = await session.open("/f", CREATE)
    there = asyncio.create_task(attach(elsewhere))
    await asyncio.sleep(0.01)
    assert not there.done()
    leaving = asyncio.create_task(namespaces.give_up("acme"))
    await asyncio.sleep(0)
    assert not session.alive(0)
    for refused in (
        session.stat("/"),
        session.open("/g", CREATE),
        session.open_file("/g", CREATE),
        session.remove("/f"),
        session.read(handle_id, 0, 1),
        session.write(handle_id, 0, b"x"),
        session.close(handle_id),
        session.close(handle_id, sync=True),
        session.wake_file(handle_id),
        namespaces.find("acme", create=False),
    ):
        with pytest.raises(OwnerUnavailable):
            await refused
    assert await leaving
    assert (await (await there).stat("/")).is_dir
    assert session.namespace.vfs.in_use.files == 0
    assert namespaces.loaded("acme") is None
    assert await namespaces.give_up("acme")  # once more, and of an unknown one: nothing to do
    assert await namespaces.give_up("never seen")
    await elsewhere.give_up("acme")
    assert (await attach(namespaces)).alive(0)  # it may come back


async def test_transfers_end_before_it_is_given_up(namespaces, elsewhere, caplog):
    """A slow upload writes on and commits, a download reads on; then the namespace goes."""
    session = await attach(namespaces)
    upload = await session.open_file("/f", REPLACE)
    download = await session.open_file("/d", CREATE)
    leaving = asyncio.create_task(namespaces.give_up("acme"))
    there = asyncio.create_task(attach(elsewhere))
    for piece in range(5):
        await asyncio.sleep(0.02)
        assert await session.write_file(upload, piece, b"x") == 1
        assert await session.read_file(download, 0, 1) == b""
    info = await session.commit_file(upload)
    assert info.size == 5
    await asyncio.sleep(0.01)
    assert not leaving.done()
    assert not there.done()
    await session.discard_file(download)
    assert await leaving
    await there
    assert "waits for 0 operations, 2 transfers, 0 handles in use" in caplog.text


async def test_operations_end_before_it_is_given_up(namespaces, elsewhere, registry):
    session = await attach(namespaces)
    provider = registry.made[0]
    provider.gate = asyncio.Event()
    waiting = [asyncio.create_task(session.stat("/")) for _ in range(3)]
    await asyncio.sleep(0)
    leaving = asyncio.create_task(namespaces.give_up("acme"))
    there = asyncio.create_task(attach(elsewhere))
    await asyncio.sleep(0.1)
    assert not leaving.done()
    assert not there.done()
    provider.gate.set()
    assert all(await asyncio.gather(*waiting))
    assert await leaving
    await there


async def test_handles_in_use_end_before_it_is_given_up(namespaces, registry):
    """Pieces of one write, held together; and appends that wait for their turn."""
    session = await attach(namespaces)
    handle_id, _ = await session.open("/f", CREATE)
    appending, _ = await session.open("/f", OpenFlags(write=True, append=True))
    file = await session.wake_file(handle_id)
    append = await session.wake_file(appending)
    file.hold()
    async with session.append_lock(append):
        waiting = asyncio.create_task(session.write(appending, 0, b"later"))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(namespaces.give_up("acme"))
        for piece in range(3):
            await asyncio.sleep(0.01)
            await session.write_file(file, piece, b"x")
    assert await waiting == 5
    await asyncio.sleep(0.01)
    assert not leaving.done()
    file.let_go()
    assert await leaving
    assert registry.made[0].closed
    with pytest.raises(OwnerUnavailable):
        await session.write_whole(file, 0, b"x")


async def test_an_open_in_progress_is_given_up_with_the_others(
    namespaces, registry, tmp_path, pool
):
    """Its handle is registered after the call and closed all the same."""

    class Slow(Kept):
        go_on = asyncio.Event()

        async def open(self, *args: Any) -> Any:
            await self.go_on.wait()
            return await super().open(*args)

    registry.kind = Slow
    namespaces._journal = HandleJournal(tmp_path / "handles", pool)
    session = await attach(namespaces)
    opening = asyncio.create_task(session.open("/f", CREATE))
    await asyncio.sleep(0)
    leaving = asyncio.create_task(namespaces.give_up("acme"))
    await asyncio.sleep(0.01)
    Slow.go_on.set()
    handle_id, _ = await opening
    assert await leaving
    assert session.namespace.vfs.in_use.files == 0
    assert handle_id in (tmp_path / "handles/acme").read_text()


async def test_giving_up_returns_in_time_and_never_frees_too_early(
    namespaces, registry, shared_locks, caplog
):
    """After `shutdown_timeout_s` it says so and goes on; a second call joins it."""
    namespaces._limits = Limits(shutdown_timeout_s=0.02)
    session = await attach(namespaces)
    upload = await session.open_file("/f", REPLACE)
    assert not await namespaces.give_up("acme")
    assert "not given up yet" in caplog.text
    assert shared_locks.held == {"acme"}
    with pytest.raises(OwnerUnavailable):
        await namespaces.find("acme", create=False)
    again = asyncio.create_task(namespaces.give_up("acme"))
    await asyncio.sleep(0)
    await session.commit_file(upload)
    assert await again
    assert shared_locks.held == set()


async def test_a_load_that_waits_for_the_lock_is_given_up_at_once(
    namespaces, elsewhere, shared_locks
):
    """Its callers are told to go elsewhere, though the lock stays taken."""
    await elsewhere.find("acme", create=False)
    callers = [asyncio.create_task(namespaces.find("acme", create=False)) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert await asyncio.wait_for(namespaces.give_up("acme"), 5)
    for caller in callers:
        with pytest.raises(OwnerUnavailable):
            await caller
    assert shared_locks.held == {"acme"}
    await elsewhere.give_up("acme")
    await namespaces.find("acme", create=False)


async def test_stopping_does_not_wait_for_a_lock(namespaces, elsewhere):
    await elsewhere.find("acme", create=False)
    caller = asyncio.create_task(namespaces.find("acme", create=False))
    await asyncio.sleep(0.01)
    await asyncio.wait_for(namespaces.aclose(), 5)
    with pytest.raises(OwnerUnavailable):
        await caller


async def test_given_up_while_it_is_loaded(namespaces, store, registry, shared_locks):
    """What was built already is closed, and the lock let go."""
    store.gate.clear()
    caller = asyncio.create_task(namespaces.find("acme", create=False))
    await asyncio.sleep(0.01)
    leaving = asyncio.create_task(namespaces.give_up("acme"))
    await asyncio.sleep(0)
    with pytest.raises(OwnerUnavailable):
        await namespaces.find("acme", create=False)
    store.gate.set()
    assert await leaving
    with pytest.raises(OwnerUnavailable):
        await caller
    assert [provider.closed for provider in registry.made] == [True]
    assert shared_locks.held == set()
    assert namespaces.loaded("acme") is None
