"""localfs on a temporary directory, bare and through a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.principal import Principal
from fs9.providers import localfs
from fs9.providers.registry import ProviderContext
from tests.conformance.driver import ProviderDriver, SessionDriver
from tests.conformance.suite import TreeSuite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.limits import Limits
    from fs9.provider import Provider
    from fs9.threads import BlockingPool


@pytest.fixture
async def localfs_provider(
    tmp_path: Path, limits: Limits, clock: ManualClock, pool: BlockingPool
) -> AsyncIterator[Provider]:
    context = ProviderContext("acme", tmp_path, limits, clock, pool)
    provider = await localfs.create({"root": "{data_dir}/files"}, context)
    yield provider
    await provider.aclose()


class TestLocalFs(TreeSuite):
    @pytest.fixture
    def driver(self, localfs_provider: Provider) -> ProviderDriver:
        return ProviderDriver(localfs_provider)


class TestLocalFsThroughASession(TreeSuite):
    @pytest.fixture
    def driver(self, localfs_provider: Provider, make_namespace) -> SessionDriver:
        namespace = make_namespace({"/": localfs_provider})
        return SessionDriver(namespace.attach(Principal("alice", "acme")))
