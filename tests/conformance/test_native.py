"""The example plugin, as its source stands in `examples/`: in its own process and inline.

It has no symbolic links, and no plugin can have entity tags or nanoseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.providers.native import provider
from fs9.providers.registry import ProviderContext
from tests.conformance.driver import ALL_FEATURES, ProviderDriver, SessionDriver, session_driver
from tests.conformance.suite import TreeSuite
from tests.fix_plugins import compiled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fs9.clock import ManualClock
    from fs9.limits import Limits
    from fs9.provider import Provider
    from fs9.threads import BlockingPool

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
