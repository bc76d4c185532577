"""From a credential to a principal, with a cache.

One verifier serves one worker process, from its event loop only. A token of a known key is verified
at once (`verify_nowait`); an API key, or a credential that a metadata service decides about, by
asking a validator (`verify`), in one call however many requests present it at the same time. The
caches are keyed by the SHA-256 of the credential, so that the process holds no usable one.

A revocation is in force when `revoke` returns: `generation` has changed then, and whoever keeps a
principal elsewhere checks it again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar

import msgspec

from fs9.auth.revocations import Meant, Revocations
from fs9.auth.tokens import NO_RULES, ORIGIN, ORIGIN_JTI, Keys, PassingRefusal, UnknownKey, verify
from fs9.errors import (
    BackendUnavailable,
    CircuitBreakerOpen,
    Forbidden,
    Fs9Error,
    Timeout,
    Transient,
    Unauthenticated,
)
from fs9.principal import CREDENTIAL_BYTES, Principal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fs9.auth.tokens import ClaimRules, Claims
    from fs9.auth.validator import Validator
    from fs9.clock import Clock
    from fs9.limits import Limits
    from fs9.meta.models import Revocation

REVOKED = "Token has been revoked"
#: What every API key begins with; a token cannot.
API_KEY_PREFIX = "fs9_"
_API_KEY_BYTES_MAX = 256
#: Nobody can say whether the credential holds.
_NOBODY_SAYS = (BackendUnavailable, Transient, Timeout, CircuitBreakerOpen)


class NamespaceRevoked(PassingRefusal):
    """All tokens of the namespace were revoked, perhaps because it is no more."""

    kind: ClassVar[str] = "Unauthenticated"

    def __init__(self, namespace: str) -> None:
        super().__init__(REVOKED)
        self.namespace = namespace


class VerifierStats(msgspec.Struct, frozen=True):
    """Since the start: answers from the caches, credentials verified, refused; entries now."""

    hits: int
    verified: int
    refused: int
    entries: int


class _Entry(msgspec.Struct, gc=False):
    principal: Principal
    until_s: float
    #: The verifier's when the revocations were last looked through for it.
    broad: int


class _Refusal(msgspec.Struct, frozen=True, gc=False):
    text: str
    until_s: float
    error: type[Unauthenticated | Forbidden]


class Verifier:
    """Verifies tokens against `keys`, API keys with `api_keys`, all with `remote` if given."""

    def __init__(
        self,
        keys: Keys,
        limits: Limits,
        clock: Clock,
        rules: ClaimRules = NO_RULES,
        *,
        api_keys: Validator | None = None,
        remote: Validator | None = None,
        learn_keys: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """`learn_keys` is called for a token of an unknown key, and may set `keys`."""
        self._keys = keys
        self._rules = rules
        self._api_keys = api_keys
        self._remote = remote
        self._learn_keys = learn_keys
        self._clock = clock
        self._limits = limits
        self.revocations = Revocations()
        #: Another one after each revocation, or when a key is gone.
        self.generation = 0
        self._broad = 0
        #: Was there a refreshed token? It ends with its first one.
        self._refreshed = False
        # Least recently used first.
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._refusals: OrderedDict[bytes, _Refusal] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Principal]] = {}
        self._hits = self._verified = self._refused = 0

    @property
    def keys(self) -> Keys:
        return self._keys

    @keys.setter
    def keys(self, keys: Keys) -> None:
        """From now on; what a key that is gone has signed holds no more."""
        gone = [key for key in self._keys.keys if key not in keys.keys]
        self._keys = keys
        if gone:
            self._entries.clear()
            self.generation += 1

    # -- Credentials ------------------------------------------------------------------------

    def verify_nowait(self, token: str) -> Principal | None:
        """Who holds it; None: that must be asked (`verify`).

        Raises Unauthenticated when it does not hold (now).
        """
        now_s = self._clock.now_s()
        digest = digest_of(token)
        principal = self._remembered(digest, now_s)
        if principal is not None:
            return principal
        if self._asked_of(token) is not None:
            return None
        try:
            return self._verify_here(token, digest, now_s)
        except UnknownKey:
            if self._learn_keys is None:
                raise
            return None

    async def verify(self, token: str) -> Principal:
        """Who holds it. Raises Unauthenticated, and what its validator raises."""
        found = self.verify_nowait(token)
        if found is not None:
            return found
        digest = digest_of(token)
        task = self._asking.get(digest)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(token, digest))
            self._asking[digest] = task
            task.add_done_callback(lambda task: self._asked(digest, task))
        # A caller that leaves must not take the answer from the others.
        return await asyncio.shield(task)

    def remembers(self, token: str) -> bool:
        """Is it known to hold, so that there is nothing to verify?"""
        entry = self._entries.get(digest_of(token))
        return entry is not None and self._clock.now_s() < entry.until_s

    def asks(self, token: str) -> bool:
        """Is somebody being asked about it just now?"""
        return bool(self._asking) and digest_of(token) in self._asking

    def claims(self, token: str, *, grace_s: float) -> Claims:
        """What a token of a known key says, up to `grace_s` after its expiry.

        Revocations are not looked at. Raises Unauthenticated.
        """
        return verify(token, self._keys, self._clock.now_s(), self._rules, grace_s=grace_s)

    def stats(self) -> VerifierStats:
        return VerifierStats(self._hits, self._verified, self._refused, len(self._entries))

    # -- Revocations ------------------------------------------------------------------------

    def revoke(self, revocations: Sequence[Revocation]) -> Meant:
        """None of them holds any more; whom they mean, for what is in progress."""
        for revocation in revocations:
            self.revocations.add(revocation)
            if revocation.kind == "token":
                self._entries.pop(bytes.fromhex(revocation.subject), None)
            if revocation.kind != "token" or self._refreshed:
                self._broad += 1
        if revocations:
            self.generation += 1
        return Meant(revocations)

    # -- Inside -----------------------------------------------------------------------------

    def _remembered(self, digest: bytes, now_s: float) -> Principal | None:
        entry = self._entries.get(digest)
        if entry is not None and now_s < entry.until_s:
            if entry.broad != self._broad:
                self._check_revoked(entry.principal, digest)
                entry.broad = self._broad
            self._hits += 1
            self._entries.move_to_end(digest)
            return entry.principal
        refusal = self._refusals.get(digest)
        if refusal is not None:
            if now_s < refusal.until_s:
                self._hits += 1
                raise refusal.error(refusal.text)
            del self._refusals[digest]
        return None

    def _asked_of(self, token: str) -> Validator | None:
        if token.startswith(API_KEY_PREFIX) and self._api_keys is not None:
            return self._api_keys if len(token) <= _API_KEY_BYTES_MAX else None
        return self._remote

    def _verify_here(self, token: str, digest: bytes, now_s: float) -> Principal:
        self._entries.pop(digest, None)
        try:
            claims = verify(token, self._keys, now_s, self._rules)
        except Unauthenticated as error:
            self._refuse(digest, error, now_s)
            raise
        return self._accept(principal_of(claims, digest), digest, now_s)

    async def _ask(self, token: str, digest: bytes) -> Principal:
        validator = self._asked_of(token)
        if validator is None:
            assert self._learn_keys is not None
            await self._learn_keys()
            return self._verify_here(token, digest, self._clock.now_s())
        try:
            principal = await validator.validate(token)
        except _NOBODY_SAYS as error:
            return self._still_known(digest, error)
        except (Unauthenticated, Forbidden) as error:
            self._entries.pop(digest, None)
            self._refuse(digest, error, self._clock.now_s())
            raise
        self._entries.pop(digest, None)
        principal = msgspec.structs.replace(principal, credential=digest)
        return self._accept(principal, digest, self._clock.now_s())

    def _asked(self, digest: bytes, task: asyncio.Task[Principal]) -> None:
        del self._asking[digest]
        if not task.cancelled():
            task.exception()  # seen, even if every caller went away

    def _still_known(self, digest: bytes, error: Fs9Error) -> Principal:
        """One that held before, within the time that an outage may last; else the error again."""
        entry, now_s = self._entries.get(digest), self._clock.now_s()
        if entry is not None and now_s < entry.until_s + self._limits.token_outage_grace_s:
            expires_s = entry.principal.expires_at_s
            if expires_s is None or now_s < expires_s:
                self._check_revoked(entry.principal, digest)
                return entry.principal
        raise error

    def _accept(self, principal: Principal, digest: bytes, now_s: float) -> Principal:
        self._check_revoked(principal, digest)
        self._verified += 1
        self._refreshed = self._refreshed or bool(principal.origin)
        until_s = now_s + self._limits.token_cache_ttl_s
        if principal.expires_at_s is not None:
            # Past its expiry a token may still hold, by leeway; then it is verified each time.
            until_s = min(until_s, principal.expires_at_s)
        if until_s > now_s:
            if len(self._entries) >= self._limits.token_cache_entries_max:
                self._entries.popitem(last=False)
            self._entries[digest] = _Entry(principal, until_s, self._broad)
        return principal

    def _check_revoked(self, principal: Principal, digest: bytes) -> None:
        if self.revocations.mean(principal):
            self._entries.pop(digest, None)
            error = Unauthenticated(REVOKED)
            if self.revocations.mean_all_of(principal.namespace, principal.issued_at_s):
                error = NamespaceRevoked(principal.namespace)
            self._refuse(digest, error, self._clock.now_s())
            raise error

    def _refuse(self, digest: bytes, error: Unauthenticated | Forbidden, now_s: float) -> None:
        self._refused += 1
        if isinstance(error, PassingRefusal):
            return
        if len(self._refusals) >= self._limits.token_refusals_max:
            self._refusals.popitem(last=False)
        until_s = now_s + self._limits.token_refusal_ttl_s
        kind = Forbidden if isinstance(error, Forbidden) else Unauthenticated
        self._refusals[digest] = _Refusal(str(error), until_s, kind)


def digest_of(credential: str) -> bytes:
    """SHA-256: what a credential is known by, in memory and in the store."""
    return hashlib.sha256(credential.encode(errors="surrogatepass")).digest()


def origin_of(token: str, claims: Claims) -> dict[str, str]:
    """The claims by which what is made of the token is known as its successor."""
    if claims.origin:
        return {ORIGIN: claims.origin, ORIGIN_JTI: claims.origin_jti}
    return {ORIGIN: digest_of(token)[:CREDENTIAL_BYTES].hex(), ORIGIN_JTI: claims.jti or ""}


def principal_of(claims: Claims, credential: bytes) -> Principal:
    """Whom the claims speak of."""
    return Principal(
        claims.sub,
        claims.ns,
        claims.roles,
        claims.exp_s,
        mounts=claims.mounts,
        permissions=claims.permissions,
        issued_at_s=claims.iat_s,
        jti=claims.jti or "",
        credential=credential,
        origin=bytes.fromhex(claims.origin),
        origin_jti=claims.origin_jti,
    )
