"""The Falcon application: answers every request that the fast lane does not.

A request's way, in order: route → `Resource` makes an Exchange → `dispatch.answer`
(credentials, query, body, namespace, session) → the Reply is sent. Falcon routes and speaks
ASGI; it parses no query and no body, and has no middleware: what all requests need is in
`answer`, which the fast lane shares.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import falcon
import falcon.asgi
from falcon.constants import COMBINED_METHODS

from fs9.errors import Fs9Error, MalformedRequest, MethodNotAllowed, RouteNotFound
from fs9.http.asgi import AsgiBody, no_body_yet, path_as_sent, peer, request_headers
from fs9.http.dispatch import answer
from fs9.http.exchange import Exchange
from fs9.http.failures import reply_to_bug, reply_to_error
from fs9.http.operations import OPERATIONS, Operation
from fs9.wire.query import parse_query
from fs9.wire.route import PREFIX, TENANT_PREFIX, Access, BodyKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from fs9.http.asgi import Receive, Scope, Send
    from fs9.http.context import Context
    from fs9.http.exchange import Reply, Stream
    from fs9.http.operations import Run

_Falcon: TypeAlias = "falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]"

# Where the ASGI scope has the original of what Falcon must not see, and what the routes need.
_METHOD = "fs9.method"
_QUERY = "fs9.query"
_RECEIVE = "fs9.receive"
_CONTEXT = "fs9.context"
_STREAM = "fs9.stream"
_LEAVING = "fs9.leaving"
#: In the scope, who wants to know by which exchange the request is answered.
NOTICE = "fs9.notice"

_METHODS = frozenset(COMBINED_METHODS) - {"WEBSOCKET"}
#: A method that no route has stands for those that Falcon does not know.
_NO_METHOD = "TRACE"


def create_app(context: Context) -> Application:
    """The ASGI application that serves every operation under both prefixes."""
    return Application(routed(), context)


@cache
def routed() -> _Falcon:
    """The Falcon application without services: every route, one application for each process.

    When it is made before the workers are forked, they share it; making one takes 6 ms.
    """
    app: _Falcon = falcon.asgi.App()
    app.add_error_handler(Exception, _on_error)
    templates = _by_template(OPERATIONS)
    for number, (template, operations) in enumerate(templates.items(), 1):
        # All are compiled with the last one; else the first request would wait for that.
        app.add_route(template, Resource(operations), compile=number == len(templates))
    app.add_sink(_unrouted)
    return app


def _by_template(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        prefixes = (PREFIX, TENANT_PREFIX) if operation.prefixed else ("",)
        for prefix in prefixes:
            found[prefix + operation.path].append(operation)
    return found


class Application:
    """Falcon, which must not parse query and body; closes every stream at the end."""

    def __init__(self, app: _Falcon, context: Context) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        scope = {
            **scope,
            "path": path_as_sent(scope),
            "method": method if method in _METHODS else _NO_METHOD,
            "query_string": b"",
            _METHOD: method,
            _QUERY: scope["query_string"],
            _RECEIVE: receive,
            _CONTEXT: self._context,
        }
        try:
            # Falcon receives before it routes, and that would invite the body of a client
            # that sent `Expect: 100-continue`, before we know whether we want it.
            await self._app(scope, no_body_yet, send)
        finally:
            leaving = scope.get(_LEAVING)
            if leaving is not None:
                leaving.cancel()
            stream = scope.get(_STREAM)
            if stream is not None:
                await stream.aclose()


class Resource:
    """All methods of one path."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._operations = {operation.method: operation for operation in operations}
        if "GET" in self._operations:
            self._operations["HEAD"] = self._operations["GET"]
        self._refusal = _method_refusal(self._operations)
        # Every method that Falcon knows is ours to answer, OPTIONS included.
        for method in _METHODS:
            setattr(self, f"on_{method.lower()}", self._serve)

    async def _serve(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, **params: str
    ) -> None:
        tenant = params.pop("tenant", None)
        operation = self._operations.get(req.method, self._refusal)
        if req.path.startswith("//"):  # Falcon's router takes several slashes for one
            operation = _refusing(_route_not_found(req), operation.access)
        await _drive(operation, req, resp, tenant, params)


async def _unrouted(
    req: falcon.asgi.Request, resp: falcon.asgi.Response | None, **params: str
) -> None:
    """Answer a path that no route matches: 404, but 401 without a token, which reveals nothing."""
    assert resp is not None  # None is for WebSockets, which have no sink here
    operation = _refusing(_route_not_found(req), Access.TOKEN)
    await _drive(operation, req, resp, None, {})


def _route_not_found(req: falcon.asgi.Request) -> RouteNotFound:
    return RouteNotFound(f"{req.scope[_METHOD]} {req.path}")


def _method_refusal(operations: dict[str, Operation]) -> Operation:
    allow = ", ".join(sorted(operations))
    access = next(iter(operations.values())).access

    async def refuse(x: Exchange) -> Reply:
        return reply_to_error(MethodNotAllowed(x.method), headers=(("allow", allow),))

    return _operation(refuse, access)


def _refusing(error: Fs9Error, access: Access) -> Operation:
    """An operation that checks the credentials like any other, and then fails."""

    async def refuse(_: Exchange) -> Reply:
        raise error

    return _operation(refuse, access)


def _operation(run: Run, access: Access) -> Operation:
    if access in {Access.SESSION, Access.EXPIRED}:
        access = Access.TOKEN
    return Operation("refusal", "", "", run, access, BodyKind.NONE, fast=False, prefixed=False)


async def _drive(
    operation: Operation,
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response,
    tenant: str | None,
    params: dict[str, str],
) -> None:
    """Run one operation for a Falcon request."""
    scope = req.scope
    context: Context = scope[_CONTEXT]
    headers = request_headers(scope)
    query: dict[str, str] = {}
    try:
        query = parse_query(scope[_QUERY])
    except Fs9Error as error:
        operation = _refusing(error, operation.access)
    exchange = Exchange(
        context=context,
        method=scope[_METHOD],
        query=query,
        headers=headers,
        body=AsgiBody(scope[_RECEIVE], headers, context.limits.request_timeout_s),
        params=params,
        peer=peer(scope),
    )
    if NOTICE in scope:
        scope[NOTICE](exchange)
    reply = await answer(operation, exchange, headers.get("authorization"), tenant)
    # The application closes it, whatever becomes of the sending.
    scope[_STREAM] = reply.stream
    if reply.stream is not None and exchange.endless:
        left = _close_when_left(scope[_RECEIVE], reply.stream)
        scope[_LEAVING] = asyncio.get_running_loop().create_task(left)
    _send(resp, reply, head=scope[_METHOD] == "HEAD")


async def _close_when_left(receive: Receive, stream: Stream) -> None:
    """Close an endless answer when its client leaves: one that sends nothing would not notice."""
    while (await receive())["type"] != "http.disconnect":
        pass
    await stream.aclose()


def _send(resp: falcon.asgi.Response, reply: Reply, *, head: bool) -> None:
    resp.status = reply.status
    if reply.content_type is not None:
        resp.content_type = reply.content_type
    for name, value in reply.headers:
        resp.set_header(name, value)
    if reply.stream is not None:
        resp.stream = _no_pieces() if head else cast("AsyncIterator[bytes]", reply.stream)
        if reply.length is not None:
            resp.content_length = reply.length
    else:
        resp.data = bytes(reply.body)


async def _no_pieces() -> AsyncIterator[bytes]:
    """An empty body for answers to HEAD: without a body Falcon sends `Content-Length: 0`."""
    return
    yield b""


async def _on_error(
    req: falcon.asgi.Request,
    resp: falcon.asgi.Response,
    error: Exception,
    params: dict[str, Any],
) -> None:
    """Reply to an error that Falcon raises, or that is raised before `answer` is called."""
    if isinstance(error, Fs9Error):
        reply = reply_to_error(error)
    elif isinstance(error, falcon.HTTPError):
        reply = reply_to_error(MalformedRequest(error.title or "not a valid request"))
    else:
        reply = reply_to_bug(error)
    _send(resp, reply, head=req.method == "HEAD")
