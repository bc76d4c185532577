"""The feed of changes, and revocations, which are part of it.

Ids come from one row, `change_counter`, that stays locked from the `UPDATE` to the end of the
transaction. So transactions that change something commit in the order of their ids, and a reader
that has read up to an id has missed nothing below it. The row is locked after everything else, or
alone, so whoever waits for it holds nothing that its owner still needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.meta.models import Changes, Revocation
from fs9.meta.sql.query import At, Operation, Query, Row, at, rows_of, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

_REVOCATION = "kind, subject, namespace, expires_at, created_at, created_by, issued_until, id"
_READ_REVOCATION = (
    "kind, subject, namespace, {seconds expires_at}, {seconds created_at}, created_by,"
    " {seconds issued_until}, id"
)
#: Rows of one statement: SQLite takes at most 32,766 values.
_ROWS_MAX = 1_000


def next_change(count: int = 1) -> Operation[int]:
    """Reserve `count` ids, the last of which is returned.

    The same transaction notifies who listens, where the database can.
    """
    rows = yield Query(
        "UPDATE change_counter SET last_id = last_id + ? RETURNING last_id{notify}", (count,)
    )
    last_id: int = rows[0][0]
    return last_id


def changed(name: str, now_s: int) -> Operation[None]:
    """Tell readers of the feed that this namespace is another one now."""
    change_id = yield from next_change()
    yield Query(
        "INSERT INTO changes (id, namespace, created_at) VALUES (?, ?, ?)",
        (change_id, name, At(now_s)),
    )


def last_change() -> Operation[int]:
    rows = yield Query("SELECT last_id FROM change_counter")
    last_id: int = rows[0][0]
    return last_id


def revoke(revocations: Sequence[Revocation]) -> Operation[list[Revocation]]:
    merged = _merged(revocations)
    if not merged:
        return []
    next_id = (yield from next_change(len(merged))) - len(merged) + 1
    kept: list[Revocation] = []
    for start in range(0, len(merged), _ROWS_MAX):
        places, values = rows_of(
            [_values(r, next_id + n) for n, r in enumerate(merged[start : start + _ROWS_MAX])]
        )
        next_id += _ROWS_MAX
        rows = yield Query(
            f"INSERT INTO revocations ({_REVOCATION}) VALUES {places}"
            " ON CONFLICT (kind, subject, namespace) DO UPDATE SET id = excluded.id,"
            " expires_at = CASE WHEN excluded.expires_at > revocations.expires_at"
            " THEN excluded.expires_at ELSE revocations.expires_at END,"
            # NULL means all tokens, and so it stays.
            " issued_until = CASE WHEN revocations.issued_until IS NULL"
            " OR revocations.issued_until > excluded.issued_until"
            " THEN revocations.issued_until ELSE excluded.issued_until END"
            f" RETURNING {_REVOCATION}",
            values,
        )
        kept += map(_revocation, rows)
    return sorted(kept, key=lambda revocation: revocation.id)


def changes_since(change_id: int, limit: int, now_s: int) -> Operation[Changes]:
    last_id = yield from last_change()
    # A reader from the future has seen another database, before that was restored.
    start = change_id if 0 <= change_id <= last_id else 0
    rows = yield Query(
        f"SELECT {_READ_REVOCATION} FROM revocations WHERE id > ? ORDER BY id LIMIT ?",
        (start, limit),
    )
    revocations = [_revocation(row) for row in rows]
    # Who starts knows no namespace yet that could have changed.
    names = [] if start == 0 else (yield _names(start, limit))
    # Read after the names: what is trimmed until now may be missing among them.
    ((trimmed_to,),) = yield Query("SELECT trimmed_to FROM change_counter")
    # Not what was committed between the statements: the first lists might lack it.
    end = last_id
    if len(revocations) == limit:
        end = min(end, revocations[-1].id)
    if len(names) == limit:
        end = min(end, names[-1][0])
    return Changes(
        last_id=end,
        namespaces=tuple(dict.fromkeys(name for number, name in names if number <= end)),
        # Not by the statement: with one condition it can only walk the index of the ids.
        revocations=tuple(r for r in revocations if r.id <= end and r.expires_at_s > now_s),
        more=end < last_id,
        complete=change_id == 0 or (start == change_id and trimmed_to <= change_id),
    )


def forget_expired(changes_before_s: int, now_s: int) -> Operation[int]:
    """Shorten the feed and delete revocations of tokens that have expired; how many went."""
    ((trim_to,),) = yield Query(
        "SELECT max(id) FROM changes WHERE created_at < ?", (At(max(0, changes_before_s)),)
    )
    ((expired,),) = yield Query(
        "SELECT count(*) FROM revocations WHERE expires_at <= ?", (At(now_s),)
    )
    if trim_to is not None:
        yield Query(
            "UPDATE change_counter SET trimmed_to = ? WHERE trimmed_to < ?", (trim_to, trim_to)
        )
        yield Query("DELETE FROM changes WHERE id <= ?", (trim_to,))
    if expired:
        yield Query("DELETE FROM revocations WHERE expires_at <= ?", (At(now_s),))
    count: int = expired
    return count


def _names(start: int, limit: int) -> Query:
    return Query(
        "SELECT id, namespace FROM changes WHERE id > ? ORDER BY id LIMIT ?", (start, limit)
    )


def _merged(revocations: Sequence[Revocation]) -> list[Revocation]:
    """The revocations, one for each subject: a statement cannot change a row twice."""
    merged: dict[tuple[str, str, str | None], Revocation] = {}
    for revocation in revocations:
        key = (revocation.kind, revocation.subject, revocation.namespace)
        merged[key] = _stronger(merged.get(key), revocation)
    return list(merged.values())


def _stronger(one: Revocation | None, other: Revocation) -> Revocation:
    if one is None:
        return other
    until = (
        None
        if one.issued_until_s is None or other.issued_until_s is None
        else max(one.issued_until_s, other.issued_until_s)
    )
    return Revocation(
        one.kind,
        one.subject,
        one.namespace,
        max(one.expires_at_s, other.expires_at_s),
        one.created_at_s,
        one.created_by,
        until,
    )


def _values(revocation: Revocation, change_id: int) -> tuple[object, ...]:
    return (
        revocation.kind,
        revocation.subject,
        # NULL differs from NULL, and a subject shall be there once.
        revocation.namespace or "",
        At(revocation.expires_at_s),
        At(revocation.created_at_s),
        revocation.created_by,
        at(revocation.issued_until_s),
        change_id,
    )


def _revocation(row: Row) -> Revocation:
    kind, subject, namespace, expires_at, created_at, created_by, issued_until, change_id = row
    return Revocation(
        kind,
        subject,
        namespace or None,
        int(expires_at),
        int(created_at),
        created_by,
        seconds(issued_until),
        change_id,
    )
