"""What changes in the metadata while a worker serves: heard of at once, asked for on a timer.

    store ── announce ──> control bus ──> every worker ── apply ──> Services.apply
      └───── changes_since, every `reconcile_interval_s` ──────────────┘

The bus is quick and may lose things; the store is certain. A change may come both ways, and
twice; applying it again does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Protocol

from fs9.errors import Fs9Error
from fs9.meta.announce import NamespaceChanged, Revoked

if TYPE_CHECKING:
    from collections.abc import Callable

    from fs9.meta.announce import Change
    from fs9.meta.models import Changes

log = logging.getLogger(__name__)


class ChangeRecords(Protocol):
    """The part of the metadata that is used here."""

    async def changes_since(self, change_id: int, limit: int = ...) -> Changes:
        """As `fs9.meta.store.Metadata.changes_since`."""


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
                changes = await self._records.changes_since(self._last_id)
                if not changes.complete:
                    # What was revoked is told from the beginning; namespaces are read anew.
                    for name in self._loaded():
                        self._apply(NamespaceChanged(name))
                    changes = await self._records.changes_since(0)
                more = self._take(changes)
            self.caught_up += 1

    def _take(self, changes: Changes) -> bool:
        if changes.revocations:
            self._apply(Revoked(changes.revocations))
        for name in changes.namespaces:
            self._apply(NamespaceChanged(name))
        moved = changes.last_id != self._last_id
        self._last_id = changes.last_id
        return changes.more and moved

    def hurry(self) -> None:
        """Something may have been missed: do not wait for the timer."""
        self._hurry.set()

    async def follow(self, interval_s: float) -> None:
        """Catch up every so often, to the end of the task; an outage is waited out."""
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
