"""Operations on leases, by the database's clock, because the clocks of its clients may differ."""

from __future__ import annotations

from fs9.errors import InvalidArgument
from fs9.meta.models import Lease
from fs9.meta.sql.query import At, Operation, Query


def take_lease(name: str, holder: str, ttl_s: float) -> Operation[Lease | None]:
    if not holder or not 0 < ttl_s < 1e9:
        raise InvalidArgument("a lease needs a holder and a time to live")
    rows = yield Query(
        "INSERT INTO leases (name, holder, epoch, expires_at) VALUES (?, ?, 1, {later})"
        " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder,"
        " epoch = leases.epoch + CASE WHEN leases.holder = excluded.holder THEN 0 ELSE 1 END,"
        " expires_at = excluded.expires_at"
        " WHERE leases.holder = excluded.holder OR leases.expires_at <= {now}"
        " RETURNING name, holder, epoch, expires_at",
        (name, holder, float(ttl_s)),
    )
    return Lease(*rows[0]) if rows else None


def lease(name: str) -> Operation[Lease | None]:
    rows = yield Query(
        "SELECT name, holder, epoch, expires_at FROM leases WHERE name = ? AND expires_at > {now}",
        (name,),
    )
    return Lease(*rows[0]) if rows else None


def drop_lease(name: str, holder: str) -> Operation[None]:
    # The row stays: the next holder's epoch goes on from this one's.
    yield Query(
        "UPDATE leases SET holder = '', expires_at = ? WHERE name = ? AND holder = ?",
        (At(0), name, holder),
    )
