"""fs9.vfs.namespace: a namespace's bounds come from its record, and change while it is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from fs9.errors import InvalidArgument, NotFound, QuotaExceeded
from fs9.providers import builtin
from fs9.quota import NO_BOUNDS, NamespaceQuota
from fs9.types import REPLACE, MountSpec, OpenFlags
from tests.vfs.fix_namespaces import attach, make_namespaces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fs9.providers.registry import Registry
    from fs9.vfs.namespace import Namespace
    from fs9.vfs.namespaces import Namespaces
    from fs9.vfs.session import Session

__all__ = ["make_namespaces"]

MOUNTS = (
    MountSpec("/", "localfs", {"root": "{data_dir}/{namespace}"}),
    MountSpec("/m", "memfs"),
    MountSpec("/n", "memfs"),
)
CREATE = OpenFlags(write=True, create=True)


class Record(msgspec.Struct, frozen=True):
    quota: NamespaceQuota = NO_BOUNDS
    status: str = "active"
    id: str = ""
    storage: str = ""
    mounts: tuple[MountSpec, ...] = MOUNTS


class Store:
    def __init__(self) -> None:
        self.records = {"acme": Record(), "beta": Record()}

    async def namespace(self, name: str) -> Record:
        if name not in self.records:
            raise NotFound(name)
        return self.records[name]

    async def create_namespace(self, name: str, by: str, mounts: tuple[MountSpec, ...]) -> Record:
        raise AssertionError


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def registry() -> Registry:
    return builtin.registry()


@pytest.fixture
async def start(
    make_namespaces: Callable[..., Namespaces],
) -> AsyncIterator[Callable[..., Namespaces]]:
    started: list[Namespaces] = []

    def start(quota: NamespaceQuota = NO_BOUNDS) -> Namespaces:
        namespaces = make_namespaces(template=(), quota=quota)
        started.append(namespaces)
        return namespaces

    yield start
    for namespaces in started:
        await namespaces.aclose()


async def put(session: Session, path: str, size: int) -> None:
    file = await session.open_file(path, REPLACE)
    try:
        await session.write_file(file, 0, b"x" * size)
        await session.commit_file(file)
    except BaseException:
        await session.discard_file(file)
        raise


def used(namespace: Namespace) -> tuple[int, int]:
    return namespace.quota.bytes_used, namespace.quota.files_used


async def test_one_quota_for_all_mounts_and_another_for_others(start, store: Store):
    store.records["acme"] = Record(NamespaceQuota(bytes_max=100))
    namespaces = start(NamespaceQuota(bytes_max=1000, files_max=3))
    session = await attach(namespaces)
    await put(session, "/f", 40)
    await put(session, "/m/f", 60)
    with pytest.raises(QuotaExceeded, match="100 bytes; 0 are free"):
        await put(session, "/n/f", 1)
    assert (await session.statfs("/")).free_bytes == 0
    await session.remove("/f")
    await put(session, "/n/f", 40)
    await session.open("/n/g", CREATE)
    with pytest.raises(QuotaExceeded, match="3 files"):
        await session.open("/n/h", CREATE)
    other = await attach(namespaces, "beta")
    await put(other, "/f", 1000)
    assert namespaces.usage() == (1100, used(session.namespace)[1] + 1)
    assert (namespaces.refusals.bytes, namespaces.refusals.files) == (1, 1)


async def test_a_loaded_namespace_knows_what_it_holds(start, store: Store):
    """Counted from the disk after a restart."""
    store.records["acme"] = Record(NamespaceQuota(bytes_max=100))
    first = start()
    await put(await attach(first), "/f", 70)
    await first.aclose()
    second = start()
    session = await attach(second)
    assert used(session.namespace) == (70, 1)
    with pytest.raises(QuotaExceeded):
        await put(session, "/g", 31)


async def test_a_new_bound_holds_at_once(start):
    """What is there already counts, on every mount; no handle is lost."""
    namespaces = start()
    session = await attach(namespaces)
    await put(session, "/f", 50)
    await put(session, "/m/f", 30)
    handle_id, _ = await session.open("/f", OpenFlags(read=True, write=True))
    namespace = session.namespace
    await namespace.set_quota(NamespaceQuota(bytes_max=100, files_max=2, handles_max=1))
    assert used(namespace) == (80, 2)
    with pytest.raises(QuotaExceeded, match="20 are free"):
        await session.write(handle_id, 50, b"x" * 21)
    with pytest.raises(QuotaExceeded, match="2 files"):
        await put(session, "/g", 1)
    with pytest.raises(QuotaExceeded, match="1 handles"):
        await session.open("/f", CREATE)
    assert await session.write(handle_id, 50, b"x" * 20) == 20
    await namespace.set_quota(NamespaceQuota(handles_max=0))
    with pytest.raises(QuotaExceeded, match="0 handles"):
        await session.open("/f", CREATE)
    await namespace.set_quota(NamespaceQuota(bytes_max=10))
    with pytest.raises(QuotaExceeded, match="0 are free"):
        await session.write(handle_id, 70, b"x")
    await session.remove("/m/f")
    await namespace.set_quota(NO_BOUNDS)
    await put(session, "/g", 500)
    assert used(namespace) == (570, 2)
    await session.close((await session.open("/f", CREATE))[0])


async def test_a_changed_record_is_applied(start, store: Store):
    """With the settings for what it leaves open; its rate goes to who limits requests."""
    namespaces = start(NamespaceQuota(files_max=5))
    rates: list[tuple[str, int | None]] = []
    namespaces.on_request_rate = lambda name, rate: rates.append((name, rate))
    session = await attach(namespaces)
    quota = session.namespace.quota
    assert (quota.bytes_max, quota.files_max, rates) == (None, 5, [("acme", None)])
    store.records["acme"] = Record(NamespaceQuota(bytes_max=7, requests_per_second_max=9))
    namespaces.changed("acme")
    await namespaces.find("acme", create=False)
    assert (quota.bytes_max, quota.files_max, rates[1:]) == (7, 5, [("acme", 9)])
    assert namespaces.loaded("acme") is session.namespace
    namespaces.changed("beta")
    assert namespaces.loaded("beta") is None


async def test_a_quota_that_cannot_be_counted_does_not_hold(
    start, store: Store, caplog: pytest.LogCaptureFixture
):
    namespaces = start()
    quota = (await attach(namespaces)).namespace.quota

    async def broken() -> None:
        raise InvalidArgument("broken")

    quota.uncounted.append(broken)
    store.records["acme"] = Record(NamespaceQuota(bytes_max=7))
    namespaces.changed("acme")
    await namespaces.find("acme", create=False)
    assert quota.bytes_max is None
    assert "its new quota does not hold yet" in caplog.text
