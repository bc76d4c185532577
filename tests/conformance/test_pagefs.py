"""pagefs on its embedded and its volatile stores, bare and through a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.principal import Principal
from fs9.providers.pagefs import backends
from fs9.providers.registry import ProviderContext
from tests.conformance.driver import ProviderDriver, SessionDriver
from tests.conformance.suite import TreeSuite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.limits import Limits
    from fs9.providers.pagefs.provider import PageFs
    from fs9.threads import BlockingPool

LMDB_INLINE = {"backend": {"type": "lmdb", "blocks": {"type": "inline"}}}
MEMORY = {"backend": {"type": "memory"}}


@pytest.fixture
def backend() -> dict[str, object]:
    """The mount's configuration; a class with another backend overrides it."""
    return {}


@pytest.fixture
async def pagefs(
    backend: dict[str, object],
    tmp_path: Path,
    limits: Limits,
    clock: ManualClock,
    pool: BlockingPool,
) -> AsyncIterator[PageFs]:
    context = ProviderContext("acme", tmp_path, limits, clock, pool)
    provider = await backends.create(backend, context)
    yield provider
    await provider.aclose()


class TestPageFs(TreeSuite):
    @pytest.fixture
    def driver(self, pagefs: PageFs) -> ProviderDriver:
        return ProviderDriver(pagefs)


class TestPageFsInline(TestPageFs):
    @pytest.fixture
    def backend(self) -> dict[str, object]:
        return LMDB_INLINE


class TestPageFsInMemory(TestPageFs):
    @pytest.fixture
    def backend(self) -> dict[str, object]:
        return MEMORY


class TestPageFsWithSnapshots(TestPageFs):
    """A snapshot and a fork exist from the start, so that every key may have versions."""

    @pytest.fixture
    async def driver(self, pagefs: PageFs) -> ProviderDriver:
        await pagefs.branches.snapshot("before")
        await pagefs.branches.fork("other")
        return ProviderDriver(pagefs)


class TestPageFsThroughASession(TreeSuite):
    @pytest.fixture
    def driver(self, pagefs: PageFs, make_namespace) -> SessionDriver:
        namespace = make_namespace({"/": pagefs})
        return SessionDriver(namespace.attach(Principal("alice", "acme")))
