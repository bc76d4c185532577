"""fs9.vfs.mounting: mounts change under operations and open files."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from fs9.errors import BackendUnavailable, Conflict, Forbidden, NotFound, QuotaExceeded
from fs9.limits import Limits
from fs9.types import MountSpec
from tests.vfs.fix_namespaces import (
    CREATE,
    TEMPLATE,
    Kept,
    Record,
    Registry,
    Store,
    attach,
    make_namespaces,
    namespaces,
    registry,
)

if TYPE_CHECKING:
    from fs9.vfs.namespaces import Namespaces

__all__ = ["make_namespaces", "namespaces", "registry"]

EXTRA = MountSpec("/extra", "kept")


class Mountable(Store):
    """A store whose mounts change; `broken` refuses."""

    broken = False

    def change(self, **fields: Any) -> None:
        self.records["acme"] = msgspec.structs.replace(self.records["acme"], **fields)

    async def add_mount(self, name: str, spec: MountSpec, by: str) -> None:
        if self.broken:
            raise BackendUnavailable("down")
        self.change(mounts=(*self.records[name].mounts, spec))

    async def remove_mount(self, name: str, path: str, by: str) -> None:
        held = self.records[name].mounts
        self.change(mounts=tuple(spec for spec in held if spec.path != path))


@pytest.fixture
def store() -> Mountable:
    return Mountable()


@pytest.fixture
def limits() -> Limits:
    return Limits(handle_close_timeout_s=0.05, mounts_per_namespace_max=3)


async def mount(namespaces: Namespaces, spec: MountSpec, *, force: bool = False) -> bool:
    return await namespaces.mount("acme", spec, "alice", create=False, force=force)


async def unmount(namespaces: Namespaces, path: str, *, force: bool = False) -> None:
    await namespaces.unmount("acme", path, "alice", create=False, force=force)


async def test_what_is_not_kept_is_not_mounted(
    namespaces: Namespaces, store: Mountable, registry: Registry
) -> None:
    """The provider is closed, and the next try finds nothing in its way."""
    store.broken = True
    with pytest.raises(BackendUnavailable):
        await mount(namespaces, EXTRA)
    assert registry.made[-1].closed
    session = await attach(namespaces)
    assert [path for path, _ in session.mounts()] == ["/"]
    store.broken = False
    assert await mount(namespaces, EXTRA)
    assert not await mount(namespaces, EXTRA)


async def test_a_backend_that_is_down_is_not_kept(
    namespaces: Namespaces, store: Mountable, registry: Registry
) -> None:
    await attach(namespaces)
    registry.error = BackendUnavailable("down")
    with pytest.raises(BackendUnavailable):
        await mount(namespaces, EXTRA)
    assert store.records["acme"].mounts == TEMPLATE


async def test_mounts_are_bounded(namespaces: Namespaces) -> None:
    for path in ("/a", "/b"):
        await mount(namespaces, MountSpec(path, "kept"))
    with pytest.raises(QuotaExceeded):
        await mount(namespaces, MountSpec("/c", "kept"))


async def test_an_operation_ends_on_the_table_that_it_began_on(
    namespaces: Namespaces, registry: Registry
) -> None:
    """Also when there was another table between; the provider is closed after it."""
    await mount(namespaces, EXTRA)
    extra = registry.made[-1]
    session = await attach(namespaces)
    extra.gate = asyncio.Event()
    stat = asyncio.create_task(session.stat("/extra"))
    await asyncio.sleep(0)
    await mount(namespaces, MountSpec("/more", "kept"))
    await unmount(namespaces, "/extra")
    with pytest.raises(NotFound):
        await session.stat("/extra")
    assert not extra.closed
    with pytest.raises(Conflict, match="still in use"):
        await mount(namespaces, EXTRA)
    extra.gate.set()
    assert (await stat).path == "/extra"
    assert await mount(namespaces, EXTRA)
    assert extra.closed


async def test_a_transfer_keeps_its_provider_open(
    namespaces: Namespaces, registry: Registry
) -> None:
    """Without force the unmount is refused, with force the provider outlives the transfer."""
    await mount(namespaces, EXTRA)
    extra, session = registry.made[-1], await attach(namespaces)
    file = await session.open_file("/extra/a", CREATE)
    with pytest.raises(Conflict, match="1 files are open"):
        await unmount(namespaces, "/extra")
    await unmount(namespaces, "/extra", force=True)
    assert not extra.closed
    await file.close()
    await namespaces.aclose()
    assert extra.closed


async def test_mounts_that_somebody_else_changed(
    namespaces: Namespaces, store: Mountable, registry: Registry
) -> None:
    """From the word on nobody sees the old ones; what stays is not touched."""
    await mount(namespaces, EXTRA)
    root, extra = registry.made
    store.change(mounts=(*TEMPLATE, MountSpec("/more", "kept")))
    namespaces.changed("acme")
    session = await attach(namespaces)
    assert [path for path, _ in session.mounts()] == ["/", "/more"]
    assert (root.closed, extra.closed) == (False, True)


async def test_nobody_enters_while_it_is_not_known_what_changed(
    namespaces: Namespaces, store: Mountable
) -> None:
    """A store that is down is an error then, and asked again by the next caller."""
    session = await attach(namespaces)
    store.change(status="suspended")
    store.gate.clear()
    namespaces.changed("acme")
    assert not session.namespace.enterable
    entering = asyncio.create_task(attach(namespaces))
    await asyncio.sleep(0)
    assert not entering.done()
    store.gate.set()
    with pytest.raises(Forbidden, match="not active"):
        await entering
    assert session.namespace.closed


async def test_a_store_that_is_down_lets_nobody_in(
    namespaces: Namespaces, store: Mountable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change that was told; when it is up again all goes on."""

    async def down(name: str) -> Record:
        raise BackendUnavailable("down")

    session = await attach(namespaces)
    with monkeypatch.context() as patch:
        patch.setattr(store, "namespace", down)
        namespaces.changed("acme")
        for _ in range(2):
            with pytest.raises(BackendUnavailable):
                await attach(namespaces)
    assert (await attach(namespaces)).namespace is session.namespace


async def test_a_name_that_means_another_namespace_is_loaded_anew(
    namespaces: Namespaces, store: Mountable, registry: Registry
) -> None:
    """Deleted and made again, before anybody looked."""
    session = await attach(namespaces)
    ended: list[str] = []
    namespaces.on_end = ended.append
    store.change(id="another", storage="acme.2")
    namespaces.changed("acme")
    assert (await attach(namespaces)).namespace is not session.namespace
    assert (ended, registry.made[0].closed) == (["acme"], True)


async def test_a_mount_that_is_broken_can_be_unmounted(
    namespaces: Namespaces, store: Mountable, registry: Registry
) -> None:
    """Though the namespace cannot be loaded because of it."""
    store.change(mounts=(*TEMPLATE, EXTRA))
    registry.error = BackendUnavailable("down")
    with pytest.raises(BackendUnavailable):
        await attach(namespaces)
    await unmount(namespaces, "/extra")
    assert store.records["acme"].mounts == TEMPLATE
    assert isinstance(registry.made[-1], Kept)
    await attach(namespaces)
