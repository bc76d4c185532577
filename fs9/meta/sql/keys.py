"""Operations on API keys."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import msgspec

from fs9.errors import AlreadyExists, NotFound
from fs9.meta.models import ApiKeyRecord, UserRecord
from fs9.meta.sql.namespaces import namespace_id
from fs9.meta.sql.query import At, Operation, Query, Row, at, json_of, seconds
from fs9.meta.sql.users import USER_COLUMNS, user, user_record

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEY = (
    "k.id, k.user_id, n.name, k.name, k.roles, k.created_at, k.expires_at, k.last_used_at,"
    " k.revoked_at"
)
_KEY_COLUMNS = 9
_FROM = "FROM api_keys AS k JOIN namespaces AS n ON n.id = k.namespace_id"


def create_api_key(
    user_id: str,
    namespace: str,
    name: str,
    roles: Sequence[str],
    key_digest: str,
    expires_at_s: int | None,
    now_s: int,
) -> Operation[ApiKeyRecord]:
    yield from user(user_id)
    found = yield from namespace_id(namespace)
    key_id = str(uuid.uuid4())
    rows = yield Query(
        "INSERT INTO api_keys"
        " (id, user_id, namespace_id, name, key_hash, roles, created_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id",
        (
            *(key_id, user_id, found, name, key_digest, json_of(list(roles))),
            *(At(now_s), at(expires_at_s)),
        ),
    )
    if not rows:
        raise AlreadyExists("this API key")
    return ApiKeyRecord(key_id, user_id, namespace, name, tuple(roles), now_s, expires_at_s)


def api_key(key_digest: str) -> Operation[tuple[ApiKeyRecord, UserRecord]]:
    columns = ", ".join(f"u.{name}" for name in USER_COLUMNS)
    rows = yield Query(
        f"SELECT {_KEY}, {columns} {_FROM} JOIN users AS u ON u.id = k.user_id"
        " WHERE k.key_hash = ? AND n.deleted_at IS NULL AND u.status <> 'deleted'",
        (key_digest,),
    )
    if not rows:
        raise NotFound("API key not found")
    return _key(rows[0][:_KEY_COLUMNS]), user_record(rows[0][_KEY_COLUMNS:])


def api_keys(namespace: str | None) -> Operation[list[ApiKeyRecord]]:
    condition, values = ("", ()) if namespace is None else (" AND n.name = ?", (namespace,))
    rows = yield Query(
        f"SELECT {_KEY} {_FROM} WHERE n.deleted_at IS NULL{condition}"
        " ORDER BY k.created_at DESC, k.id",
        values,
    )
    return [_key(row) for row in rows]


def touch_api_key(key_id: str, now_s: int) -> Operation[None]:
    yield Query("UPDATE api_keys SET last_used_at = ? WHERE id = ?", (At(now_s), key_id))


def revoke_api_key(key_id: str, now_s: int) -> Operation[ApiKeyRecord]:
    yield Query(
        "UPDATE api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL",
        (At(now_s), key_id),
    )
    rows = yield Query(f"SELECT {_KEY} {_FROM} WHERE k.id = ?", (key_id,))
    if not rows:
        raise NotFound("API key not found")
    return _key(rows[0])


def _key(row: Row) -> ApiKeyRecord:
    key_id, user_id, namespace, name, roles, created_at, expires_at, used_at, revoked_at = row
    return ApiKeyRecord(
        key_id,
        user_id,
        namespace,
        name,
        tuple(msgspec.json.decode(roles, type=list[str])),
        int(created_at),
        seconds(expires_at),
        seconds(used_at),
        seconds(revoked_at),
    )
