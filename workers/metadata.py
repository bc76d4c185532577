"""The processes of the metadata service: gunicorn with uvicorn's workers around its application.

    fs9 meta serve ── preflight: database made or migrated ── gunicorn ──> MetaApplication …

The composition root of the service: each process opens its own store.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from fs9.auth.judge import Judge
from fs9.clock import SystemClock
from fs9.config import ConfigError, Settings
from fs9.config.dsn import sqlite_path
from fs9.errors import Fs9Error
from fs9.limits import Limits
from fs9.meta.app import MetaApplication
from fs9.meta.issuing import Issuer
from fs9.meta.open import open_at
from fs9.meta.passwords import Passwords
from fs9.meta.service import MetaService
from fs9.meta.upkeep import Upkeep
from fs9.observe import log
from fs9.threads import BlockingPool
from workers.metadata_connection import MetaConnection
from workers.parent import leave_with

if TYPE_CHECKING:
    from uvicorn.config import Config

    from fs9.config.meta_service import MetaServiceSettings
    from fs9.meta.sql.store import SqlStore

_THREADS_MAX = 16
_GRACE_S = 30


class MetaProcess:
    """One process of the service, from start to stop."""

    def __init__(self, settings: MetaServiceSettings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._store: SqlStore | None = None

    async def start(self) -> tuple[MetaService, Issuer]:
        """Open the store, and see that `default` is there. Raises BackendUnavailable."""
        clock, limits = SystemClock(), Limits()
        async with AsyncExitStack() as stack:
            pool = BlockingPool(_THREADS_MAX)
            stack.callback(pool.shutdown)
            store = self._store = await open_at(self._settings.dsn, limits, clock, pool)
            stack.push_async_callback(store.aclose)
            service = MetaService(store, Passwords(pool), clock)
            judge = Judge(self._settings.jwt_secret, store, clock)
            await service.ensure_default()
            upkeep = asyncio.create_task(Upkeep(store, clock).forever())
            stack.push_async_callback(_end, upkeep)
            self._stack = stack.pop_all()
        return service, Issuer(service, judge)

    async def stop(self) -> None:
        await self._stack.aclose()

    def end_waits(self) -> None:
        """Answer the calls that wait for a change."""
        if self._store is not None:
            self._store.notifications.end_waits()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def create_app(settings: MetaServiceSettings) -> MetaApplication:
    process = MetaProcess(settings)
    key = settings.admin_key or None
    return MetaApplication(key, process.start, process.stop, process.end_waits)


class MetaWorker(UvicornWorker):  # type: ignore[misc]
    CONFIG_KWARGS = {  # noqa: RUF012  as its base has it
        "http": MetaConnection,
        "lifespan": "on",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": 75,
        "limit_concurrency": 1000,
    }

    async def _serve(self) -> None:
        """As the base, with a server that also lets go of those who wait."""
        leave_with(self.ppid)
        self.config.app = self.wsgi.app
        self._install_sigquit_handler()
        server = _Server(self.config, self.wsgi)
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


class _Server(Server):
    def __init__(self, config: Config, application: MetaApplication) -> None:
        super().__init__(config)
        self._application = application

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._application.end_waits()  # else it would wait for them
        await super().shutdown(sockets)


class MetaServer(BaseApplication):  # type: ignore[misc]
    """gunicorn's view of the service."""

    def __init__(self, settings: MetaServiceSettings, listener: socket.socket) -> None:
        self._settings = settings
        self._address = listener.getsockname()
        self._listener_fd = listener.detach()  # owned by gunicorn from now on
        super().__init__()

    def load_config(self) -> None:
        values: dict[str, Any] = {
            "bind": f"fd://{self._listener_fd}",
            "workers": self._settings.processes,
            "worker_class": MetaWorker,
            "graceful_timeout": _GRACE_S,
            "timeout": 60,
            "proc_name": "fs9-meta",
            "control_socket_disable": True,
            "loglevel": "warning",
            "when_ready": self._greet,
        }
        for name, value in values.items():
            self.cfg.set(name, value)

    def load(self) -> MetaApplication:
        return create_app(self._settings)

    def _greet(self, arbiter: Arbiter) -> None:
        host, port = self._address[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        key = "on: every request needs it" if self._settings.admin_key else "none"
        sys.stdout.write(f"fs9 meta is serving at {url}\n  admin key  {key}\nCtrl-C stops it.\n")
        sys.stdout.flush()


def main(settings: MetaServiceSettings) -> int:
    """Serve until told to stop; the exit status. Raises ConfigError when it cannot begin."""
    log.configure(Settings(), sys.stderr)
    _check_directory(settings.dsn)
    try:
        asyncio.run(_preflight(settings))
    except (Fs9Error, ValueError) as error:
        raise ConfigError(f"the database cannot be used: {error}") from None
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): choose another"
            " address with --host and --port, or stop what is listening there"
        ) from None
    # Inherited by every accepted connection: without it two writes meet delayed ACKs.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        Arbiter(MetaServer(settings, listener)).run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


async def _preflight(settings: MetaServiceSettings) -> None:
    """Make or migrate the database before any process is started."""
    process = MetaProcess(settings)
    await process.start()
    await process.stop()


def _check_directory(dsn: str) -> None:
    path = sqlite_path(dsn)
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise ConfigError(f"there is no directory {path.absolute().parent} for the database")
