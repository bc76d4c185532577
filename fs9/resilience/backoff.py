"""How long to wait before trying again, and when to stop: exponential, with jitter and a budget.

Pure: the caller passes the time and does the waiting.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """Bounds of one retried request.

    `attempts_max` counts the first attempt too. `budget_s` is the time from the first attempt
    after which no further one begins, whatever the attempts took.
    """

    attempts_max: int = 8
    delay_first_s: float = 0.1
    delay_max_s: float = 5.0
    budget_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts_max < 1:
            raise ValueError("attempts_max must be at least 1")
        if not 0 < self.delay_first_s <= self.delay_max_s:
            raise ValueError("delay_first_s must be greater than 0 and at most delay_max_s")


def jittered(delay_s: float, jitter: Callable[[], float] = random.random) -> float:
    """Between half and the whole of the delay.

    So many callers who failed together do not come back together, and no caller comes back at
    once.
    """
    return delay_s * (0.5 + jitter() / 2)


#: One attempt, never another.
NEVER = BackoffPolicy(attempts_max=1)


class Backoff:
    """The delays of one request, from its first attempt at `now_s` (monotonic seconds)."""

    __slots__ = ("_attempts", "_jitter", "_policy", "_started_s")

    def __init__(
        self, policy: BackoffPolicy, now_s: float, jitter: Callable[[], float] = random.random
    ) -> None:
        self._policy = policy
        self._started_s = now_s
        self._jitter = jitter
        self._attempts = 1

    def next_delay_s(self, now_s: float, at_least_s: float = 0.0) -> float | None:
        """Seconds to wait before the next attempt; None when there must be none.

        `at_least_s` is what the server asked for (Retry-After); a wish beyond the budget ends
        the attempts, because waiting less would only be refused again.
        """
        policy = self._policy
        if self._attempts >= policy.attempts_max:
            return None
        exponential_s = min(policy.delay_max_s, policy.delay_first_s * 2.0 ** (self._attempts - 1))
        delay_s = max(jittered(exponential_s, self._jitter), at_least_s)
        if now_s + delay_s - self._started_s > policy.budget_s:
            return None
        self._attempts += 1
        return delay_s
