"""fs9.vfs.namespace: loading once, failing freely, unloading what is idle."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from fs9.errors import (
    AlreadyExists,
    BackendUnavailable,
    Forbidden,
    NotFound,
    OwnerUnavailable,
)
from fs9.limits import Limits
from fs9.principal import Principal
from fs9.providers.memfs import MemFs
from fs9.quota import NO_BOUNDS, NamespaceQuota
from fs9.types import REPLACE, FileInfo, MountSpec, OpenFlags
from fs9.vfs.journal import HandleJournal
from fs9.vfs.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.threads import BlockingPool
    from fs9.vfs.session import Session

TEMPLATE = (MountSpec("/", "kept"),)
CREATE = OpenFlags(read=True, write=True, create=True)


class Record(msgspec.Struct, frozen=True):
    status: str = "active"
    id: str = ""
    storage: str = ""
    mounts: tuple[MountSpec, ...] = TEMPLATE
    quota: NamespaceQuota = NO_BOUNDS


class Store:
    """Records in a dict; `gate` holds every answer until it is set."""

    def __init__(self) -> None:
        self.records = {"acme": Record()}
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def namespace(self, name: str) -> Record:
        self.asked += 1
        await self.gate.wait()
        if name not in self.records:
            raise NotFound(name)
        return self.records[name]

    async def create_namespace(
        self, name: str, created_by: str, mounts: tuple[MountSpec, ...]
    ) -> Record:
        if name in self.records:
            raise AlreadyExists(name)
        self.records[name] = Record(mounts=mounts)
        return self.records[name]


class Kept(MemFs):
    """A memfs that claims to keep its files, and remembers being closed."""

    name = "kept"
    volatile = False
    closed = False
    gate: asyncio.Event | None = None

    async def stat(self, path: str) -> FileInfo:
        if self.gate is not None:
            await self.gate.wait()
        return await super().stat(path)

    async def aclose(self) -> None:
        assert not self.closed
        if self.gate is not None:
            await self.gate.wait()
        self.closed = True


class Registry:
    def __init__(self) -> None:
        self.made: list[Kept] = []
        self.error: Exception | None = None
        self.kind: Callable[..., MemFs] = Kept

    async def create(self, spec: MountSpec, **context: Any) -> MemFs:
        await asyncio.sleep(0)
        if self.error is not None and spec.path != "/":
            raise self.error
        provider = self.kind(context["limits"], context["clock"])
        if isinstance(provider, Kept):
            self.made.append(provider)
        return provider


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def limits() -> Limits:
    return Limits(handle_close_timeout_s=0.05)


@pytest.fixture
async def namespaces(
    store: Store,
    registry: Registry,
    limits: Limits,
    clock: ManualClock,
    pool: BlockingPool,
    tmp_path: Path,
) -> Namespaces:
    return Namespaces(
        store=store,
        registry=registry,
        template=TEMPLATE,
        limits=limits,
        clock=clock,
        pool=pool,
        data_dir=tmp_path,
    )


async def idle_for(namespaces: Namespaces, clock: ManualClock, seconds: float) -> None:
    """Sweep every minute, as the worker does."""
    for _ in range(int(seconds / 60)):
        await namespaces.sweep()
        clock.advance(60)
    await namespaces.sweep()


async def test_parallel_first_requests_share_one_load(namespaces, store, registry):
    """A hundred callers get one namespace, complete with its mounts; the store is asked once."""
    assert namespaces.loaded("acme") is None
    found = await asyncio.gather(*(namespaces.find("acme", create=False) for _ in range(100)))
    assert len(set(map(id, found))) == 1
    assert (store.asked, len(registry.made)) == (1, 1)
    assert namespaces.loaded("acme") is found[0]
    assert [mount.path for mount in found[0].vfs.mounts] == ["/"]


async def test_an_unknown_namespace_is_forbidden_and_not_remembered(namespaces, store):
    """The same text whether it is unknown or another's; once it exists it is found."""
    with pytest.raises(Forbidden, match=r"^Namespace not found or access denied$"):
        await namespaces.find("new", create=False)
    store.records["new"] = Record()
    assert (await namespaces.find("new", create=False)).name == "new"


async def test_create_makes_it_from_the_template(namespaces, store):
    namespace = await namespaces.find("new", create=True)
    assert store.records["new"].mounts == TEMPLATE
    assert namespace.attach(Principal("a", "new")).mounts() == [("/", "kept")]


async def test_creators_and_others_at_once(namespaces, store):
    """One who may not create and comes first does not spoil it for one who may."""
    store.gate.clear()
    first = asyncio.create_task(namespaces.find("new", create=False))
    await asyncio.sleep(0)
    second = asyncio.create_task(namespaces.find("new", create=True))
    await asyncio.sleep(0)
    store.gate.set()
    with pytest.raises(Forbidden):
        await first
    assert (await second).name == "new"


async def test_another_worker_creates_at_the_same_time(namespaces, store):
    """AlreadyExists of the store means: then load it."""

    class Racing(Store):
        async def namespace(self, name: str) -> Record:
            if self.asked == 0:
                self.asked += 1
                raise NotFound(name)
            return await super().namespace(name)

    namespaces._store = Racing()
    assert (await namespaces.find("acme", create=True)).name == "acme"


async def test_a_namespace_that_is_not_active_is_forbidden(namespaces, store):
    store.records["acme"] = Record(status="suspended")
    with pytest.raises(Forbidden, match=r"^Namespace is not active$"):
        await namespaces.find("acme", create=True)


async def test_a_failed_load_leaves_nothing_and_is_tried_again(namespaces, store, registry):
    """The mounts built before the failing one are closed; later the load succeeds."""
    store.records["acme"] = Record(mounts=(MountSpec("/", "kept"), MountSpec("/s3", "kept")))
    registry.error = BackendUnavailable("s3")
    failures = await asyncio.gather(
        *(namespaces.find("acme", create=False) for _ in range(3)), return_exceptions=True
    )
    assert {type(failure) for failure in failures} == {BackendUnavailable}
    assert [provider.closed for provider in registry.made] == [True]
    assert namespaces.loaded("acme") is None
    registry.error = None
    namespace = await namespaces.find("acme", create=False)
    assert [mount.path for mount in namespace.vfs.mounts] == ["/", "/s3"]


async def test_the_first_caller_goes_away(namespaces, store):
    """Its cancellation does not fail the others, nor does everyone's cancel the load."""
    store.gate.clear()
    callers = [asyncio.create_task(namespaces.find("acme", create=False)) for _ in range(3)]
    await asyncio.sleep(0)
    callers[0].cancel()
    await asyncio.sleep(0)
    store.gate.set()
    assert await callers[1] is await callers[2]
    with pytest.raises(asyncio.CancelledError):
        await callers[0]


async def test_a_failed_load_that_nobody_awaits_is_silent(namespaces, store):
    store.gate.clear()
    caller = asyncio.create_task(namespaces.find("unknown", create=False))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.sleep(0)
    store.gate.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert namespaces.loaded("unknown") is None


async def test_an_idle_namespace_is_unloaded(namespaces, clock, registry):
    """Nothing asked for and nothing open for five minutes: its providers are closed."""
    namespace = await namespaces.find("acme", create=False)
    session = namespace.attach(Principal("alice", "acme"))
    await session.stat("/")
    await idle_for(namespaces, clock, 240)
    assert namespaces.loaded("acme") is namespace
    await idle_for(namespaces, clock, 120)
    assert namespaces.loaded("acme") is None
    assert registry.made[0].closed
    assert not session.alive(0)
    with pytest.raises(OwnerUnavailable):
        await session.stat("/")
    again = await namespaces.find("acme", create=False)
    assert again is not namespace
    assert not again.closed


async def test_any_operation_begins_the_idle_time_again(namespaces, clock):
    session = (await namespaces.find("acme", create=False)).attach(Principal("alice", "acme"))
    for _ in range(5):
        await idle_for(namespaces, clock, 240)
        await session.stat("/")
    assert session.alive(0)


async def test_open_files_keep_a_namespace_loaded(namespaces, clock):
    """A transfer counts although it has no handle; an idle handle is closed first."""
    namespace = await namespaces.find("acme", create=False)
    session = namespace.attach(Principal("alice", "acme"))
    file = await session.open_file("/f", CREATE)
    await idle_for(namespaces, clock, 1200)
    assert session.alive(0)
    await session.commit_file(file)
    await session.open("/f", CREATE)
    await idle_for(namespaces, clock, 300)
    assert len(namespace.handles) == 0
    assert session.alive(0)
    await idle_for(namespaces, clock, 360)
    assert not session.alive(0)


async def test_an_operation_in_progress_keeps_a_namespace_loaded(namespaces, clock, registry):
    namespace = await namespaces.find("acme", create=False)
    registry.made[0].gate = asyncio.Event()
    waiting = asyncio.create_task(namespace.attach(Principal("alice", "acme")).stat("/"))
    await asyncio.sleep(0)
    await idle_for(namespaces, clock, 1200)
    assert namespaces.loaded("acme") is namespace
    registry.made[0].gate.set()
    assert (await waiting).is_dir


async def test_a_volatile_provider_keeps_its_namespace_loaded(namespaces, clock, registry):
    """Unloading would lose the files."""
    registry.kind = MemFs
    namespace = await namespaces.find("acme", create=False)
    await idle_for(namespaces, clock, 3600)
    assert namespaces.loaded("acme") is namespace


async def test_a_load_waits_for_the_unload(namespaces, clock, registry):
    """Two providers never have one namespace's storage at a time."""
    await namespaces.find("acme", create=False)
    old = registry.made[0]
    old.gate = asyncio.Event()
    await idle_for(namespaces, clock, 360)
    assert namespaces.loaded("acme") is None
    finding = asyncio.create_task(namespaces.find("acme", create=False))
    await asyncio.sleep(0.01)
    assert len(registry.made) == 1
    old.gate.set()
    await finding
    assert old.closed
    assert len(registry.made) == 2


async def test_sweep_closes_idle_handles_of_every_namespace(namespaces, store, clock):
    store.records["beta"] = Record()
    for name in ("acme", "beta"):
        session = (await namespaces.find(name, create=False)).attach(Principal("a", name))
        await session.open("/f", CREATE)
    clock.advance(301)
    await namespaces.sweep()
    assert [len(namespaces.loaded(name).handles) for name in ("acme", "beta")] == [0, 0]


async def test_aclose_ends_everything(namespaces, store, registry):
    """Handles are closed, then providers; nothing is loaded any more."""
    store.records["beta"] = Record()
    sessions = []
    for name in ("acme", "beta"):
        sessions.append((await namespaces.find(name, create=False)).attach(Principal("a", name)))
        await sessions[-1].open("/f", CREATE)
    await namespaces.aclose()
    assert [provider.closed for provider in registry.made] == [True, True]
    assert [session.namespace.vfs.in_use.files for session in sessions] == [0, 0]
    with pytest.raises(OwnerUnavailable):
        await namespaces.find("acme", create=False)
    assert all(provider.closed for provider in registry.made)


async def test_aclose_waits_for_operations_but_not_forever(namespaces, registry, caplog):
    """An operation that never ends is left behind, and told of."""
    namespace = await namespaces.find("acme", create=False)
    registry.made[0].gate = asyncio.Event()
    waiting = asyncio.create_task(namespace.attach(Principal("a", "acme")).stat("/"))
    await asyncio.sleep(0)
    registry.made[0].aclose = lambda: asyncio.sleep(0)  # type: ignore[method-assign]
    await asyncio.wait_for(namespaces.aclose(), 5)
    assert "left behind" in caplog.text
    registry.made[0].gate.set()
    await waiting


# -- one owner among several: locks and giving up ---------------------------------------------


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
def elsewhere(
    store: Store,
    registry: Registry,
    limits: Limits,
    clock: ManualClock,
    pool: BlockingPool,
    tmp_path: Path,
    shared_locks: Locks,
) -> Namespaces:
    """The namespaces of another worker."""
    return Namespaces(
        store=store,
        registry=registry,
        template=TEMPLATE,
        limits=limits,
        clock=clock,
        pool=pool,
        data_dir=tmp_path,
        locks=shared_locks,
    )


async def attach(namespaces: Namespaces) -> Session:
    return (await namespaces.find("acme", create=False)).attach(Principal("alice", "acme"))


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
