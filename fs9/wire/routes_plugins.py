"""Routes of native plugins, for administrators of the server."""

from __future__ import annotations

from fs9 import errors
from fs9.wire import messages
from fs9.wire.route import JSON_BODY, Access, Answer, BodyKind, Route

PLUGIN_ROUTES: tuple[Route, ...] = (
    Route(
        "plugin_list",
        "GET",
        "/plugin/list",
        "The names of the native plugins. Needs an admin or operator of the server.",
        (Answer(200, "The names, sorted.", list[str]),),
        errors=(errors.BackendUnavailable,),
        access=Access.TOKEN,
    ),
    Route(
        "plugin_load",
        "POST",
        "/plugin/load",
        "Make a native plugin known to all workers. Needs an admin of the server, and the setting"
        " `server.plugins.api`.",
        (Answer(200, "Loaded.", messages.PluginReply),),
        errors=(
            *JSON_BODY,
            errors.InvalidArgument,
            errors.NotFound,
            errors.PermissionDenied,
            errors.AlreadyExists,
            errors.BackendUnavailable,
        ),
        request=messages.PluginLoadRequest,
        body=BodyKind.JSON,
        access=Access.TOKEN,
        idempotent=False,
    ),
    Route(
        "plugin_unload",
        "POST",
        "/plugin/unload",
        "Forget a native plugin that no namespace mounts. Needs an admin of the server, and the"
        " setting `server.plugins.api`.",
        (Answer(204, "Unloaded.", media=None),),
        errors=(
            *JSON_BODY,
            errors.NotFound,
            errors.Conflict,
            errors.BackendUnavailable,
            errors.Transient,
        ),
        request=messages.PluginRequest,
        body=BodyKind.JSON,
        access=Access.TOKEN,
        idempotent=False,
    ),
)
