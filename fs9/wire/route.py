"""The types of which the route tables `fs9.wire.routes_*` are made."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from fs9 import errors
from fs9.errors import Fs9Error

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
    """What a caller needs: nothing, a token that may have expired, one that holds, or also the
    namespace it names. The second kind of route looks at the token itself."""

    OPEN = "open"
    EXPIRED = "expired"
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


PATH = Param("path", "Absolute path in the namespace.", required=True, example="/")
IF_MATCH = Param("if-match", "Only if one of these versions is current: `*` or quoted tags.")
IF_NONE_MATCH = Param(
    "if-none-match", "Only if none of these versions is current; `*`: only if there is no file."
)
IF_UNMODIFIED = Param("if-unmodified-since", "Only if unchanged since this date.")
CHANGE_CONDITIONS = (IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED)
ETAG = Param("etag", "The version, as a quoted strong entity tag.")
NOT_KEPT = (Param("cache-control", "Always `no-store`."),)
ON_PATH = (errors.InvalidArgument, errors.NotFound, errors.NotDirectory)
CHANGES = (
    *ON_PATH,
    errors.PermissionDenied,
    errors.NotSupported,
    errors.QuotaExceeded,
    errors.PreconditionFailed,
)
JSON_BODY = (
    errors.MalformedRequest,
    errors.UnprocessableBody,
    errors.UnsupportedMediaType,
    errors.PayloadTooLarge,
)
BODY_ENDS_EARLY = (errors.MalformedRequest, errors.PayloadTooLarge)
