"""pubsubfs and streamfs: bare, through a session, over HTTP, through both clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.client import AsyncClient, Client
from fs9.principal import Principal
from fs9.providers import builtin
from fs9.resources import Resources
from fs9.types import MountSpec
from tests.conformance.client_driver import ClientDriver
from tests.conformance.driver import ProviderDriver, SessionDriver
from tests.conformance.http_driver import HttpDriver
from tests.conformance.message_suite import MessageSuite
from tests.fix_http import StartServer, new_tenant, start_server
from tests.fix_live import LiveServer, new_namespace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.conformance.driver import Driver

__all__ = ["start_server"]

WAYS = ("bare", "session", "http", "async client", "sync client")


MOUNTS = (
    MountSpec("/", "pubsubfs"),
    MountSpec("/", "pubsubfs", {"persistent": True}),
    MountSpec("/", "streamfs"),
)


@pytest.fixture(scope="module")
def live_messages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, LiveServer]]:
    """A server for each mount, by the mount's text."""
    servers = {}
    for mount in MOUNTS:
        server = servers[str(mount)] = LiveServer(tmp_path_factory.mktemp("live"), (mount,))
        server.start()
    yield servers
    for server in servers.values():
        server.stop()


class _Ways(MessageSuite):
    """One provider by every way to it."""

    mount: MountSpec

    @pytest.fixture(params=WAYS)
    async def driver(
        self, request: pytest.FixtureRequest, start_server: StartServer
    ) -> AsyncIterator[Driver]:
        get, way = request.getfixturevalue, request.param
        driver: Driver
        if way in {"bare", "session"}:
            provider = await builtin.registry().create(
                self.mount,
                Resources(get("tmp_path"), get("limits"), get("clock"), get("pool")),
                namespace="acme",
            )
            if way == "bare":
                driver = ProviderDriver(provider)
            else:
                namespace = get("make_namespace")({"/": provider})
                driver = SessionDriver(namespace.attach(Principal("alice", "acme")))
            yield driver
            await driver.aclose()
        elif way == "http":
            server = await start_server(template=(self.mount,))
            yield HttpDriver(server.client(tenant=new_tenant()))
        else:
            url = get("live_messages")[str(self.mount)].url
            client = AsyncClient if way == "async client" else Client
            driver = ClientDriver(client(url, namespace=new_namespace()))
            yield driver
            await driver.aclose()


class TestPubSubFs(_Ways):
    mount = MOUNTS[0]
    end = b"\n"


class TestPubSubFsOnDisk(_Ways):
    mount = MOUNTS[1]
    end = b"\n"


class TestStreamFs(_Ways):
    mount = MOUNTS[2]
