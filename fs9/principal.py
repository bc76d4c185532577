"""Who asks, and whether that suffices."""

from __future__ import annotations

import msgspec

from fs9.errors import Forbidden, PermissionDenied

ADMIN = "admin"
OPERATOR = "operator"
_READERS = frozenset({"read-only", "reader"})


class Principal(msgspec.Struct, frozen=True):
    """A user bound to one namespace, as a verified token says.

    `expires_at_s` is None when authentication is off. `mounts` and `permissions` narrow what the
    roles allow, see `fs9.vfs.permissions`; empty ones do not.
    """

    user: str
    namespace: str
    roles: tuple[str, ...] = ()
    expires_at_s: int | None = None
    mounts: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()

    @property
    def may_change(self) -> bool:
        """False when every role is a reading one; a token without roles may change files."""
        return not self.roles or not _READERS.issuperset(self.roles)


def require_role(principal: Principal, *allowed: str) -> None:
    """Raise Forbidden unless the principal has one of the roles."""
    if not any(role in principal.roles for role in allowed):
        raise Forbidden("Insufficient permissions")


def require_change(principal: Principal) -> None:
    """Raise PermissionDenied when the principal may only read."""
    if not principal.may_change:
        raise PermissionDenied("this token is read-only")
