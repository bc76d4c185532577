"""This worker's place in the fleet: the view that it knows, and the requests in progress.

A request is routed by the newest view that this worker has. Between two workers that know different
views a connection could go back and forth; so it travels with the number of the view by which it
was sent, and the receiver waits until it knows that view too. When a view takes a namespace away,
the requests that were begun here end here first; if that takes long, we keep the namespace for a
while (`workers.lifecycle`).

Belongs to one event loop; code without an `await` does not interleave.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

from router.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Iterable


class Membership:
    """`slots` serve as long as no view has been heard of."""

    def __init__(self, slot: int, slots: Iterable[int]) -> None:
        self.slot = slot
        self.number = 0
        #: Does a slot drain, by the newest view?
        self.draining = False
        self._ring = Ring(slots)
        self._changed = asyncio.Event()
        self._busy: defaultdict[str, int] = defaultdict(int)
        self._quiet: dict[str, asyncio.Event] = {}
        #: Namespaces that a view has given to others and that are kept here for a while.
        self._kept: set[str] = set()

    # -- The view ---------------------------------------------------------------------------

    def owner(self, namespace: str) -> int:
        """Where requests on the namespace are to go: by the view, but for what we keep."""
        if self._kept and namespace in self._kept:
            return self.slot
        return self._ring.owner(namespace)

    def owns(self, namespace: str) -> bool:
        return self.owner(namespace) == self.slot

    def is_assigned(self, namespace: str) -> bool:
        """Is it this worker's by the newest view?"""
        return self._ring.owner(namespace) == self.slot

    def keep(self, namespace: str) -> bool:
        """Answer for it though it is another's; not when we are to own nothing."""
        if self.slot in self._ring.slots:
            self._kept.add(namespace)
        return namespace in self._kept

    def let_move(self, namespace: str) -> None:
        """Stop keeping the namespace: its new owner answers from now on."""
        self._kept.discard(namespace)

    @property
    def serving(self) -> tuple[int, ...]:
        return self._ring.slots

    @property
    def share(self) -> float:
        """The share of all namespaces that is this worker's."""
        return self._ring.share(self.slot)

    def successor(self) -> int | None:
        """Another slot that serves, for connections that have no owner."""
        return next((slot for slot in self._ring.slots if slot != self.slot), None)

    def apply(self, number: int, serving: Iterable[int], *, draining: bool = False) -> bool:
        """Route by this view from now on; False when it is not newer than the one known."""
        if number <= self.number:
            return False
        self.number, self.draining = number, draining
        slots = tuple(sorted(serving))
        if slots and slots != self._ring.slots:
            self._ring = Ring(slots)
        self._changed.set()
        self._changed = asyncio.Event()
        return True

    async def wait_for_view(self, number: int, timeout_s: float) -> None:
        """Until the view with this number, or a newer one, is known; gives up silently."""
        async with asyncio.timeout(timeout_s):
            while self.number < number:
                await self._changed.wait()

    async def wait_to_own(self, namespace: str, timeout_s: float) -> bool:
        """Until a view makes us the owner; False when none did in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.owns(namespace):
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    # -- Requests begun here ----------------------------------------------------------------

    def begin(self, namespace: str) -> None:
        self._busy[namespace] += 1

    def end(self, namespace: str) -> None:
        self._busy[namespace] -= 1
        if not self._busy[namespace]:
            del self._busy[namespace]
            quiet = self._quiet.pop(namespace, None)
            if quiet is not None:
                quiet.set()

    def in_progress(self, namespace: str) -> int:
        """Requests on the namespace that were begun here and wait for something."""
        return self._busy.get(namespace, 0)

    def busy(self) -> list[str]:
        """The namespaces of these requests; some may not be loaded yet."""
        return list(self._busy)

    async def wait_quiet(self, namespace: str, timeout_s: float) -> bool:
        """Until no request on the namespace is in progress here; False when some were to the end
        of the time."""
        try:
            async with asyncio.timeout(timeout_s):
                while namespace in self._busy:
                    await self._quiet.setdefault(namespace, asyncio.Event()).wait()
        except TimeoutError:
            return False
        return True
