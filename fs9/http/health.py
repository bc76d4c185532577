"""Health: is this worker alive, is it ready, which version is it; the fleet's metrics."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import fs9
from fs9.errors import Overloaded, RouteNotFound
from fs9.http.exchange import Reply
from fs9.http.failures import reply_to_error
from fs9.observe.metrics import CONTENT_TYPE
from fs9.principal import require_server_operator
from fs9.wire.codec import encode
from fs9.wire.messages import CheckReply, HealthReply, LiveReply, ReadyReply, VersionReply

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange

_NOT_KEPT = (("cache-control", "no-store"),)


async def health(x: Exchange) -> Reply:
    return Reply(200, encode(HealthReply("ok", x.context.services.instance_id)))


async def livez(x: Exchange) -> Reply:
    """Always 200: the worker answers. Neither metadata nor storage is asked."""
    return Reply(200, encode(LiveReply("ok")), headers=_NOT_KEPT)


async def readyz(x: Exchange) -> Reply:
    """200, or 503 that names the failed checks; with `verbose` all checks. Never cached."""
    verbose = "verbose" in x.query
    findings = await x.context.services.readiness.findings()
    if not all(finding.ok for finding in findings):
        shown = [
            f"{finding.name}: {finding.detail or 'ok'}"
            for finding in findings
            if verbose or not finding.ok
        ]
        return reply_to_error(Overloaded(f"not ready: {'; '.join(shown)}"), headers=_NOT_KEPT)
    checks = [CheckReply(*finding) for finding in findings] if verbose else None
    return Reply(200, encode(ReadyReply("ok", checks)), headers=_NOT_KEPT)


async def version(x: Exchange) -> Reply:
    services = x.context.services
    body = VersionReply("fs9", fs9.__version__, platform.python_version(), services.instance_id)
    return Reply(200, encode(body))


async def metrics(x: Exchange) -> Reply:
    """The metrics of all tenants; with authentication on, only for operators of the server."""
    services = x.context.services
    if not services.settings.metrics_enabled:
        raise RouteNotFound("metrics are switched off: see server.metrics.enabled")
    if x.principal is not None:
        require_server_operator(x.principal, services.settings.admin_namespaces)
    services.metrics.flush()
    body = await services.pool.run(services.metrics.render)
    return Reply(200, body, content_type=CONTENT_TYPE)
