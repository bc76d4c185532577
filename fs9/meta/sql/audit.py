"""Operations on the events of namespaces, which are hash chains.

The events of a deleted namespace are kept until it is forgotten, and can be read by its name until
the name is used again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from fs9.errors import Conflict, NotFound
from fs9.meta.models import AuditRecord
from fs9.meta.sql.query import Operation, Query, Row, rows_of
from fs9.observe.audit_chain import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fs9.observe.audit import EventQuery

_EVENT = (
    "sequence, timestamp_ns, event_type, path, user_name, count, outcome, details, digest, previous"
)
_NAMES = _EVENT.split(", ")
_DETAILS = _NAMES.index("details")
#: The columns' types, which SQLite does not enforce.
_KINDS = (int, int, str, str, str, int, str, str, str, str)
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
#: Rows of one statement: SQLite takes at most 32,766 values.
_ROWS_MAX = 1_000


def append_events(name: str, events: Sequence[AuditRecord]) -> Operation[None]:
    namespace_id = yield from _namespace_id(name)
    last = yield from _last(namespace_id)
    sequence, digest = (0, "") if last is None else (last.sequence, last.digest)
    rows: list[tuple[object, ...]] = []
    for event in events:
        sequence += 1
        if event.sequence != sequence or event.previous not in {"", digest}:
            raise Conflict(f"event {event.sequence} of '{name}' does not follow the last one kept")
        rows.append((namespace_id, *_values(event, digest)))
        digest = event.digest
    for start in range(0, len(rows), _ROWS_MAX):
        places, values = rows_of(rows[start : start + _ROWS_MAX])
        kept = yield Query(
            f"INSERT INTO audit_events (namespace_id, {_EVENT}) VALUES {places}"
            " ON CONFLICT DO NOTHING RETURNING sequence",
            values,
        )
        if len(kept) < len(rows[start : start + _ROWS_MAX]):
            raise Conflict(f"somebody else continued the events of '{name}'")


def events(name: str, wanted: EventQuery) -> Operation[list[AuditRecord]]:
    namespace_id = yield from _namespace_id(name)
    conditions: list[tuple[str, object]] = [("namespace_id = ?", namespace_id)]
    if wanted.event_type is not None:
        conditions.append(("event_type = ?", wanted.event_type))
    if wanted.since_ns is not None:
        conditions.append(("timestamp_ns >= ?", wanted.since_ns))
    if wanted.until_ns is not None:
        conditions.append(("timestamp_ns < ?", wanted.until_ns))
    if wanted.after is not None:
        conditions.append(("sequence > ?", wanted.after))
    if wanted.path:
        conditions.append((f"substr(path, 1, {len(wanted.path)}) = ?", wanted.path))
    rows = yield Query(
        f"SELECT {_EVENT} FROM audit_events WHERE {' AND '.join(sql for sql, _ in conditions)}"
        f" ORDER BY sequence {'DESC' if wanted.after is None else 'ASC'} LIMIT ? OFFSET ?",
        (*(value for _, value in conditions), wanted.limit, wanted.offset),
    )
    return [_event(row) for row in rows]


def last_event(name: str) -> Operation[AuditRecord | None]:
    namespace_id = yield from _namespace_id(name)
    return (yield from _last(namespace_id))


def trim_events(name: str, before_ns: int, keep_max: int) -> Operation[int]:
    namespace_id = yield from _namespace_id(name)
    last = yield from _last(namespace_id)
    if last is None:
        return 0
    # Only from the beginning, also where the clock went back, and never the end of the chain.
    ((first_kept,),) = yield Query(
        "SELECT min(sequence) FROM audit_events WHERE namespace_id = ? AND timestamp_ns >= ?",
        (namespace_id, before_ns),
    )
    old = last.sequence - 1 if first_kept is None else first_kept - 1
    trim_to = min(last.sequence - 1, max(old, last.sequence - keep_max))
    ((count,),) = yield Query(
        "SELECT count(*) FROM audit_events WHERE namespace_id = ? AND sequence <= ?",
        (namespace_id, trim_to),
    )
    yield Query(
        "DELETE FROM audit_events WHERE namespace_id = ? AND sequence <= ?",
        (namespace_id, trim_to),
    )
    gone: int = count
    return gone


def _namespace_id(name: str) -> Operation[str]:
    rows = yield Query(
        "SELECT id FROM namespaces WHERE name = ?"
        " ORDER BY CASE WHEN deleted_at IS NULL THEN 0 ELSE 1 END, deleted_at DESC LIMIT 1",
        (name,),
    )
    if not rows:
        raise NotFound(f"Namespace '{name}' not found")
    found: str = rows[0][0]
    return found


def _last(namespace_id: str) -> Operation[AuditRecord | None]:
    rows = yield Query(
        f"SELECT {_EVENT} FROM audit_events WHERE namespace_id = ? ORDER BY sequence DESC LIMIT 1",
        (namespace_id,),
    )
    return _event(rows[0]) if rows else None


def _values(event: AuditRecord, previous: str) -> tuple[object, ...]:
    return (
        *(event.sequence, event.timestamp_ns, event.event_type, event.path, event.user),
        *(event.count, event.outcome, msgspec.json.encode(event.details).decode()),
        *(event.digest, previous),
    )


def _event(row: Row) -> AuditRecord:
    """The event of a row. One that was spoiled says so, and breaks its chain.

    It is no error: what happened before and after it can still be read.
    """
    columns = list(zip(_NAMES, _KINDS, row, strict=True))
    wrong = [name for name, kind, value in columns if not isinstance(value, kind)]
    values: list[Any] = [value if isinstance(value, kind) else kind() for _, kind, value in columns]
    details = {} if wrong else _object(values[_DETAILS])
    if details is None:
        wrong.append(_NAMES[_DETAILS])
    if wrong:
        details = {UNREADABLE: ", ".join(wrong)}
    values[_DETAILS] = details
    return AuditRecord(*values)


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object of the text, if that is what it is."""
    try:
        return _decode_object(text)
    except (msgspec.DecodeError, RecursionError):
        return None
