"""The route that follows the messages of a file."""

from __future__ import annotations

from fs9 import errors
from fs9.wire import messages
from fs9.wire.route import NOT_KEPT, ON_PATH, PATH, Answer, Param, Route

#: How long a poll waits for something to come.
WAIT_DEFAULT_S = 15
WAIT_S_MAX = 60

FOLLOW_ROUTES: tuple[Route, ...] = (
    Route(
        "follow",
        "GET",
        "/follow",
        "The messages of a file as they are written: one answer that waits for some, or, to a "
        "client that accepts `text/event-stream`, events without an end.",
        (
            Answer(
                200,
                "Messages, and where to go on; none when none came in time.",
                messages.FollowReply,
                headers=NOT_KEPT,
            ),
        ),
        errors=(
            *ON_PATH,
            errors.IsDirectory,
            errors.NotSupported,
            errors.QuotaExceeded,
        ),
        query=(
            PATH,
            Param(
                "since",
                "The cursor of the last answer, or the id of the last event. Without it: all that "
                "is kept, then what comes; `end`: what comes.",
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
