"""From a token to a principal, quickly: verified tokens are remembered.

One verifier serves one worker process, from its event loop only. The cache is keyed by the
SHA-256 of the token, so that the process holds no usable credential (and an entry is small);
refusals are not remembered.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from fs9.auth.tokens import check_secret, verify
from fs9.errors import Unauthenticated
from fs9.principal import Principal

if TYPE_CHECKING:
    from fs9.clock import Clock
    from fs9.limits import Limits


class VerifierStats(msgspec.Struct, frozen=True):
    """Since the start: answers from the cache, tokens verified, refused, and entries now."""

    hits: int
    verified: int
    refused: int
    entries: int


class _Entry(msgspec.Struct, frozen=True, gc=False):
    principal: Principal
    until_s: float


class Verifier:
    """Verifies tokens against one secret; raises ValueError when it cannot be one."""

    def __init__(
        self,
        secret: str,
        limits: Limits,
        clock: Clock,
        *,
        issuer: str | None = None,
        audience: str | None = None,
    ) -> None:
        check_secret(secret)
        self._secret = secret
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._entries_max = limits.token_cache_entries_max
        self._ttl_s = limits.token_cache_ttl_s
        # Least recently used first.
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._hits = self._verified = self._refused = 0

    def verify(self, token: str) -> Principal:
        """Who holds the token; raises Unauthenticated when it does not hold (now)."""
        now_s = self._clock.now_s()
        key = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        entry = self._entries.get(key)
        if entry is not None and now_s < entry.until_s:
            self._hits += 1
            self._entries.move_to_end(key)
            return entry.principal
        self._entries.pop(key, None)
        principal = self._decode(token, now_s)
        self._remember(key, principal, now_s)
        return principal

    def remembers(self, token: str) -> bool:
        """Is the token known to hold, so that `verify` has nothing to verify?"""
        entry = self._entries.get(hashlib.sha256(token.encode(errors="surrogatepass")).digest())
        return entry is not None and self._clock.now_s() < entry.until_s

    def stats(self) -> VerifierStats:
        return VerifierStats(self._hits, self._verified, self._refused, len(self._entries))

    def _decode(self, token: str, now_s: float) -> Principal:
        try:
            claims = verify(
                token, self._secret, now_s, issuer=self._issuer, audience=self._audience
            )
        except Unauthenticated:
            self._refused += 1
            raise
        self._verified += 1
        return Principal(claims.sub, claims.ns, claims.roles, claims.exp_s)

    def _remember(self, key: bytes, principal: Principal, now_s: float) -> None:
        assert principal.expires_at_s is not None
        # Past its expiry a token may still hold, by leeway; then it is verified each time.
        until_s = min(now_s + self._ttl_s, principal.expires_at_s)
        if until_s <= now_s:
            return
        if len(self._entries) >= self._entries_max:
            self._entries.popitem(last=False)
        self._entries[key] = _Entry(principal, until_s)
