"""Fixtures of the core: a clock that stands still, providers, a namespace, a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import pytest

from fs9.clock import ManualClock
from fs9.limits import Limits
from fs9.principal import Principal
from fs9.providers.memfs import MemFs
from fs9.threads import BlockingPool
from fs9.vfs.mounts import Mount, MountTable
from fs9.vfs.namespace import Namespace

if TYPE_CHECKING:
    from fs9.provider import Provider
    from fs9.vfs.session import Session

MakeNamespace: TypeAlias = Callable[..., Namespace]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def pool() -> Iterator[BlockingPool]:
    pool = BlockingPool(4)
    yield pool
    pool.shutdown()


@pytest.fixture
def memfs(limits: Limits, clock: ManualClock) -> MemFs:
    return MemFs(limits, clock)


@pytest.fixture
def make_namespace(limits: Limits, clock: ManualClock) -> MakeNamespace:
    """Makes a namespace of `{path: provider}`; without arguments one memfs at "/"."""

    def make(mounts: dict[str, Provider] | None = None, *, limits: Limits = limits) -> Namespace:
        mounts = {"/": MemFs(limits, clock)} if mounts is None else mounts
        table = MountTable(Mount.of(path, provider) for path, provider in mounts.items())
        return Namespace("acme", table, limits, clock)

    return make


@pytest.fixture
def namespace(make_namespace: MakeNamespace) -> Namespace:
    return make_namespace()


@pytest.fixture
def session(namespace: Namespace) -> Session:
    return namespace.attach(Principal("alice", "acme"))
