"""What is to be revoked, made revocations: who may, what is meant, and for how long that is kept.

    RevokeRequest ── may the caller? ── known of the credential ──> Revocation ── store, announced

Announcing is the caller's. A revocation is kept until nothing that it means can be used or
refreshed any more; mostly nobody knows when that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fs9.auth.revocations import TIME_MAX_S, successors_of
from fs9.auth.tokens import LEEWAY_S
from fs9.auth.verifier import API_KEY_PREFIX, digest_of
from fs9.errors import Forbidden, NotFound, Unauthenticated, UnprocessableBody
from fs9.meta.client import MetaClient
from fs9.meta.issuing import TTL_MAX_S
from fs9.meta.models import Revocation
from fs9.names import check_namespace_name
from fs9.principal import is_server_admin, require_namespace_admin

if TYPE_CHECKING:
    from fs9.auth.verifier import Verifier
    from fs9.clock import Clock
    from fs9.config import Settings
    from fs9.meta.store import Store
    from fs9.principal import Principal
    from fs9.wire.messages import RevokeRequest

_FORGET_UNKNOWN_S = 25 * 3600


class Revoking:
    """The rules of one server. `verifier` is None where authentication is off."""

    def __init__(
        self,
        metadata: Store | MetaClient,
        verifier: Verifier | None,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._metadata = metadata
        self._verifier = verifier
        self._settings = settings
        self._clock = clock

    async def revocations(self, principal: Principal, request: RevokeRequest) -> list[Revocation]:
        """What is asked for, if the caller may; raises Forbidden, UnprocessableBody.

        The first one is about what the request names.
        """
        given = [each for each in (request.token, request.user, request.jti) if each is not None]
        if len(given) > 1 or not (given or request.namespace):
            raise UnprocessableBody("give one of token, user, jti and namespace")
        now_s = int(self._clock.now_s())
        made: dict[str, Any] = {"created_at_s": now_s, "created_by": principal.user}
        admins = self._settings.admin_namespaces
        if request.token is not None:
            require_namespace_admin(principal, principal.namespace, admins)
            return await self._of_token(principal, request.token, made)
        namespace = request.namespace
        if namespace is not None:
            check_namespace_name(namespace)
        elif not is_server_admin(principal, admins):
            namespace = principal.namespace
        require_namespace_admin(principal, namespace or principal.namespace, admins)
        expires_s = await self._last_expiry(request, namespace, now_s)
        made |= {"namespace": namespace, "expires_at_s": expires_s}
        if request.jti is not None:
            return [Revocation("jti", request.jti, **made)]
        if request.user is not None:
            return [Revocation("user", request.user, **made, issued_until_s=now_s)]
        assert namespace is not None
        return [Revocation("namespace", namespace, **made, issued_until_s=now_s)]

    async def _last_expiry(self, request: RevokeRequest, namespace: str | None, now_s: int) -> int:
        """When the last of such tokens can neither be used nor refreshed; mostly nobody knows.

        Where lifetimes are bounded it is known, but for API keys: those may hold for ever.
        """
        lifetime_s = self._settings.token_lifetime_max_s
        if lifetime_s is None:
            return TIME_MAX_S
        if request.jti is None and await self._may_mean_api_keys(request.user, namespace):
            return TIME_MAX_S
        # The issuer's clock may be ahead of ours, and this one ahead of another server's.
        return now_s + lifetime_s + 2 * LEEWAY_S + self._settings.refresh_grace_s

    async def _may_mean_api_keys(self, user: str | None, namespace: str | None) -> bool:
        if isinstance(self._metadata, MetaClient):  # which does not tell
            return True
        keys = await self._metadata.api_keys(namespace)
        if user is not None:
            ids = {each.id for each in await self._metadata.users() if each.username == user}
            keys = [key for key in keys if key.user_id in ids]
        return any(key.revoked_at_s is None for key in keys)

    async def _of_token(
        self, principal: Principal, token: str, made: dict[str, Any]
    ) -> list[Revocation]:
        """Of any text, as the contract has it; of another namespace's token only by the server's.

        With it end those that were made of it by refreshing. Of a token that was so made, all that
        were made of the same first token so far do: nobody knows which of them came of which.
        """
        namespace, expires_s, origin = await self._known_of(token)
        if namespace not in {None, principal.namespace}:
            admins = self._settings.admin_namespaces
            require_namespace_admin(principal, namespace or "", admins)
        now_s: int = made["created_at_s"]
        if expires_s is None:
            expires_s = TIME_MAX_S if namespace else now_s + _FORGET_UNKNOWN_S
        # Until neither it nor a successor can be used or refreshed, whoever asked the service
        # for one.
        by_service = isinstance(self._metadata, MetaClient)
        ttl_s = TTL_MAX_S if by_service else self._settings.token_ttl_s
        last_s = max(expires_s, now_s + ttl_s)
        kept_s = min(last_s + LEEWAY_S + self._settings.refresh_grace_s, TIME_MAX_S)
        made |= {"namespace": namespace, "expires_at_s": kept_s}
        digest = digest_of(token).hex()
        found = [Revocation("token", digest, **made)]
        if origin:
            found.append(Revocation("jti", successors_of(origin), **made, issued_until_s=now_s))
        return found

    async def _known_of(self, token: str) -> tuple[str | None, int | None, str]:
        """Namespace, expiry and origin of a credential; None: not one of ours, or nobody knows."""
        verifier = self._verifier
        if verifier is None:
            return None, None, ""
        if token.startswith(API_KEY_PREFIX):
            digest = digest_of(token).hex()
            try:
                key, _ = await self._metadata.api_key(digest)
            except NotFound:
                return None, None, ""
            return key.namespace, key.expires_at_s, ""
        try:
            claims = verifier.claims(token, grace_s=float("inf"))
        except Unauthenticated:
            pass
        else:
            return claims.ns, claims.exp_s, claims.origin
        try:
            found = await verifier.verify(token)
        except (Unauthenticated, Forbidden):
            return None, None, ""
        return found.namespace, found.expires_at_s, found.origin.hex()
