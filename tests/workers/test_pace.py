"""Who is too slow: each period of waiting for the client must have its bytes."""

from __future__ import annotations

from fs9.limits import Limits
from workers.pace import ANSWER, BODY, Pace

LIMITS = Limits(transfer_bytes_per_s_min=100, transfer_period_s=10)


def test_a_period_without_its_bytes_is_too_slow_and_one_with_them_is_not() -> None:
    pace, moved = Pace(), 0
    for second in range(50):
        assert not pace.too_slow(BODY, 1.0, moved, second, LIMITS)
        moved += 100
    slow = [pace.too_slow(BODY, 1.0, moved, second, LIMITS) for second in range(50, 70)]
    assert slow.index(True) <= 10


def test_many_bytes_at_once_do_not_pay_for_later_periods() -> None:
    pace = Pace()
    pace.too_slow(BODY, 1.0, 0, 0, LIMITS)
    assert not pace.too_slow(BODY, 1.0, 10**9, 10, LIMITS)
    assert pace.too_slow(BODY, 1.0, 10**9 + 999, 20, LIMITS)


def test_only_waiting_for_the_client_counts() -> None:
    """What takes long here, another request, and another part of it begin anew."""
    pace = Pace()
    for now_s, doing, request_s in (
        *((0, BODY, 1.0), (9, None, 1.0), (11, BODY, 1.0), (20, ANSWER, 1.0)),
        *((29, ANSWER, 2.0), (38, BODY, 2.0)),
    ):
        assert not pace.too_slow(doing, request_s, 0, now_s, LIMITS)
    assert pace.too_slow(BODY, 2.0, 0, 48, LIMITS)
