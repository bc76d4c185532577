"""New tokens for old ones: signed here, with the claims of the old one and no more.

There is none for a token that is invalid, revoked or expired too long ago, nor when its user or
namespace is suspended. What narrows a token narrows its successor as well.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Protocol

from fs9.auth.tokens import sign
from fs9.auth.verifier import REVOKED, digest_of, origin_of, principal_of
from fs9.errors import NO_ACCESS, NOT_ACTIVE, Forbidden, InvalidArgument, NotFound, Unauthenticated
from fs9.meta.models import ACTIVE

if TYPE_CHECKING:
    from fs9.auth.tokens import Claims
    from fs9.auth.verifier import Verifier
    from fs9.clock import Clock
    from fs9.config import Settings
    from fs9.meta.models import NamespaceRecord, UserRecord


class Standings(Protocol):
    """The part of the store that is used here: who is active?"""

    async def namespace(self, name: str) -> NamespaceRecord:
        """Raises NotFound."""

    async def user_named(self, username: str) -> UserRecord:
        """Raises NotFound."""


class LocalRefresher:
    """A `Refresher` with the server's own secret."""

    def __init__(
        self, verifier: Verifier, standings: Standings, settings: Settings, clock: Clock
    ) -> None:
        self._verifier = verifier
        self._standings = standings
        self._settings = settings
        self._clock = clock

    async def refresh(self, token: str, tenant: str | None = None) -> tuple[str, int]:
        """As `Refresher.refresh`; users that the store does not know are their issuer's."""
        secret = self._settings.jwt_secret
        if not secret:
            raise InvalidArgument("Token refresh not configured")
        claims = self._verifier.claims(token, grace_s=self._settings.refresh_grace_s)
        principal = principal_of(claims, digest_of(token))
        if self._verifier.revocations.mean(principal):
            raise Unauthenticated(REVOKED)
        if tenant not in {None, claims.ns}:
            raise Forbidden(NO_ACCESS)
        await self._check_active(claims)
        if self._verifier.revocations.mean(principal):  # while the store was asked
            raise Unauthenticated(REVOKED)
        ttl_s = self._settings.token_ttl_s
        made = self._claims(claims, ttl_s) | origin_of(token, claims)
        return sign(made, secret), ttl_s

    async def _check_active(self, claims: Claims) -> None:
        try:
            record = await self._standings.namespace(claims.ns)
        except NotFound:
            raise Forbidden(NO_ACCESS) from None
        if record.status != ACTIVE:
            raise Forbidden(NOT_ACTIVE)
        try:
            user = await self._standings.user_named(claims.sub)
        except NotFound:
            return
        if user.status != ACTIVE:
            raise Forbidden("User is not active")

    def _claims(self, old: Claims, ttl_s: int) -> dict[str, Any]:
        now_s = int(self._clock.now_s())
        claims: dict[str, Any] = {
            "sub": old.sub,
            "ns": old.ns,
            "roles": old.roles,
            "iat": now_s,
            "exp": now_s + ttl_s,
            "jti": secrets.token_hex(16),
        }
        narrowing = {"permissions": old.permissions, "mounts": old.mounts}
        claims |= {name: value for name, value in narrowing.items() if value}
        if self._settings.token_issuer is not None:
            claims["iss"] = self._settings.token_issuer
        if self._settings.token_audience is not None:
            claims["aud"] = self._settings.token_audience
        return claims
