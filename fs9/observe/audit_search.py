"""Searches events: those in memory first, then those in the store, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.observe.audit import EventQuery

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fs9.observe.audit import EventFilter, EventStore
    from fs9.observe.audit_chain import AuditRecord

#: Events read from the store at a time, at least and at most.
_PAGE_MIN = 10
_PAGE_MAX = 1000


async def search(
    memory: Iterable[AuditRecord],
    store: EventStore,
    name: str,
    wanted: EventFilter,
    *,
    limit: int,
    offset: int,
) -> list[AuditRecord]:
    """Newest first; the filter applies before `offset`, and that before `limit`.

    `memory` has what is newer than everything in the store, newest first.
    """
    found: list[AuditRecord] = []
    for event in memory:
        offset = _take(found, event, wanted, offset)
    start = 0
    only = next(iter(wanted.types)) if wanted.types and len(wanted.types) == 1 else None
    while len(found) < limit:
        page = await store.events(
            name,
            EventQuery(
                limit=min(_PAGE_MAX, offset + limit + _PAGE_MIN),
                offset=start,
                path=wanted.path,
                event_type=only,
                since_ns=wanted.since_ns,
                until_ns=wanted.until_ns,
            ),
        )
        if not page:
            break
        for event in page:
            offset = _take(found, event, wanted, offset)
        start += len(page)
    return [wanted.shown(event) for event in found[:limit]]


def _take(found: list[AuditRecord], event: AuditRecord, wanted: EventFilter, offset: int) -> int:
    """Add the event if it is wanted; how many are still to be left out."""
    if not wanted.wants(event):
        return offset
    if offset:
        return offset - 1
    found.append(event)
    return 0
