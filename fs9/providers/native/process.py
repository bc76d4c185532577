"""Runs a plugin process for a worker: starts it, calls it with deadlines, restarts it.

    absent ── call ──> starting ──> alive ── deadline, crash ──> absent, not before a delay

A call that is not answered in time gets the process killed: nothing else ends what hangs in
foreign code. All calls in progress fail then with BackendUnavailable, as do those that come
before the delay is over; the files that were open are gone, and their handles are invalid.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import multiprocess
import multiprocess.util  # registers its exit before ours, which so comes first

from fs9.errors import BackendUnavailable, Fs9Error
from fs9.providers.native import frames, target
from fs9.providers.native.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fs9.clock import Clock
    from fs9.threads import BlockingPool
    from fs9.types import Buffer

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Never a fork: the worker has threads, sockets and an event loop.
_SPAWN: Any = multiprocess.get_context("spawn")
#: From one start to the next: doubled each time, forgotten after a quiet minute.
_DELAY_FIRST_S = 0.2
_DELAY_MAX_S = 30.0
_QUIET_S = 60.0
#: Python, and what the plugin does at its start; more where calls may take more.
_START_TIMEOUT_S = 10.0
#: What an instance may take to be destroyed, the calls inside included.
_END_TIMEOUT_S = 5.0
_SOCKET_BUFFER_BYTES = 1 << 20


class Restarts:
    """Decides when a process that died may be started again. Pure: time is an argument."""

    def __init__(self) -> None:
        self._deaths = 0
        self._not_before_s = 0.0
        self._started_s = 0.0

    def started(self, now_s: float) -> None:
        self._started_s = now_s

    def died(self, now_s: float) -> None:
        if now_s - self._started_s >= _QUIET_S:
            self._deaths = 0
        self._not_before_s = now_s + min(_DELAY_MAX_S, _DELAY_FIRST_S * 2 ** min(self._deaths, 16))
        self._deaths += 1

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next start is allowed."""
        return max(0.0, self._not_before_s - now_s)


class PluginProcess:
    """One instance of a plugin in a process of its own. Belongs to the event loop."""

    def __init__(
        self,
        name: str,
        path: Path,
        config: bytes | None,
        *,
        clock: Clock,
        pool: BlockingPool,
        timeout_s: float,
        threads: int,
        file_bytes_max: int,
    ) -> None:
        self._name = name
        self._arguments = (str(path), config, threads, file_bytes_max)
        self._clock = clock
        self._pool = pool
        self._timeout_s = timeout_s
        self._restarts = Restarts()
        self._link: Link | None = None
        self._starting = asyncio.Lock()
        #: As many calls are sent as the process has threads: the deadline is about the plugin,
        #: not about a queue before it.
        self._slots = asyncio.Semaphore(threads)
        self._closed = False
        #: Called when the process ended unexpectedly, with what it held.
        self.on_death: Callable[[], None] = lambda: None
        #: Which process it is; handles of another one are invalid.
        self.generation = 0

    @property
    def pid(self) -> int | None:
        """The process that is alive, if one is."""
        return None if self._link is None else self._link.process.pid

    async def start(self) -> frames.Ready:
        """Start the process. Raises InvalidArgument: the plugin or its config does not fit."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)
        ours.setblocking(False)
        try:
            process = await self._pool.run(self._spawn, theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        link = Link(process)
        link.on_end = self._ended
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: link, sock=ours)
        self._restarts.started(self._clock.monotonic_s())
        try:
            limit_s = max(_START_TIMEOUT_S, self._timeout_s)
            answer = await self._answer(link, link.ready, limit_s)
        except BaseException:
            link.kill()
            raise
        if isinstance(answer, frames.Failed):
            link.kill()
            raise answer.error()
        assert isinstance(answer, frames.Ready)
        self.generation += 1
        self._link = link
        return answer

    async def inspect(self) -> frames.Ready:
        """Start the process, made without a config, see what the plugin is called, and end it."""
        self._closed = True
        ready = await self.start()
        await self.aclose()
        return ready

    def _spawn(self, theirs: socket.socket) -> Any:  # noqa: ANN401  multiprocess has no types
        """In a thread of the pool, which lives as long as the worker: the kernel kills the
        process at the end of the thread that made it (PR_SET_PDEATHSIG, prctl(2))."""
        process = _SPAWN.Process(
            target=target.run,
            args=(theirs, os.getpid(), *self._arguments),
            name=f"fs9-plugin-{self._name}",
            daemon=True,
        )
        process.start()
        _alive.add(process)
        return process

    async def call(
        self, request: frames.Request, data: Buffer = b""
    ) -> tuple[frames.Answer, Buffer]:
        """The answer, and its bytes. Raises what the plugin's error becomes, and
        BackendUnavailable when the process is not there or ends.

        A cancelled caller still waits for the answer, at most until the deadline: until then
        the data is being sent.
        """
        async with self._slots:
            link = self._link or await self._revive()
            future = link.send(request, data)
            answer, content = await self._answer(link, future, self._timeout_s)
        if isinstance(answer, frames.Failed):
            raise answer.error()
        return answer, content

    async def _answer(self, link: Link, future: asyncio.Future[T], timeout_s: float) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.call_later(timeout_s, self._expire, link)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise
        finally:
            deadline.cancel()

    def _expire(self, link: Link) -> None:
        log.error("plugin %s: a call took longer than %s s", self._name, self._timeout_s)
        link.kill()

    async def _revive(self) -> Link:
        async with self._starting:
            if self._link is not None:
                return self._link
            if self._closed:
                raise BackendUnavailable(f"plugin {self._name} is closed")
            wait_s = self._restarts.wait_s(self._clock.monotonic_s())
            if wait_s > 0:
                raise BackendUnavailable(
                    f"plugin {self._name} ended unexpectedly; started again in {wait_s:.1f} s"
                )
            log.warning("plugin %s is started again", self._name)
            try:
                await self.start()
            except Fs9Error as error:
                self._restarts.died(self._clock.monotonic_s())
                raise BackendUnavailable(f"plugin {self._name}: {error}") from None
            assert self._link is not None
            return self._link

    def _ended(self, link: Link) -> None:
        """The connection is gone, and so is the process, or it is killed now."""
        if self._link is link:
            self._link = None
            if not self._closed:
                self._restarts.died(self._clock.monotonic_s())
                log.error("plugin %s: its process ended unexpectedly", self._name)
                self.on_death()
        link.fail(BackendUnavailable(f"plugin {self._name}: its process ended unexpectedly"))
        link.reaping = asyncio.ensure_future(_reap(link, self._pool))

    async def aclose(self) -> None:
        """Destroy the instance and end the process; kill it when that takes too long."""
        self._closed = True
        async with self._starting:
            link = self._link
        if link is None:
            return
        if self._arguments[1] is not None:
            ending = link.send(frames.End(), b"")
            with suppress(Fs9Error):  # killed, because a call inside hangs
                await self._answer(link, ending, min(self._timeout_s, _END_TIMEOUT_S))
        link.kill()
        await link.over.wait()
        if link.reaping is not None:
            await link.reaping


async def _reap(link: Link, pool: BlockingPool) -> None:
    """Wait for the end of a process that was killed, or has closed its socket."""
    link.process.kill()
    await pool.run(link.process.join)
    _alive.discard(link.process)
    link.process.close()


_alive: set[Any] = set()


def _kill_rest() -> None:
    """At exit, before multiprocess waits for its children: what was abandoned may hang."""
    for process in _alive:
        process.kill()


atexit.register(_kill_rest)
