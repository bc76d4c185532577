"""The vocabulary of the audit trail: types of events, outcomes, filters and queries.

    session, HTTP ── record ──> AuditTrail (audit_trail) ── a link (audit_chain) ──> the store
                                     └── AuditJournal (audit_journal): survives the process

The outcome of an event is `ok` or, when it was refused, the kind of the error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from fs9.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fs9.observe.audit_chain import AuditRecord

OK = "ok"

#: The longest path or detail that is told of, in characters; longer paths are refused anyway.
TEXT_MAX = 4096
#: Details that add up when equal events are counted.
SUMS = frozenset({"bytes", "writes"})

#: Changes of files, in the contract's words: what is told when nobody asks for more.
EVENT_TYPES = frozenset(
    {"create", "write", "delete", "mkdir", "rename", "chmod", "truncate", "upload"}
)
#: Reading and requests appear as refusals alone; the others are administration.
MORE_TYPES = frozenset(
    {"read", "request", "refresh", "revoke", "mount", "unmount", "namespace", "plugin"}
)
ALL_TYPES = "all"

Outcome = Literal["ok", "refused", "all"]


class EventFilter(msgspec.Struct, frozen=True):
    """Which events: times are in [since, until); `path` is a prefix of text.

    `types` None: all. `visible`: paths that the one who asks may know of; a target that is not is
    left out of the details.
    """

    path: str = ""
    types: frozenset[str] | None = EVENT_TYPES
    outcome: Outcome = "ok"
    since_ns: int | None = None
    until_ns: int | None = None
    visible: Callable[[str], bool] | None = None

    def wants(self, event: AuditRecord) -> bool:
        return (
            (self.types is None or event.event_type in self.types)
            and (self.outcome == "all" or (self.outcome == "ok") == (event.outcome == OK))
            and event.path.startswith(self.path)
            and (self.since_ns is None or event.timestamp_ns >= self.since_ns)
            and (self.until_ns is None or event.timestamp_ns < self.until_ns)
            and (self.visible is None or self.visible(event.path))
        )

    def shown(self, event: AuditRecord) -> AuditRecord:
        """The event without what the one who asks may not know."""
        target = event.details.get("target")
        if self.visible is None or target is None or self.visible(target):
            return event
        details = {key: value for key, value in event.details.items() if key != "target"}
        return msgspec.structs.replace(event, details=details)


def event_filter(
    *,
    path: str = "",
    event_type: str | None = None,
    outcome: str | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
) -> EventFilter:
    """What a request asks for. Raises InvalidArgument for a type or outcome that does not exist.

    Without a type: the contract's, and every type when refusals are asked for.
    """
    if outcome not in {None, "ok", "refused", "all"}:
        raise InvalidArgument("'outcome' must be ok, refused or all")
    types: frozenset[str] | None = EVENT_TYPES
    if event_type == ALL_TYPES or (event_type is None and outcome in {"refused", "all"}):
        types = None
    elif event_type is not None:
        if event_type not in EVENT_TYPES | MORE_TYPES:
            raise InvalidArgument(f"unknown event type: {event_type}")
        types = frozenset({event_type})
    return EventFilter(
        path,
        types,
        outcome or "ok",  # type: ignore[arg-type]  # one of the three, see above
        since_ns,
        until_ns,
    )


class EventQuery(msgspec.Struct, frozen=True):
    """A page of stored events: newest first or, with `after`, what follows that sequence number.

    `path` is a prefix of text; times are in [since, until). At most `limit` events are given, after
    the first `offset` of them.
    """

    limit: int
    offset: int = 0
    path: str = ""
    event_type: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    after: int | None = None


class EventStore(Protocol):
    """The part of the meta store that keeps events; what each raises is said there."""

    async def append_events(self, name: str, events: Sequence[AuditRecord]) -> None: ...

    async def events(self, name: str, wanted: EventQuery) -> list[AuditRecord]: ...

    async def last_event(self, name: str) -> AuditRecord | None: ...

    async def trim_events(self, name: str, before_ns: int, keep_max: int) -> int: ...


def clean_text(text: str) -> str:
    """The text as every database keeps it: a name that is not one must not stop the trail."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def clean_details(details: dict[str, Any]) -> dict[str, Any]:
    """The details with clean texts, none longer than `TEXT_MAX`."""
    return {
        key: clean_text(value[:TEXT_MAX]) if isinstance(value, str) else value
        for key, value in details.items()
    }


def add_up(some: dict[str, Any], others: dict[str, Any]) -> bool:
    """Do the details of two events differ in nothing but what adds up?"""
    for key, value in some.items():
        if key not in others or (key not in SUMS and others[key] != value):
            return False
    return len(some) == len(others)
