"""The states of a connection."""

from __future__ import annotations

import enum


class State(enum.Enum):
    IDLE = enum.auto()  # between requests, or collecting a head
    COLLECT = enum.auto()  # a small body is not complete yet
    ANSWER = enum.auto()  # an operation runs here
    APP = enum.auto()  # the ASGI application runs
    MOVE = enum.auto()  # on the way to the owner
    FORWARD = enum.auto()  # the owner answers through us
    DRAIN = enum.auto()  # answered; the rest of the body is read and dropped
    CLOSED = enum.auto()  # answered, or gone; whatever still comes is dropped


#: A request is in progress, and its answer is not complete.
IN_PROGRESS = frozenset({State.ANSWER, State.APP, State.MOVE, State.FORWARD})
#: The same, or its body is still to come.
UNANSWERED = IN_PROGRESS | {State.COLLECT}
