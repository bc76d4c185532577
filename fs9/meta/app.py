"""The metadata service's Falcon application: drives the table of `fs9.meta.routes`.

    route ── key? ── body decoded ── one call of MetaService or Issuer ── record as JSON

Both of the contract's families of routes are served over one store: `/api/v1/…`, and
`/api/v1/admin/…`, whose answers differ in some statuses. Every route but `/health` needs the
admin key when there is one.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import falcon
import falcon.asgi
import msgspec

from fs9.errors import (
    AlreadyExists,
    Forbidden,
    Fs9Error,
    Internal,
    InvalidArgument,
    MethodNotAllowed,
    PayloadTooLarge,
    RequestTimeout,
    RouteNotFound,
    Unauthenticated,
    UnprocessableBody,
)
from fs9.meta import wire
from fs9.meta.routes import ADMIN, ROUTES, Call, Route
from fs9.wire.codec import check_json_type

if TYPE_CHECKING:
    from fs9.meta.issuing import Issuer
    from fs9.meta.service import MetaService

log = logging.getLogger(__name__)

_BODY_BYTES_MAX = 4 * 1024 * 1024
_BODY_TIMEOUT_S = 30.0
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT")

encode = msgspec.json.Encoder().encode

T = TypeVar("T")
Start: TypeAlias = Callable[[], Awaitable[tuple["MetaService", "Issuer"]]]
Stop: TypeAlias = Callable[[], Awaitable[None]]


class MetaApplication:
    """The ASGI application of one process; opens the store when the server starts it."""

    def __init__(
        self,
        admin_key: str | None,
        start: Start,
        stop: Stop,
        end_waits: Callable[[], None] = lambda: None,
    ) -> None:
        """`end_waits`: to be called when the server is about to stop, before `stop`."""
        self._admin_key = admin_key
        self.end_waits = end_waits
        self._start = start
        self._stop = stop
        self.rules: tuple[MetaService, Issuer] | None = None
        self.app: falcon.asgi.App[Any, Any] = falcon.asgi.App(middleware=[_Lifespan(self)])
        self.app.add_error_handler(Exception, _on_error)
        grouped: dict[str, list[Route]] = defaultdict(list)
        for route in ROUTES:
            grouped[route.template].append(route)
        for template, routes in grouped.items():
            self.app.add_route(template, _Resource(self, routes))
        self.app.add_route("/health", _Health())
        self.app.add_sink(_Unrouted(self).serve)

    async def open(self) -> None:
        self.rules = await self._start()

    async def close(self) -> None:
        await self._stop()

    def check_key(self, path: str, headers: Mapping[str, str]) -> None:
        """Raise Unauthenticated, or Forbidden under `/admin`, without the admin key."""
        if self._admin_key is None:
            return
        given = headers.get(wire.KEY_HEADER)
        if given is None:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            given = given if scheme.lower() == "bearer" else ""
        wanted = self._admin_key.encode()
        # The bytes of the header, without the blanks around its value.
        if hmac.compare_digest(given.strip(" \t").encode("latin-1", "replace"), wanted):
            return
        if path.startswith(f"{ADMIN}/"):
            raise Forbidden(wire.NO_KEY_ADMIN)
        raise Unauthenticated(wire.NO_KEY)


class _Lifespan:
    """Falcon's hooks of the server's start and end."""

    def __init__(self, owner: MetaApplication) -> None:
        self._owner = owner

    async def process_startup(self, scope: object, event: object) -> None:
        await self._owner.open()

    async def process_shutdown(self, scope: object, event: object) -> None:
        await self._owner.close()


class _Resource:
    """All methods of one template."""

    def __init__(self, owner: MetaApplication, routes: list[Route]) -> None:
        self._owner = owner
        self._routes = {route.method: route for route in routes}
        self._decoders = {
            route.method: msgspec.json.Decoder(route.body)
            for route in routes
            if route.body is not None
        }
        for method in _METHODS:
            setattr(self, f"on_{method.lower()}", self._serve)

    async def _serve(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, **params: str
    ) -> None:
        self._owner.check_key(req.path, req.headers_lower)
        method = "GET" if req.method == "HEAD" else req.method
        route = self._routes.get(method)
        if route is None:
            resp.set_header("allow", ", ".join(sorted(self._routes)))
            raise MethodNotAllowed(req.method)
        assert self._owner.rules is not None
        admin = req.path.startswith(f"{ADMIN}/")
        call = Call(*self._owner.rules, params, _query(req))
        if route.body is not None:
            call.body = await _body(req, self._decoders[method])
        try:
            answer = await route.run(call)
        except AlreadyExists as error:
            if admin:  # the status of that family
                raise InvalidArgument(error.detail) from None
            raise
        resp.data = encode(answer)
        resp.content_type = "application/json"


class _Health:
    def __init__(self) -> None:
        for method in _METHODS:
            setattr(self, f"on_{method.lower()}", self._serve)

    async def _serve(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """JSON for whoever asks for it, as one of the contract's services; else text."""
        if req.method not in {"GET", "HEAD"}:
            resp.set_header("allow", "GET")
            raise MethodNotAllowed(req.method)
        if "json" in (req.get_header("accept") or ""):
            resp.data = encode({"status": "ok", "service": "fs9-meta"})
            resp.content_type = "application/json"
        else:
            resp.text = "ok"
            resp.content_type = "text/plain"


class _Unrouted:
    def __init__(self, owner: MetaApplication) -> None:
        self._owner = owner

    async def serve(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response | None, **params: str
    ) -> None:
        self._owner.check_key(req.path, req.headers_lower)
        raise RouteNotFound(f"{req.method} {req.path}")


def _query(req: falcon.asgi.Request) -> dict[str, str]:
    """The query's fields; of a repeated one the last."""
    return {
        name: value[-1] if isinstance(value, list) else value for name, value in req.params.items()
    }


async def _body(req: falcon.asgi.Request, decoder: msgspec.json.Decoder[T]) -> T:
    check_json_type(req.content_type)
    data = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            while piece := await req.stream.read(64 * 1024):
                data += piece
                if len(data) > _BODY_BYTES_MAX:
                    raise PayloadTooLarge(f"a body has at most {_BODY_BYTES_MAX} bytes")
    except TimeoutError:
        raise RequestTimeout(f"the body took longer than {_BODY_TIMEOUT_S:g} seconds") from None
    try:
        return decoder.decode(data)
    except UnicodeDecodeError:
        raise UnprocessableBody("the body is not UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnprocessableBody(str(error)) from None


async def _on_error(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response,
    error: Exception,
    params: dict[str, Any],
) -> None:
    """The one place where an error becomes an answer."""
    if isinstance(error, Fs9Error):
        failure = error
    elif isinstance(error, falcon.HTTPError):
        failure = InvalidArgument(error.title or "not a valid request")
    else:
        log.error("unexpected error", exc_info=error)
        failure = Internal("unexpected error, see the service's log")
    if failure.status >= 500 and not isinstance(failure, Internal):
        log.warning("%s %s: %s", req.method, req.path, failure)
    resp.status = failure.status
    resp.data = encode(wire.problem(failure))
    resp.content_type = "application/json"
