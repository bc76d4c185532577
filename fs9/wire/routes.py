"""The table of endpoints, shared by the server, the OpenAPI document and the clients.

Every prefixed route exists twice: as `/api/v1/…` and as `/{tenant}/api/v1/…`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9 import errors
from fs9.wire.route import Access, Route
from fs9.wire.routes_auth import AUTH_ROUTES
from fs9.wire.routes_files import FILE_ROUTES
from fs9.wire.routes_follow import FOLLOW_ROUTES
from fs9.wire.routes_handles import HANDLE_ROUTES
from fs9.wire.routes_namespaces import NAMESPACE_ROUTES
from fs9.wire.routes_plugins import PLUGIN_ROUTES
from fs9.wire.routes_service import SERVICE_ROUTES
from fs9.wire.routes_watch import WATCH_ROUTES

if TYPE_CHECKING:
    from fs9.errors import Fs9Error

#: What any route may answer, and what any route with a token or a session may answer.
ERRORS_ANYWHERE: tuple[type[Fs9Error], ...] = (
    errors.InvalidArgument,  # a query with one key twice, a tenant that no namespace can be
    errors.MalformedRequest,
    errors.MethodNotAllowed,
    errors.RequestTimeout,
    errors.UriTooLong,
    errors.HeadersTooLarge,
    errors.MisdirectedRequest,
    errors.TooManyRequests,
    errors.Internal,
    errors.Overloaded,
    errors.OwnerUnavailable,
)
ERRORS_WITH_TOKEN: tuple[type[Fs9Error], ...] = (errors.Unauthenticated, errors.Forbidden)
ERRORS_WITH_SESSION: tuple[type[Fs9Error], ...] = (
    errors.BackendUnavailable,
    errors.Transient,
    errors.CircuitBreakerOpen,
    errors.Timeout,
    errors.TooManyHops,
    errors.Remote,
)

ROUTES: tuple[Route, ...] = (
    *SERVICE_ROUTES,
    *FILE_ROUTES,
    *HANDLE_ROUTES,
    *FOLLOW_ROUTES,
    *WATCH_ROUTES,
    *NAMESPACE_ROUTES,
    *PLUGIN_ROUTES,
    *AUTH_ROUTES,
)

BY_NAME: dict[str, Route] = {route.name: route for route in ROUTES}


def errors_of(route: Route) -> tuple[type[Fs9Error], ...]:
    """Every kind of refusal that the route may answer, each once."""
    found: list[type[Fs9Error]] = [*route.errors, *ERRORS_ANYWHERE]
    if route.access is not Access.OPEN:
        found += ERRORS_WITH_TOKEN
    if route.access is Access.SESSION:
        found += ERRORS_WITH_SESSION
    return tuple(dict.fromkeys(found))
