"""Tokens of the metadata service: issuing, validating and refreshing them.

A token of a user that the store knows is valid only while that user is active; any other `sub` is
its issuer's business (`fs9-admin` signs any text), and the signature decides. In a suspended
namespace no token is valid; deleting a namespace revokes its tokens.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from fs9.clock import next_second_s
from fs9.errors import NOT_ACTIVE, InvalidArgument, NotFound, Unauthenticated
from fs9.meta.models import ACTIVE
from fs9.meta.service import DAY_S, check_roles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fs9.meta.models import UserRecord
    from fs9.meta.service import MetaService

#: A longer one is refused: what is lost should not be usable for ever.
TTL_MAX_S = 366 * DAY_S
#: For so long after its expiry a token can be renewed.
REFRESH_GRACE_S = 7 * DAY_S
_LEEWAY_S = 60
_REVOKED = "Token has been revoked"
_INACTIVE = "User is inactive"


class TokenClaims(Protocol):
    """What a verified token says (`fs9.auth.tokens.Claims`)."""

    @property
    def sub(self) -> str: ...
    @property
    def ns(self) -> str: ...
    @property
    def roles(self) -> tuple[str, ...]: ...
    @property
    def iat_s(self) -> int: ...
    @property
    def exp_s(self) -> int: ...
    @property
    def mounts(self) -> tuple[str, ...]: ...
    @property
    def permissions(self) -> tuple[str, ...]: ...
    @property
    def jti(self) -> str | None: ...


class Tokens(Protocol):
    """Signs and verifies tokens with the secret, and knows revocations (`fs9.auth.judge`)."""

    def claims(self, token: str, grace_s: float = ...) -> Any:  # noqa: ANN401  TokenClaims
        """The claims of a token up to `grace_s` after its expiry; raises Unauthenticated."""

    def sign(self, claims: Mapping[str, Any]) -> str: ...

    def origin(self, token: str, claims: Any) -> Mapping[str, str]: ...  # noqa: ANN401  TokenClaims

    async def revoked(self, token: str, claims: Any) -> bool: ...  # noqa: ANN401  TokenClaims


class Issued(msgspec.Struct, frozen=True):
    token: str
    user_id: str
    namespace: str
    roles: tuple[str, ...]
    expires_at_s: int


class Verdict(msgspec.Struct, frozen=True):
    """Whether a credential holds (`error`: why not), and whose it is."""

    valid: bool
    error: str | None = None
    user_id: str | None = None
    username: str | None = None
    namespace: str | None = None
    roles: tuple[str, ...] = ()
    expires_at_s: int | None = None
    mounts: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    issued_at_s: int = 0
    jti: str | None = None
    key_id: str | None = None


class Issuer:
    """Makes and judges tokens and keys by the rules of the service."""

    def __init__(self, service: MetaService, tokens: Tokens) -> None:
        self._service = service
        self._store = service.store
        self._tokens = tokens
        self._clock = service.clock

    async def generate(
        self, user_id: str, namespace: str | None, roles: Sequence[str] | None, ttl_s: int
    ) -> Issued:
        """A token for a user; by default with their roles, and for their only namespace.

        Raises NotFound (user, namespace), InvalidArgument.
        """
        user = await self._store.user(user_id)
        if user.status != ACTIVE:
            raise InvalidArgument(_INACTIVE)
        if namespace is None:
            namespace = await self._only_namespace(user)
        record = await self._store.namespace(namespace)
        if record.status != ACTIVE:
            raise InvalidArgument(NOT_ACTIVE)
        if not roles:
            roles = sorted(await self._service.granted(user.id, namespace))
            if not roles:
                raise InvalidArgument(f"User '{user.username}' has no role in '{namespace}'")
        check_roles(roles)
        await self._service.check_held(user, namespace, roles)
        roles = tuple(dict.fromkeys(roles))
        issued = self._issue(user.id, namespace, roles, ttl_s)
        if await self._tokens.revoked(issued.token, self._tokens.claims(issued.token)):
            # Revocations mean whole seconds, and one was made in this one, before the token.
            await asyncio.sleep(next_second_s(self._clock.now_s()))
            issued = self._issue(user.id, namespace, roles, ttl_s)
        return issued

    async def _only_namespace(self, user: UserRecord) -> str:
        names = {grant.namespace for grant in await self._store.roles(user.id)}
        if len(names) != 1:
            raise InvalidArgument(f"name the namespace: the user has roles in {len(names)}")
        return names.pop()

    async def judge(self, token: str) -> Verdict:
        """The verdict on a token. Never raises Unauthenticated; raises what the store raises."""
        try:
            claims: TokenClaims = self._tokens.claims(token)
            await self._check(token, claims)
        except Unauthenticated as error:
            return Verdict(False, str(error).removeprefix("Invalid token: "))
        return Verdict(
            True,
            user_id=claims.sub,
            namespace=claims.ns,
            roles=claims.roles,
            expires_at_s=claims.exp_s,
            mounts=claims.mounts,
            permissions=claims.permissions,
            issued_at_s=claims.iat_s,
            jti=claims.jti,
        )

    async def refresh(self, token: str, ttl_s: int) -> Issued:
        """A new token with the same claims, except roles that a known user has lost.

        Raises Unauthenticated, InvalidArgument (the time).
        """
        _check_ttl(ttl_s)
        claims: TokenClaims = self._tokens.claims(token, REFRESH_GRACE_S)
        user = await self._check(token, claims)
        roles = claims.roles
        if user is not None:
            held = await self._service.granted(user.id, claims.ns)
            if held and not roles:
                roles = tuple(sorted(held))
            elif held:
                roles = tuple(role for role in roles if role in held)
                if not roles:
                    raise Unauthenticated("the user has none of the token's roles any more")
        kept: dict[str, object] = {"mounts": claims.mounts, "permissions": claims.permissions}
        kept |= self._tokens.origin(token, claims)
        return self._issue(claims.sub, claims.ns, roles, ttl_s, kept)

    async def _check(self, token: str, claims: TokenClaims) -> UserRecord | None:
        """The known user of a token that holds; raises Unauthenticated."""
        if await self._tokens.revoked(token, claims):
            raise Unauthenticated(_REVOKED)
        try:
            record = await self._store.namespace(claims.ns)
        except NotFound:  # such a token may still administer a server
            pass
        else:
            if record.status != ACTIVE:
                raise Unauthenticated(NOT_ACTIVE)
        user = await self._known(claims.sub)
        if user is not None and user.status != ACTIVE:
            raise Unauthenticated(_INACTIVE)
        return user

    async def _known(self, subject: str) -> UserRecord | None:
        for find in (self._store.user, self._store.user_named):
            try:
                return await find(subject)
            except NotFound:
                continue
        return None

    def _issue(
        self,
        sub: str,
        namespace: str,
        roles: tuple[str, ...],
        ttl_s: int,
        kept: Mapping[str, object] | None = None,
    ) -> Issued:
        _check_ttl(ttl_s)
        now_s = int(self._clock.now_s())
        claims: dict[str, Any] = {
            "sub": sub,
            "ns": namespace,
            "roles": roles,
            "iat": now_s,
            "exp": now_s + ttl_s,
            "jti": secrets.token_hex(16),
            **{name: value for name, value in (kept or {}).items() if value},
        }
        return Issued(self._tokens.sign(claims), sub, namespace, roles, now_s + ttl_s)

    # -- API keys ---------------------------------------------------------------------------

    async def judge_key(self, digest: str) -> Verdict:
        """The verdict on the key with this SHA-256; a valid one is marked as used now."""
        try:
            record, owner = await self._store.api_key(digest)
            namespace = await self._store.namespace(record.namespace)
        except NotFound:
            return Verdict(False, "Invalid API key")
        now_s = self._clock.now_s()
        if record.revoked_at_s is not None:
            return Verdict(False, _REVOKED)
        if record.expires_at_s is not None and record.expires_at_s + _LEEWAY_S < now_s:
            return Verdict(False, "Invalid API key: expired")
        if owner.status != ACTIVE:
            return Verdict(False, "Invalid API key: its owner is not active")
        if namespace.status != ACTIVE:
            return Verdict(False, NOT_ACTIVE)
        await self._store.touch_api_key(record.id)
        return Verdict(
            True,
            user_id=owner.id,
            username=owner.username,
            namespace=record.namespace,
            roles=record.roles,
            expires_at_s=record.expires_at_s,
            issued_at_s=record.created_at_s,
            key_id=record.id,
        )


def _check_ttl(ttl_s: int) -> None:
    if not 1 <= ttl_s <= TTL_MAX_S:
        raise InvalidArgument(f"ttl_seconds is from 1 to {TTL_MAX_S}")
