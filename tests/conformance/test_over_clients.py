"""The providers through both Python clients and a server on a socket: nothing changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.client import AsyncClient, Client
from tests.conformance.client_driver import ClientDriver
from tests.conformance.suite import TreeSuite
from tests.fix_live import LiveServer, live, live_default, live_local, new_namespace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["live", "live_default", "live_local"]


class _ShortSuite(TreeSuite):
    """Without the long table of flags, which goes through one client and, for each, over HTTP."""

    test_open_as_linux = None  # type: ignore[assignment]


class TestMemFsOverAsyncClient(TreeSuite):
    @pytest.fixture
    async def driver(self, live: LiveServer) -> AsyncIterator[ClientDriver]:
        driver = ClientDriver(AsyncClient(live.url, namespace=new_namespace()))
        yield driver
        await driver.aclose()


class TestMemFsOverSyncClient(_ShortSuite):
    @pytest.fixture
    async def driver(self, live: LiveServer) -> AsyncIterator[ClientDriver]:
        driver = ClientDriver(Client(live.url, namespace=new_namespace()))
        yield driver
        await driver.aclose()


class TestLocalFsOverSyncClient(_ShortSuite):
    @pytest.fixture
    async def driver(self, live_local: LiveServer) -> AsyncIterator[ClientDriver]:
        driver = ClientDriver(Client(live_local.url, namespace=new_namespace()))
        yield driver
        await driver.aclose()


class TestPageFsOverAsyncClient(_ShortSuite):
    @pytest.fixture
    async def driver(self, live_default: LiveServer) -> AsyncIterator[ClientDriver]:
        driver = ClientDriver(AsyncClient(live_default.url, namespace=new_namespace()))
        yield driver
        await driver.aclose()


class TestPageFsOverSyncClient(_ShortSuite):
    @pytest.fixture
    async def driver(self, live_default: LiveServer) -> AsyncIterator[ClientDriver]:
        driver = ClientDriver(Client(live_default.url, namespace=new_namespace()))
        yield driver
        await driver.aclose()
