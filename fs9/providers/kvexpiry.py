"""Removes keys of `kvfs` that have expired from the store, and tells watchers.

Each store has one timer, for the key that expires first; then expired keys are removed, some in
each commit. That may be late, because no operation sees an expired key. An operation that finds one
in its way removes it itself, and watchers are told from here.

Nothing goes before somebody is there to be told of it (`begin`): an earlier owner's watchers come
again, and what expired between the owners is told to them, too.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from fs9.errors import Fs9Error, OwnerUnavailable
from fs9.providers import kvtree

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fs9.clock import Clock
    from fs9.provider import Departures
    from fs9.providers.kvstore import Store
    from fs9.providers.kvwriter import Change

    #: Commits what takes keys out; gives the paths of those that were still there.
    Commit: TypeAlias = Callable[[Callable[[Change], set[str]]], Awaitable[set[str]]]

log = logging.getLogger(__name__)

#: Keys in one commit. Each of them is a change in progress, which others are compared with.
_AT_ONCE = 32
#: So often at most, though keys expire at many different times.
_INTERVAL_S = 0.02
#: The clock may be set: so long at most the timer is believed.
_WAIT_MAX_S = 60.0
#: After a failure of the store.
_AGAIN_S = 5.0


class Expiry:
    """The expiry of one store's keys. Belongs to the event loop."""

    def __init__(self, store: Store, clock: Clock, commit: Commit) -> None:
        self._store = store
        self._clock = clock
        self._commit = commit
        self._departures: Departures | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: When the timer is due, by the loop's clock.
        self._due_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def begin(self, departures: Departures) -> None:
        """Remove expired keys from now on, and tell watchers. May be called again."""
        self._departures = departures
        self._arm()

    def committed(self, gone: Sequence[str], expires_ns: int | None) -> None:
        """After a commit: tell of the expired keys that it removed, and set the timer."""
        if self._departures is None:
            return
        for path in gone:
            self._departures.gone(path)
        if expires_ns is not None and self._task is None:
            self._wait_for(expires_ns)

    async def sweep(self) -> None:
        """Remove all expired keys. Raises OwnerUnavailable, and what a commit raises."""
        departures = self._departures
        assert departures is not None
        while due := self._due():
            failed = None
            with departures.going([path for _, path in due]) as told:
                try:
                    told &= await self._commit(partial(_take_out, due))
                except Fs9Error as error:  # nothing has changed
                    told.clear()
                    failed = error
            if failed is not None:
                raise failed
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        """Remove nothing more; waits for a removal in progress."""
        self._departures = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _due(self) -> list[tuple[int, str]]:
        """(inode, path) of the keys that expired first."""
        with self._store.reading() as tx:
            nodes = kvtree.expired(tx, self._clock.now_ns(), _AT_ONCE)
            return [(node.number, kvtree.path_of(tx, node)) for node in nodes]

    def _arm(self, least_s: float = 0.0) -> None:
        with self._store.reading() as tx:
            expires_ns = kvtree.next_expiry_ns(tx)
        if expires_ns is not None:
            self._wait_for(expires_ns, least_s)

    def _wait_for(self, expires_ns: int, least_s: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        wait_s = max(least_s, (expires_ns - self._clock.now_ns()) / 1e9)
        due_s = loop.time() + min(wait_s, _WAIT_MAX_S)
        if self._timer is not None:
            if self._due_s <= due_s:
                return
            self._timer.cancel()
        self._due_s = due_s
        self._timer = loop.call_at(due_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        wait_s = _INTERVAL_S
        try:
            await self.sweep()
        except OwnerUnavailable:  # the mount is being closed: the next owner does it
            self._departures = None
        except Fs9Error as error:
            log.warning("expired keys stay in the store for now: %s", error)
            wait_s = _AGAIN_S
        finally:
            self._task = None
        if self._departures is not None:
            self._arm(wait_s)


def _take_out(due: Sequence[tuple[int, str]], change: Change) -> set[str]:
    """Remove those keys that no operation has removed meanwhile."""
    taken = set()
    for number, path in due:
        node = kvtree.inode(change.tx, number)
        if node is not None and node.parent and node.expired(change.now_ns):
            change.unlink(node)
            taken.add(path)
    return taken
