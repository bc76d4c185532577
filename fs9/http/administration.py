"""What administrators do, in the audit trail of the namespace that it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fs9.principal import Principal
    from fs9.services import Services


async def record_admin(
    services: Services,
    principal: Principal,
    name: str,
    event_type: str,
    details: dict[str, Any],
    path: str = "/",
) -> None:
    """Record it, stored when this returns, unless the store is down: then it is tried again.

    `details` name the principal's namespace where that is another one.
    """
    if principal.namespace != name:
        details = {**details, "by_namespace": principal.namespace}
    await services.trails.record(name, event_type, principal.user, details, path)
