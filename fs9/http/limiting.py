"""Rate limits, checked before every operation, the same for both drivers.

answer ─> authenticate ── the address's failed credentials ─> Gate.principal(_nowait)
       └> admit ───────── the user's rate, then the namespace's
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fs9.auth.verifier import digest_of
from fs9.errors import TooManyRequests, Unauthenticated
from fs9.http.gate import bearer_token
from fs9.observe.metrics import RATE_LIMITED
from fs9.resilience.limiter import CredentialLimiter
from fs9.wire.forwarded import UNIX, TrustedProxies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fs9.http.exchange import Exchange
    from fs9.http.gate import Gate
    from fs9.principal import Principal
    from fs9.resilience.limiter import Refused
    from fs9.services import Services

#: Whoever scrapes the metrics must see them most of all when there is too much of everything.
_EXEMPT = frozenset({"metrics"})


class Limiting:
    """The rate limits of one worker. Belongs to its event loop."""

    def __init__(self, services: Services, gate: Gate) -> None:
        self.requests = services.limiter
        self._credentials = CredentialLimiter(services.limits)
        self._proxies = TrustedProxies(services.settings.trusted_proxies)
        self._verifier = services.verifier
        self._gate = gate
        self._metrics = services.metrics
        self._clock = services.clock
        self._held: set[asyncio.Future[None]] = set()
        #: Is nothing answered late any more, because the worker leaves?
        self._hurried = False

    @property
    def held(self) -> int:
        """How many refusals wait to be answered; they do not count as load."""
        return len(self._held)

    def release(self, *, leaving: bool = False) -> None:
        """Answer the delayed refusals now: a namespace cannot move while requests are in progress.

        `leaving`: from now on refusals are answered at once.
        """
        self._hurried = self._hurried or leaving
        for waiter in self._held:
            _wake(waiter)

    def authenticate_nowait(
        self, exchange: Exchange, authorization: str | None, tenant: str | None
    ) -> Principal | None:
        """As `Gate.principal_nowait`; None also for addresses with too many bad credentials.

        `authenticate` then refuses it, perhaps after a delay. A token that is known to be valid
        passes, whatever else came from its address.
        """
        if self._verifier is None or authorization is None:
            return self._gate.principal_nowait(authorization, tenant)
        try:
            if self._is_exhausted(exchange, authorization):
                return None
            return self._gate.principal_nowait(authorization, tenant)
        except Unauthenticated:
            self.failed(exchange)
            raise

    async def authenticate(
        self, exchange: Exchange, authorization: str | None, tenant: str | None
    ) -> Principal:
        """As `Gate.principal`, with the same limit, for a credential that must be looked up."""
        if self._is_exhausted(exchange, authorization):
            await self.check_address(exchange)
        if self._verifier is None or self._verifier.asks(bearer_token(authorization)):
            # Asked about already, for another request: this one costs nothing.
            try:
                return await self._gate.principal(authorization, tenant)
            except Unauthenticated:
                self.failed(exchange)
                raise
        with self.asking(exchange):
            return await self._gate.principal(authorization, tenant)

    @contextmanager
    def asking(self, exchange: Exchange) -> Iterator[None]:
        """Around a look-up of the exchange's credential; it counts as failed unless it is valid.

        Raises TooManyRequests when the address may cause no more look-ups. Only one that ends with
        Unauthenticated stays counted.
        """
        address = self._address_of(exchange)
        self._begin(address)
        try:
            yield
        except Unauthenticated:
            raise
        except BaseException:
            self._credentials.held(address)
            raise
        self._credentials.held(address)

    @contextmanager
    def identifying(self, token: str, peer: str, forwarded_for: str | None) -> Iterator[None]:
        """Around a look-up of the namespace that a credential belongs to; never counted.

        The request is counted later, by `authenticate_nowait`, which finds the answer cached.
        Raises as `asking`.
        """
        if self._verifier is None or self._verifier.asks(token) or self._verifier.remembers(token):
            yield
            return
        address = self._address(peer, forwarded_for)
        self._begin(address)
        try:
            yield
        finally:
            self._credentials.held(address)

    async def check_refresh(self, exchange: Exchange, token: str) -> None:
        """Count an attempt to refresh a token, before it is known whether the token may be.

        Raises TooManyRequests.
        """
        if self.requests.on:
            digest = digest_of(token).hex()
            now_s = self._clock.monotonic_s()
            await self._refuse(exchange, self.requests.credential_refusal(digest, now_s))

    async def check_address(self, exchange: Exchange) -> None:
        """Raise TooManyRequests, perhaps delayed, when the address may present no credential."""
        address = self._address_of(exchange)
        refused = self._credentials.refusal(address, self._clock.monotonic_s())
        await self._refuse(exchange, refused)

    def failed(self, exchange: Exchange) -> None:
        """Count a credential that is not valid."""
        self._credentials.failed(self._address_of(exchange), self._clock.monotonic_s())

    def _is_exhausted(self, exchange: Exchange, authorization: str | None) -> bool:
        """Is this credential not known as valid, and the address past its number of bad ones?"""
        verifier, credentials = self._verifier, self._credentials
        if verifier is None or authorization is None or not credentials.watching:
            return False
        if verifier.remembers(bearer_token(authorization)):
            return False
        return credentials.exhausted(self._address_of(exchange), self._clock.monotonic_s())

    def _begin(self, address: str) -> None:
        with self._counting_refusals():
            self._credentials.begin(address, self._clock.monotonic_s())

    @contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        try:
            yield
        except TooManyRequests:
            self._metrics.count(RATE_LIMITED, "address")
            raise

    def _address_of(self, exchange: Exchange) -> str:
        return self._address(exchange.peer, exchange.headers.get("x-forwarded-for"))

    def _address(self, peer: str, forwarded_for: str | None) -> str:
        """The address of the client; empty when a trusted proxy did not name it."""
        address = self._proxies.client(peer, forwarded_for)
        return "" if address == UNIX or self._proxies.trusts(address) else address

    async def admit(self, exchange: Exchange, name: str, principal: Principal) -> None:
        """Count a request for the operation `name`; raises TooManyRequests, perhaps after a delay.

        Finishes without waiting when the request is allowed.
        """
        if name in _EXEMPT:
            return
        now_s = self._clock.monotonic_s()
        refused = self.requests.refusal(principal.namespace, principal.user, now_s)
        if refused is not None:
            await self._refuse(exchange, refused)

    async def _refuse(self, exchange: Exchange, refused: Refused | None) -> None:
        if refused is None:
            return
        self._metrics.count(RATE_LIMITED, refused.limit)
        if refused.hold_s and not self._hurried:
            exchange.held = True
            await self._hold(refused.hold_s)
        raise refused.error

    async def _hold(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        timer = loop.call_later(seconds, _wake, waiter)
        self._held.add(waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._held.remove(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
