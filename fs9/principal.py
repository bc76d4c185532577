"""Who asks, and whether their roles suffice.

    changing files        no role at all, or one of read-write, operator, admin
    mounting              admin or operator, in the principal's own namespace
    its own namespace     admin
    the whole server      admin of a namespace that the setting `server.auth.admin_namespaces` lists

A role that is not known gives nothing but reading. What a token's `mounts` and `permissions`
take away from the roles on paths is decided in `fs9.vfs.permissions`; here they matter for
what is not about a path: only a token with the right `admin` everywhere may administer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fs9.errors import Forbidden, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Collection

ADMIN = "admin"
OPERATOR = "operator"
#: The roles that may change files.
_CHANGERS = frozenset({ADMIN, OPERATOR, "read-write"})
#: So much of a credential's SHA-256 is what revocations, handles in the journal and the successors
#: of a refreshed token know it by.
CREDENTIAL_BYTES = 16
#: The permission that a narrowed token needs to administer, with and without its path.
_ADMIN_EVERYWHERE = frozenset({"admin", "admin:/"})


class Principal(msgspec.Struct, frozen=True):
    """A user bound to one namespace, as a verified token says.

    `expires_at_s` is None for what does not expire. `mounts` and `permissions` narrow what the
    roles allow; empty ones do not. `anonymous`: authentication is off.

    What a revocation can mean: `credential` is the SHA-256 of what was shown, `issued_at_s` when
    it was issued (0: nobody knows), `jti` the token's id and `key_id` the API key's, where there
    is one; `origin` and `origin_jti`, of a refreshed token, what its first one is known by.
    """

    user: str
    namespace: str
    roles: tuple[str, ...] = ()
    expires_at_s: int | None = None
    mounts: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    anonymous: bool = False
    issued_at_s: int = 0
    jti: str = ""
    key_id: str = ""
    credential: bytes = b""
    origin: bytes = b""
    origin_jti: str = ""

    @property
    def may_change(self) -> bool:
        """May the roles change files? A token without roles may."""
        return not self.roles or not _CHANGERS.isdisjoint(self.roles)

    def administers(self, *roles: str) -> bool:
        """Has the principal one of the roles, and a token not narrowed to less?"""
        if not any(role in self.roles for role in roles):
            return False
        if self.mounts and "/" not in self.mounts:
            return False
        return not self.permissions or not _ADMIN_EVERYWHERE.isdisjoint(self.permissions)


def is_server_admin(principal: Principal, admin_namespaces: Collection[str]) -> bool:
    """May the principal administer the server, and so every namespace?"""
    return _on_server(principal, admin_namespaces, ADMIN)


def require_server_admin(principal: Principal, admin_namespaces: Collection[str]) -> None:
    """Raise Forbidden unless the principal administers the server."""
    if not is_server_admin(principal, admin_namespaces):
        raise Forbidden("Insufficient permissions")


def require_server_operator(principal: Principal, admin_namespaces: Collection[str]) -> None:
    """Raise Forbidden unless the principal may see all namespaces: an admin or operator."""
    if not _on_server(principal, admin_namespaces, ADMIN, OPERATOR):
        raise Forbidden("Insufficient permissions")


def require_namespace_admin(
    principal: Principal, namespace: str, admin_namespaces: Collection[str]
) -> None:
    """Raise Forbidden unless the principal is admin of the namespace or of the server."""
    own = principal.namespace == namespace and principal.administers(ADMIN)
    if not own:
        require_server_admin(principal, admin_namespaces)


def require_namespace_operator(
    principal: Principal, namespace: str, admin_namespaces: Collection[str]
) -> None:
    """Raise Forbidden unless the principal may see and mount in the namespace.

    That is an admin or operator of it, or an admin or operator of the server.
    """
    own = principal.namespace == namespace and principal.administers(ADMIN, OPERATOR)
    if not own:
        require_server_operator(principal, admin_namespaces)


def _on_server(principal: Principal, admin_namespaces: Collection[str], *roles: str) -> bool:
    if principal.anonymous:
        return True
    return principal.namespace in admin_namespaces and principal.administers(*roles)


def require_change(principal: Principal) -> None:
    """Raise PermissionDenied when the principal may only read."""
    if not principal.may_change:
        raise PermissionDenied("this token is read-only")
