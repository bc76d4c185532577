"""The audit trail over HTTP: events newest first, as they happen, or as links of the hash chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.errors import InvalidArgument
from fs9.http import events_stream
from fs9.http.decode import attached
from fs9.http.exchange import Reply
from fs9.http.follow import Events
from fs9.observe.audit import event_filter
from fs9.wire.codec import encode
from fs9.wire.messages import OFFSET_MAX, EventDetails, EventLink, EventReply
from fs9.wire.query import number
from fs9.wire.route import EVENTS_DEFAULT, PAGE_ENTRIES_MAX

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange
    from fs9.observe.audit import EventFilter
    from fs9.observe.audit_chain import AuditRecord

_NS = 10**9
#: The last second whose nanoseconds the stores can keep.
_SECONDS_MAX = OFFSET_MAX // _NS


async def events(x: Exchange) -> Reply:
    limit = min(number(x.query.get("limit", str(EVENTS_DEFAULT)), "limit"), PAGE_ENTRIES_MAX)
    offset = number(x.query.get("offset", "0"), "offset", at_most=OFFSET_MAX)
    wanted = _wanted(x)
    following, detailed = _flag(x, "follow"), _flag(x, "details")
    session = x.session or await attached(x)
    if following:
        cursor = events_stream.resumed_from(x, "after")
        return events_stream.reply(x, Events(await session.follow_events(wanted, cursor, _full)))
    found = await session.events(wanted, limit=limit, offset=offset)
    shape = _details if detailed or wanted.outcome != "ok" else _plain
    return Reply(200, encode([shape(event) for event in found]))


async def chain(x: Exchange) -> Reply:
    limit = number(
        x.query.get("limit", str(EVENTS_DEFAULT)), "limit", at_least=1, at_most=PAGE_ENTRIES_MAX
    )
    after = number(x.query.get("after", "0"), "after", at_most=OFFSET_MAX)
    session = x.session or await attached(x)
    links = await session.links(after, limit)
    return Reply(200, encode([_link(record) for record in links]))


def _wanted(x: Exchange) -> EventFilter:
    query = x.query
    since, until = query.get("since"), query.get("until")
    return event_filter(
        path=query.get("path", ""),
        event_type=query.get("type"),
        outcome=query.get("outcome"),
        since_ns=None if since is None else _NS * number(since, "since", at_most=_SECONDS_MAX),
        until_ns=None if until is None else _NS * number(until, "until", at_most=_SECONDS_MAX),
    )


def _flag(x: Exchange, name: str) -> bool:
    value = x.query.get(name, "0")
    if value not in {"0", "1"}:
        raise InvalidArgument(f"'{name}' must be 0 or 1")
    return value == "1"


def _plain(event: AuditRecord) -> EventReply:
    """The event with the five fields that the contract names."""
    timestamp_s = event.timestamp_ns // _NS
    return EventReply(timestamp_s, event.event_type, event.path, event.user, event.count)


def _details(event: AuditRecord) -> EventReply:
    return EventDetails(
        *(event.timestamp_ns // _NS, event.event_type, event.path, event.user, event.count),
        *(event.outcome, event.details, event.sequence),
    )


def _full(event: AuditRecord) -> bytes:
    return encode(_details(event))


def _link(record: AuditRecord) -> EventLink:
    return EventLink(
        *(record.sequence, record.timestamp_ns, record.event_type, record.path, record.user),
        *(record.count, record.outcome, record.details, record.digest, record.previous),
    )
