"""The OpenAPI 3.1 document, made from the route table, the message types and the errors."""

from __future__ import annotations

import inspect
from collections import defaultdict
from http import HTTPStatus
from typing import Any

import msgspec

from fs9 import __version__
from fs9.errors import KINDS, NO_ACCESS
from fs9.wire import messages
from fs9.wire.examples import EXAMPLES
from fs9.wire.problem import error_reply
from fs9.wire.route import (
    BYTES,
    JSON,
    PREFIX,
    REQUEST_ID,
    SLOT,
    TENANT_PREFIX,
    Access,
    Answer,
    BodyKind,
    Param,
    Route,
)
from fs9.wire.routes import ROUTES, errors_of

Json = dict[str, Any]

_NO_RANGE = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
_REFERENCE = "#/components/schemas/{name}"
_TEXT = """\
A file server for many tenants: private namespaces of mounted providers.

Every path below `/api/v1` also exists below `/{tenant}/api/v1`. With a token its `ns` claim
names the namespace and a tenant in the path must agree; without authentication the tenant is
the namespace. Every refusal is JSON: `error` for people, `code` repeats the status, and `kind`
is what programs decide by. Every answer of a fleet names the worker that gave it in
`x-fs9-slot`. HEAD works wherever GET does.
"""
_EVERYWHERE = (
    Param(SLOT, "The worker that answered."),
    Param(REQUEST_ID, "The id of the request: its own, or a new one."),
)
_VERSION = (
    Param("etag", "Of a download: the version that is current."),
    Param("last-modified", "Of a download: when that changed."),
)
_ERROR_HEADERS: dict[int, tuple[Param, ...]] = {
    401: (Param("www-authenticate", "Always `Bearer`."),),
    405: (Param("allow", "The methods that the path has."),),
    412: _VERSION,
    416: (
        *_VERSION,
        Param("accept-ranges", "Always `bytes`."),
        Param("content-range", "`bytes */N`, where N is the size of the file."),
    ),
    429: (Param("retry-after", "Seconds to wait."),),
    503: (Param("retry-after", "Seconds to wait."),),
}


def openapi_document(*, auth: bool = False) -> Json:
    """The document, for a server whose authentication is on or off."""
    paths: dict[str, Json] = defaultdict(dict)
    for route in ROUTES:
        prefixes = (PREFIX, TENANT_PREFIX) if route.prefixed else ("",)
        for prefix in prefixes:
            item = paths[prefix + route.path]
            item[route.method.lower()] = _operation(route, prefix, auth=auth)
            if route.method == "GET":
                item["head"] = _head(item["get"], route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fs9",
            "version": __version__,
            "description": _TEXT,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(paths),
        "components": {
            "schemas": _schemas(),
            "responses": _failures(),
            "examples": _error_examples(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "HS256, with the claims sub, ns, roles, iat and exp.",
                }
            },
        },
    }


def _schemas() -> Json:
    shapes = [messages.Problem]
    for route in ROUTES:
        shapes += [answer.shape for answer in route.answers if answer.shape is not None]
        if route.request is not None:
            shapes.append(route.request)
    _, components = msgspec.json.schema_components(shapes, ref_template=_REFERENCE)
    for component in components.values():
        if "description" in component:  # a docstring, indented as in the source
            component["description"] = inspect.cleandoc(component["description"])
    return components


def _schema(shape: Any) -> Json:  # noqa: ANN401 - any type form
    (schema,), _ = msgspec.json.schema_components([shape], ref_template=_REFERENCE)
    return schema


def _operation(route: Route, prefix: str, *, auth: bool) -> Json:
    in_tenant = prefix == TENANT_PREFIX
    operation: Json = {
        "operationId": f"{route.name}_in_tenant" if in_tenant else route.name,
        "summary": route.summary,
        "tags": [_tag(route)],
        "parameters": _parameters(route, prefix + route.path),
        "responses": _responses(route),
        "security": [{"token": []}] if auth and route.access is not Access.OPEN else [],
    }
    if route.body is BodyKind.JSON:
        content: Json = {"schema": _schema(route.request)}
        if route.name in EXAMPLES:
            content["example"] = EXAMPLES[route.name].request
        operation["requestBody"] = {"required": True, "content": {JSON: content}}
    elif route.body is BodyKind.RAW:
        operation["requestBody"] = {
            "required": True,
            "description": "Any bytes; no content type is required or looked at.",
            "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}},
        }
    return operation


def _tag(route: Route) -> str:
    if route.access is Access.OPEN:
        return "server"
    return "files" if route.access is Access.SESSION else "namespaces"


def _head(get: Json, route: Route) -> Json:
    """The operation for HEAD: as GET, but without bodies and Range (RFC 9110, section 14.2)."""
    responses = {
        str(answer.status): _without_content(_success(route, answer))
        for answer in route.answers
        if answer.status != HTTPStatus.PARTIAL_CONTENT
    }
    for status, kinds in _refusals(route):
        if status != _NO_RANGE:
            responses[str(status)] = _reference(route, "HEAD", status, kinds)
    return {**get, "operationId": f"{get['operationId']}_head", "responses": responses}


def _without_content(response: Json) -> Json:
    return {key: value for key, value in response.items() if key != "content"}


def _parameters(route: Route, path: str) -> list[Json]:
    found = []
    if "{tenant}" in path:
        found.append(_parameter(Param("tenant", "The namespace.", example="default"), "path"))
    if "{ns}" in path:
        found.append(_parameter(Param("ns", "The namespace asked for.", example="default"), "path"))
    found += [_parameter(param, "query") for param in route.query]
    found += [_parameter(param, "header") for param in route.headers]
    return found


def _parameter(param: Param, place: str) -> Json:
    found: Json = {
        "name": param.name,
        "in": place,
        "required": param.required or place == "path",
        "description": param.text,
        "schema": _param_schema(param),
    }
    if param.example is not None:
        found["example"] = int(param.example) if param.number else param.example
    return found


def _param_schema(param: Param) -> Json:
    if not param.number:
        return {"type": "string"}
    schema: Json = {"type": "integer", "minimum": param.at_least}
    if param.at_most is not None:
        schema["maximum"] = param.at_most
    if param.default is not None:
        schema["default"] = param.default
    return schema


def _responses(route: Route) -> Json:
    found = {str(answer.status): _success(route, answer) for answer in route.answers}
    for status, kinds in _refusals(route):
        found[str(status)] = _reference(route, route.method, status, kinds)
    return found


def _success(route: Route, answer: Answer) -> Json:
    response: Json = {
        "description": answer.text,
        "headers": _headers(*answer.headers, *_EVERYWHERE),
    }
    if answer.media is not None:
        content: Json = {} if answer.shape is None else {"schema": _schema(answer.shape)}
        example = EXAMPLES.get(route.name)
        if example is not None and example.answer is not None:
            content["example"] = example.answer
        response["content"] = {answer.media: content}
    return response


def _refusals(route: Route) -> list[tuple[int, list[str]]]:
    """(status, kinds of error), by status."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for error in errors_of(route):
        by_status[error.status].append(error.kind)
    return sorted(by_status.items())


def _reference(route: Route, method: str, status: int, kinds: list[str]) -> Json:
    return {"$ref": f"#/components/responses/{_failure_name(route, method, status, kinds)}"}


def _failure_name(route: Route, method: str, status: int, kinds: list[str]) -> str:
    head = ["HEAD"] if method == "HEAD" else []
    own = [route.name] if status in route.refusal_headers else []
    return ".".join([*head, *own, str(status), *kinds])


def _failures() -> Json:
    """The error responses of all routes, each set of kinds once, to be referred to."""
    found: Json = {}
    for route in ROUTES:
        for status, kinds in _refusals(route):
            failure = _failure(status, kinds, route.refusal_headers.get(status, ()))
            found[_failure_name(route, route.method, status, kinds)] = failure
            if route.method == "GET" and status != _NO_RANGE:
                found[_failure_name(route, "HEAD", status, kinds)] = _without_content(failure)
    return found


def _failure(status: int, kinds: list[str], own: tuple[Param, ...]) -> Json:
    return {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(kinds)}.",
        "headers": _headers(*_ERROR_HEADERS.get(status, ()), *own, *_EVERYWHERE),
        "content": {
            JSON: {
                "schema": _schema(messages.Problem),
                "examples": {kind: {"$ref": f"#/components/examples/{kind}"} for kind in kinds},
            }
        },
    }


def _headers(*params: Param) -> Json:
    return {
        param.name: {"description": param.text, "schema": {"type": "string"}} for param in params
    }


def _error_examples() -> Json:
    found = {}
    for name, kind in KINDS.items():
        _, body, _ = error_reply(kind(_DETAILS.get(name, "/notes.txt")))
        found[name] = {"value": msgspec.json.decode(body)}
    return found


_DETAILS = {
    "Unauthenticated": "Missing Authorization header",
    "Forbidden": NO_ACCESS,
    "InvalidArgument": "the query has no 'path'",
    "InvalidHandle": "1f0c",
    "MalformedRequest": "the body is not JSON",
    "UnprocessableBody": "Expected `int`, got `str` - at `$.offset`",
    "UnsupportedMediaType": "the body must be application/json",
    "MethodNotAllowed": "PATCH",
    "PayloadTooLarge": "at most 268435456 bytes",
    "PermissionDenied": "this token is read-only",
    "NotImplemented": "symlink",
    "RangeNotSatisfiable": "1000",
    "CursorExpired": "list anew, and watch without 'since'",
    "QuotaExceeded": "at most 65536 open handles",
    "RequestTimeout": "no byte for 30 seconds",
    "Internal": "unexpected error, see the server's log",
    "TooManyRequests": "User rate limit exceeded",
    "Overloaded": "too many requests at once",
    "OwnerUnavailable": "the worker is being replaced",
    "UriTooLong": "at most 16384 bytes",
    "HeadersTooLarge": "at most 32768 bytes",
    "MisdirectedRequest": "another worker owns the namespace",
    "BackendUnavailable": "connection refused",
    "Transient": "the file became shorter while it was read",
    "CircuitBreakerOpen": "s3",
    "Timeout": "30s",
    "TooManyHops": "9 (max: 8)",
    "Remote": "node-2: internal error",
}
