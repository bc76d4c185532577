"""memfs, localfs and pagefs through the file API: all that lies between must change nothing."""

from __future__ import annotations

import pytest

from fs9.types import MountSpec
from tests.conformance.http_driver import HttpDriver
from tests.conformance.suite import TreeSuite
from tests.fix_http import StartServer, new_tenant, start_server

__all__ = ["start_server"]


class TestMemFsOverHttp(TreeSuite):
    @pytest.fixture
    async def driver(self, start_server: StartServer) -> HttpDriver:
        server = await start_server()
        return HttpDriver(server.client(tenant=new_tenant()))


class TestLocalFsOverHttp(TreeSuite):
    @pytest.fixture
    async def driver(self, start_server: StartServer) -> HttpDriver:
        mount = MountSpec("/", "localfs", {"root": "{data_dir}/namespaces/{namespace}/files"})
        server = await start_server(template=(mount,))
        return HttpDriver(server.client(tenant=new_tenant()))


class TestPageFsOverHttp(TreeSuite):
    @pytest.fixture
    async def driver(self, start_server: StartServer) -> HttpDriver:
        server = await start_server(template=(MountSpec("/", "pagefs"),))
        return HttpDriver(server.client(tenant=new_tenant()))
