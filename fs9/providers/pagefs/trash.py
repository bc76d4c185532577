"""What has been in the trash for longer than it is kept goes, and watchers are told.

It goes before changes that may put something into the trash, a few files each time; and all of it
once when a namespace has been loaded and there is somebody to be told.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from fs9.errors import NotFound, OwnerUnavailable
from fs9.providers.pagefs import records
from fs9.providers.pagefs.core import PAGE_ROWS
from fs9.providers.pagefs.view import after
from fs9.types import ALWAYS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from fs9.provider import Departures
    from fs9.providers.pagefs.core import Core
    from fs9.providers.pagefs.view import View
    from fs9.types import Condition

#: Files removed from the trash before a change, at most.
PURGED_AT_ONCE = 16
#: Digits of the time, in nanoseconds, with which names in the trash begin.
STAMP_DIGITS = 20


class Expiry:
    """Of the trash of one tree. `remove` removes a file of a view."""

    def __init__(
        self, core: Core, remove: Callable[[View, str, Condition], Awaitable[None]]
    ) -> None:
        self._core = core
        self._remove = remove
        self._departures: Departures | None = None

    def begin(self, departures: Departures) -> None:
        """Tell what goes from now on; what is due goes in the background. May be called again."""
        self._departures = departures
        if self._core.policy.trash_retention_s > 0:
            self._core.spawn(self.purge(self._core.head, 1 << 30))

    async def purge(self, view: View, limit: int = PURGED_AT_ONCE) -> None:
        """Remove what has been there for longer than it is kept; `limit` files at most."""
        oldest_ns = self._core.clock.now_ns() - int(self._core.policy.trash_retention_s * 1e9)
        first, end = records.entries(records.TRASH)
        while limit > 0:
            rows = await view.scan(first, end, min(limit, PAGE_ROWS))
            for key, _ in rows:
                name = records.entry_name(key)
                stamp = name.partition("-")[0]
                if len(stamp) != STAMP_DIGITS or not stamp.isdecimal():
                    continue  # from a time when there was no retention
                if int(stamp) > oldest_ns:
                    return
                try:
                    await self._let_go(view, f"/.trash/{name}")
                except OwnerUnavailable:  # the mount is being closed: the next owner does it
                    return
            if len(rows) < PAGE_ROWS:
                return
            first = after(rows[-1][0])
            limit -= len(rows)

    async def _let_go(self, view: View, path: str) -> None:
        """Raises OwnerUnavailable."""
        with self._going(path) as told:
            try:
                await self._remove(view, path, ALWAYS)
            except NotFound:  # another change, or its user, was faster
                told.clear()

    def _going(self, path: str) -> AbstractContextManager[set[str]]:
        return nullcontext({path}) if self._departures is None else self._departures.going([path])
