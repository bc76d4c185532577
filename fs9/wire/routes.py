"""The table of endpoints, shared by the server, the OpenAPI document and the clients.

Every prefixed route exists twice: as `/api/v1/…` and as `/{tenant}/api/v1/…`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from fs9 import errors
from fs9.errors import Fs9Error
from fs9.types import FsStats
from fs9.wire import messages

PREFIX = "/api/v1"
TENANT_PREFIX = "/{tenant}" + PREFIX

JSON = "application/json"
BYTES = "application/octet-stream"
HTML = "text/html; charset=utf-8"

#: Bounds of paged answers.
PAGE_ENTRIES_MAX = 10_000
EVENTS_DEFAULT = 100

#: Names of our own headers.
NEXT_CURSOR = "x-fs9-next-cursor"
SLOT = "x-fs9-slot"
REQUEST_ID = "x-request-id"


class Access(enum.Enum):
    """What a caller needs: nothing, a token that holds, or also the namespace it names."""

    OPEN = "open"
    TOKEN = "token"
    SESSION = "session"


class BodyKind(enum.Enum):
    NONE = "none"
    JSON = "json"
    RAW = "raw"


class Param(msgspec.Struct, frozen=True):
    """A field of the query, or a header."""

    name: str
    text: str
    required: bool = False
    number: bool = False
    at_least: int = 0
    at_most: int | None = None
    default: int | None = None
    example: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """A successful answer: its status, what it means, the type and media type of its body."""

    status: int
    text: str
    shape: Any = None
    media: str | None = JSON
    headers: tuple[Param, ...] = ()


class Route(msgspec.Struct, frozen=True):
    """One endpoint. `path` is below the prefix unless `prefixed` is False.

    `idempotent`: doing it twice has the effect of doing it once, so a client may repeat it
    when it does not know whether the first try arrived. `fast`: may be answered in the
    protocol class of the workers. `refusal_headers`: what its refusals have beyond the usual,
    by status.
    """

    name: str
    method: str
    path: str
    summary: str
    answers: tuple[Answer, ...]
    errors: tuple[type[Fs9Error], ...] = ()
    refusal_headers: Mapping[int, tuple[Param, ...]] = MappingProxyType({})
    query: tuple[Param, ...] = ()
    headers: tuple[Param, ...] = ()
    request: Any = None
    body: BodyKind = BodyKind.NONE
    access: Access = Access.SESSION
    idempotent: bool = True
    fast: bool = False
    prefixed: bool = True


_PATH = Param("path", "Absolute path in the namespace.", required=True, example="/")
_IF_MATCH = Param("if-match", "Only if one of these versions is current: `*` or quoted tags.")
_IF_NONE_MATCH = Param(
    "if-none-match", "Only if none of these versions is current; `*`: only if there is no file."
)
_IF_UNMODIFIED = Param("if-unmodified-since", "Only if unchanged since this date.")
_CHANGE_CONDITIONS = (_IF_MATCH, _IF_NONE_MATCH, _IF_UNMODIFIED)
_ETAG = Param("etag", "The version, as a quoted strong entity tag.")
_FILE_HEADERS = (
    _ETAG,
    Param("last-modified", "When the content last changed."),
    Param("accept-ranges", "Always `bytes`."),
    Param("content-security-policy", "Keeps a stored page from acting as this server."),
    Param("x-content-type-options", "Always `nosniff`."),
)
_NOT_KEPT = (Param("cache-control", "Always `no-store`."),)
_PAGE_HEADERS = (
    Param("content-security-policy", "Lets the page load nothing."),
    Param("referrer-policy", "Always `no-referrer`."),
    Param("x-content-type-options", "Always `nosniff`."),
)
_ON_PATH = (errors.InvalidArgument, errors.NotFound, errors.NotDirectory)
_CHANGES = (
    *_ON_PATH,
    errors.PermissionDenied,
    errors.NotSupported,
    errors.QuotaExceeded,
    errors.PreconditionFailed,
)
_JSON_BODY = (
    errors.MalformedRequest,
    errors.UnprocessableBody,
    errors.UnsupportedMediaType,
    errors.PayloadTooLarge,
)
_BODY_ENDS_EARLY = (errors.MalformedRequest, errors.PayloadTooLarge)

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
    Route(
        "health",
        "GET",
        "/health",
        "Is this worker answering?",
        (Answer(200, "It is.", messages.HealthReply),),
        access=Access.OPEN,
        prefixed=False,
    ),
    Route(
        "livez",
        "GET",
        "/livez",
        "Does this process answer?",
        (Answer(200, "It does.", messages.LiveReply, headers=_NOT_KEPT),),
        access=Access.OPEN,
        prefixed=False,
    ),
    Route(
        "readyz",
        "GET",
        "/readyz",
        "Can this worker serve?",
        (Answer(200, "It can.", messages.ReadyReply, headers=_NOT_KEPT),),
        (errors.Overloaded,),
        refusal_headers={503: _NOT_KEPT},
        query=(Param("verbose", "List the checks; no value is needed."),),
        access=Access.OPEN,
        prefixed=False,
    ),
    Route(
        "version",
        "GET",
        "/version",
        "What is running here?",
        (Answer(200, "Name, versions, process.", messages.VersionReply),),
        access=Access.OPEN,
        prefixed=False,
    ),
    Route(
        "metrics",
        "GET",
        "/metrics",
        "Counts of the whole fleet, for Prometheus.",
        (Answer(200, "The text format.", media="text/plain; version=0.0.4; charset=utf-8"),),
        (errors.Forbidden, errors.RouteNotFound),
        access=Access.TOKEN,
        prefixed=False,
    ),
    Route(
        "openapi",
        "GET",
        "/openapi.json",
        "This document.",
        (Answer(200, "An OpenAPI 3.1 document.", dict[str, Any]),),
        access=Access.OPEN,
        prefixed=False,
    ),
    Route(
        "docs",
        "GET",
        "/docs",
        "This document, for people.",
        (Answer(200, "A page that needs no network.", media=HTML, headers=_PAGE_HEADERS),),
        access=Access.OPEN,
        prefixed=False,
    ),
    Route(
        "stat",
        "GET",
        "/stat",
        "What is known of a file; of a symbolic link itself.",
        (Answer(200, "The file's info.", messages.Info),),
        errors=_ON_PATH,
        query=(_PATH,),
        fast=True,
    ),
    Route(
        "wstat",
        "POST",
        "/wstat",
        "Change mode, owner, times or size, rename, or make a symbolic link.",
        (Answer(204, "Done.", media=None),),
        errors=(
            *_CHANGES,
            *_JSON_BODY,
            errors.AlreadyExists,
            errors.IsDirectory,
            errors.DirectoryNotEmpty,
            errors.Conflict,
            errors.VersionConflict,
        ),
        headers=_CHANGE_CONDITIONS,
        request=messages.WstatRequest,
        body=BodyKind.JSON,
        idempotent=False,
    ),
    Route(
        "statfs",
        "GET",
        "/statfs",
        "Size and free space of the file system that holds a path.",
        (Answer(200, "The numbers.", FsStats),),
        errors=(*_ON_PATH, errors.NotSupported),
        query=(_PATH,),
    ),
    Route(
        "open",
        "POST",
        "/open",
        "Open, perhaps create, a file; make a directory.",
        (Answer(200, "A handle, and the file's info at that moment.", messages.OpenReply),),
        errors=(*_CHANGES, *_JSON_BODY, errors.AlreadyExists, errors.IsDirectory),
        headers=_CHANGE_CONDITIONS,
        request=messages.OpenRequest,
        body=BodyKind.JSON,
        idempotent=False,
        fast=True,
    ),
    Route(
        "read",
        "POST",
        "/read",
        "Read from an open file. A short or empty answer is the end for now.",
        (Answer(200, "The bytes; chunked when more than 1 MiB is asked for.", media=BYTES),),
        errors=(
            *_JSON_BODY,
            errors.InvalidHandle,
            errors.InvalidArgument,
            errors.IsDirectory,
            errors.PermissionDenied,
        ),
        request=messages.ReadRequest,
        body=BodyKind.JSON,
        fast=True,
    ),
    Route(
        "write",
        "POST",
        "/write",
        "Write to an open file. A gap before the offset reads as zeros.",
        (Answer(200, "How much was written.", messages.WriteReply),),
        errors=(
            *_BODY_ENDS_EARLY,
            errors.InvalidHandle,
            errors.InvalidArgument,
            errors.IsDirectory,
            errors.PermissionDenied,
            errors.QuotaExceeded,
            errors.NotSupported,
        ),
        query=(
            Param("handle_id", "The handle that open returned.", required=True, example="1"),
            Param("offset", "First byte to write.", required=True, number=True, example="0"),
        ),
        body=BodyKind.RAW,
        idempotent=False,
        fast=True,
    ),
    Route(
        "close",
        "POST",
        "/close",
        "Close a handle.",
        (Answer(204, "Done.", media=None),),
        errors=(
            *_JSON_BODY,
            errors.InvalidHandle,
            errors.PreconditionFailed,
            errors.NotFound,
            errors.QuotaExceeded,
        ),
        request=messages.CloseRequest,
        body=BodyKind.JSON,
        idempotent=False,
        fast=True,
    ),
    Route(
        "download",
        "GET",
        "/download",
        "A whole file, or one range of it.",
        (
            Answer(200, "The file.", media="*/*", headers=_FILE_HEADERS),
            Answer(
                206,
                "The range asked for.",
                media="*/*",
                headers=(*_FILE_HEADERS, Param("content-range", "Which bytes, of how many.")),
            ),
            Answer(304, "The client's copy is current.", media=None, headers=_FILE_HEADERS[:2]),
        ),
        errors=(
            *_ON_PATH,
            errors.IsDirectory,
            errors.PermissionDenied,
            errors.PreconditionFailed,
            errors.RangeNotSatisfiable,
            errors.NotSupported,
        ),
        query=(_PATH,),
        headers=(
            Param("range", "One range in bytes.", example="bytes=0-499"),
            Param("if-range", "Honour the range only for this version."),
            _IF_MATCH,
            _IF_NONE_MATCH,
            Param("if-modified-since", "304 unless changed since this date."),
            _IF_UNMODIFIED,
        ),
    ),
    Route(
        "upload",
        "PUT",
        "/upload",
        "Replace, or create, a whole file; readers see the old one until the new is complete.",
        (Answer(200, "How much was written.", messages.UploadReply, headers=(_ETAG,)),),
        errors=(*_CHANGES, *_BODY_ENDS_EARLY, errors.IsDirectory),
        query=(_PATH,),
        headers=_CHANGE_CONDITIONS,
        body=BodyKind.RAW,
    ),
    Route(
        "readdir",
        "GET",
        "/readdir",
        "The entries of a directory, sorted by the bytes of their names.",
        (
            Answer(
                200,
                "The entries.",
                list[messages.Info],
                headers=(
                    Param(NEXT_CURSOR, "Where the next page begins; absent on the last page."),
                    Param("link", 'The next page, as `rel="next"`; absent on the last page.'),
                ),
            ),
        ),
        errors=_ON_PATH,
        query=(
            _PATH,
            Param(
                "limit",
                "Entries of one page; without `limit` and `cursor` all come at once.",
                number=True,
                at_least=1,
                at_most=PAGE_ENTRIES_MAX,
            ),
            Param("cursor", "The `X-FS9-Next-Cursor` of the page before."),
        ),
        fast=True,
    ),
    Route(
        "remove",
        "DELETE",
        "/remove",
        "Remove a file, a symbolic link or an empty directory.",
        (Answer(204, "Done.", media=None),),
        errors=(*_CHANGES, errors.DirectoryNotEmpty, errors.IsDirectory),
        query=(_PATH,),
        headers=_CHANGE_CONDITIONS,
        idempotent=False,
    ),
    Route(
        "capabilities",
        "GET",
        "/capabilities",
        "What the mount that serves a path can do.",
        (Answer(200, "Names, and the type of the provider.", messages.CapabilitiesReply),),
        errors=_ON_PATH,
        query=(_PATH,),
    ),
    Route(
        "mounts",
        "GET",
        "/mounts",
        "The mounts of the namespace, sorted by path.",
        (Answer(200, "The mounts.", list[messages.MountReply]),),
    ),
    Route(
        "events",
        "GET",
        "/events",
        "What was changed in the namespace, newest first.",
        (Answer(200, "The events.", list[messages.EventReply]),),
        errors=(errors.InvalidArgument,),
        query=(
            Param(
                "limit",
                "At most so many, and never more than 10,000.",
                number=True,
                default=EVENTS_DEFAULT,
            ),
            Param("offset", "Leave out so many first.", number=True, default=0),
            Param("path", "Only paths that begin with this text."),
            Param("type", "Only events of this type.", example="create"),
        ),
    ),
    Route(
        "namespace_create",
        "POST",
        "/namespaces",
        "Create a namespace, with the mounts of the template. Needs the role admin.",
        (Answer(201, "Created.", messages.NamespaceReply),),
        errors=(*_JSON_BODY, errors.InvalidArgument, errors.AlreadyExists),
        request=messages.NamespaceRequest,
        body=BodyKind.JSON,
        access=Access.TOKEN,
        idempotent=False,
    ),
    Route(
        "namespace_list",
        "GET",
        "/namespaces",
        "All namespaces. Needs the role admin or operator.",
        (Answer(200, "The namespaces.", list[messages.NamespaceReply]),),
        access=Access.TOKEN,
    ),
    Route(
        "namespace_get",
        "GET",
        "/namespaces/{ns}",
        "One namespace. Needs the role admin or operator.",
        (Answer(200, "The namespace.", messages.NamespaceReply),),
        errors=(errors.NotFound,),
        access=Access.TOKEN,
    ),
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
