"""The first slots of a fleet begin to serve together, so that nothing moves between them. Pure.

Until a view has a ready slot, workers make the ring of all slots (`workers.membership`): each
serves what will be its own, and requests for a slot that is still starting wait for it. If the ring
began with the slot that is ready first, namespaces would move to each slot that follows, and what
they have in memory only would be lost to clients that came early.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.view import SlotState

if TYPE_CHECKING:
    from collections.abc import Container

    from router.view import View

#: From the first ready slot on; then those that are late join one by one.
TOGETHER_S = 5.0


class Gathering:
    """Decides when the first slots join the ring, for one broker."""

    def __init__(self) -> None:
        self._first_s: float | None = None

    def admitted(self, view: View, ready: Container[int], now_s: float) -> list[int]:
        """Which of the ready slots join the ring now; all of them once there is one."""
        joining = view.within(SlotState.JOINING)
        waiting = [slot for slot in joining if slot in ready]
        if not waiting or view.serving or len(waiting) == len(joining):
            return waiting
        if self._first_s is None:
            self._first_s = now_s
        return waiting if now_s - self._first_s >= TOGETHER_S else []
