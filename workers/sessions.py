"""The sessions of keep-alive clients, kept with their header blocks.

A client that sends exactly the same headers again is the same principal, so its session is entered
without looking at the token again: as long as the token is valid, at most as long as the verifier
caches it, and until anything is revoked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange
    from fs9.services import Services
    from fs9.vfs.session import Session
    from router.framing import Block


class _Kept(NamedTuple):
    session: Session
    until_s: float
    #: The verifier's when it was kept; another one may mean that it was revoked.
    generation: int


class Sessions:
    """The sessions of one worker. `entered` counts the requests whose token was not looked at."""

    def __init__(self, services: Services) -> None:
        self._clock = services.clock
        self._verifier = services.verifier
        self._ttl_s = services.limits.token_cache_ttl_s
        # Without tokens there is nothing to be saved, and what is observed is observed at the
        # gate.
        self._on = services.verifier is not None and not services.observed
        self.entered = 0

    def enter(self, exchange: Exchange, block: Block, tenant: str | None) -> None:
        """Give the exchange the session kept with its header block, if that is still valid."""
        kept = cast("_Kept | None", block.kept)
        if kept is None or tenant is not None:
            return
        session, until_s, generation = kept
        assert self._verifier is not None
        changed = generation != self._verifier.generation
        if changed or not session.namespace.enterable or self._clock.now_s() >= until_s:
            block.kept = None
            return
        self.entered += 1
        exchange.principal = session.principal
        exchange.session = session

    def keep(self, exchange: Exchange, block: Block, tenant: str | None) -> None:
        """Keep the session of an authenticated exchange, for `enter`."""
        session = exchange.session
        verifier = self._verifier
        if session is None or tenant is not None or not self._on or verifier is None:
            return
        until_s = self._clock.now_s() + self._ttl_s
        if session.principal.expires_at_s is not None:
            until_s = min(until_s, session.principal.expires_at_s)
        block.kept = _Kept(session, until_s, verifier.generation)
