"""Operations on namespaces and what is mounted in them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import msgspec

from fs9.errors import AlreadyExists, InvalidArgument, NotFound
from fs9.meta.models import (
    ACTIVE,
    DELETED,
    SUSPENDED,
    MountRecord,
    NamespaceQuota,
    NamespaceRecord,
    NamespaceStatus,
)
from fs9.meta.sql.changes import changed
from fs9.meta.sql.query import At, Operation, Query, Row, json_of, rows_of, seconds
from fs9.names import check_namespace_name
from fs9.types import MountSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLUMNS = (
    "id, name, status, created_at, created_by, storage, description, quota, updated_at, deleted_at"
)
_READ_COLUMNS = ", ".join(f"n.{name}" for name in _COLUMNS.split(", "))
_MOUNT = "id, namespace_id, path, provider, config, created_at, created_by"


def create_namespace(
    name: str,
    by: str,
    mounts: Sequence[MountSpec],
    quota: NamespaceQuota,
    description: str,
    now_s: int,
) -> Operation[NamespaceRecord]:
    check_namespace_name(name)
    _check_mounts(mounts)
    record = yield from _insert(name, by, mounts, quota, description, now_s)
    if record is None:
        raise AlreadyExists(f"Namespace '{name}' already exists")
    return record


def ensure_namespace(
    name: str, by: str, mounts: Sequence[MountSpec], now_s: int
) -> Operation[NamespaceRecord]:
    check_namespace_name(name)
    _check_mounts(mounts)
    found = yield from _find(name)
    if found is None:
        created = yield from _insert(name, by, mounts, NamespaceQuota(), "", now_s)
        if created is not None:
            return created
        found = yield from namespace(name)  # another process was faster
    if found.mounts == _sorted(mounts):
        return found
    yield from _touch(name, now_s)
    yield Query("DELETE FROM mounts WHERE namespace_id = ?", (found.id,))
    yield from _insert_mounts(found.id, by, mounts, now_s)
    yield from changed(name, now_s)
    return msgspec.structs.replace(found, mounts=_sorted(mounts), updated_at_s=now_s)


def namespace(name: str) -> Operation[NamespaceRecord]:
    record = yield from _find(name)
    if record is None:
        raise _unknown(name)
    return record


def namespaces(after: str, limit: int | None) -> Operation[list[NamespaceRecord]]:
    return (yield from _read("deleted_at IS NULL AND name > ?", (after,), limit))


def set_status(name: str, status: NamespaceStatus, now_s: int) -> Operation[NamespaceRecord]:
    if status not in {ACTIVE, SUSPENDED, DELETED}:
        raise InvalidArgument(f"'{status}' is not a status of a namespace")
    deleted_at = At(now_s) if status == DELETED else None
    namespace_id = yield from _update(
        name, "status = ?, updated_at = ?, deleted_at = ?", (status, At(now_s), deleted_at)
    )
    yield from changed(name, now_s)
    return (yield from _read("id = ?", (namespace_id,)))[0]


def set_quota(name: str, quota: NamespaceQuota, now_s: int) -> Operation[NamespaceRecord]:
    yield from _update(name, "quota = ?, updated_at = ?", (json_of(quota), At(now_s)))
    yield from changed(name, now_s)
    return (yield from namespace(name))


def deleted_namespaces(before_s: int) -> Operation[list[NamespaceRecord]]:
    return (yield from _read("deleted_at < ?", (At(before_s),)))


def forget_namespace(namespace_id: str) -> Operation[None]:
    yield Query("DELETE FROM namespaces WHERE id = ? AND deleted_at IS NOT NULL", (namespace_id,))


def namespace_id(name: str) -> Operation[str]:
    """The id of one that is not deleted. Raises NotFound."""
    rows = yield Query("SELECT id FROM namespaces WHERE name = ? AND deleted_at IS NULL", (name,))
    if not rows:
        raise _unknown(name)
    found: str = rows[0][0]
    return found


def mounts(name: str) -> Operation[list[MountRecord]]:
    found = yield from namespace_id(name)
    rows = yield Query(
        f"SELECT {_MOUNT} FROM mounts WHERE namespace_id = ? ORDER BY path", (found,)
    )
    return [_mount(row) for row in rows]


def add_mount(name: str, spec: MountSpec, by: str, now_s: int) -> Operation[MountRecord]:
    found = yield from _touch(name, now_s)
    values = _mount_values(found, spec, by, now_s)
    places, flat = rows_of([values])
    rows = yield Query(
        f"INSERT INTO mounts ({_MOUNT}) VALUES {places} ON CONFLICT DO NOTHING RETURNING {_MOUNT}",
        flat,
    )
    if not rows:
        raise AlreadyExists(spec.path)
    yield from changed(name, now_s)
    return _mount(rows[0])


def remove_mount(name: str, path: str, now_s: int) -> Operation[None]:
    found = yield from _touch(name, now_s)
    rows = yield Query(
        "DELETE FROM mounts WHERE namespace_id = ? AND path = ? RETURNING id", (found, path)
    )
    if not rows:
        raise NotFound(path)
    yield from changed(name, now_s)


# -- Steps ----------------------------------------------------------------------------------


def _insert(
    name: str,
    by: str,
    mounts: Sequence[MountSpec],
    quota: NamespaceQuota,
    description: str,
    now_s: int,
) -> Operation[NamespaceRecord | None]:
    """Insert the record; None when the name is taken."""
    new_id = str(uuid.uuid4())
    taken = yield Query("SELECT 1 FROM namespaces WHERE storage = ?", (name,))
    # A dot is in no name of a namespace.
    storage = f"{name}.{new_id[:8]}" if taken else name
    rows = yield Query(
        f"INSERT INTO namespaces ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING RETURNING id",
        (
            *(new_id, name, ACTIVE, At(now_s), by, storage, description, json_of(quota)),
            *(None, None),
        ),
    )
    if not rows:
        return None
    yield from _insert_mounts(new_id, by, mounts, now_s)
    yield from changed(name, now_s)
    return NamespaceRecord(
        name, "active", now_s, by, _sorted(mounts), new_id, storage, description, quota
    )


def _insert_mounts(
    namespace_id: str, by: str, mounts: Sequence[MountSpec], now_s: int
) -> Operation[None]:
    if mounts:
        places, values = rows_of([_mount_values(namespace_id, spec, by, now_s) for spec in mounts])
        yield Query(f"INSERT INTO mounts ({_MOUNT}) VALUES {places}", values)


def _touch(name: str, now_s: int) -> Operation[str]:
    """Lock the namespace until the end of the transaction; returns its id."""
    return (yield from _update(name, "updated_at = ?", (At(now_s),)))


def _update(name: str, assignments: str, values: tuple[object, ...]) -> Operation[str]:
    rows = yield Query(
        f"UPDATE namespaces SET {assignments} WHERE name = ? AND deleted_at IS NULL RETURNING id",
        (*values, name),
    )
    if not rows:
        raise _unknown(name)
    found: str = rows[0][0]
    return found


def _find(name: str) -> Operation[NamespaceRecord | None]:
    records = yield from _read("deleted_at IS NULL AND name = ?", (name,))
    return records[0] if records else None


def _read(
    condition: str, values: tuple[object, ...], limit: int | None = None
) -> Operation[list[NamespaceRecord]]:
    """One statement, so that a namespace and its mounts come from one snapshot."""
    bound = "" if limit is None else " LIMIT ?"
    rows = yield Query(
        f"SELECT {_READ_COLUMNS}, m.path, m.provider, m.config FROM"
        f" (SELECT * FROM namespaces WHERE {condition} ORDER BY name, id{bound}) AS n"
        " LEFT JOIN mounts AS m ON m.namespace_id = n.id ORDER BY n.name, n.id, m.path",
        values if limit is None else (*values, limit),
    )
    specs: dict[str, list[MountSpec]] = {}
    heads: dict[str, Row] = {}
    for *head, path, provider, config in rows:
        heads[head[0]] = tuple(head)
        mounted = specs.setdefault(head[0], [])
        if path is not None:
            mounted.append(MountSpec(path, provider, msgspec.json.decode(config)))
    return [_record(head, specs[found]) for found, head in heads.items()]


# -- Rows -----------------------------------------------------------------------------------


def _unknown(name: str) -> NotFound:
    return NotFound(f"Namespace '{name}' not found")


def _check_mounts(mounts: Sequence[MountSpec]) -> None:
    paths = [spec.path for spec in mounts]
    if len(set(paths)) < len(paths):
        raise InvalidArgument("two mounts have the same path")


def _sorted(mounts: Sequence[MountSpec]) -> tuple[MountSpec, ...]:
    return tuple(sorted(mounts, key=lambda spec: spec.path))


def _record(head: Row, mounts: Sequence[MountSpec]) -> NamespaceRecord:
    found, name, status, created_at, by, storage, description, quota, updated, deleted = head
    return NamespaceRecord(
        name,
        status,
        int(created_at),
        by,
        _sorted(mounts),
        found,
        storage,
        description,
        msgspec.json.decode(quota, type=NamespaceQuota),
        seconds(updated),
        seconds(deleted),
    )


def _mount_values(namespace_id: str, spec: MountSpec, by: str, now_s: int) -> tuple[object, ...]:
    return (
        *(str(uuid.uuid4()), namespace_id, spec.path, spec.provider),
        *(json_of(spec.config), At(now_s), by),
    )


def _mount(row: Row) -> MountRecord:
    mount_id, namespace_id, path, provider, config, created_at, by = row
    return MountRecord(
        mount_id, namespace_id, path, provider, msgspec.json.decode(config), int(created_at), by
    )
