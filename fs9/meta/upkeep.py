"""Periodic upkeep of a metadata service: forgets revocations and changes that nobody needs.

Of several processes only the one that holds the lease does it.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING

from fs9.errors import Fs9Error

if TYPE_CHECKING:
    from fs9.clock import Clock
    from fs9.meta.store import Store

log = logging.getLogger(__name__)

LEASE = "upkeep"
INTERVAL_S = 3600.0
#: A file server that was away for longer reads all of its namespaces anew.
CHANGES_KEPT_S = 7 * 86_400


class Upkeep:
    """The upkeep by one process."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._holder = str(uuid.uuid4())

    async def once(self) -> int | None:
        """Do it once; returns how many revocations went, None when another process does it."""
        if await self._store.take_lease(LEASE, self._holder, 1.5 * INTERVAL_S) is None:
            return None
        before_s = int(self._clock.now_s()) - CHANGES_KEPT_S
        return await self._store.forget_expired(before_s)

    async def forever(self) -> None:
        """Repeat it until the task ends; errors of the database do not end it."""
        while True:
            try:
                await self.once()
            except Fs9Error as error:
                log.warning("old revocations could not be removed: %s", error)
            await asyncio.sleep(INTERVAL_S)
