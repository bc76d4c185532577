"""Refresh and revoke tokens."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from fs9.auth.revocations import TIME_MAX_S, successors_of
from fs9.auth.tokens import LEEWAY_S
from fs9.auth.verifier import API_KEY_PREFIX, digest_of
from fs9.errors import (
    Forbidden,
    InvalidArgument,
    NotFound,
    Unauthenticated,
    UnprocessableBody,
)
from fs9.http.administration import administrator, record_admin
from fs9.http.decode import json_body
from fs9.http.exchange import Reply
from fs9.http.failures import reply_to_error
from fs9.http.files import NO_CONTENT
from fs9.http.gate import bearer_token
from fs9.meta.announce import Revoked
from fs9.meta.client import MetaClient
from fs9.meta.issuing import TTL_MAX_S
from fs9.meta.models import Revocation
from fs9.names import check_namespace_name
from fs9.principal import is_server_admin, require_namespace_admin
from fs9.wire.codec import encode
from fs9.wire.messages import RefreshReply, RevokeRequest

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange
    from fs9.principal import Principal
    from fs9.services import Services

_NOT_CONFIGURED = "Token refresh not configured"
_FORGET_UNKNOWN_S = 25 * 3600

_revoke_body = msgspec.json.Decoder(RevokeRequest)


async def refresh(x: Exchange) -> Reply:
    try:
        token = bearer_token(x.headers.get("authorization"))
    except Unauthenticated:  # the contract's text, also for another scheme
        raise Unauthenticated("Missing Authorization header") from None
    refresher = x.context.services.refresher
    if refresher is None:
        return _not_configured(InvalidArgument(_NOT_CONFIGURED))
    limiting = x.context.limiting
    try:
        with limiting.asking(x):
            await limiting.check_refresh(token)
            new, expires_in_s = await refresher.refresh(token, x.tenant)
    except InvalidArgument as error:
        return _not_configured(error)
    except Forbidden as error:
        _record_refused(x.context.services, token, error)
        raise
    await _record_refresh(x.context.services, new)
    body = encode(RefreshReply(new, expires_in_s))
    return Reply(200, body, headers=(("cache-control", "no-store"),))


async def _record_refresh(services: Services, new: str) -> None:
    """Tell the trail of the new token's namespace whose it is."""
    assert services.verifier is not None
    with suppress(Unauthenticated):  # of another service, by a key that is not known here yet
        claims = services.verifier.claims(new, grace_s=0)
        details = {"expires": claims.exp_s}
        await services.trails.record(claims.ns, "refresh", claims.sub, details)


def _record_refused(services: Services, token: str, error: Forbidden) -> None:
    """Tell the trail of the token's namespace: it was signed, and must not go on."""
    assert services.verifier is not None
    with suppress(Unauthenticated):
        claims = services.verifier.claims(token, grace_s=services.settings.refresh_grace_s)
        services.trails.trail(claims.ns).refused("refresh", "/", claims.sub, error.kind)


def _not_configured(error: InvalidArgument) -> Reply:
    return reply_to_error(error, text=error.detail)


async def revoke(x: Exchange) -> Reply:
    request = await json_body(x, _revoke_body)
    services, principal = x.context.services, await administrator(x)
    revocations = await _revocations(services, principal, request)
    # Who revokes their own token still gets an answer, however soon the worker hears of it.
    x.principal = None
    kept = await services.store.revoke(revocations)
    await _record_revocation(services, principal, revocations[0])
    # True or not: the store has it, and workers that did not hear of it will ask.
    await services.announce(Revoked(tuple(kept)))
    return NO_CONTENT


async def _record_revocation(
    services: Services, principal: Principal, revocation: Revocation
) -> None:
    """Tell the trail of the namespace that it is about; of a token no more than that it was one."""
    details: dict[str, str] = {"kind": revocation.kind}
    if revocation.kind != "token":
        details["subject"] = revocation.subject
    name = revocation.namespace or principal.namespace
    await record_admin(services, principal, name, "revoke", details)


async def _revocations(
    services: Services, principal: Principal, request: RevokeRequest
) -> list[Revocation]:
    """What is asked for, if the caller may; raises Forbidden, UnprocessableBody."""
    given = [each for each in (request.token, request.user, request.jti) if each is not None]
    if len(given) > 1 or not (given or request.namespace):
        raise UnprocessableBody("give one of token, user, jti and namespace")
    now_s = int(services.clock.now_s())
    made: dict[str, Any] = {"created_at_s": now_s, "created_by": principal.user}
    if request.token is not None:
        require_namespace_admin(principal, principal.namespace, _admins(services))
        return await _of_token(services, principal, request.token, made)
    namespace = request.namespace
    if namespace is not None:
        check_namespace_name(namespace)
    elif not is_server_admin(principal, _admins(services)):
        namespace = principal.namespace
    require_namespace_admin(principal, namespace or principal.namespace, _admins(services))
    expires_s = await _last_expiry(services, request, namespace, now_s)
    made |= {"namespace": namespace, "expires_at_s": expires_s}
    if request.jti is not None:
        return [Revocation("jti", request.jti, **made)]
    if request.user is not None:
        return [Revocation("user", request.user, **made, issued_until_s=now_s)]
    assert namespace is not None
    return [Revocation("namespace", namespace, **made, issued_until_s=now_s)]


async def _last_expiry(
    services: Services, request: RevokeRequest, namespace: str | None, now_s: int
) -> int:
    """When the last of such tokens can neither be used nor refreshed; mostly nobody knows.

    Where lifetimes are bounded it is known, but for API keys: those may hold for ever.
    """
    lifetime_s = services.settings.token_lifetime_max_s
    if lifetime_s is None:
        return TIME_MAX_S
    if request.jti is None and await _may_mean_api_keys(services, request.user, namespace):
        return TIME_MAX_S
    # The issuer's clock may be ahead of ours, and this one ahead of another server's.
    return now_s + lifetime_s + 2 * LEEWAY_S + services.settings.refresh_grace_s


async def _may_mean_api_keys(services: Services, user: str | None, namespace: str | None) -> bool:
    if isinstance(services.store, MetaClient):  # which does not tell
        return True
    keys = await services.store.api_keys(namespace)
    if user is not None:
        ids = {each.id for each in await services.store.users() if each.username == user}
        keys = [key for key in keys if key.user_id in ids]
    return any(key.revoked_at_s is None for key in keys)


async def _of_token(
    services: Services, principal: Principal, token: str, made: dict[str, Any]
) -> list[Revocation]:
    """Of any text, as the contract has it; of another namespace's token only by the server's.

    With it end those that were made of it by refreshing. Of a token that was so made, all that
    were made of the same first token so far do: nobody knows which of them came of which.
    """
    namespace, expires_s, origin = await _known_of(services, token)
    if namespace not in {None, principal.namespace}:
        require_namespace_admin(principal, namespace or "", _admins(services))
    now_s: int = made["created_at_s"]
    if expires_s is None:
        expires_s = TIME_MAX_S if namespace else now_s + _FORGET_UNKNOWN_S
    # Until neither it nor a successor can be used or refreshed, whoever asked the service for one.
    by_service = isinstance(services.store, MetaClient)
    ttl_s = TTL_MAX_S if by_service else services.settings.token_ttl_s
    last_s = max(expires_s, now_s + ttl_s)
    kept_s = min(last_s + LEEWAY_S + services.settings.refresh_grace_s, TIME_MAX_S)
    made |= {"namespace": namespace, "expires_at_s": kept_s}
    digest = digest_of(token).hex()
    found = [Revocation("token", digest, **made)]
    if origin:
        found.append(Revocation("jti", successors_of(origin), **made, issued_until_s=now_s))
    return found


async def _known_of(services: Services, token: str) -> tuple[str | None, int | None, str]:
    """Namespace, expiry and origin of a credential; None: it is none of ours, or nobody knows."""
    verifier = services.verifier
    if verifier is None:
        return None, None, ""
    if token.startswith(API_KEY_PREFIX):
        digest = digest_of(token).hex()
        try:
            key, _ = await services.store.api_key(digest)
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


def _admins(services: Services) -> tuple[str, ...]:
    return services.settings.admin_namespaces
