"""Starts and supervises the fleet, for `fs9 serve`: gunicorn's arbiter, with slots."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import socket
import struct
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication

from fs9.config import ConfigError, check_exposure
from fs9.directories import (
    handles_directory,
    make_data_dir,
    metrics_directory,
    watch_directory,
)
from fs9.http.app import routed
from fs9.observe.log import configure as configure_logging
from fs9.observe.metrics import forget_all, forget_gauges
from fs9.preflight import preflight
from fs9.providers.installed import installed
from fs9.vfs.journal import clear_journals
from router.ring import prepare as prepare_ring
from workers.arbiter import FleetArbiter, FleetLogger, give_slot
from workers.bus import prepare_bus
from workers.endpoint import UnusableKeys, endpoint_of, split_address
from workers.notify import Notifier
from workers.parent import leave_with
from workers.renewal import Handover, order_of, rehearse, settings_of
from workers.slots import run_directory_of
from workers.worker import FleetWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gunicorn.arbiter import Arbiter

    from fs9.config import Settings
    from workers.slots import RunDirectory

log = logging.getLogger("fs9.fleet")

#: By which a worker says that it is ready.
_PID = struct.Struct("=I")


def main(settings: Settings, environ: Mapping[str, str], notify_socket: str | None = None) -> int:
    """Serve until told to stop; the exit status of the process.

    `environ` is what a new program of the fleet gets (`workers.renewal`); `notify_socket` is where
    a service manager wants to hear of it (`workers.notify`).

    Raises ConfigError for an exposed address without authentication, a mount that does not
    work, and an address or a data directory in use.
    """
    check_exposure(settings)
    configure_logging(settings, sys.stderr)
    for warning in settings.warnings:
        log.warning("%s", warning)
    make_data_dir(settings.data_dir)
    run_directory = run_directory_of(settings.data_dir)
    run_directory.create()
    lock = _lock_fleet(run_directory, settings)
    run_directory.forget_fleet()
    clear_journals(handles_directory(settings.data_dir))
    clear_journals(watch_directory(settings.data_dir))
    # What was set for the fleet before this one; the settings hold again.
    run_directory.log_levels.unlink(missing_ok=True)
    forget_all(metrics_directory(settings.data_dir))
    _prepare_bus(settings, run_directory)
    _try_out(settings)
    listener = _listen(settings)
    application = FleetApplication(settings, environ, run_directory, listener, lock, notify_socket)
    return application.serve()


def _try_out(settings: Settings) -> None:
    """The preflight, in a process of its own. Raises ConfigError.

    Threads that providers start, and libraries that they load, would be in the workers, which are
    forked from this process, without the threads: a lock held by one would never be released.
    """
    said_fd, say_fd = os.pipe()
    server = os.getpid()
    child = os.fork()
    if not child:
        status = 1
        try:
            leave_with(server)
            os.close(said_fd)
            with suppress(KeyboardInterrupt), open(say_fd, "w", encoding="utf-8") as say:
                try:
                    asyncio.run(preflight(settings))
                except ConfigError as error:
                    say.write(str(error))
                status = 0
        except BaseException:
            log.exception("the settings cannot be tried")
        finally:
            os._exit(status)
    os.close(say_fd)
    with open(said_fd, encoding="utf-8") as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    if said or status:
        raise ConfigError(said or "the settings cannot be tried: see the log")


def renew(order: str, environ: Mapping[str, str], read_settings: Callable[[], Settings]) -> int:
    """Go on as the new program of a running fleet (see `workers.renewal`); the exit status."""
    said = order_of(order)
    if not isinstance(said, Handover):
        rehearse(said, read_settings)
        return 0
    settings = settings_of(said)
    configure_logging(settings, sys.stderr)
    for warning in settings.warnings:
        log.warning("%s", warning)
    application = FleetApplication(
        settings,
        environ,
        run_directory_of(settings.data_dir),
        socket.socket(fileno=said.listener_fd),
        said.lock_fd,
        said.notify_socket,
        said,
    )
    return application.serve()


def _lock_fleet(run_directory: RunDirectory, settings: Settings) -> int:
    fd = os.open(run_directory.path / "fleet.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise ConfigError(
            f"another fleet is using the data directory {settings.data_dir}: stop it, or give"
            " this one its own with --data-dir"
        ) from None
    return fd


def _prepare_bus(settings: Settings, run_directory: RunDirectory) -> None:
    keys_dir = settings.bus_keys_dir or settings.data_dir / "bus-keys"
    try:
        prepare_bus(run_directory, settings.bus_bind, keys_dir)
    except (UnusableKeys, OSError) as error:
        raise ConfigError(f"the keys of the bus (server.bus.keys_dir): {error}") from None
    endpoint = endpoint_of(run_directory)
    if endpoint.keys_dir is None:
        return
    for address in (endpoint.publications, endpoint.requests):
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            socket.create_server((host.strip("[]"), port), family=family).close()
        except OSError as error:
            raise ConfigError(
                f"the bus cannot listen on {host}:{port} ({error.strerror}): choose another"
                " address for server.bus.bind; it takes its port and the next one"
            ) from error


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): choose"
            " another address with --host and --port, or stop what is listening there"
        ) from error
    # Inherited by every accepted connection: without it two writes meet delayed ACKs.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class FleetApplication(BaseApplication):  # type: ignore[misc]
    """gunicorn's view of the fleet: its settings; each worker makes its own application."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        run_directory: RunDirectory,
        listener: socket.socket,
        lock_fd: int,
        notify_socket: str | None,
        handover: Handover | None = None,
    ) -> None:
        """`handover`: what the program before this one left, if the fleet serves already."""
        self.settings = settings
        self.environ = environ
        self.run_directory = run_directory
        self.lock_fd = lock_fd
        self.notify_socket = notify_socket
        self.notifier = Notifier(notify_socket)
        self.handover = handover
        self.address: tuple[Any, ...] = listener.getsockname()
        self._listener_fd = listener.detach()  # owned by gunicorn from now on
        self._ready_read, self._ready_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        super().__init__()

    def load_config(self) -> None:
        limits = self.settings.limits
        values: dict[str, Any] = {
            "bind": f"fd://{self._listener_fd}",
            "workers": self.settings.workers,
            "worker_class": FleetWorker,
            "graceful_timeout": max(1, int(limits.shutdown_timeout_s)),
            "timeout": 60,
            "proc_name": "fs9",
            "control_socket_disable": True,
            "logger_class": FleetLogger,
            "pre_fork": give_slot,
            "child_exit": self._bury,
        }
        for name, value in values.items():
            self.cfg.set(name, value)

    def load(self) -> None:
        """Make what all workers have in common before they are forked, so that they share it.

        Each worker opens what belongs to its process, threads or event loop itself. A worker that
        replaces a killed one then has less to do while the others serve.
        """
        for name in ("uvicorn.lifespan.off", f"uvicorn.loops.{self.settings.event_loop}"):
            import_module(name)
        routed()
        installed()
        prepare_ring(range(self.settings.workers))

    def serve(self) -> int:
        """Serve until told to stop; the exit status."""
        try:
            FleetArbiter(self).run()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        finally:
            os.close(self.lock_fd)
        return 0

    def _bury(self, arbiter: Arbiter, worker: FleetWorker) -> None:
        forget_gauges(metrics_directory(self.settings.data_dir), worker.slot)
        # One that left has seen to its front itself.
        directory = self.run_directory
        if directory.listens_at_front(worker.slot):
            slots = sorted(other.slot for other in arbiter.WORKERS.values())
            stays = next(filter(directory.listens_at_front, slots), None)
            if stays is not None:
                directory.lend_front(worker.slot, stays)

    def greeting(self) -> str:
        return greeting(self.settings, self.address)

    def worker_is_ready(self) -> None:
        """Called in each worker, once it serves."""
        with suppress(BlockingIOError):  # the arbiter has not looked for long
            os.write(self._ready_write, _PID.pack(os.getpid()))

    def ready_pids(self) -> list[int]:
        """The workers that became ready since the last call."""
        try:
            said = os.read(self._ready_read, _PID.size * 1024)
        except BlockingIOError:
            return []
        return [pid for (pid,) in _PID.iter_unpack(said)]


def greeting(settings: Settings, address: tuple[Any, ...]) -> str:
    """The text that is shown to the person who starts the fleet."""
    host, port = address[0], address[1]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    auth = settings.auth_enabled or bool(settings.jwt_secret)
    token = '-H "Authorization: Bearer $FS9_TOKEN" ' if auth else ""
    command_token = 'FS9_TOKEN="$FS9_TOKEN" ' if auth else ""
    who = (
        "on: every request needs a token"
        if auth
        else "off: everybody who can connect may do anything"
    )
    return (
        f"fs9 is serving at {url}\n"
        f"  data     {settings.data_dir.resolve()}\n"
        f"  workers  {settings.workers}\n"
        f"  auth     {who}\n"
        f"  docs     {url}/docs\n"
        "Try, in another terminal:\n"
        f"  echo hello | curl {token}-T - '{url}/api/v1/upload?path=/hello.txt'\n"
        f"  curl {token}'{url}/api/v1/download?path=/hello.txt'\n"
        f"  {command_token}{_own_command()} --url {url} ls -l /\n"
        "Ctrl-C stops it.\n"
    )


def _own_command() -> str:
    """How the person can call `fs9`."""
    if shutil.which("fs9"):
        return "fs9"
    return os.path.relpath(Path(sys.executable).parent / "fs9")
