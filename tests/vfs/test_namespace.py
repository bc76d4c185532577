"""fs9.vfs.namespaces: loading once, failing freely, unloading what is idle."""

from __future__ import annotations

import asyncio

import pytest

from fs9.errors import (
    BackendUnavailable,
    Forbidden,
    NotFound,
    OwnerUnavailable,
)
from fs9.principal import Principal
from fs9.providers.memfs import MemFs
from fs9.types import MountSpec
from tests.vfs.fix_namespaces import (
    CREATE,
    TEMPLATE,
    Record,
    Store,
    idle_for,
    limits,
    make_namespaces,
    namespaces,
    registry,
    store,
)

__all__ = ["limits", "make_namespaces", "namespaces", "registry", "store"]


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
