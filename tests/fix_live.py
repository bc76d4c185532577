"""A server on a real socket, in a thread of this process, for clients that block.

`live` is one for the whole test session (starting one takes a while); tests keep apart by
`live_url`, the URL of a namespace that no other test uses. Its files are on memfs;
`/local` is a directory of this host.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest
import uvicorn

from fs9.config.settings import EMBEDDED_MOUNTS, Settings
from fs9.http.app import create_app
from fs9.http.context import Context
from fs9.services import Services
from fs9.types import MountSpec
from tests.fix_http import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPLATE = (
    MountSpec("/", "memfs"),
    MountSpec("/hello", "hellofs"),
    MountSpec("/local", "localfs", {"root": "{data_dir}/namespaces/{namespace}/files"}),
)

_numbers = itertools.count(1)


class LiveServer:
    """Serves from `start` to `stop`; the port is the kernel's choice."""

    def __init__(
        self, data_dir: Path, template: tuple[MountSpec, ...] = TEMPLATE, *, auth: bool = False
    ) -> None:
        self.settings = Settings(
            data_dir=data_dir,
            jwt_secret=SECRET if auth else "",
            mounts=template,
            namespace_template=template,
        )
        self._socket = socket.create_server(("127.0.0.1", 0))
        # Accepted sockets inherit it. asyncio sets it itself only on sockets whose `proto` is
        # given; without it each answer of two packets waits for a delayed ACK, 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._server: uvicorn.Server | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()
        self._started.wait(30)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(30)
        self._socket.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        services = await Services.open(self.settings)
        try:
            app = create_app(Context.of(services))
            config = uvicorn.Config(
                timeout_graceful_shutdown=1,  # watchers stay as long as they can
                app=app,
                lifespan="off",
                log_level="warning",
                timeout_keep_alive=75,
            )
            self._server = _Server(config, self._started)
            await self._server.serve([self._socket])
        finally:
            await services.aclose()


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config, listening: threading.Event) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening.set()


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with authentication off."""
    server = LiveServer(tmp_path_factory.mktemp("live"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def live_auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with authentication on."""
    server = LiveServer(tmp_path_factory.mktemp("live-auth"), auth=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def live_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with localfs at "/", authentication off."""
    mount = MountSpec("/", "localfs", {"root": "{data_dir}/namespaces/{namespace}/files"})
    server = LiveServer(tmp_path_factory.mktemp("live-local"), (mount,))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def live_default(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of the embedded default: pagefs at "/", authentication off."""
    server = LiveServer(tmp_path_factory.mktemp("live-default"), EMBEDDED_MOUNTS)
    server.start()
    yield server
    server.stop()


def new_namespace() -> str:
    """A namespace that no other test uses, in no process."""
    return f"l{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def live_url(live: LiveServer) -> str:
    """The URL of a fresh namespace."""
    return f"{live.url}/{new_namespace()}"
