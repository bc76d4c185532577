"""proxyfs on a second server of ours, which serves memfs and localfs: all that it declares.

The last ways are whole: a client's request, a server, a socket, the second server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.client import AsyncClient, Client
from fs9.types import MountSpec
from tests.conformance.client_driver import ClientDriver
from tests.conformance.driver import ALL_FEATURES, ProviderDriver, SessionDriver, session_driver
from tests.conformance.http_driver import HttpDriver
from tests.conformance.suite import FileSuite, TreeSuite
from tests.fix_http import StartServer, new_tenant, start_server
from tests.fix_live import LiveServer
from tests.fix_proxy import make_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fs9.clock import ManualClock
    from fs9.providers.proxyfs import ProxyFs

__all__ = ["start_server"]

#: The wire has whole seconds.
_FEATURES = ALL_FEATURES - {"ns"}


class TestOnMemFs(TreeSuite):
    @pytest.fixture
    async def driver(self, start_server: StartServer) -> AsyncIterator[ProviderDriver]:
        server = await start_server(template=(MountSpec("/", "memfs"),))
        proxy = await make_proxy(server)
        driver = ProviderDriver(proxy)
        driver.features = _FEATURES
        yield driver
        await proxy.aclose()


class TestOnLocalFsThroughASession(TreeSuite):
    """As mounts are used; and every read asks whether what was kept is current."""

    @pytest.fixture
    async def proxy(self, start_server: StartServer) -> AsyncIterator[ProxyFs]:
        mount = MountSpec("/", "localfs", {"root": "{data_dir}/namespaces/{namespace}/files"})
        server = await start_server(template=(mount,))
        proxy = await make_proxy(server, cache_fresh_s=0)
        yield proxy
        await proxy.aclose()

    @pytest.fixture
    def driver(self, proxy: ProxyFs, clock: ManualClock) -> SessionDriver:
        driver = session_driver({"/": proxy}, clock)
        driver.features = _FEATURES
        return driver


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path_factory.mktemp("second"), (MountSpec("/", "memfs"),))
    server.start()
    yield server
    server.stop()


def same_namespace(second: LiveServer) -> tuple[MountSpec, ...]:
    """Each namespace of a server is the one of that name of the second server."""
    return (MountSpec("/", "proxyfs", {"upstream": f"{second.url}/{{namespace}}"}),)


@pytest.fixture(scope="module")
def front(second: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path_factory.mktemp("front"), same_namespace(second))
    server.start()
    yield server
    server.stop()


class TestOverHttp(TreeSuite):
    @pytest.fixture
    async def driver(self, start_server: StartServer, second: LiveServer) -> HttpDriver:
        server = await start_server(template=same_namespace(second))
        return HttpDriver(server.client(tenant=new_tenant()))


class TestOverAsyncClient(FileSuite):
    @pytest.fixture
    async def driver(self, front: LiveServer) -> AsyncIterator[ClientDriver]:
        driver = ClientDriver(AsyncClient(front.url, namespace=new_tenant()))
        yield driver
        await driver.aclose()


class TestOverSyncClient(FileSuite):
    @pytest.fixture
    async def driver(self, front: LiveServer) -> AsyncIterator[ClientDriver]:
        driver = ClientDriver(Client(front.url, namespace=new_tenant()))
        yield driver
        await driver.aclose()
