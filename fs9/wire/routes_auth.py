"""Routes of tokens."""

from __future__ import annotations

from fs9 import errors
from fs9.wire import messages
from fs9.wire.route import JSON_BODY, NOT_KEPT, Access, Answer, BodyKind, Route

AUTH_ROUTES: tuple[Route, ...] = (
    Route(
        "auth_refresh",
        "POST",
        "/auth/refresh",
        "A new token for the one that is shown, which may have expired a while ago.",
        (
            Answer(
                200, "The new token; the old one holds on.", messages.RefreshReply, headers=NOT_KEPT
            ),
        ),
        errors=(
            errors.InvalidArgument,
            errors.BackendUnavailable,
            errors.Transient,
            errors.CircuitBreakerOpen,
            errors.Timeout,
        ),
        access=Access.EXPIRED,
        idempotent=False,
    ),
    Route(
        "auth_revoke",
        "POST",
        "/auth/revoke",
        "End a token, or all tokens of a user or a namespace. Needs an admin of the namespace.",
        (
            Answer(
                204,
                "Refused from now on by every worker, and what they had open is closed.",
                media=None,
            ),
        ),
        errors=(
            *JSON_BODY,
            errors.InvalidArgument,
            errors.BackendUnavailable,
            errors.Transient,
            errors.CircuitBreakerOpen,
            errors.Timeout,
        ),
        request=messages.RevokeRequest,
        body=BodyKind.JSON,
        access=Access.TOKEN,
    ),
)
