"""How many requests a user, a namespace and an address may make. Pure: the caller tells the time.

The user's bucket comes first, so that a user who asks too much takes nothing from the namespace.
A namespace has one owner in the fleet, so one process counts all of its requests, exactly.

A refusal costs next to nothing, but not nothing: those beyond what would have been allowed are
to be answered late (`hold_s`), so that a client that asks again as soon as it is refused gets no
more work out of a worker than one that does as it is told. (`python -m bench abuse` shows what
the neighbours notice of it.)
"""

from __future__ import annotations

import math
import random
from ipaddress import IPv6Address, ip_network
from typing import TYPE_CHECKING

from fs9.errors import TooManyRequests
from fs9.resilience.bucket import Rate, TokenBuckets

if TYPE_CHECKING:
    from collections.abc import Hashable

    from fs9.limits import Limits

#: How late the answer to a client is that does not heed its refusals: about when `Retry-After`
#: sends it back, and later the more of it wait, for no more than these are answered in a second:
#: what an abuser costs does not grow with its connections, up to some dozens of them. No longer
#: than clients wait for an answer by default (5 s): an answer that nobody hears tells nothing.
HOLD_MIN_S, HOLD_MAX_S = 1.0, 4.5
LATE_PER_S = 10.0
#: Refusals that are answered at once: as many as requests in a second, and so many however low
#: the limit is, so that who counts them is not made to wait. A tenth of it comes back in a second:
#: a worker that has to do with an abuser for a hundredth of its time is felt by others at p99.
TOLD_MIN = 200
_TOLD_AGAIN_S = 10.0
#: The part of an IPv6 address that one customer of a network has all addresses of.
_CUSTOMER_BITS = 64
_FAILED_TOO_OFTEN = "Too many failed credentials from this address"
_SPREAD_S = HOLD_MAX_S - HOLD_MIN_S
_LATE_RATE = Rate.of(LATE_PER_S * _SPREAD_S, _SPREAD_S)


class Refused:
    """A request that is too much: the `error`, the `limit` that says so, and how late to say it."""

    __slots__ = ("error", "hold_s", "limit")

    def __init__(self, text: str, limit: str, wait_s: float, hold_s: float) -> None:
        self.error = TooManyRequests(text, retry_after_s=math.ceil(wait_s))
        self.limit = limit
        self.hold_s = hold_s


class Refusals:
    """When those whom one kind of limit refuses are told so: at once, or late."""

    def __init__(self, limit: str, text: str, qps: int, keys_max: int) -> None:
        self._limit = limit
        self._text = text
        self._told = TokenBuckets(_told_rate(qps), keys_max)
        self._late = TokenBuckets(_LATE_RATE, keys_max)

    def refuse(
        self, key: Hashable, wait_s: float, now_s: float, told: Rate | None = None
    ) -> Refused:
        """`wait_s`: until the key may ask again. `told`: a rate of its own."""
        hold_s = self._hold_s(key, now_s) if self._told.take(key, now_s, told) else 0.0
        return Refused(self._text, self._limit, wait_s, hold_s)

    def _hold_s(self, key: Hashable, now_s: float) -> float:
        queue_s = self._late.queue_s(key, now_s)
        if queue_s >= _LATE_RATE.slack_s:
            # Too many for a queue; spread, or those that came together would be due together.
            return random.uniform(HOLD_MIN_S + _SPREAD_S / 2, HOLD_MAX_S)
        return HOLD_MIN_S + queue_s

    def __len__(self) -> int:
        """Buckets that are remembered."""
        return len(self._told) + len(self._late)


class RequestLimiter:
    """Of one worker. Rates are requests in a second, and as many may come at once."""

    def __init__(self, *, enabled: bool, namespace_qps: int, user_qps: int, keys_max: int) -> None:
        self._enabled = enabled
        self._namespace_rate = Rate.of(namespace_qps)
        self._users = TokenBuckets(Rate.of(user_qps), keys_max)
        self._namespaces = TokenBuckets(self._namespace_rate, keys_max)
        text = "User rate limit exceeded"
        self._user_refusals = Refusals("user", text, user_qps, keys_max)
        text = "Namespace rate limit exceeded"
        self._namespace_refusals = Refusals("namespace", text, namespace_qps, keys_max)
        self._own_rates: dict[str, Rate] = {}
        self._own_told_rates: dict[str, Rate] = {}
        #: Is anything limited at all?
        self.on = enabled

    def set_namespace_rate(self, namespace: str, qps: int | None) -> None:
        """Give a namespace a rate of its own, also while the others are not limited.

        None: it is again as the others are. Less than 1, which nobody can set, is 1.
        """
        if qps is None:
            self._own_rates.pop(namespace, None)
            self._own_told_rates.pop(namespace, None)
        else:
            qps = max(qps, 1)
            self._own_rates[namespace] = Rate.of(qps)
            self._own_told_rates[namespace] = _told_rate(qps)
        self.on = self._enabled or bool(self._own_rates)

    def refusal(self, namespace: str, user: str, now_s: float) -> Refused | None:
        """Count a request; None: it may go on. A request that is refused counts for nobody."""
        own = self._own_rates.get(namespace) if self._own_rates else None
        key = (namespace, user)
        if self._enabled:
            wait_s = self._users.take(key, now_s)
            if wait_s:
                return self._user_refusals.refuse(key, wait_s, now_s)
        elif own is None:
            return None
        wait_s = self._namespaces.take(namespace, now_s, own)
        if wait_s:
            if self._enabled:
                self._users.give_back(key)
            own_told = self._own_told_rates.get(namespace)
            return self._namespace_refusals.refuse(namespace, wait_s, now_s, own_told)
        return None

    def credential_refusal(self, digest: str, now_s: float) -> Refused | None:
        """Count what is asked with a credential of which nobody knows yet whose it is."""
        # No namespace has an empty name, so this is nobody's bucket but the credential's.
        key = ("", digest)
        wait_s = self._users.take(key, now_s) if self._enabled else 0.0
        return self._user_refusals.refuse(key, wait_s, now_s) if wait_s else None

    def __len__(self) -> int:
        """Buckets that are remembered."""
        refused = len(self._user_refusals) + len(self._namespace_refusals)
        return len(self._users) + len(self._namespaces) + refused


def _told_rate(qps: int) -> Rate:
    return Rate.of(max(qps, TOLD_MIN), _TOLD_AGAIN_S)


class CredentialLimiter:
    """How many credentials that do not hold one address may present in a minute.

    One that somebody must be asked about counts from the question on (`begin`), so that no number
    of connections asks more at the same time; it is taken back (`held`) when it does hold.
    """

    def __init__(self, limits: Limits) -> None:
        rate = Rate.of(limits.failed_credentials_per_minute_max, 60.0)
        self._addresses = TokenBuckets(rate, limits.rate_limit_keys_max)
        self._refusals = Refusals(
            "address", _FAILED_TOO_OFTEN, TOLD_MIN, limits.rate_limit_keys_max
        )

    @property
    def watching(self) -> bool:
        """Has any address failed of late?"""
        return len(self._addresses) > 0

    def exhausted(self, address: str, now_s: float) -> bool:
        """Has the address presented too many? Counts nothing."""
        return bool(address) and self._addresses.wait_s(network(address), now_s) > 0

    def refusal(self, address: str, now_s: float) -> Refused | None:
        """What an address is told that has presented too many."""
        if not self.exhausted(address, now_s):
            return None
        key = network(address)
        return self._refusals.refuse(key, self._addresses.wait_s(key, now_s), now_s)

    def check(self, address: str, now_s: float) -> None:
        """Raise TooManyRequests when the address has presented too many; counts nothing."""
        if self.exhausted(address, now_s):
            wait_s = self._addresses.wait_s(network(address), now_s)
            raise TooManyRequests(_FAILED_TOO_OFTEN, retry_after_s=math.ceil(wait_s))

    def failed(self, address: str, now_s: float) -> None:
        """Count a credential that did not hold."""
        if address:
            self._addresses.take(network(address), now_s)

    def begin(self, address: str, now_s: float) -> None:
        """Count a credential of which nobody knows yet; raises as `check`, and counts nothing."""
        self.check(address, now_s)
        self.failed(address, now_s)

    def held(self, address: str) -> None:
        """The last one that was begun is none of those that count."""
        if address:
            self._addresses.give_back(network(address))


def network(address: str) -> str:
    """Whom an address stands for: itself, or with IPv6 all that one customer can take.

    One of IPv4 is the same however a socket for both writes it (`::ffff:192.0.2.1`).
    """
    if ":" not in address:
        return address
    mapped = IPv6Address(address).ipv4_mapped
    if mapped is not None:
        return str(mapped)
    return str(ip_network(f"{address}/{_CUSTOMER_BITS}", strict=False))
