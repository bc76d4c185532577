"""Follows changes of the metadata while a worker serves: told at once, and asked for on a timer.

    store ── announce ──> control bus ──> every worker ── apply ──> Services.apply
      ├───── wait_change, all the time ── changes_since ───────────────┤
      └───── changes_since, every `reconcile_interval_s` ──────────────┘

The bus announces at once what workers of this fleet changed. What others changed (another host, an
administrator, a metadata service) is announced by the store to those who wait. Both are quick and
may lose announcements; the timer is certain. A change may arrive all three ways; applying it again
does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Protocol

from fs9.errors import Fs9Error
from fs9.meta.announce import NamespaceChanged, Revoked
from fs9.resilience.backoff import jittered

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.meta.announce import Change
    from fs9.meta.models import Changes

log = logging.getLogger(__name__)

#: How long the store is asked to wait at a time: shorter than what cuts silent connections.
_WAIT_S = 25.0
#: How long who starts waits for the first word of a metadata service.
_PATIENCE_S = 0.75
#: Before it is asked again after a failure, doubled each time.
_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 5.0


class ChangeRecords(Protocol):
    """The part of the metadata that is used here."""

    async def changes_since(self, change_id: int, limit: int = ...) -> Changes:
        """As `fs9.meta.store.Metadata.changes_since`."""

    async def wait_change(self, change_id: int, wait_s: float) -> bool:
        """As `fs9.meta.store.Metadata.wait_change`."""


class ChangeFeed:
    """Follows the store's changes for one worker, from its event loop."""

    def __init__(
        self,
        records: ChangeRecords,
        apply: Callable[[Change], None],
        loaded: Callable[[], list[str]],
    ) -> None:
        """`loaded` names the namespaces that may have to be read anew."""
        self._records = records
        self._apply = apply
        self._loaded = loaded
        self._last_id = 0
        #: How often all that is new was read and applied.
        self.caught_up = 0
        self._lock = asyncio.Lock()
        self._hurry = asyncio.Event()

    async def catch_up(self) -> None:
        """Apply all that is new; raises what the store raises, and goes on from there later."""
        async with self._lock:
            more = True
            while more:
                since_id = self._last_id
                changes = await self._records.changes_since(since_id)
                is_gap = not changes.complete
                if is_gap:
                    changes = await self._records.changes_since(0)
                # From the beginning all revocations are told, and no namespace: what is loaded now
                # may have been read before the last change.
                if is_gap or (not since_id and changes.last_id):
                    for name in self._loaded():
                        self._apply(NamespaceChanged(name))
                more = self._take(changes)
            self.caught_up += 1

    async def try_catch_up(self, patience_s: float = _PATIENCE_S) -> None:
        """Catch up if the metadata service answers now; else it is done later (`follow`).

        For who starts: every token is new to it then, and the service is asked about each.
        """
        try:
            await asyncio.wait_for(self.catch_up(), patience_s)
        except (Fs9Error, TimeoutError) as error:
            said = str(error) or f"nothing within {patience_s:g} s"
            log.error("the metadata service does not answer yet: %s", said)

    def _take(self, changes: Changes) -> bool:
        if changes.revocations:
            self._apply(Revoked(changes.revocations))
        for name in changes.namespaces:
            self._apply(NamespaceChanged(name))
        moved = changes.last_id != self._last_id
        self._last_id = changes.last_id
        return changes.more and moved

    def hurry(self) -> None:
        """Catch up now instead of on the timer, because something may have been missed."""
        self._hurry.set()

    async def follow(self, interval_s: float) -> None:
        """Catch up every so often, and whenever the store says so; an outage is waited out.

        To the end of the task.
        """
        waiting = asyncio.get_running_loop().create_task(self._heed_store())
        try:
            await self._heed_timer(interval_s)
        finally:
            waiting.cancel()

    async def _heed_store(self) -> None:
        """Catch up when the store announces a change. Failures are harmless: the timer remains."""
        delay_s = _RETRY_FIRST_S
        while True:
            try:
                if await self._records.wait_change(self._last_id, _WAIT_S):
                    await self.catch_up()
            except Fs9Error as error:
                log.debug("changes of the metadata are asked for on the timer alone: %s", error)
            except Exception:
                log.exception("changes of the metadata could not be applied")
            else:
                delay_s = _RETRY_FIRST_S
                continue
            await asyncio.sleep(jittered(delay_s))
            delay_s = min(2 * delay_s, _RETRY_MAX_S)

    async def _heed_timer(self, interval_s: float) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), interval_s)
            self._hurry.clear()
            try:
                await self.catch_up()
            except Fs9Error as error:
                log.warning("changes of the metadata could not be read: %s", error)
            except Exception:
                log.exception("changes of the metadata could not be applied")
