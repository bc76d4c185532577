"""The limiters: the user first, refusals that take nothing, addresses before credentials."""

from __future__ import annotations

import pytest

from fs9.errors import TooManyRequests
from fs9.limits import Limits
from fs9.resilience.limiter import (
    HOLD_MAX_S,
    HOLD_MIN_S,
    LATE_PER_S,
    TOLD_MIN,
    CredentialLimiter,
    RequestLimiter,
    network,
)


def limiter(**changes: int) -> RequestLimiter:
    rates = {"namespace_qps": 30, "user_qps": 10, "keys_max": 1000} | changes
    return RequestLimiter(enabled=True, **rates)


def allowed(limits: RequestLimiter, namespace: str, user: str, now_s: float, tries: int) -> int:
    return sum(limits.refusal(namespace, user, now_s) is None for _ in range(tries))


def test_a_noisy_user_does_not_starve_the_namespace() -> None:
    limits = limiter()
    assert allowed(limits, "acme", "noisy", 1.0, 1000) == 10
    assert allowed(limits, "acme", "calm", 1.0, 10) == 10
    assert allowed(limits, "acme", "third", 1.0, 10) == 10
    refused = limits.refusal("acme", "fourth", 1.0)
    assert refused is not None
    assert (str(refused.error), refused.limit) == ("Namespace rate limit exceeded", "namespace")
    assert allowed(limits, "other", "noisy", 1.0, 10) == 10, "the user of another namespace"


def test_what_the_namespace_refuses_does_not_count_for_the_user() -> None:
    limits = limiter(namespace_qps=10, user_qps=10)
    assert allowed(limits, "acme", "a", 1.0, 10) == 10
    assert allowed(limits, "acme", "b", 1.0, 50) == 0
    refused = limits.refusal("acme", "b", 1.0)
    assert refused is not None
    assert refused.limit == "namespace", "b has all of its own left"


def test_refusals_beyond_the_rate_are_late_and_others_at_once() -> None:
    limits = limiter()
    answers = [limits.refusal("acme", "a", 1.0) for _ in range(10 + TOLD_MIN + 20)]
    holds = [found.hold_s for found in answers if found is not None]
    assert holds[:TOLD_MIN] == [0] * TOLD_MIN
    late = holds[TOLD_MIN:]
    assert late == pytest.approx([HOLD_MIN_S + number / LATE_PER_S for number in range(20)])
    again = [limits.refusal("acme", "a", 2.0) for _ in range(11)][-1]
    assert again is not None
    assert again.hold_s == 0, "who has waited is told at once"


def test_so_many_that_no_queue_holds_them_come_late_and_spread() -> None:
    limits = limiter()
    answers = [limits.refusal("acme", "a", 1.0) for _ in range(10 + TOLD_MIN + 1000)]
    last = [found.hold_s for found in answers if found is not None][-500:]
    assert HOLD_MAX_S / 2 <= min(last) < HOLD_MAX_S / 2 + 1
    assert HOLD_MAX_S - 1 < max(last) <= HOLD_MAX_S


def test_a_refusal_says_whole_seconds_and_never_less_than_one() -> None:
    limits = limiter(user_qps=1)
    refused = [limits.refusal("acme", "a", 1.0) for _ in range(2)][-1]
    assert refused is not None
    assert str(refused.error) == "User rate limit exceeded"
    assert refused.error.retry_after_s == 1
    assert TooManyRequests("x", retry_after_s=0).retry_after_s == 1


def test_a_namespace_may_have_a_rate_of_its_own_also_while_nothing_else_is_limited() -> None:
    limits = RequestLimiter(enabled=False, namespace_qps=30, user_qps=10, keys_max=1000)
    assert not limits.on
    limits.set_namespace_rate("small", 3)
    assert limits.on
    assert allowed(limits, "small", "a", 1.0, 10) == 3
    assert allowed(limits, "acme", "a", 1.0, 100) == 100
    limits.set_namespace_rate("small", None)
    assert not limits.on
    both = limiter()
    both.set_namespace_rate("big", 10_000)
    assert sum(allowed(both, "big", str(user), 1.0, 10) for user in range(50)) == 500


def test_a_rate_that_was_kept_before_there_was_a_least_one_is_that() -> None:
    """One request a second rather than an error at every request."""
    limits = limiter()
    for kept in (0, -1):
        limits.set_namespace_rate("acme", kept)
        assert [allowed(limits, "acme", "a", now_s - kept * 10, 3) for now_s in (1, 2)] == [1, 1]


def test_an_address_that_fails_too_often_is_refused_until_time_has_passed() -> None:
    limits = CredentialLimiter(Limits(failed_credentials_per_minute_max=60))
    assert not limits.watching
    for _ in range(60):
        limits.check("192.0.2.1", 100.0)
        limits.failed("192.0.2.1", 100.0)
    assert limits.watching
    with pytest.raises(TooManyRequests) as refusal:
        limits.check("192.0.2.1", 100.0)
    assert refusal.value.retry_after_s == 1
    limits.check("192.0.2.2", 100.0)
    limits.check("192.0.2.1", 101.0)
    for _ in range(1000):
        limits.failed("", 100.0)
    limits.check("", 100.0)  # nobody knows whose it is


def test_an_address_that_goes_on_failing_is_refused_late() -> None:
    limits = CredentialLimiter(Limits(failed_credentials_per_minute_max=3))
    assert limits.refusal("192.0.2.1", 100.0) is None
    for _ in range(3):
        limits.failed("192.0.2.1", 100.0)
    refused = [limits.refusal("192.0.2.1", 100.0) for _ in range(TOLD_MIN + 1)]
    holds = [found.hold_s for found in refused if found is not None]
    assert holds == [0] * TOLD_MIN + [HOLD_MIN_S]
    assert limits.refusal("192.0.2.2", 100.0) is None


def test_a_credential_that_is_asked_about_counts_until_it_is_known_to_hold() -> None:
    limits = CredentialLimiter(Limits(failed_credentials_per_minute_max=3))
    for _ in range(3):
        limits.begin("192.0.2.1", 100.0)
    with pytest.raises(TooManyRequests):
        limits.begin("192.0.2.1", 100.0)
    limits.held("192.0.2.1")
    limits.begin("192.0.2.1", 100.0)
    with pytest.raises(TooManyRequests):
        limits.check("192.0.2.1", 100.0)
    limits.begin("", 100.0)
    limits.held("")


def test_one_customer_of_an_ipv6_network_is_one_address() -> None:
    """One of IPv4 is the same to a socket that is for both."""
    assert network("192.0.2.1") == network("::ffff:192.0.2.1") == "192.0.2.1"
    assert network("::ffff:192.0.2.2") != network("::ffff:192.0.2.1")
    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db8:0:1::1")
