"""Token buckets, one for each key, in bounded memory. Pure: the caller tells the time.

A bucket is one number: the moment at which it will be full again. (The generic cell rate
algorithm of ATM, which decides exactly as a bucket of tokens does, and needs no refilling.)

A bucket that is full again is like one that never was, so it is forgotten: buckets live in two
generations, and when one refill time has passed the older generation, which is full by then, is
dropped whole. Memory follows the keys of the last two refill times, not those there ever were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

#: The clock's own grain: without it a token that is due now might be due in a nanosecond.
_GRAIN_S = 1e-6


class Rate(NamedTuple):
    """How fast a bucket gets its tokens back, and how far ahead of that it may be emptied."""

    interval_s: float
    slack_s: float

    @classmethod
    def of(cls, tokens: float, per_s: float = 1.0) -> Rate:
        """`tokens` every `per_s` seconds, which is also how many there are at once."""
        if tokens < 1 or per_s <= 0:
            raise ValueError("a bucket has at least one token, and gets it back in time")
        interval_s = per_s / tokens
        return cls(interval_s, per_s - interval_s)

    @property
    def refill_s(self) -> float:
        """From an empty bucket to a full one."""
        return self.interval_s + self.slack_s


class TokenBuckets:
    """Buckets of one kind. Of one event loop; nothing here awaits.

    `keys_max`: when so many keys are in use within one refill time, the older generation is
    dropped early, which gives those of its keys that come back a full bucket. Memory is bounded
    before anything else.
    """

    __slots__ = ("_half_max", "_old", "_rate", "_refill_s", "_turn_at_s", "_young")

    def __init__(self, rate: Rate, keys_max: int) -> None:
        self._rate = rate
        self._refill_s = rate.refill_s
        self._half_max = max(1, keys_max // 2)
        self._young: dict[Hashable, float] = {}
        self._old: dict[Hashable, float] = {}
        self._turn_at_s = 0.0

    def __len__(self) -> int:
        """Keys that are remembered."""
        return len(self._young) + len(self._old)

    def take(self, key: Hashable, now_s: float, rate: Rate | None = None) -> float:
        """Take a token: 0 when there was one, else the seconds until there will be.

        Then none is taken. `rate` is this key's own; it must not take longer to refill than
        that of the others.
        """
        young = self._young
        if now_s >= self._turn_at_s or len(young) >= self._half_max:
            young = self._turn(now_s)
        interval_s, slack_s = rate or self._rate
        full_at_s = young.get(key)
        if full_at_s is None:
            full_at_s = self._old.get(key, now_s)
        ahead_s = full_at_s - now_s
        if ahead_s > slack_s + _GRAIN_S:
            return ahead_s - slack_s
        young[key] = (full_at_s if ahead_s > 0 else now_s) + interval_s
        return 0.0

    def queue_s(self, key: Hashable, now_s: float) -> float:
        """Take a token that need not be there yet: the seconds until the bucket is full again.

        It was taken when that is less than the slack.
        """
        if now_s >= self._turn_at_s or len(self._young) >= self._half_max:
            self._turn(now_s)
        interval_s, slack_s = self._rate
        full_at_s = max(now_s, self._young.get(key) or self._old.get(key, now_s))
        ahead_s = full_at_s - now_s
        if ahead_s >= slack_s:
            return slack_s
        self._young[key] = full_at_s + interval_s
        return ahead_s

    def wait_s(self, key: Hashable, now_s: float) -> float:
        """What `take` would return; nothing is taken."""
        full_at_s = self._young.get(key) or self._old.get(key, now_s)
        ahead_s = full_at_s - now_s - self._rate.slack_s
        return ahead_s if ahead_s > _GRAIN_S else 0.0

    def give_back(self, key: Hashable, rate: Rate | None = None) -> None:
        """Undo the last `take` of the key."""
        if key in self._young:
            self._young[key] -= (rate or self._rate).interval_s

    def _turn(self, now_s: float) -> dict[Hashable, float]:
        """Begin a new generation."""
        # Nothing was taken for a while: then both are full.
        self._old = self._young if now_s < self._turn_at_s + self._refill_s else {}
        self._young = {}
        self._turn_at_s = now_s + self._refill_s
        return self._young
