"""Time, as an argument: the only module that reads a clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now_ns(self) -> int:
        """Wall clock: nanoseconds since 1970, may jump."""

    def now_s(self) -> float:
        """Wall clock: seconds since 1970, may jump."""

    def monotonic_s(self) -> float:
        """Seconds from an unknown start; never goes back."""


class SystemClock:
    def now_ns(self) -> int:
        return time.time_ns()

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()


def next_second_s(now_s: float) -> float:
    """How long to wait until a clock that says so says another second, for certain."""
    return int(now_s) + 1.01 - now_s


class ManualClock:
    """A clock that stands still until `advance`; for tests and simulations."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self._now_ns = int(now_s * 1_000_000_000)

    def advance(self, seconds: float) -> None:
        self._now_ns += int(seconds * 1_000_000_000)

    def now_ns(self) -> int:
        return self._now_ns

    def now_s(self) -> float:
        return self._now_ns / 1_000_000_000

    def monotonic_s(self) -> float:
        return self.now_s()
