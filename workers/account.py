"""Records each request that a worker answers: metrics, access log, trace span.

    Connection ── begin ──> id; a trail when somebody looks ── … ── end ──> metrics, line, span

Access lines and spans are off by default, and then cost one check of an attribute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.http.failures import reply_to_error
from fs9.http.operations import OPERATIONS
from fs9.observe import access
from fs9.observe.access import Access
from fs9.observe.metrics import OTHER
from fs9.observe.request import REQUEST_ID, TRAIL, RequestIds, Trail
from fs9.wire.forwarded import TrustedProxies
from fs9.wire.route import PREFIX
from router.framing import ChunkedFramer
from router.key import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from fs9.errors import Fs9Error
    from fs9.http.exchange import Reply
    from fs9.services import Services
    from workers.connection import Connection
    from workers.request import Request

#: The status that is recorded, as nginx does, when the client left before the answer began.
CLIENT_LEFT = 499

_METHOD_NAMES = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
}
_ROUTES = {
    path.encode(): path
    for operation in OPERATIONS
    if "{" not in (path := PREFIX + operation.path if operation.prefixed else operation.path)
}
_NAMESPACES_PATH = f"{PREFIX}/namespaces/".encode()
_NAMESPACES_ROUTE = f"{PREFIX}/namespaces/:ns"


class Account:
    """Records the requests of one worker."""

    def __init__(self, services: Services) -> None:
        self._metrics = services.metrics
        self._namespaces = services.namespaces
        self._tracing = services.tracing
        self._access = services.settings.log_access
        self._proxies = TrustedProxies(services.settings.trusted_proxies)
        self._observed = services.observed
        self._ids = RequestIds()

    def begin(self, request: Request) -> None:
        """A request is about to be answered, refused or forwarded here."""
        request.id = self._ids.of(request.block.fields.get(b"x-request-id"))
        REQUEST_ID.set(request.id)
        if self._observed:
            request.trail = trail = Trail()
            TRAIL.set(trail)
            if self._tracing is not None:
                name = f"{_method(request)} {_route(request.path)}"
                self._tracing.begin(trail, name, request.block.text_fields)

    def refusal(self, error: Fs9Error) -> Reply:
        """The reply to an error that is found before an operation begins."""
        self._metrics.count_refusal(error)
        return reply_to_error(error)

    def begin_refusal(self) -> bytes:
        """The id of an answer to bytes that were not a request."""
        request_id = self._ids.of(None)
        REQUEST_ID.set(request_id)
        return request_id

    def end(self, connection: Connection, seconds: float) -> None:
        """Record an answer that is written; without a request the client did not send HTTP."""
        request, status = connection.request, connection.status
        sent_bytes, connection.sent_bytes = connection.sent_bytes, 0
        if request is None:
            self._metrics.count_request("-", OTHER, status, OTHER, 0.0, 0, sent_bytes)
            if self._access:
                _tell_of_no_request(status, sent_bytes, connection.peer)
            return
        key = request.key
        # A namespace that is not in memory here may not exist: somebody may be probing names.
        if key is None or self._namespaces.loaded(key) is None:
            key = DEFAULT_NAMESPACE if key is None else OTHER
        received_bytes = _received(connection, request)
        route = _route(request.path)
        method = _METHOD_NAMES.get(request.line.method, OTHER)
        self._metrics.count_request(method, route, status, key, seconds, received_bytes, sent_bytes)
        if request.trail is not None:
            self._tell(connection, request, request.trail, status, seconds, sent_bytes)

    def broke_off(self, connection: Connection, seconds: float) -> None:
        """Record a request whose client left before the answer was complete."""
        request = connection.request
        if request is not None and request.trail is not None:
            status = connection.status or CLIENT_LEFT
            self._tell(connection, request, request.trail, status, seconds, connection.sent_bytes)

    def _tell(
        self,
        connection: Connection,
        request: Request,
        trail: Trail,
        status: int,
        seconds: float,
        sent_bytes: int,
    ) -> None:
        request.trail = None  # once
        received_bytes = _received(connection, request)
        if self._access:
            access.write(
                Access(
                    method=request.line.method.decode("ascii"),
                    route=_route(request.path),
                    path=request.line.path,
                    query=request.line.query,
                    status=status,
                    seconds=seconds,
                    received_bytes=received_bytes,
                    sent_bytes=sent_bytes,
                    request_id=request.id,
                    namespace=request.key,
                    user=trail.user,
                    client=self._proxies.client(
                        connection.peer, request.block.text_fields.get("x-forwarded-for")
                    ),
                    trace_id=trail.trace_id,
                )
            )
        if self._tracing is not None:
            attributes: dict[str, str | int] = {
                "http.request.method": request.line.method.decode("ascii"),
                "http.route": _route(request.path),
                "url.path": request.line.path.decode("ascii"),
                "http.request.body.size": received_bytes,
                "http.response.body.size": sent_bytes,
                "fs9.request_id": request.id.decode("ascii"),
            }
            if request.key is not None:
                attributes["fs9.namespace"] = request.key
            if trail.user:
                attributes["enduser.id"] = trail.user
            self._tracing.end(trail, status, attributes)


def _tell_of_no_request(status: int, sent_bytes: int, peer: str) -> None:
    access.write(
        Access(
            method="-",
            route=OTHER,
            path=b"-",
            query=b"",
            status=status,
            seconds=0.0,
            received_bytes=0,
            sent_bytes=sent_bytes,
            request_id=REQUEST_ID.get(),
            client=peer,
        )
    )


def _method(request: Request) -> str:
    return _METHOD_NAMES.get(request.line.method, OTHER)


def _route(path: bytes) -> str:
    """The route of a path, as a label of metrics."""
    route = _ROUTES.get(path)
    if route is None:
        route = _NAMESPACES_ROUTE if path.startswith(_NAMESPACES_PATH) else OTHER
    return route


def _received(connection: Connection, request: Request) -> int:
    """Bytes of the request's body that have arrived."""
    length = request.block.length
    if length == 0:
        return 0
    framer = connection.intake.framer
    if isinstance(framer, ChunkedFramer):
        return framer.received
    return (length or 0) - framer.remaining
