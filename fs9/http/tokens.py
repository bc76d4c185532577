"""Refreshing and revoking tokens over HTTP."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from fs9.auth.revoking import Revoking
from fs9.errors import Forbidden, InvalidArgument, Unauthenticated
from fs9.http.administration import administrator, record_admin
from fs9.http.decode import json_body
from fs9.http.exchange import Reply
from fs9.http.failures import reply_to_error
from fs9.http.files import NO_CONTENT
from fs9.http.gate import bearer_token
from fs9.http.refusals import is_of_none
from fs9.meta.announce import Revoked
from fs9.wire.codec import encode
from fs9.wire.messages import RefreshReply, RevokeRequest

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange
    from fs9.meta.models import Revocation
    from fs9.principal import Principal
    from fs9.services import Services

_NOT_CONFIGURED = "Token refresh not configured"

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
    await limiting.check_address(x)
    try:
        with limiting.asking(x):
            await limiting.check_refresh(x, token)
            new, expires_in_s = await refresher.refresh(token, x.tenant)
    except InvalidArgument as error:
        return _not_configured(error)
    except Forbidden as error:
        if x.tenant is not None or not is_of_none(error):  # with a prefix it may be a foreign one
            _record_refused(x.context.services, token, error)
        raise
    await _record_refresh(x.context.services, new)
    body = encode(RefreshReply(new, expires_in_s))
    return Reply(200, body, headers=(("cache-control", "no-store"),))


async def _record_refresh(services: Services, new: str) -> None:
    """Record the refresh in the trail of the token's namespace."""
    assert services.verifier is not None
    with suppress(Unauthenticated):  # of another service, by a key that is not known here yet
        claims = services.verifier.claims(new, grace_s=0)
        details = {"expires": claims.exp_s}
        await services.trails.record(claims.ns, "refresh", claims.sub, details)


def _record_refused(services: Services, token: str, error: Forbidden) -> None:
    """Record, in the trail of its namespace, that a correctly signed token was not refreshed."""
    assert services.verifier is not None
    with suppress(Unauthenticated):
        claims = services.verifier.claims(token, grace_s=services.settings.refresh_grace_s)
        services.trails.trail(claims.ns).refused("refresh", "/", claims.sub, error.kind)


def _not_configured(error: InvalidArgument) -> Reply:
    return reply_to_error(error, text=error.detail)


async def revoke(x: Exchange) -> Reply:
    request = await json_body(x, _revoke_body)
    services, principal = x.context.services, await administrator(x)
    revoking = Revoking(services.store, services.verifier, services.settings, services.clock)
    revocations = await revoking.revocations(principal, request)
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
    """Record it in the trail of the namespace that it is about, without the token itself."""
    details: dict[str, str] = {"kind": revocation.kind}
    if revocation.kind != "token":
        details["subject"] = revocation.subject
    name = revocation.namespace or principal.namespace
    await record_admin(services, principal, name, "revoke", details)
