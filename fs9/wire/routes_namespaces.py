"""Routes of namespaces and of their audit trails."""

from __future__ import annotations

from fs9 import errors
from fs9.wire import messages
from fs9.wire.route import (
    EVENTS_DEFAULT,
    JSON_BODY,
    PAGE_ENTRIES_MAX,
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
        "namespace_update",
        "PATCH",
        "/namespaces/{ns}",
        "Suspend or activate a namespace, set its quota, replace its mounts. For admins of the "
        "server.",
        (Answer(200, "The namespace.", messages.NamespaceReply),),
        errors=(
            *JSON_BODY,
            errors.InvalidArgument,
            errors.NotFound,
            errors.Conflict,
            errors.BackendUnavailable,
        ),
        request=messages.NamespaceChangeRequest,
        body=BodyKind.JSON,
        access=Access.TOKEN,
    ),
    Route(
        "namespace_delete",
        "DELETE",
        "/namespaces/{ns}",
        "Delete a namespace; its data is kept for the retention or, with `purge=1`, removed now. "
        "For admins of the server.",
        (Answer(200, "Deleted.", messages.NamespaceDeletedReply),),
        errors=(
            errors.InvalidArgument,
            errors.NotFound,
            errors.Conflict,
            errors.BackendUnavailable,
        ),
        query=(Param("purge", "1: remove its data now.", number=True, at_most=1),),
        access=Access.TOKEN,
        idempotent=False,
    ),
    Route(
        "mount_add",
        "POST",
        "/mount",
        "Mount a provider in the namespace. For its admins and operators, as far as the settings "
        "let them; for admins of the server in their own namespace.",
        (
            Answer(201, "Mounted.", messages.MountReply),
            Answer(200, "Exactly this was mounted there already.", messages.MountReply),
        ),
        errors=(
            *JSON_BODY,
            errors.InvalidArgument,
            errors.NotFound,
            errors.AlreadyExists,
            errors.Conflict,
            errors.QuotaExceeded,
            errors.BackendUnavailable,
        ),
        request=messages.MountRequest,
        body=BodyKind.JSON,
        access=Access.TOKEN,
    ),
    Route(
        "mount_remove",
        "DELETE",
        "/mount",
        "Unmount; what was stored stays, and is there when the same is mounted there again.",
        (Answer(204, "Unmounted.", media=None),),
        errors=(errors.InvalidArgument, errors.NotFound, errors.Conflict),
        query=(
            Param("path", "The mount point.", required=True, example="/logs"),
            Param("force", "1 or true: also the root, and with open files, which are closed."),
        ),
        access=Access.TOKEN,
        idempotent=False,
    ),
    Route(
        "events",
        "GET",
        "/events",
        "What was changed in the namespace, newest first; or, with `follow=1`, what is changed "
        "from now on, as server-sent events without an end.",
        (Answer(200, "The events.", list[messages.EventReply]),),
        errors=(errors.InvalidArgument, errors.QuotaExceeded),
        query=(
            Param(
                "limit",
                "At most so many, and never more than 10,000.",
                number=True,
                default=EVENTS_DEFAULT,
            ),
            Param("offset", "Leave out so many first.", number=True, default=0),
            Param("path", "Only paths that begin with this text."),
            Param("type", "Only events of this type; `all`: of every type.", example="create"),
            Param(
                "outcome",
                "`ok` (the default), `refused` or `all`; the last two with every type and detail.",
                example="ok",
            ),
            Param("since", "Only from this second since 1970 on.", number=True),
            Param("until", "Only before this second since 1970.", number=True),
            Param("details", "1: with outcome, details and sequence.", number=True, at_most=1),
            Param("follow", "1: what is stored from now on.", number=True, at_most=1),
            Param("after", "With `follow`: from after the event with this sequence.", number=True),
        ),
        headers=(Param("last-event-id", "The id of the last event; before `after`."),),
    ),
    Route(
        "event_chain",
        "GET",
        "/events/chain",
        "The events of the namespace as they are stored, oldest first: links of a hash chain. "
        "Not for narrowed tokens.",
        (Answer(200, "The links.", list[messages.EventLink]),),
        errors=(errors.InvalidArgument, errors.PermissionDenied),
        query=(
            Param(
                "limit",
                "At most so many.",
                number=True,
                at_least=1,
                at_most=PAGE_ENTRIES_MAX,
                default=EVENTS_DEFAULT,
            ),
            Param("after", "Only what follows this sequence.", number=True, default=0),
        ),
    ),
)
