"""The route that watches changes in a namespace."""

from __future__ import annotations

from fs9 import errors
from fs9.wire import messages
from fs9.wire.route import NOT_KEPT, PATH, Answer, Param, Route
from fs9.wire.routes_follow import WAIT_DEFAULT_S, WAIT_S_MAX

WATCH_ROUTES: tuple[Route, ...] = (
    Route(
        "watch",
        "GET",
        "/watch",
        "What changes at a path and below: one answer that waits for something, or, to a client "
        "that accepts `text/event-stream`, events without an end.",
        (
            Answer(
                200,
                "Changes, and where to go on; none when none came in time.",
                messages.WatchReply,
                headers=NOT_KEPT,
            ),
        ),
        errors=(
            errors.InvalidArgument,
            errors.NotFound,
            errors.PermissionDenied,
            errors.QuotaExceeded,
            errors.CursorExpired,
        ),
        query=(
            PATH,
            Param(
                "since",
                "The cursor of the last answer, or the id of the last event. Without it: what "
                "comes from now on.",
            ),
            Param(
                "wait",
                "Seconds that the answer may wait, at most half of the request timeout.",
                number=True,
                at_most=WAIT_S_MAX,
                default=WAIT_DEFAULT_S,
            ),
        ),
        headers=(Param("last-event-id", "The id of the last event; before `since`."),),
    ),
)
