"""Retry delays: exponential, jittered, bounded in number and in time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs9.resilience.backoff import NEVER, Backoff, BackoffPolicy


def delays(policy: BackoffPolicy, jitter: float) -> list[float]:
    """The delays of a request whose attempts take no time."""
    backoff, now_s, found = Backoff(policy, 0.0, lambda: jitter), 0.0, []
    while (delay_s := backoff.next_delay_s(now_s)) is not None:
        found.append(delay_s)
        now_s += delay_s
    return found


def test_delays_double_up_to_the_maximum() -> None:
    policy = BackoffPolicy(attempts_max=6, delay_first_s=1, delay_max_s=5, budget_s=1000)
    assert delays(policy, 1.0) == [1, 2, 4, 5, 5]


def test_jitter_takes_at_most_half() -> None:
    policy = BackoffPolicy(attempts_max=4, delay_first_s=1, delay_max_s=8, budget_s=1000)
    assert delays(policy, 0.0) == [0.5, 1, 2]


def test_never_means_one_attempt() -> None:
    assert delays(NEVER, 0.5) == []


def test_the_server_s_wish_is_a_lower_bound() -> None:
    backoff = Backoff(BackoffPolicy(budget_s=60), 0.0, lambda: 0.0)
    assert backoff.next_delay_s(0.0, at_least_s=7) == 7


def test_a_wish_beyond_the_budget_ends_it() -> None:
    backoff = Backoff(BackoffPolicy(budget_s=10), 0.0)
    assert backoff.next_delay_s(0.0, at_least_s=11) is None


def test_time_spent_in_attempts_counts() -> None:
    backoff = Backoff(BackoffPolicy(budget_s=10, delay_first_s=1, delay_max_s=1), 100.0)
    assert backoff.next_delay_s(109.9) is None


def test_relations_are_checked() -> None:
    with pytest.raises(ValueError, match="attempts_max"):
        BackoffPolicy(attempts_max=0)
    with pytest.raises(ValueError, match="delay_first_s"):
        BackoffPolicy(delay_first_s=6, delay_max_s=5)


@given(
    attempts=st.integers(1, 20),
    first_s=st.floats(0.001, 1),
    budget_s=st.floats(0, 100),
    seed=st.integers(),
)
def test_never_more_attempts_nor_later_than_allowed(
    attempts: int, first_s: float, budget_s: float, seed: int
) -> None:
    """Invariant tested: attempts <= attempts_max, and the last begins within the budget."""
    policy = BackoffPolicy(attempts, first_s, 2.0, budget_s)
    backoff, now_s, made = Backoff(policy, 0.0, random.Random(seed).random), 0.0, 1
    while (delay_s := backoff.next_delay_s(now_s)) is not None:
        now_s += delay_s
        made += 1
    assert made <= attempts
    assert now_s <= budget_s + 1e-9
