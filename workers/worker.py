"""The gunicorn worker class: one process, one slot, uvicorn's server around our protocol."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import gc
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from fs9 import crashes
from fs9.limits import MIB
from fs9.observe.log import configure as configure_logging
from fs9.observe.log import set_levels
from workers.admission import raise_files_max
from workers.bus import BusClient
from workers.lifecycle import Lifecycle
from workers.node import Node
from workers.parent import leave_with
from workers.protocol import Fs9Protocol
from workers.scheduling import compete

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from workers.fleet import FleetApplication

log = logging.getLogger("fs9.worker")

#: Before the deadline of the whole shutdown: time to close handles after the last request.
_CLOSING_RESERVE_S = 2.0
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Between the steps of a start while others serve; a step is 3 to 6 ms of work.
_BREATH_S = 0.01
#: For how long a worker that took another one's place opens namespaces for those who waited.
_OPENING_S = 0.5


class FleetServer(Server):
    """uvicorn's server, without its signal handlers: the worker class has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class FleetWorker(UvicornWorker):  # type: ignore[misc]
    """One worker process of the fleet. The arbiter sets, before the fork, its slot, and whether
    others serve meanwhile: then it starts in steps, and lets their requests pass in between.
    `usual_nice`: unless it is None the process gives way (`workers.scheduling`), until its
    namespaces are open.
    """

    CONFIG_KWARGS = {  # noqa: RUF012 - uvicorn_worker's own declaration
        "loop": "uvloop",
        "http": "httptools",
        "ws": "none",
        "lifespan": "off",
        "interface": "asgi3",
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
    }
    slot: int
    others_serve = False
    usual_nice: int | None = None
    app: FleetApplication

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        logging.getLogger("uvicorn.error").propagate = True  # as the arbiter's (FleetLogger)
        self.config.loop = self.app.settings.event_loop
        self.config.timeout_graceful_shutdown = self._graceful_s()

    def _graceful_s(self) -> int:
        limits = self.app.settings.limits
        return max(1, int(limits.shutdown_timeout_s - _CLOSING_RESERVE_S))

    def init_signals(self) -> None:
        super().init_signals()
        # The terminal sends Ctrl-C, and its end, to every process; only the arbiter decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def _breathe(self) -> None:
        """A process that begins is given a core at once, and keeps it as long as it works."""
        if self.others_serve:
            await asyncio.sleep(_BREATH_S)

    async def _serve(self) -> None:
        leave_with(self.ppid)
        await self._breathe()
        _keep_pieces_in_the_heap()
        raise_files_max()
        application = self.app
        configure_logging(application.settings, sys.stderr, slot=self.slot)
        self._set_log_levels()
        lock = application.run_directory.lock_slot(self.slot)
        crashes.record(application.run_directory.crashes, str(self.slot))
        node = await Node.open(
            application.settings,
            slot=self.slot,
            slots=application.settings.workers,
            run_directory=application.run_directory,
        )
        await self._breathe()
        self.config.app = node.app
        self.config.headers = [("x-fs9-slot", str(self.slot))]
        self.config.load()
        self.config.http_protocol_class = functools.partial(Fs9Protocol, node=node)
        server = FleetServer(self.config)
        leave = functools.partial(_leave, server, node)
        self._handle_signals(leave)
        lifecycle = Lifecycle(node, BusClient(application.run_directory, self.slot), leave)
        connection = functools.partial(Fs9Protocol, self.config, server.server_state, {}, node=node)
        gc.freeze()
        try:
            await lifecycle.join()
            await self._breathe()
            await node.start(connection, server.server_state)
            lifecycle.serve()
            node.connection_filter.watch(self.sockets)
            self.app.worker_is_ready()
            if self.usual_nice is not None:
                asyncio.get_running_loop().call_later(_OPENING_S, compete, self.usual_nice)
            await server.serve(sockets=self.sockets)
        finally:
            lifecycle.close()
            await node.aclose()
            os.close(lock)

    def _set_log_levels(self) -> None:
        """Log what the file of the run directory says; without one, what the settings say."""
        settings = self.app.settings
        try:
            levels = self.app.run_directory.log_levels.read_text().strip()
        except FileNotFoundError:
            levels = ""
        try:
            set_levels(levels or settings.log_filter or settings.log_level)
        except (ValueError, UnicodeDecodeError) as error:
            log.error("the file log-level is not understood: %s", error)

    def _handle_signals(self, leave: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, leave)
        loop.add_signal_handler(signal.SIGUSR1, self._set_log_levels)
        # A second signal to the arbiter, or its deadline: the end at once.
        loop.add_signal_handler(signal.SIGQUIT, lambda: os._exit(1))
        loop.add_signal_handler(signal.SIGINT, lambda: None)


def _leave(server: Server, node: Node) -> None:
    """End the process when the requests in progress have ended."""
    # Whatever hangs, be it a thread at the very end, does not outlive the deadline.
    signal.setitimer(signal.ITIMER_REAL, node.limits.shutdown_timeout_s)
    node.leaving = True
    node.context.limiting.release(leaving=True)
    node.services.namespaces.end_followers()
    if node.moving_out:
        node.stop_taking()
    server.should_exit = True


def _keep_pieces_in_the_heap() -> None:
    """Tell glibc not to map and unmap the memory of every piece of a body anew (mallopt(3)).

    Measured: half as much again for large bodies. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 * MIB)
        mallopt(_M_TRIM_THRESHOLD, 512 * MIB)
