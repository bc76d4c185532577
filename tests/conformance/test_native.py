"""The example plugin, as its source stands in `examples/`: in its own process and inline.

It has no symbolic links, and no plugin can have entity tags or nanoseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.providers.native import provider
from fs9.providers.registry import ProviderContext
from fs9.types import MountSpec, PluginSpec
from tests.conformance.driver import ALL_FEATURES, ProviderDriver, SessionDriver, session_driver
from tests.conformance.http_driver import HttpDriver
from tests.conformance.suite import TreeSuite
from tests.fix_http import StartServer, new_tenant, start_server
from tests.fix_plugins import compiled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.limits import Limits
    from fs9.provider import Provider
    from fs9.threads import BlockingPool

__all__ = ["start_server"]

_FEATURES = ALL_FEATURES - {"condition", "ns"}


@pytest.fixture
async def plugin(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    limits: Limits,
    clock: ManualClock,
    pool: BlockingPool,
) -> AsyncIterator[Provider]:
    context = ProviderContext("acme", tmp_path, limits, clock, pool)
    config = {"isolation": request.cls.isolation}
    made = await provider.create("memory", compiled("memory"), config, context, lambda: None)
    yield made
    await made.aclose()


class TestInline(TreeSuite):
    isolation = "inline"

    @pytest.fixture
    def driver(self, plugin: Provider) -> ProviderDriver:
        driver = ProviderDriver(plugin)
        driver.features = _FEATURES
        return driver


class TestInAProcess(TreeSuite):
    """Through a session, too: as mounts are used."""

    isolation = "process"

    @pytest.fixture
    def driver(self, plugin: Provider, clock: ManualClock) -> SessionDriver:
        driver = session_driver({"/": plugin}, clock)
        driver.features = _FEATURES
        return driver


class TestOverHttp(TreeSuite):
    """Uploads replace by renaming, as for other providers."""

    @pytest.fixture
    async def driver(self, start_server: StartServer) -> HttpDriver:
        spec = PluginSpec("memory", compiled("memory"))
        mount = MountSpec("/", "memory", {"isolation": "inline"})
        server = await start_server(template=(mount,), settings={"plugin_preload": (spec,)})
        driver = HttpDriver(server.client(tenant=new_tenant()))
        driver.features = driver.features & _FEATURES
        return driver
