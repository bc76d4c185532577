"""Bounds how many refusals get an event each, so that a flood of them displaces no others."""

from __future__ import annotations

#: So many at once, and so many more in an hour.
_AT_ONCE = 100
_PER_S = 100 / 3600


class RefusalBudget:
    """One namespace's."""

    __slots__ = ("_left", "_since_s")

    def __init__(self) -> None:
        self._left: float = _AT_ONCE
        self._since_s = 0.0

    def take(self, now_s: float) -> bool:
        """May one more have an event of its own? `now_s` is monotonic."""
        self._left = min(_AT_ONCE, self._left + max(0.0, now_s - self._since_s) * _PER_S)
        self._since_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
