"""Operations on users and their roles."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from fs9.errors import AlreadyExists, InvalidArgument, NotFound
from fs9.meta.models import ACTIVE, DELETED, SUSPENDED, RoleGrant, UserRecord, UserStatus
from fs9.meta.sql.namespaces import namespace_id
from fs9.meta.sql.query import At, Operation, Query, seconds

if TYPE_CHECKING:
    from fs9.meta.sql.query import Row

USER_COLUMNS = ("id", "username", "email", "status", "created_at", "updated_at")
_USER = ", ".join(USER_COLUMNS)


def create_user(
    username: str, password_hash: str | None, email: str | None, now_s: int
) -> Operation[UserRecord]:
    if not username:
        raise InvalidArgument("a user needs a name")
    rows = yield Query(
        f"INSERT INTO users ({_USER}, password_hash) VALUES (?, ?, ?, ?, ?, ?, ?)"
        f" ON CONFLICT DO NOTHING RETURNING {_USER}",
        (str(uuid.uuid4()), username, email, ACTIVE, At(now_s), None, password_hash),
    )
    if not rows:
        raise AlreadyExists(f"User '{username}' already exists")
    return user_record(rows[0])


def user(user_id: str) -> Operation[UserRecord]:
    rows = yield Query(
        f"SELECT {_USER} FROM users WHERE id = ? AND status <> 'deleted'", (user_id,)
    )
    return _one(rows, user_id)


def user_named(username: str) -> Operation[UserRecord]:
    rows = yield Query(
        f"SELECT {_USER} FROM users WHERE username = ? AND status <> 'deleted'", (username,)
    )
    return _one(rows, username)


def users() -> Operation[list[UserRecord]]:
    rows = yield Query(f"SELECT {_USER} FROM users WHERE status <> 'deleted' ORDER BY username")
    return [user_record(row) for row in rows]


def set_user_status(user_id: str, status: UserStatus, now_s: int) -> Operation[UserRecord]:
    if status not in {ACTIVE, SUSPENDED, DELETED}:
        raise InvalidArgument(f"'{status}' is not a status of a user")
    rows = yield Query(
        "UPDATE users SET status = ?, updated_at = ? WHERE id = ? AND status <> 'deleted'"
        f" RETURNING {_USER}",
        (status, At(now_s), user_id),
    )
    return _one(rows, user_id)


def set_password_hash(user_id: str, hash_: str, now_s: int) -> Operation[UserRecord]:
    rows = yield Query(
        "UPDATE users SET password_hash = ?, updated_at = ? WHERE id = ? AND status <> 'deleted'"
        f" RETURNING {_USER}",
        (hash_, At(now_s), user_id),
    )
    return _one(rows, user_id)


def password_hash(username: str) -> Operation[str | None]:
    rows = yield Query(
        "SELECT password_hash FROM users WHERE username = ? AND status = 'active'", (username,)
    )
    return rows[0][0] if rows else None


def grant_role(
    user_id: str, namespace: str, role: str, by: str, now_s: int
) -> Operation[RoleGrant]:
    yield from user(user_id)
    found = yield from namespace_id(namespace)
    rows = yield Query(
        "INSERT INTO user_roles (id, user_id, namespace_id, role, created_at, created_by)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id",
        (str(uuid.uuid4()), user_id, found, role, At(now_s), by),
    )
    if not rows:
        raise AlreadyExists(f"User '{user_id}' has role '{role}' in namespace '{namespace}'")
    return RoleGrant(user_id, namespace, role, now_s, by)


def roles(user_id: str) -> Operation[list[RoleGrant]]:
    yield from user(user_id)
    rows = yield Query(
        "SELECT n.name, r.role, r.created_at, r.created_by FROM user_roles AS r"
        " JOIN namespaces AS n ON n.id = r.namespace_id"
        " WHERE r.user_id = ? AND n.deleted_at IS NULL ORDER BY n.name, r.role",
        (user_id,),
    )
    return [RoleGrant(user_id, name, role, int(at), by) for name, role, at, by in rows]


def members(namespace: str) -> Operation[list[tuple[UserRecord, tuple[str, ...]]]]:
    found = yield from namespace_id(namespace)
    columns = ", ".join(f"u.{name}" for name in USER_COLUMNS)
    rows = yield Query(
        f"SELECT {columns}, r.role FROM user_roles AS r JOIN users AS u ON u.id = r.user_id"
        " WHERE r.namespace_id = ? AND u.status <> 'deleted' ORDER BY u.username, r.role",
        (found,),
    )
    people: dict[UserRecord, list[str]] = {}
    for row in rows:
        people.setdefault(user_record(row[:-1]), []).append(row[-1])
    return [(person, tuple(held)) for person, held in people.items()]


def withdraw_role(user_id: str, namespace: str, role: str) -> Operation[None]:
    found = yield from namespace_id(namespace)
    rows = yield Query(
        "DELETE FROM user_roles WHERE user_id = ? AND namespace_id = ? AND role = ? RETURNING id",
        (user_id, found, role),
    )
    if not rows:
        raise NotFound(f"Role '{role}' of user '{user_id}' in namespace '{namespace}' not found")


def user_record(row: Row) -> UserRecord:
    """A row of USER_COLUMNS."""
    user_id, username, email, status, created_at, updated_at = row
    return UserRecord(user_id, username, email, status, int(created_at), seconds(updated_at))


def _one(rows: list[Row], who: str) -> UserRecord:
    if not rows:
        raise NotFound(f"User '{who}' not found")
    return user_record(rows[0])
