"""Token buckets: exact, fair over time, and forgotten when they are full."""

from __future__ import annotations

import random

import pytest

from fs9.resilience.bucket import Rate, TokenBuckets


class Model:
    """One bucket as the textbooks have it: tokens, refilled by the time that passed."""

    def __init__(self, tokens: int, per_s: float) -> None:
        self._size, self._per_s = tokens, per_s
        self._tokens, self._at_s = float(tokens), 0.0

    def take(self, now_s: float) -> bool:
        grown = self._tokens + (now_s - self._at_s) * self._size / self._per_s
        self._tokens, self._at_s = min(self._size, grown), now_s
        if self._tokens < 1 - 1e-4:
            return False
        self._tokens -= 1
        return True


@pytest.mark.parametrize(("tokens", "per_s"), [(100, 1.0), (7, 1.0), (1, 1.0), (1000, 60.0)])
def test_it_decides_as_a_bucket_of_tokens_does(tokens: int, per_s: float) -> None:
    """At random moments, for several keys at once, over many refill times."""
    seen = random.Random(tokens)
    buckets = TokenBuckets(Rate.of(tokens, per_s), keys_max=1000)
    models = {key: Model(tokens, per_s) for key in "abc"}
    now_s = 1000.0
    for _ in range(5000):
        now_s += seen.choice((0.0, 0.1, 2.0)) * per_s / tokens * seen.random()
        if seen.random() < 0.001:
            now_s += 3 * per_s
        key = seen.choice("aaabbc")
        assert (buckets.take(key, now_s) == 0) == models[key].take(now_s)


def test_a_refusal_says_when_there_is_a_token_and_takes_none() -> None:
    buckets = TokenBuckets(Rate.of(10), keys_max=10)
    assert all(buckets.take("a", 5.0) == 0 for _ in range(10)), "the burst is the rate"
    assert buckets.take("a", 5.0) == pytest.approx(0.1)
    assert buckets.take("a", 5.05) == pytest.approx(0.05)
    assert buckets.wait_s("a", 5.05) == pytest.approx(0.05)
    assert buckets.take("a", 5.1) == 0
    assert buckets.take("b", 5.0) == 0, "each key has its own"


def test_what_is_given_back_can_be_taken_again() -> None:
    buckets = TokenBuckets(Rate.of(1), keys_max=10)
    assert buckets.take("a", 1.0) == 0
    buckets.give_back("a")
    assert buckets.take("a", 1.0) == 0
    buckets.give_back("never seen")
    assert buckets.take("a", 1.0) > 0


def test_a_key_may_have_a_rate_of_its_own() -> None:
    buckets = TokenBuckets(Rate.of(1), keys_max=10)
    own = Rate.of(5)
    assert [buckets.take("a", 1.0, own) == 0 for _ in range(6)] == [True] * 5 + [False]
    assert [buckets.take("b", 1.0) == 0 for _ in range(2)] == [True, False]


def test_full_buckets_are_forgotten_and_others_are_not() -> None:
    """A million keys in a hundred seconds: those of two seconds are remembered."""
    buckets = TokenBuckets(Rate.of(2), keys_max=1_000_000)
    for number in range(100_000):
        now_s = number / 10_000
        assert buckets.take(number, now_s) == 0
        assert len(buckets) <= 20_001
    for _ in range(2):
        buckets.take("busy", 10.0)
    for step in range(1, 40):  # through several generations: half a second a token
        now_s = 10.0 + step / 10
        assert (buckets.take("busy", now_s) == 0) == (step % 5 == 0)


def test_the_number_of_keys_is_bounded_whatever_happens() -> None:
    buckets = TokenBuckets(Rate.of(10, 60), keys_max=100)
    for number in range(10_000):
        buckets.take(number, 1.0)
        assert len(buckets) <= 100


def test_a_bucket_that_cannot_hold_a_token_is_refused() -> None:
    for tokens, per_s in ((0, 1.0), (-1, 1.0), (1, 0.0)):
        with pytest.raises(ValueError, match="at least one token"):
            Rate.of(tokens, per_s)
    assert Rate.of(10, 60).refill_s == pytest.approx(60)
