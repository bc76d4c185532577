"""A server to mount, its wire, and mounts of servers that answer what a test says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fs9.types import (
    REPLACE,
    MountSpec,
    OpenFlags,
)
from tests.fix_http import Server, StartServer
from tests.fix_proxy import Answer, Answers, Wire, make_proxy

if TYPE_CHECKING:
    from fs9.providers.proxyfs import ProxyFs

RW_CREATE = OpenFlags(read=True, write=True, create=True)
URL = "http://fs9.test"


@pytest.fixture
async def upstream(start_server: StartServer) -> Server:
    return await start_server(template=(MountSpec("/", "memfs"),))


@pytest.fixture
def wire(upstream: Server) -> Wire:
    assert upstream.transport is not None
    return Wire(upstream.transport)


async def scripted(answer: Answer, **more: Any) -> ProxyFs:
    """A mount of a server that answers what the test says, as an older server would."""
    return await make_proxy(Server(URL), transport=Answers(answer), **more)


async def put(proxy: ProxyFs, path: str, content: bytes) -> None:
    file, _ = await proxy.open(path, REPLACE)
    await proxy.write(file, 0, content)
    await proxy.close(file)
