"""The ratio of two p99, and what its interval rests on."""

import math
import random

from bench.bootstrap import p99_ratio


def of(dice, mean_s, count=2000):
    return [dice.expovariate(1 / mean_s) for _ in range(count)]


def test_the_ratio_is_that_of_the_pooled_requests_within_its_interval():
    """Twice as slow everywhere is a ratio of about 2; no difference, one of about 1."""
    dice = random.Random(1)
    twice = p99_ratio([(of(dice, 0.2), of(dice, 0.1)) for _ in range(12)])
    same = p99_ratio([(of(dice, 0.1), of(dice, 0.1)) for _ in range(12)])
    assert 1.8 < twice.low <= twice.value <= twice.high < 2.2
    assert 0.9 < same.low <= same.value <= same.high < 1.1


def test_requests_of_one_block_do_not_count_as_independent():
    """One bad round among twelve widens the interval, however many requests it has."""
    dice = random.Random(1)
    blocks = [(of(dice, 0.1), of(dice, 0.1)) for _ in range(11)]
    calm = p99_ratio(blocks)
    bad = p99_ratio([*blocks, (of(dice, 1.0), of(dice, 0.1))])
    assert bad.low < 1.1
    assert bad.high > 2
    assert bad.high - bad.low > 5 * (calm.high - calm.low)


def test_without_requests_there_is_no_number():
    assert math.isnan(p99_ratio([([], [0.1])]).value)
    assert str(p99_ratio([([], [0.1])])) == "nan (nan-nan)"
