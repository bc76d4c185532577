"""Routes of namespaces, and of what happened in them."""

from __future__ import annotations

from fs9 import errors
from fs9.wire import messages
from fs9.wire.route import (
    EVENTS_DEFAULT,
    JSON_BODY,
    Access,
    Answer,
    BodyKind,
    Param,
    Route,
)

NAMESPACE_ROUTES: tuple[Route, ...] = (
    Route(
        "namespace_create",
        "POST",
        "/namespaces",
        "Create a namespace, with the mounts of the template. For admins of the server.",
        (Answer(201, "Created.", messages.NamespaceReply),),
        errors=(*JSON_BODY, errors.InvalidArgument, errors.AlreadyExists),
        request=messages.NamespaceRequest,
        body=BodyKind.JSON,
        access=Access.TOKEN,
        idempotent=False,
    ),
    Route(
        "namespace_list",
        "GET",
        "/namespaces",
        "All namespaces. For admins and operators of the server.",
        (Answer(200, "The namespaces.", list[messages.NamespaceReply]),),
        access=Access.TOKEN,
    ),
    Route(
        "namespace_get",
        "GET",
        "/namespaces/{ns}",
        "One namespace. For admins and operators of it or of the server.",
        (Answer(200, "The namespace.", messages.NamespaceReply),),
        errors=(errors.NotFound,),
        access=Access.TOKEN,
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
)
