"""Requests of administrators: checks the caller's own namespace, and records what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fs9.errors import NO_ACCESS, NOT_ACTIVE, Forbidden, NotFound
from fs9.meta.models import ACTIVE

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange
    from fs9.principal import Principal
    from fs9.services import Services


async def administrator(x: Exchange) -> Principal:
    """The caller of a route that needs no session. The caller's own namespace must be active.

    That of an administrator of the server need not exist. Raises Forbidden, and what the store
    raises.
    """
    principal, services = x.principal, x.context.services
    assert principal is not None
    if principal.anonymous:
        return principal
    try:
        record = await services.store.namespace(principal.namespace)
    except NotFound:
        if principal.namespace in services.settings.admin_namespaces:
            return principal
        raise Forbidden(NO_ACCESS) from None
    if record.status != ACTIVE:
        raise Forbidden(NOT_ACTIVE)
    return principal


async def record_admin(
    services: Services,
    principal: Principal,
    name: str,
    event_type: str,
    details: dict[str, Any],
    path: str = "/",
) -> None:
    """Record the event; it is stored when this returns or, while the store is down, later.

    When the principal belongs to another namespace, `details` name it.
    """
    if principal.namespace != name:
        details = {**details, "by_namespace": principal.namespace}
    await services.trails.record(name, event_type, principal.user, details, path)
