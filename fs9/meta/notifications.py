"""Waiting for changes in one process: one watch of the database, however many wait.

    database ── watch (`PRAGMA data_version`, or LISTEN) ── id of the last change ──> who waits

A watch may lag, miss changes or fail, and is then started again; those who wait also have a timer
(`fs9.changes`). Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from fs9.errors import Fs9Error, Overloaded
from fs9.resilience.backoff import jittered

log = logging.getLogger(__name__)

#: Calls back with the id of the last change: at the beginning, and whenever there is a new one.
#: Goes on for ever, or raises.
Watch: TypeAlias = Callable[[Callable[[int], None]], Awaitable[None]]

#: After a watch has failed.
_AGAIN_S = 1.0
#: More are sent away at once: a process that has many callers has other work to do, too.
_WAITING_MAX = 500


class ChangeNotifications:
    """The changes of one database. It is watched from the first wait on."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._last_id = 0
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._watching: asyncio.Task[None] | None = None
        self._ended = False
        self._failed = False

    async def wait(self, change_id: int, wait_s: float) -> bool:
        """As `fs9.meta.store.Metadata.wait_change`."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch_forever())
        if self._last_id > change_id:
            return True
        if self._ended or len(self._waiting) >= _WAITING_MAX:
            raise Overloaded("too many callers wait for changes here")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = change_id
        try:
            await asyncio.wait([future], timeout=wait_s)
        finally:
            del self._waiting[future]
        return self._last_id > change_id

    def end_waits(self) -> None:
        """End all waits, and refuse new ones: the process is about to end."""
        self._ended = True
        self._wake(lambda change_id: True)

    async def aclose(self) -> None:
        self.end_waits()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    def _heard(self, last_id: int) -> None:
        self._failed = False
        self._last_id = last_id
        self._wake(lambda change_id: change_id < last_id)

    def _wake(self, concerns: Callable[[int], bool]) -> None:
        for future, change_id in self._waiting.items():
            if concerns(change_id) and not future.done():
                future.set_result(None)

    async def _watch_forever(self) -> None:
        while True:
            try:
                await self._watch(self._heard)
            except Fs9Error as error:
                if not self._failed:  # an outage is one line
                    log.warning("changes are asked for on the timer alone: %s", error)
            except Exception:
                log.exception("the watch for changes failed; it is started again")
            self._failed = True
            await asyncio.sleep(jittered(_AGAIN_S))
