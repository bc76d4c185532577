"""Routes of open files."""

from __future__ import annotations

from fs9 import errors
from fs9.wire import messages
from fs9.wire.route import (
    BODY_ENDS_EARLY,
    BYTES,
    CHANGE_CONDITIONS,
    CHANGES,
    JSON_BODY,
    Answer,
    BodyKind,
    Param,
    Route,
)

HANDLE_ROUTES: tuple[Route, ...] = (
    Route(
        "open",
        "POST",
        "/open",
        "Open, perhaps create, a file; make a directory.",
        (Answer(200, "A handle, and the file's info at that moment.", messages.OpenReply),),
        errors=(*CHANGES, *JSON_BODY, errors.AlreadyExists, errors.IsDirectory),
        headers=CHANGE_CONDITIONS,
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
            *JSON_BODY,
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
            *BODY_ENDS_EARLY,
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
            *JSON_BODY,
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
)
