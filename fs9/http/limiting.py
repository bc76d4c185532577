"""The limits on rates at the door of every operation, the same for both drivers.

answer ─> authenticate ── the address's failed credentials ─> Gate.principal(_nowait)
       └> admit ───────── the user's rate, then the namespace's
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from fs9.errors import TooManyRequests, Unauthenticated
from fs9.http.gate import bearer_token
from fs9.observe.metrics import RATE_LIMITED
from fs9.resilience.limiter import CredentialLimiter
from fs9.wire.forwarded import UNIX, TrustedProxies

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange
    from fs9.http.gate import Gate
    from fs9.principal import Principal
    from fs9.resilience.limiter import Refused
    from fs9.services import Services

#: Whoever scrapes the metrics must see them most of all when there is too much of everything.
_EXEMPT = frozenset({"metrics"})


class Limiting:
    """Of one worker, and of its event loop."""

    def __init__(self, services: Services, gate: Gate) -> None:
        self.requests = services.limiter
        self._credentials = CredentialLimiter(services.limits)
        self._proxies = TrustedProxies(services.settings.trusted_proxies)
        self._verifier = services.verifier
        self._gate = gate
        self._metrics = services.metrics
        self._clock = services.clock
        #: Refusals that wait to be answered; they are no load.
        self.held = 0

    def authenticate_nowait(
        self, exchange: Exchange, authorization: str | None, tenant: str | None
    ) -> Principal | None:
        """`Gate.principal_nowait`, but for addresses with one bad credential after the other.

        A token that is known to hold passes whatever else came from its address. Raises also
        TooManyRequests.
        """
        if self._verifier is None or authorization is None:
            return self._gate.principal_nowait(authorization, tenant)
        if self._credentials.watching and not self._verifier.remembers(bearer_token(authorization)):
            self._check_address(exchange)
        try:
            return self._gate.principal_nowait(authorization, tenant)
        except Unauthenticated:
            self.failed(exchange)
            raise

    async def authenticate(
        self, exchange: Exchange, authorization: str | None, tenant: str | None
    ) -> Principal:
        """The same for a credential that somebody must be asked about: `Gate.principal`."""
        try:
            return await self._gate.principal(authorization, tenant)
        except Unauthenticated:
            self.failed(exchange)
            raise

    async def check_refresh(self, exchange: Exchange, token: str) -> None:
        """Count that a token is to be refreshed, of which nobody knows yet whether it may be.

        Raises TooManyRequests; the caller says `failed` when it may not.
        """
        if self._credentials.watching:
            self._check_address(exchange)
        if self.requests.on:
            digest = hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
            now_s = self._clock.monotonic_s()
            await self._refuse(self.requests.credential_refusal(digest, now_s))

    def failed(self, exchange: Exchange) -> None:
        """The exchange brought a credential that does not hold."""
        self._credentials.failed(self._address(exchange), self._clock.monotonic_s())

    def _check_address(self, exchange: Exchange) -> None:
        try:
            self._credentials.check(self._address(exchange), self._clock.monotonic_s())
        except TooManyRequests:
            self._metrics.count(RATE_LIMITED, "address")
            raise

    def _address(self, exchange: Exchange) -> str:
        """The client's; empty when a proxy of ours has not said it."""
        address = self._proxies.client(exchange.peer, exchange.headers.get("x-forwarded-for"))
        return "" if address == UNIX or self._proxies.trusts(address) else address

    async def admit(self, name: str, principal: Principal) -> None:
        """Count a request for the operation `name`; raises TooManyRequests, perhaps late.

        Does not wait when the request may go on.
        """
        if name in _EXEMPT:
            return
        now_s = self._clock.monotonic_s()
        refused = self.requests.refusal(principal.namespace, principal.user, now_s)
        if refused is not None:
            await self._refuse(refused)

    async def _refuse(self, refused: Refused | None) -> None:
        if refused is None:
            return
        self._metrics.count(RATE_LIMITED, refused.limit)
        if refused.hold_s:
            self.held += 1
            try:
                await asyncio.sleep(refused.hold_s)
            finally:
                self.held -= 1
        raise refused.error
