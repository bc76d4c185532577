"""kvfs, on disk and in memory: bare, through a session, over HTTP, through both clients."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fs9.client import AsyncClient, Client
from fs9.clock import ManualClock
from fs9.limits import Limits
from fs9.principal import Principal
from fs9.providers import kvfs
from fs9.providers.registry import ProviderContext
from fs9.threads import BlockingPool
from fs9.types import MountSpec
from tests.conformance.client_driver import ClientDriver
from tests.conformance.driver import ProviderDriver, SessionDriver
from tests.conformance.http_driver import HttpDriver
from tests.conformance.machine import Machine
from tests.conformance.suite import TreeSuite
from tests.conformance.test_model import some
from tests.fix_http import StartServer, new_tenant, start_server
from tests.fix_live import LiveServer, new_namespace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["start_server"]


@pytest.fixture
def context(
    tmp_path: Path, limits: Limits, clock: ManualClock, pool: BlockingPool
) -> ProviderContext:
    return ProviderContext("acme", tmp_path, limits, clock, pool)


class TestKvFs(TreeSuite):
    @pytest.fixture
    async def driver(self, context: ProviderContext) -> AsyncIterator[ProviderDriver]:
        driver = ProviderDriver(await kvfs.create({}, context))
        yield driver
        await driver.aclose()


class TestKvFsInMemory(TreeSuite):
    @pytest.fixture
    async def driver(self, context: ProviderContext) -> ProviderDriver:
        return ProviderDriver(await kvfs.create({"persistent": False}, context))


class TestKvFsThroughASession(TreeSuite):
    @pytest.fixture
    async def driver(
        self, context: ProviderContext, make_namespace
    ) -> AsyncIterator[SessionDriver]:
        provider = await kvfs.create({}, context)
        namespace = make_namespace({"/": provider})
        yield SessionDriver(namespace.attach(Principal("alice", "acme")))
        await provider.aclose()


class TestKvFsOverHttp(TreeSuite):
    @pytest.fixture
    async def driver(self, start_server: StartServer) -> HttpDriver:
        server = await start_server(template=(MountSpec("/", "kvfs"),))
        return HttpDriver(server.client(tenant=new_tenant()))


@pytest.fixture(scope="module")
def live_kv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path_factory.mktemp("live-kv"), (MountSpec("/", "kvfs"),))
    server.start()
    yield server
    server.stop()


class _ClientSuite(TreeSuite):
    """Without the long table: it goes over HTTP above, and the clients add nothing to flags."""

    test_open_as_linux = None  # type: ignore[assignment]


class TestKvFsOverAsyncClient(_ClientSuite):
    @pytest.fixture
    async def driver(self, live_kv: LiveServer) -> AsyncIterator[ClientDriver]:
        driver = ClientDriver(AsyncClient(live_kv.url, namespace=new_namespace()))
        yield driver
        await driver.aclose()


class TestKvFsOverSyncClient(_ClientSuite):
    @pytest.fixture
    async def driver(self, live_kv: LiveServer) -> AsyncIterator[ClientDriver]:
        driver = ClientDriver(Client(live_kv.url, namespace=new_namespace()))
        yield driver
        await driver.aclose()


class _Machine(Machine):
    """`config` is the mount's."""

    async def make_driver(self) -> ProviderDriver:
        self.directory = tempfile.TemporaryDirectory()
        self.pool = BlockingPool(1)
        context = ProviderContext(
            "acme", Path(self.directory.name), Limits(), ManualClock(), self.pool
        )
        return ProviderDriver(await kvfs.create(self.config, context))

    async def aclose(self) -> None:
        await super().aclose()
        self.pool.shutdown()
        self.directory.cleanup()


class MemoryMachine(_Machine):
    counts_bytes = True
    config = {"persistent": False}  # noqa: RUF012


class DiskMachine(_Machine):
    config: dict[str, object] = {}  # noqa: RUF012


TestModelInMemory = MemoryMachine.TestCase
TestModelInMemory.settings = some(40)
TestModelOnDisk = DiskMachine.TestCase
TestModelOnDisk.settings = some(15)
