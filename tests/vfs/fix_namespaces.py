"""The namespaces of one worker over a store and providers that wait and fail when told to."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from fs9.errors import (
    AlreadyExists,
    NotFound,
)
from fs9.limits import Limits
from fs9.principal import Principal
from fs9.providers.memfs import MemFs
from fs9.quota import NO_BOUNDS, NamespaceQuota
from fs9.resources import Resources
from fs9.types import FileInfo, MountSpec, OpenFlags
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

    async def create(self, spec: MountSpec, resources: Resources, **context: Any) -> MemFs:
        await asyncio.sleep(0)
        if self.error is not None and spec.path != "/":
            raise self.error
        provider = self.kind(resources.limits, resources.clock)
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
def make_namespaces(
    store: Store,
    registry: Registry,
    limits: Limits,
    clock: ManualClock,
    pool: BlockingPool,
    tmp_path: Path,
) -> Callable[..., Namespaces]:
    """Makes the namespaces of one worker; all that are made share store, registry and clock."""
    return partial(
        Namespaces,
        store=store,
        registry=registry,
        template=TEMPLATE,
        resources=Resources(tmp_path, limits, clock, pool),
    )


@pytest.fixture
async def namespaces(make_namespaces: Callable[..., Namespaces]) -> Namespaces:
    return make_namespaces()


async def attach(namespaces: Namespaces, name: str = "acme") -> Session:
    """A session of alice in the namespace, which is loaded if it is not."""
    return (await namespaces.find(name, create=False)).attach(Principal("alice", name))


async def idle_for(namespaces: Namespaces, clock: ManualClock, seconds: float) -> None:
    """Sweep every minute, as the worker does."""
    for _ in range(int(seconds / 60)):
        await namespaces.sweep()
        clock.advance(60)
    await namespaces.sweep()
