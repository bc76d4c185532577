"""Authentication of a request, and its namespace: from the credentials to a session.

Two steps, because the contract demands that a malformed request is answered before the namespace is
looked up: `principal` says who is asking (401, 403), `enter` attaches the caller to the namespace,
loading it when it is not in memory. Everything but the loading is synchronous.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from fs9.auth.verifier import NamespaceRevoked
from fs9.errors import NO_ACCESS, Forbidden, Unauthenticated
from fs9.names import DEFAULT_NAMESPACE, check_namespace_name
from fs9.principal import ADMIN, Principal

if TYPE_CHECKING:
    from fs9.services import Services
    from fs9.vfs.session import Session

_SCHEME = "Bearer "
#: Principals of callers without authentication that are kept made.
_ANONYMOUS_KEPT = 4096


class ForeignTenant(Forbidden):
    """The path's tenant is not the token's namespace. Has the principal, for the audit trail."""

    kind: ClassVar[str] = "Forbidden"

    def __init__(self, principal: Principal) -> None:
        super().__init__(NO_ACCESS)
        self.principal = principal


class Gate:
    __slots__ = ("_create", "_namespaces", "_verifier")

    def __init__(self, services: Services) -> None:
        self._namespaces = services.namespaces
        self._verifier = services.verifier
        self._create = services.verifier is None

    def principal_nowait(
        self, authorization: str | None, tenant: str | None = None
    ) -> Principal | None:
        """The caller; None when that takes a look-up elsewhere (`principal`).

        Without authentication: anonymous, admin of the tenant's namespace.
        `authorization` is the header as it came, `tenant` the path segment before `/api/v1`,
        not percent-decoded. Raises Unauthenticated, Forbidden (a tenant that is not the
        token's), InvalidArgument (a tenant that no namespace can be).
        """
        if self._verifier is None:
            return _anonymous(tenant or DEFAULT_NAMESPACE)
        try:
            principal = self._verifier.verify_nowait(bearer_token(authorization))
        except NamespaceRevoked:
            return None
        return None if principal is None else _of_tenant(principal, tenant)

    async def principal(self, authorization: str | None, tenant: str | None = None) -> Principal:
        """The caller. Raises as `principal_nowait`, and what a `Validator` raises.

        Whoever holds a token of a namespace that is deleted or suspended is told that, with
        Forbidden, and not that its tokens were revoked with it.
        """
        if self._verifier is None:
            return _anonymous(tenant or DEFAULT_NAMESPACE)
        try:
            principal = await self._verifier.verify(bearer_token(authorization))
        except NamespaceRevoked as error:
            await self._namespaces.refuse_inactive(error.namespace)
            raise
        return _of_tenant(principal, tenant)

    def enter_cached(self, principal: Principal) -> Session | None:
        """A session of the principal, if its namespace is in memory."""
        namespace = self._namespaces.loaded(principal.namespace)
        if namespace is None or not namespace.enterable:
            return None
        return namespace.attach(principal)

    async def enter(self, principal: Principal) -> Session:
        """A session of the principal; creates the namespace when authentication is off."""
        session = self.enter_cached(principal)
        if session is not None:
            return session
        namespace = await self._namespaces.find(principal.namespace, create=self._create)
        return namespace.attach(principal)


def _of_tenant(principal: Principal, tenant: str | None) -> Principal:
    if tenant is not None and tenant != principal.namespace:
        raise ForeignTenant(principal)
    return principal


def bearer_token(authorization: str | None) -> str:
    """The token in an `Authorization` header. Raises Unauthenticated, in the contract's words."""
    if authorization is None:
        raise Unauthenticated("Missing Authorization header")
    if not authorization.isascii():
        raise Unauthenticated("Invalid Authorization header")
    if not authorization.startswith(_SCHEME):
        raise Unauthenticated("Authorization header must use Bearer scheme")
    return authorization[len(_SCHEME) :]


@lru_cache(_ANONYMOUS_KEPT)
def _anonymous(namespace: str) -> Principal:
    check_namespace_name(namespace)
    return Principal("anonymous", namespace, (ADMIN,), anonymous=True)
