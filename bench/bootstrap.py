"""The ratio of two p99 of pooled requests, and how far chance alone could have moved it.

Requests of one stretch of time are slow or fast together, so not requests are drawn again but
whole blocks: a round, an event, each with what is compared in it (the block bootstrap). The p99
of many requests of many blocks is steadier than the median of the blocks' own p99, of which each
rests on a handful of requests.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_RESAMPLES = 1000


class Ratio(NamedTuple):
    """`low` to `high` holds 95 % of the ratios of as many blocks drawn from those measured.

    Not a number where there were no requests.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


def p99_ratio(blocks: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Ratio:
    """Of the first latencies of each block to the second ones."""
    first, second = (_Pooled([block[side] for block in blocks]) for side in (0, 1))
    every = [1] * len(blocks)
    dice = random.Random(0)
    ratios = []
    for _ in range(_RESAMPLES):
        drawn = dice.choices(range(len(blocks)), k=len(blocks))
        times = [drawn.count(number) for number in range(len(blocks))]
        ratios.append(first.p99(times) / second.p99(times))
    ratios.sort()
    low, high = ratios[_RESAMPLES // 40], ratios[-_RESAMPLES // 40]
    return Ratio(first.p99(every) / second.p99(every), low, high)


class _Pooled:
    """Latencies of several blocks, of which each can be counted several times, or not at all."""

    def __init__(self, blocks: Sequence[Sequence[float]]) -> None:
        self._sizes = [len(block) for block in blocks]
        numbered = [(each, number) for number, block in enumerate(blocks) for each in block]
        self._worst_first = sorted(numbered, reverse=True)

    def p99(self, times: Sequence[int]) -> float:
        """With each block so many times."""
        total = sum(size * count for size, count in zip(self._sizes, times, strict=True))
        beyond = total / 100
        for latency, number in self._worst_first:
            beyond -= times[number]
            if beyond < 0:
                return latency
        return math.nan
