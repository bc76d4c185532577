"""Calls of a plugin in the worker itself (`isolation: inline`).

For plugins that are trusted like the server's own code: a crash is the worker's, and a call that
hangs keeps its thread for good, for no thread can be ended from outside. Threads are the mount's
own, so that one that hangs leaves other mounts alone; when all are taken, calls fail at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fs9.errors import BackendUnavailable, Fs9Error
from fs9.providers.native import frames
from fs9.threads import BlockingPool

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.providers.native.tree import Tree
    from fs9.types import Buffer

log = logging.getLogger(__name__)


class InlineCalls:
    """One instance in this process. Belongs to the event loop."""

    #: Never another one: there is no restart.
    generation = 1

    def __init__(
        self,
        name: str,
        path: Path,
        config: bytes,
        *,
        timeout_s: float,
        threads: int,
        file_bytes_max: int,
    ) -> None:
        self._name = name
        self._path = path
        self._config = config
        self._timeout_s = timeout_s
        self._threads = threads
        self._file_bytes_max = file_bytes_max
        self._pool = BlockingPool(threads)
        self._slots = asyncio.Semaphore(threads)
        self._tree: Tree | None = None
        #: Calls that nobody waits for any more.
        self._abandoned: set[asyncio.Task[tuple[frames.Answer, bytes]]] = set()

    async def start(self) -> frames.Ready:
        """Load the plugin. Raises InvalidArgument: the plugin or its config does not fit."""
        try:
            return await self._pool.run(self._load)
        except BaseException:
            self._pool.shutdown()
            raise

    def _load(self) -> frames.Ready:
        # Only here: parsing the declarations of the C interface takes a while.
        from fs9.providers.native.calls import Instance
        from fs9.providers.native.library import Library
        from fs9.providers.native.tree import Tree

        library = Library(self._path)
        self._tree = Tree(Instance(library, self._config), self._file_bytes_max)
        return frames.Ready(library.name, library.version, self._tree.capabilities)

    async def call(
        self, request: frames.Request, data: Buffer = b""
    ) -> tuple[frames.Answer, Buffer]:
        """As `PluginProcess.call`; after the deadline the call is left behind."""
        assert self._tree is not None
        if len(self._abandoned) >= self._threads:
            raise BackendUnavailable(f"plugin {self._name}: {self._threads} calls hang in it")
        try:  # so that the deadline is about the plugin, not about a queue before it
            await asyncio.wait_for(self._slots.acquire(), self._timeout_s)
        except TimeoutError:
            raise BackendUnavailable(f"plugin {self._name}: its threads are all taken") from None
        # A copy: a call that is left behind goes on reading it.
        task = asyncio.create_task(self._pool.run(self._tree.handle, request, bytes(data)))
        task.add_done_callback(lambda _: self._slots.release())
        try:
            done, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        except asyncio.CancelledError:
            self._leave(task)
            raise
        if not done:
            log.error("plugin %s: a call took longer than %s s", self._name, self._timeout_s)
            self._leave(task)
            raise BackendUnavailable(f"plugin {self._name} took longer than {self._timeout_s} s")
        return task.result()

    def _leave(self, task: asyncio.Task[tuple[frames.Answer, bytes]]) -> None:
        self._abandoned.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[tuple[frames.Answer, bytes]]) -> None:
        self._abandoned.discard(task)
        if task.cancelled() or task.exception() is not None:
            return
        answer, _ = task.result()
        if isinstance(answer, frames.Opened):  # nobody has the handle
            self._leave(
                asyncio.ensure_future(
                    self._closing(frames.Close(answer.handle, sync=False, discard=True))
                )
            )

    async def _closing(self, request: frames.Close) -> tuple[frames.Answer, bytes]:
        assert self._tree is not None
        return await self._pool.run(self._tree.handle, request, b"")

    @property
    def abandoned(self) -> int:
        """Calls that nobody waits for any more."""
        return len(self._abandoned)

    async def aclose(self) -> None:
        """Destroy the instance; with a call inside that hangs it stays for ever."""
        if self._tree is None:
            return
        if self._abandoned:
            await asyncio.wait(set(self._abandoned), timeout=self._timeout_s)
        if self._abandoned:
            log.error("plugin %s: %d calls hang in it", self._name, len(self._abandoned))
            return
        try:
            await self._pool.run(self._tree.handle, frames.End(), b"")
        except Fs9Error as error:
            log.warning("plugin %s: %s", self._name, error)
        self._pool.shutdown()
