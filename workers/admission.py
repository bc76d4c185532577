"""Bounds the connections of a worker, in total and for each address, and its open files.

A connection beyond a bound is answered with the reason and closed. A trusted proxy stands for many
clients, so its connections count towards the total, but not by address.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from fs9.errors import Overloaded, TooManyRequests
from fs9.observe.metrics import CONNECTIONS_REFUSED
from fs9.resilience.limiter import network
from fs9.wire.forwarded import UNIX, TrustedProxies

if TYPE_CHECKING:
    from fs9.errors import Fs9Error
    from fs9.services import Services

#: Files that a process may open at most, whatever the system allows: tables grow with it.
_FILES_MAX = 2**20
#: The share of them that connections may use; the rest is for the tenants' files.
_FILES_FOR_CONNECTIONS = 0.75
#: Refused connections that are answered at a time; further ones are just closed.
_FAREWELLS_MAX = 256


class Admission:
    """Admits connections, for one worker; belongs to its event loop."""

    def __init__(self, services: Services) -> None:
        limits = services.limits
        self._most = min(limits.connections_max, int(files_max() * _FILES_FOR_CONNECTIONS))
        self._most_of_address = limits.connections_per_address_max
        self._proxies = TrustedProxies(services.settings.trusted_proxies)
        self._metrics = services.metrics
        self._by_address: dict[str, int] = {}
        self._total = 0

    def enter(self, peer: str) -> Fs9Error | None:
        """Count a connection, or say why there must not be one more; `leave` follows each."""
        self._total += 1
        address = self._address(peer)
        of_address = 0
        if address:
            of_address = self._by_address[address] = self._by_address.get(address, 0) + 1
        if self._total > self._most:
            self._metrics.count(CONNECTIONS_REFUSED, "worker")
            return Overloaded("too many connections; try again")
        if of_address > self._most_of_address:
            self._metrics.count(CONNECTIONS_REFUSED, "address")
            return TooManyRequests("Too many connections from this address")
        return None

    def leave(self, peer: str) -> None:
        """A connection is gone."""
        self._total -= 1
        address = self._address(peer)
        if address:
            left = self._by_address[address] - 1
            if left:
                self._by_address[address] = left
            else:
                del self._by_address[address]

    @property
    def may_bid_farewell(self) -> bool:
        """May a refused connection stay open until the client has read the reason?"""
        return self._total <= self._most + _FAREWELLS_MAX

    def _address(self, peer: str) -> str:
        if not peer or peer == UNIX or self._proxies.trusts(peer):
            return ""
        return network(peer)


def files_max() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _FILES_MAX if soft == resource.RLIM_INFINITY else min(soft, _FILES_MAX)


def raise_files_max() -> None:
    """Let this process open as many files as the system allows (setrlimit(2)).

    The usual limit of 1,024 is meant for programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, _FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
