"""Credentials that a metadata service decides about, for a file server that uses one.

    Verifier ── not remembered ──> RemoteValidator, RemoteKeys ──> MetaClient ──> the service
    refresh  ────────────────────> RemoteRefresher ─────────────────┘

What the service refuses is refused, even if it could be verified here; when the service does not
answer, nothing new is accepted. A credential needs a namespace, and a token an expiry, whatever the
service says. What narrows a token is read from the token itself, once the service has accepted it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from fs9.auth.tokens import ClaimRules, read_vouched
from fs9.auth.verifier import REVOKED, digest_of, principal_of
from fs9.errors import (
    NO_ACCESS,
    NOT_ACTIVE,
    BackendUnavailable,
    Forbidden,
    NotFound,
    Unauthenticated,
)
from fs9.meta.wire import TokenReply, VerdictReply, time_s
from fs9.names import is_namespace_name
from fs9.principal import Principal

if TYPE_CHECKING:
    from fs9.auth.tokens import Claims
    from fs9.auth.verifier import Verifier
    from fs9.clock import Clock
    from fs9.config import Settings
    from fs9.meta.models import NamespaceRecord

_NO_NAMESPACE = "Token missing required 'ns' claim"
#: What the service says that is not about the token's form; the contract's texts.
_WHOLE_TEXTS = frozenset({REVOKED, _NO_NAMESPACE})


class Service(Protocol):
    """The part of `fs9.meta.client` that is used here."""

    async def validate(self, token: str) -> VerdictReply: ...

    async def validate_key(self, key: str) -> VerdictReply: ...

    async def refresh(self, token: str, ttl_s: int) -> TokenReply: ...

    async def namespace(self, name: str) -> NamespaceRecord:
        """Raises NotFound."""


class RemoteValidator:
    """A `Validator` of tokens."""

    def __init__(self, service: Service, settings: Settings, clock: Clock) -> None:
        self._service = service
        self._rules = ClaimRules.of(settings)
        self._admin_namespaces = settings.admin_namespaces
        self._clock = clock

    async def validate(self, token: str) -> Principal:
        """As `Validator.validate`."""
        verdict = await self._service.validate(token)
        if verdict.error == REVOKED:
            await self._refuse_gone(self._claims(token).ns)
        if not verdict.valid:
            raise _refusal(verdict, "Invalid token: ")
        claims = self._claims(token)
        if verdict.namespace is None:
            raise Unauthenticated(_NO_NAMESPACE)
        if verdict.namespace != claims.ns:
            raise Unauthenticated("Invalid token: the metadata service knows another namespace")
        principal = principal_of(claims, b"")
        # No role at all is more than read-only, so it is not taken from the service alone.
        return msgspec.structs.replace(principal, roles=tuple(verdict.roles or claims.roles))

    def _claims(self, token: str) -> Claims:
        return read_vouched(token, self._clock.now_s(), self._rules)

    async def _refuse_gone(self, name: str) -> None:
        """Raise Forbidden for a namespace whose tokens were revoked because it is no more."""
        if name in self._admin_namespaces:  # which need not exist
            return
        try:
            await self._service.namespace(name)
        except NotFound:
            raise Forbidden(NO_ACCESS) from None


class RemoteKeys:
    """A `Validator` of API keys."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def validate(self, token: str) -> Principal:
        """As `Validator.validate`."""
        verdict = await self._service.validate_key(token)
        if not verdict.valid:
            raise _refusal(verdict, "")
        user, namespace = verdict.username or verdict.user_id, verdict.namespace
        if not user or namespace is None or not is_namespace_name(namespace):
            raise Unauthenticated("Invalid API key: it has no user or no namespace")
        return Principal(
            user,
            namespace,
            tuple(verdict.roles or ()),
            _expiry_s(verdict.expires_at),
            issued_at_s=verdict.issued_at,
            key_id=verdict.key_id or "",
        )


class RemoteRefresher:
    """A `Refresher`: the service signs, within the bounds of this server."""

    def __init__(
        self, service: Service, verifier: Verifier, settings: Settings, clock: Clock
    ) -> None:
        self._service = service
        self._verifier = verifier
        self._settings = settings
        self._clock = clock

    async def refresh(self, token: str, tenant: str | None = None) -> tuple[str, int]:
        """As `Refresher.refresh`; nothing is ever signed here."""
        claims = read_vouched(
            token,
            self._clock.now_s(),
            ClaimRules.of(self._settings),
            grace_s=self._settings.refresh_grace_s,
        )
        principal = principal_of(claims, digest_of(token))
        if self._verifier.revocations.mean(principal):
            raise Unauthenticated(REVOKED)
        if tenant not in {None, claims.ns}:
            raise Forbidden(NO_ACCESS)
        try:
            reply = await self._service.refresh(token, self._settings.token_ttl_s)
        except Unauthenticated as error:
            if str(error) == NOT_ACTIVE:
                raise Forbidden(NOT_ACTIVE) from None
            raise
        try:  # asked last: who cannot sign a token is not to learn which namespaces there are
            await self._service.namespace(claims.ns)
        except NotFound:
            raise Forbidden(NO_ACCESS) from None
        if self._verifier.revocations.mean(principal):  # while the service was asked
            raise Unauthenticated(REVOKED)
        expires_s = _expiry_s(reply.expires_at)
        left_s = 0 if expires_s is None else expires_s - int(self._clock.now_s())
        if not reply.token or left_s <= 0:
            raise BackendUnavailable("the metadata service made a token that is not valid")
        return reply.token, left_s


def _refusal(verdict: VerdictReply, prefix: str) -> Unauthenticated | Forbidden:
    reason = verdict.error or "validation failed"
    if reason == NOT_ACTIVE:
        return Forbidden(reason)
    return Unauthenticated(reason if reason in _WHOLE_TEXTS else prefix + reason)


def _expiry_s(text: str | None) -> int | None:
    try:
        return time_s(text)
    except (ValueError, OverflowError):
        raise BackendUnavailable(f"the metadata service's time {text!r} is not one") from None
