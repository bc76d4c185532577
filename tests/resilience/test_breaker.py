"""The circuit breaker: opens after failures in a row, probes once, closes again."""

from __future__ import annotations

import pytest

from fs9.resilience.breaker import Breaker, State

RECOVERY_S = 30.0


@pytest.fixture
def breaker() -> Breaker:
    return Breaker(5, RECOVERY_S)


def permit(breaker: Breaker, now_s: float) -> int:
    """One that must be given."""
    given = breaker.admit(now_s)
    assert given is not None
    return given


def opened(breaker: Breaker, now_s: float = 0.0) -> Breaker:
    for _ in range(5):
        breaker.failed(permit(breaker, now_s), now_s)
    assert breaker.state is State.OPEN
    return breaker


def test_failures_in_a_row_open_it(breaker: Breaker) -> None:
    """A success in between begins the count anew."""
    for _ in range(4):
        breaker.failed(permit(breaker, 0), 0)
    breaker.succeeded(permit(breaker, 0))
    for _ in range(4):
        breaker.failed(permit(breaker, 0), 0)
    assert breaker.state is State.CLOSED
    breaker.failed(permit(breaker, 0), 0)
    assert breaker.state is State.OPEN
    assert breaker.admit(0) is None
    assert breaker.admit(RECOVERY_S - 0.1) is None
    assert breaker.wait_s(10.0) == pytest.approx(20.0)


def test_one_probe_decides(breaker: Breaker) -> None:
    """Others are refused meanwhile; a success closes it, a failure opens it for as long again."""
    opened(breaker)
    probe = permit(breaker, RECOVERY_S)
    assert breaker.state is State.HALF_OPEN
    assert breaker.admit(RECOVERY_S) is None
    breaker.failed(probe, RECOVERY_S + 3)
    assert breaker.admit(2 * RECOVERY_S) is None
    probe = permit(breaker, 2 * RECOVERY_S + 3)
    breaker.succeeded(probe)
    assert breaker.state is State.CLOSED
    assert breaker.wait_s(0) == 0
    permit(breaker, 2 * RECOVERY_S + 3)


def test_what_began_before_it_opened_says_nothing(breaker: Breaker) -> None:
    """A late success does not close it, a late failure does not end the probe."""
    late = permit(breaker, 0)
    opened(breaker)
    breaker.succeeded(late)
    assert breaker.state is State.OPEN
    probe = permit(breaker, RECOVERY_S)
    breaker.failed(late, RECOVERY_S)
    assert breaker.state is State.HALF_OPEN
    breaker.succeeded(probe)
    assert breaker.state is State.CLOSED


def test_an_abandoned_probe_lets_another_one_through(breaker: Breaker) -> None:
    """At once; a call abandoned while it is closed counts for nothing."""
    breaker.abandoned(permit(breaker, 0), 0)
    opened(breaker)
    breaker.abandoned(permit(breaker, RECOVERY_S), RECOVERY_S)
    assert breaker.state is State.OPEN
    breaker.succeeded(permit(breaker, RECOVERY_S))
    assert breaker.state is State.CLOSED
