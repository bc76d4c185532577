"""Is this worker answering, and what has the fleet done?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.errors import RouteNotFound
from fs9.http.exchange import Reply
from fs9.observe.metrics import CONTENT_TYPE
from fs9.principal import ADMIN, OPERATOR, require_role
from fs9.wire.codec import encode
from fs9.wire.messages import HealthReply

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange


async def health(x: Exchange) -> Reply:
    return Reply(200, encode(HealthReply("ok", x.context.services.instance_id)))


async def metrics(x: Exchange) -> Reply:
    """Counts of all tenants: with authentication on, for administrators and operators alone."""
    services = x.context.services
    if not services.settings.metrics_enabled:
        raise RouteNotFound("metrics are switched off: see server.metrics.enabled")
    if x.principal is not None:
        require_role(x.principal, ADMIN, OPERATOR)
    services.metrics.flush()
    body = await services.pool.run(services.metrics.render)
    return Reply(200, body, content_type=CONTENT_TYPE)
