"""The audit trail of one namespace: which user changed what, in memory, bounded.

Only changes that succeeded are recorded, by `fs9.vfs.session`, and `GET /events` reads them.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from fs9.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

EVENT_TYPES = frozenset(
    {"create", "write", "delete", "mkdir", "rename", "chmod", "truncate", "upload"}
)

#: An event like the last one within this time is counted with it.
_MERGE_S = 1.0


class AuditEvent(msgspec.Struct, frozen=True, gc=False):
    """`count` equal events, the first at `timestamp_s`. `target`: where a rename went."""

    timestamp_s: float
    event_type: str
    path: str
    user: str
    count: int = 1
    target: str | None = None


class AuditLog:
    """The last `events_max` events; older ones are forgotten."""

    __slots__ = ("_events", "_events_max")

    def __init__(self, events_max: int) -> None:
        self._events_max = events_max
        #: Made at the first event: an empty deque would be a third of an idle namespace.
        self._events: deque[AuditEvent] | None = None

    def record(
        self, event_type: str, path: str, user: str, now_s: float, target: str | None = None
    ) -> None:
        """Add an event, or count it with the last one when that is equal and recent."""
        events = self._events
        if events is None:
            events = self._events = deque(maxlen=self._events_max)
        count, first_s = 1, now_s
        if events:
            last = events[-1]
            same = (
                last.path == path
                and last.event_type == event_type
                and last.user == user
                and last.target == target
            )
            if same and now_s - last.timestamp_s < _MERGE_S:
                events.pop()
                count, first_s = last.count + 1, last.timestamp_s
        events.append(AuditEvent(first_s, event_type, path, user, count, target))

    def find(
        self,
        *,
        limit: int = 100,
        offset: int = 0,
        path: str = "",
        event_type: str | None = None,
        visible: Callable[[str], bool] | None = None,
    ) -> list[AuditEvent]:
        """Newest first: those whose path starts with `path` (as text) and of that type.

        With `visible` only those whose path is; a target that is not is left out. The filters
        apply before `offset`, and that before `limit`. Raises InvalidArgument
        for an unknown type.
        """
        if event_type is not None and event_type not in EVENT_TYPES:
            raise InvalidArgument(f"unknown event type: {event_type}")
        wanted = (
            event
            for event in reversed(self._events or ())
            if event.path.startswith(path)
            and event_type in {None, event.event_type}
            and (visible is None or visible(event.path))
        )
        found = list(islice(wanted, offset, offset + limit))
        if visible is not None:
            found = [_without_hidden(event, visible) for event in found]
        return found

    def __len__(self) -> int:
        return len(self._events or ())


def _without_hidden(event: AuditEvent, visible: Callable[[str], bool]) -> AuditEvent:
    if event.target is None or visible(event.target):
        return event
    return msgspec.structs.replace(event, target=None)
