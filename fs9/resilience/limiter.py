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
    from fs9.limits import Limits

#: How late the answer to a client is that does not heed its refusals: about when `Retry-After`
#: sends it back. Spread, or the answers to many connections would all be due at one moment.
HOLD_MIN_S, HOLD_MAX_S = 1.0, 3.0
#: Refusals that are answered at once: as many as requests in a second, and so many however low
#: the limit is, so that who counts them is not made to wait. A tenth of it comes back in a second:
#: a worker that has to do with an abuser for a hundredth of its time is felt by others at p99.
TOLD_MIN = 200
_TOLD_AGAIN_S = 10.0
#: The part of an IPv6 address that one customer of a network has all addresses of.
_CUSTOMER_BITS = 64


class Refused:
    """A request that is too much: the `error`, the `limit` that says so, and how late to say it."""

    __slots__ = ("error", "hold_s", "limit")

    def __init__(self, text: str, limit: str, wait_s: float, hold_s: float) -> None:
        self.error = TooManyRequests(text, retry_after_s=math.ceil(wait_s))
        self.limit = limit
        self.hold_s = hold_s


class RequestLimiter:
    """Of one worker. Rates are requests in a second, and as many may come at once."""

    def __init__(self, *, enabled: bool, namespace_qps: int, user_qps: int, keys_max: int) -> None:
        self._enabled = enabled
        self._namespace_rate = Rate.of(namespace_qps)
        self._users = TokenBuckets(Rate.of(user_qps), keys_max)
        self._namespaces = TokenBuckets(self._namespace_rate, keys_max)
        self._told_users = TokenBuckets(_told_rate(user_qps), keys_max)
        self._told_namespaces = TokenBuckets(_told_rate(namespace_qps), keys_max)
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
                return self._user_refused(key, wait_s, now_s)
        elif own is None:
            return None
        wait_s = self._namespaces.take(namespace, now_s, own)
        if wait_s:
            if self._enabled:
                self._users.give_back(key)
            own_told = self._own_told_rates.get(namespace)
            late = self._told_namespaces.take(namespace, now_s, own_told) > 0
            return Refused("Namespace rate limit exceeded", "namespace", wait_s, _hold_s(late))
        return None

    def credential_refusal(self, digest: str, now_s: float) -> Refused | None:
        """Count what is asked with a credential of which nobody knows yet whose it is."""
        # No namespace has an empty name, so this is nobody's bucket but the credential's.
        key = ("", digest)
        wait_s = self._users.take(key, now_s) if self._enabled else 0.0
        return self._user_refused(key, wait_s, now_s) if wait_s else None

    def _user_refused(self, key: tuple[str, str], wait_s: float, now_s: float) -> Refused:
        late = self._told_users.take(key, now_s) > 0
        return Refused("User rate limit exceeded", "user", wait_s, _hold_s(late))

    def __len__(self) -> int:
        """Buckets that are remembered."""
        told = len(self._told_users) + len(self._told_namespaces)
        return len(self._users) + len(self._namespaces) + told


def _told_rate(qps: int) -> Rate:
    return Rate.of(max(qps, TOLD_MIN), _TOLD_AGAIN_S)


def _hold_s(late: bool) -> float:
    return random.uniform(HOLD_MIN_S, HOLD_MAX_S) if late else 0.0


class CredentialLimiter:
    """How many credentials that do not hold one address may present in a minute.

    One that somebody must be asked about counts from the question on (`begin`), so that no number
    of connections asks more at the same time; it is taken back (`held`) when it does hold.
    """

    def __init__(self, limits: Limits) -> None:
        rate = Rate.of(limits.failed_credentials_per_minute_max, 60.0)
        self._addresses = TokenBuckets(rate, limits.rate_limit_keys_max)

    @property
    def watching(self) -> bool:
        """Has any address failed of late?"""
        return len(self._addresses) > 0

    def check(self, address: str, now_s: float) -> None:
        """Raise TooManyRequests when the address has presented too many; counts nothing."""
        wait_s = self._addresses.wait_s(network(address), now_s) if address else 0.0
        if wait_s:
            text = "Too many failed credentials from this address"
            raise TooManyRequests(text, retry_after_s=math.ceil(wait_s))

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
