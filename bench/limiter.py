"""The rate limiter: what a request pays, and what a million users cost.

The first table is one call in this process; of a request that is answered it is what limits add.
Full buckets are forgotten, so a million users who ask once are not a million buckets: the second
table has them come at a rate that no worker reaches, and all at once, which is the worst case.
"""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING

from fs9.limits import Limits
from fs9.resilience.limiter import RequestLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

_KEYS_MAX = Limits().rate_limit_keys_max


def run(quick: bool) -> None:
    calls = 20_000 if quick else 1_000_000
    print("| what | ns a request |\n| --- | --- |")
    clock = time.monotonic
    allowed = _limiter(user_qps=10**9)
    print(
        f"| allowed, one user | {_cost(lambda _: allowed.refusal('ns', 'u', clock()), calls):.0f} |"
    )
    many = _limiter(user_qps=10**6)
    users = [f"user{number}" for number in range(10_000)]
    print(
        "| allowed, 10,000 users |"
        f" {_cost(lambda n: many.refusal('ns', users[n % 10_000], clock()), calls):.0f} |"
    )
    refused = _limiter(user_qps=1)
    print(f"| refused | {_cost(lambda _: refused.refusal('ns', 'u', clock()), calls):.0f} |")
    users_total = 20_000 if quick else 1_000_000
    print("\n| users | requests/s | buckets at most | MiB at most | bytes a bucket |")
    print("| --- | --- | --- | --- | --- |")
    for rate in (10_000, 50_000, 10**9):
        _fill(users_total, rate)


def _limiter(user_qps: int) -> RequestLimiter:
    return RequestLimiter(enabled=True, namespace_qps=10**9, user_qps=user_qps, keys_max=_KEYS_MAX)


def _cost(call: Callable[[int], object], calls: int) -> float:
    start_s = time.perf_counter()
    for number in range(calls):
        call(number)
    return (time.perf_counter() - start_s) / calls * 1e9


def _fill(users: int, requests_per_s: int) -> None:
    tracemalloc.start()
    limiter = RequestLimiter(enabled=True, namespace_qps=1000, user_qps=100, keys_max=_KEYS_MAX)
    most_buckets = most_bytes = 0
    for number in range(users):
        # Each in a namespace of its own: two buckets a user.
        limiter.refusal(f"namespace{number}", f"user{number}", number / requests_per_s)
        if number % 1000 == 0 or number == users - 1:
            most_buckets = max(most_buckets, len(limiter))
            most_bytes = max(most_bytes, tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    print(
        f"| {users:,} | {requests_per_s:,} | {most_buckets:,} | {most_bytes / 2**20:.1f}"
        f" | {most_bytes / most_buckets:.0f} |"
    )
