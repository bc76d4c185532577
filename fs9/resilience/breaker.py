"""Circuit breaker: a backend that keeps failing is not called for a while. Pure: time is passed in.

    CLOSED ── failures_max in a row ──> OPEN ── recovery_s later ──> HALF_OPEN
       ^                                  ^                             │
       └────────── the probe succeeded ────────┼──── the probe failed ───────┘

In HALF_OPEN a single call, the probe, is let through. Results of calls that were let through before
the breaker opened are ignored.
"""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """The numbers are those of the metric `fs9_meta_breaker_state`."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Of one endpoint. Whoever was admitted tells once how it ended, with the permit it got."""

    __slots__ = ("_failures", "_failures_max", "_opened_s", "_permit", "_recovery_s", "state")

    def __init__(self, failures_max: int, recovery_s: float) -> None:
        self._failures_max = failures_max
        self._recovery_s = recovery_s
        self._failures = 0
        self._opened_s = 0.0
        #: Another one after each transition.
        self._permit = 0
        self.state = State.CLOSED

    def admit(self, now_s: float) -> int | None:
        """A permit for one call (monotonic seconds); None: do not call."""
        if self.state is State.OPEN and now_s - self._opened_s >= self._recovery_s:
            self._go(State.HALF_OPEN)
            return self._permit
        return self._permit if self.state is State.CLOSED else None

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next probe; 0 when calls are, or may be, admitted."""
        if self.state is not State.OPEN:
            return 0.0
        return max(0.0, self._opened_s + self._recovery_s - now_s)

    def succeeded(self, permit: int) -> None:
        if permit != self._permit:
            return
        self._failures = 0
        if self.state is State.HALF_OPEN:
            self._go(State.CLOSED)

    def failed(self, permit: int, now_s: float) -> None:
        if permit != self._permit:
            return
        self._failures += 1
        if self.state is State.HALF_OPEN or self._failures >= self._failures_max:
            self._opened_s = now_s
            self._go(State.OPEN)

    def abandoned(self, permit: int, now_s: float) -> None:
        """The caller went away before the call ended; of a probe, another call is the next one."""
        if permit == self._permit and self.state is State.HALF_OPEN:
            self._opened_s = now_s - self._recovery_s
            self._go(State.OPEN)

    def _go(self, state: State) -> None:
        self.state = state
        self._permit += 1
        self._failures = 0
