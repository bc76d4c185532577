"""Fixture `start_node`: the workers' protocol on a real socket, in this process.

It is all of a worker but the process: `Node`, `Fs9Protocol`, the application. The event loop is
the tests' own, so what runs here on asyncio's loop runs in the fleets of `fix_fleet` on uvloop.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from fs9.config.settings import Settings
from fs9.limits import Limits
from fs9.services import Services
from tests.fix_http import SECRET, TEMPLATE, Server
from workers.node import Node
from workers.protocol import Fs9Protocol
from workers.slots import RunDirectory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from fs9.clock import Clock
    from fs9.types import MountSpec

_numbers = itertools.count(1)


async def start_node_of(
    settings: Settings, clock: Clock | None, stack: AsyncExitStack
) -> tuple[Node, int]:
    """A node and the TCP port it serves; both end with `stack`."""
    run_directory = RunDirectory(settings.data_dir / "run")
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    run_directory.create()
    node = Node(await Services.open(settings, clock=clock), run_directory, slots=1)
    stack.push_async_callback(node.aclose)
    config = Config(
        node.app, lifespan="off", ws="none", proxy_headers=False, headers=[("x-fs9-slot", "0")]
    )
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"), *config.encoded_headers]
    connection = functools.partial(Fs9Protocol, config, state, {}, node=node)
    await node.start(connection, state)
    listener = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    stack.callback(_end, listener, state)
    return node, listener.sockets[0].getsockname()[1]


def _end(listener: asyncio.Server, state: ServerState) -> None:
    listener.close()
    for connection in list(state.connections):
        connection.transport.abort()


@pytest.fixture(params=["fast lane", "web framework"])
async def start_server(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[Server]]]:
    """As `tests.fix_http.start_server`, through the workers' protocol, on both lanes."""
    async with AsyncExitStack() as stack:

        async def start(
            *,
            auth: bool = False,
            clock: Clock | None = None,
            template: tuple[MountSpec, ...] = TEMPLATE,
            **limits: float,
        ) -> Server:
            settings = Settings(
                data_dir=tmp_path / f"d{next(_numbers)}",
                jwt_secret=SECRET if auth else "",
                mounts=template,
                namespace_template=template,
                fast_lane=request.param == "fast lane",
                limits=Limits(**limits),  # type: ignore[arg-type]
            )
            node, port = await start_node_of(settings, clock, stack)
            server = Server(f"http://127.0.0.1:{port}", None, node.context)
            stack.push_async_callback(server.aclose)
            return server

        yield start
