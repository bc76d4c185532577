"""How long ago this worker knew for certain all that is announced to the fleet.

Two ways lead to it: the bus, and the metadata that the bus tells of (`fs9.changes`), which is
read on a timer. While the bus is deaf for longer than a bound, the worker is not ready; when the
metadata does not answer either, what was revoked may still look valid here, and with
authentication on requests are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Hearing(NamedTuple):
    """`unheard_s`: since the bus was complete; `stale_s`: since either way was."""

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
        """To be asked more often than matters: a reading counts from when it is noticed."""
        if self._caught_up() != self._seen:
            self._seen, self._certain_s = self._caught_up(), now_s
        unheard_s = self._lag_s()
        return Hearing(unheard_s, min(unheard_s, now_s - self._certain_s))
