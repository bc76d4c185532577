"""How current this worker's knowledge of the fleet and the metadata is.

It learns changes in two ways: from the bus, and from the metadata (`fs9.changes`), which is read on
a timer. When the bus has been silent for longer than a bound, the worker is not ready; when the
metadata does not answer either, revoked tokens may still look valid here, so with authentication on
requests are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Hearing(NamedTuple):
    """Seconds since the bus was complete (`unheard_s`), and since either source was (`stale_s`)."""

    unheard_s: float
    stale_s: float


class Feed:
    """`lag_s` is that of the bus; `caught_up` grows with each complete reading of the metadata."""

    def __init__(
        self, lag_s: Callable[[], float], caught_up: Callable[[], int], now_s: float
    ) -> None:
        self._lag_s = lag_s
        self._caught_up = caught_up
        self._seen = caught_up()
        self._certain_s = now_s

    def hearing(self, now_s: float) -> Hearing:
        """The state now. Call it often: a reading of the metadata counts from the next call."""
        if self._caught_up() != self._seen:
            self._seen, self._certain_s = self._caught_up(), now_s
        unheard_s = self._lag_s()
        return Hearing(unheard_s, min(unheard_s, now_s - self._certain_s))
