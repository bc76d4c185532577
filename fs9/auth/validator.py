"""Decides whether a credential is valid when that cannot be decided locally and at once.

The verifier asks a validator about a credential that it does not know yet, caches the answer, and
shares one call among parallel requests. Revocations and the bounds of the cache are the verifier's
business; a validator looks only at the credential.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fs9.principal import Principal


class Validator(Protocol):
    """A service, or a store, that credentials are shown to."""

    async def validate(self, token: str) -> Principal:
        """Who holds the credential.

        The principal has a namespace, and `expires_at_s` unless the credential never expires;
        `credential` is filled in by the verifier. Raises Unauthenticated when it does not
        hold, Forbidden when its owner or namespace is not active, and BackendUnavailable,
        Transient, Timeout or CircuitBreakerOpen when nobody can say: then it is refused, unless
        the verifier knows it from before (`limits.token_outage_grace_s`).
        """


class Refresher(Protocol):
    """Who makes a new token of one that has expired, or is about to."""

    async def refresh(self, token: str, tenant: str | None = None) -> tuple[str, int]:
        """The new token, and for how many seconds it holds.

        `tenant`: the namespace that the token must be of, if one is named.

        Raises Unauthenticated, Forbidden when it is refused, InvalidArgument when tokens
        cannot be made here, and as `Validator.validate` when nobody can say.
        """
