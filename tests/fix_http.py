"""Servers to test over HTTP, in this process.

The suites (`tests/http/suite_*.py`) use these fixtures and nothing of the server's inside, so
they run against any server. To run them on another one (a real worker process, with or
without the fast lane), import the suites in a test module of your own and override one
fixture there:

    @pytest.fixture
    async def start_server() -> StartServer:
        async def start(*, auth: bool = False, **limits: float) -> Server: ...
        return start

`Server.base_url` is its URL, `Server.transport` is None to use the network.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from fs9.auth.tokens import sign
from fs9.clock import Clock, SystemClock
from fs9.config.settings import Settings
from fs9.http.app import create_app
from fs9.http.context import Context
from fs9.limits import Limits
from fs9.services import Services
from fs9.types import MountSpec

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "a secret of more than thirty-two bytes, for tests alone"

#: What every namespace of a test server is made of.
TEMPLATE = (
    MountSpec("/", "memfs"),
    MountSpec("/hello", "hellofs"),
    MountSpec("/other", "memfs"),
)

_numbers = itertools.count(1)


@dataclass
class Server:
    """A running server, and clients for it."""

    base_url: str
    transport: httpx2.AsyncBaseTransport | None = None
    #: None unless the server is in this process.
    context: Context | None = None
    _clients: list[httpx2.AsyncClient] = field(default_factory=list)

    def client(
        self, *, tenant: str | None = None, token: str | None = None, prefix: bool = True
    ) -> httpx2.AsyncClient:
        """A client whose relative URLs are below `/api/v1/`, or below the root."""
        path = "/" if not prefix else f"/{tenant}/api/v1/" if tenant else "/api/v1/"
        client = httpx2.AsyncClient(
            transport=self.transport,
            base_url=self.base_url + path,
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=30,
        )
        self._clients.append(client)
        return client

    async def aclose(self) -> None:
        for client in self._clients:
            await client.aclose()


StartServer = Callable[..., Awaitable[Server]]


def token(
    ns: str, /, *roles: str, sub: str = "alice", clock: Clock | None = None, **claims: Any
) -> str:
    """A token as the server accepts it, except for what `claims` changes (None: leaves out)."""
    now_s = int((clock or SystemClock()).now_s())
    found = {"sub": sub, "ns": ns, "roles": list(roles), "iat": now_s, "exp": now_s + 600} | claims
    return sign({name: value for name, value in found.items() if value is not None}, SECRET)


def new_tenant() -> str:
    """A namespace name that no test has used, in no process."""
    return f"t{os.getpid()}-{next(_numbers)}"


@pytest.fixture
async def start_server(tmp_path: Path) -> AsyncIterator[StartServer]:
    """`await start_server(auth=False, clock=None, **limits)` starts a server in this process.

    `settings` are others of its settings.
    """
    async with AsyncExitStack() as stack:

        async def start(
            *,
            auth: bool = False,
            clock: Clock | None = None,
            template: tuple[MountSpec, ...] = TEMPLATE,
            settings: Mapping[str, Any] = MappingProxyType({}),
            **limits: float,
        ) -> Server:
            effective = Settings(
                data_dir=tmp_path / f"data-{next(_numbers)}",
                jwt_secret=SECRET if auth else "",
                mounts=template,
                namespace_template=template,
                limits=Limits(**limits),  # type: ignore[arg-type]
                **settings,
            )
            services = await Services.open(effective, clock=clock)
            stack.push_async_callback(services.aclose)
            context = Context.of(services)
            transport = httpx2.ASGITransport(create_app(context))
            server = Server("http://fs9.test", transport, context)
            stack.push_async_callback(server.aclose)
            return server

        yield start


@pytest.fixture
async def server(start_server: StartServer) -> Server:
    """A server with authentication off and the default limits."""
    return await start_server()


@pytest.fixture
async def auth_server(start_server: StartServer) -> Server:
    """A server with authentication on and the default limits."""
    return await start_server(auth=True)


@pytest.fixture
def api(server: Server) -> httpx2.AsyncClient:
    """A client of a fresh namespace, with authentication off."""
    return server.client(tenant=new_tenant())


@pytest.fixture
async def acme(auth_server: Server) -> str:
    """The name of a fresh namespace of `auth_server`."""
    name = new_tenant()
    admin = auth_server.client(token=token("default", "admin"))
    answer = await admin.post("namespaces", json={"name": name})
    assert answer.status_code == 201, answer.text
    return name
