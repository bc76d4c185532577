"""`Store` on any SQL database: each call is an operation that the database runs.

The contracts are those of `fs9.meta.store`. A database adds `_read` and `_write`, and whatever
opens and closes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from fs9.meta.models import NamespaceQuota
from fs9.meta.notifications import ChangeNotifications
from fs9.meta.sql import audit, changes, keys, leases, namespaces, users

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from fs9.clock import Clock
    from fs9.meta.models import (
        ApiKeyRecord,
        AuditRecord,
        Changes,
        Lease,
        MountRecord,
        NamespaceRecord,
        NamespaceStatus,
        Revocation,
        RoleGrant,
        UserRecord,
        UserStatus,
    )
    from fs9.meta.sql.query import Operation, Query, Row
    from fs9.observe.audit import EventQuery
    from fs9.types import MountSpec

    #: Runs one statement of a session.
    Ask: TypeAlias = Callable[[Query], Awaitable[list[Row]]]

T = TypeVar("T")


class SqlStore(ABC):
    """`Store`; times of rows are by `clock`, leases by the database's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.notifications = ChangeNotifications(self._watch)

    @abstractmethod
    async def _read(self, operation: Operation[T]) -> T:
        """The result of an operation that changes nothing.

        Each of its statements has its own snapshot. It may be run from the start once more.
        """

    @abstractmethod
    async def _write(self, operation: Operation[T]) -> T:
        """The result of an operation in one transaction; nothing is changed when it raises."""

    @abstractmethod
    def session(self, *, write: bool) -> AbstractAsyncContextManager[Ask]:
        """One transaction for many statements, all of one snapshot; for copies of everything.

        Nothing is changed when the body raises.
        """

    @abstractmethod
    async def _watch(self, heard: Callable[[int], None]) -> None:
        """A `fs9.meta.notifications.Watch`; cancelled before the database is released."""

    @abstractmethod
    async def aclose(self) -> None:
        """Release the database; nothing runs or follows."""

    def _now_s(self) -> int:
        return int(self._clock.now_s())

    # -- namespaces and mounts ------------------------------------------------------------------

    async def create_namespace(
        self,
        name: str,
        by: str,
        mounts: Sequence[MountSpec],
        *,
        quota: NamespaceQuota | None = None,
        description: str = "",
    ) -> NamespaceRecord:
        return await self._write(
            namespaces.create_namespace(
                name, by, mounts, quota or NamespaceQuota(), description, self._now_s()
            )
        )

    async def ensure_namespace(
        self, name: str, by: str, mounts: Sequence[MountSpec]
    ) -> NamespaceRecord:
        return await self._write(namespaces.ensure_namespace(name, by, mounts, self._now_s()))

    async def namespace(self, name: str) -> NamespaceRecord:
        return await self._read(namespaces.namespace(name))

    async def namespaces(
        self, *, after: str = "", limit: int | None = None
    ) -> list[NamespaceRecord]:
        return await self._read(namespaces.namespaces(after, limit))

    async def set_status(self, name: str, status: NamespaceStatus, by: str) -> NamespaceRecord:
        return await self._write(namespaces.set_status(name, status, self._now_s()))

    async def set_quota(self, name: str, quota: NamespaceQuota, by: str) -> NamespaceRecord:
        return await self._write(namespaces.set_quota(name, quota, self._now_s()))

    async def deleted_namespaces(self, before_s: int) -> list[NamespaceRecord]:
        return await self._read(namespaces.deleted_namespaces(before_s))

    async def forget_namespace(self, namespace_id: str) -> None:
        await self._write(namespaces.forget_namespace(namespace_id))

    async def mounts(self, name: str) -> list[MountRecord]:
        return await self._read(namespaces.mounts(name))

    async def add_mount(self, name: str, spec: MountSpec, by: str) -> MountRecord:
        return await self._write(namespaces.add_mount(name, spec, by, self._now_s()))

    async def remove_mount(self, name: str, path: str, by: str) -> None:
        await self._write(namespaces.remove_mount(name, path, self._now_s()))

    # -- revocations and changes ----------------------------------------------------------------

    async def revoke(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        return await self._write(changes.revoke(revocations))

    async def changes_since(self, change_id: int, limit: int = 10_000) -> Changes:
        return await self._read(changes.changes_since(change_id, limit, self._now_s()))

    async def last_change(self) -> int:
        return await self._read(changes.last_change())

    async def wait_change(self, change_id: int, wait_s: float) -> bool:
        return await self.notifications.wait(change_id, wait_s)

    async def forget_expired(self, changes_before_s: int) -> int:
        return await self._write(changes.forget_expired(changes_before_s, self._now_s()))

    async def ping(self) -> None:
        await self._read(changes.last_change())

    # -- audit ----------------------------------------------------------------------------------

    async def append_events(self, name: str, events: Sequence[AuditRecord]) -> None:
        await self._write(audit.append_events(name, events))

    async def events(self, name: str, wanted: EventQuery) -> list[AuditRecord]:
        return await self._read(audit.events(name, wanted))

    async def last_event(self, name: str) -> AuditRecord | None:
        return await self._read(audit.last_event(name))

    async def trim_events(self, name: str, before_ns: int, keep_max: int) -> int:
        return await self._write(audit.trim_events(name, before_ns, keep_max))

    # -- users and roles ------------------------------------------------------------------------

    async def create_user(
        self, username: str, *, password_hash: str | None, email: str | None
    ) -> UserRecord:
        return await self._write(users.create_user(username, password_hash, email, self._now_s()))

    async def user(self, user_id: str) -> UserRecord:
        return await self._read(users.user(user_id))

    async def user_named(self, username: str) -> UserRecord:
        return await self._read(users.user_named(username))

    async def users(self) -> list[UserRecord]:
        return await self._read(users.users())

    async def set_user_status(self, user_id: str, status: UserStatus) -> UserRecord:
        return await self._write(users.set_user_status(user_id, status, self._now_s()))

    async def set_password_hash(self, user_id: str, password_hash: str) -> UserRecord:
        return await self._write(users.set_password_hash(user_id, password_hash, self._now_s()))

    async def password_hash(self, username: str) -> str | None:
        return await self._read(users.password_hash(username))

    async def grant_role(self, user_id: str, namespace: str, role: str, by: str) -> RoleGrant:
        return await self._write(users.grant_role(user_id, namespace, role, by, self._now_s()))

    async def roles(self, user_id: str) -> list[RoleGrant]:
        return await self._read(users.roles(user_id))

    async def members(self, namespace: str) -> list[tuple[UserRecord, tuple[str, ...]]]:
        return await self._read(users.members(namespace))

    async def withdraw_role(self, user_id: str, namespace: str, role: str) -> None:
        await self._write(users.withdraw_role(user_id, namespace, role))

    # -- keys -----------------------------------------------------------------------------------

    async def create_api_key(
        self,
        user_id: str,
        namespace: str,
        name: str,
        roles: Sequence[str],
        key_digest: str,
        expires_at_s: int | None,
    ) -> ApiKeyRecord:
        return await self._write(
            keys.create_api_key(
                user_id, namespace, name, roles, key_digest, expires_at_s, self._now_s()
            )
        )

    async def api_key(self, key_digest: str) -> tuple[ApiKeyRecord, UserRecord]:
        return await self._read(keys.api_key(key_digest))

    async def api_keys(self, namespace: str | None = None) -> list[ApiKeyRecord]:
        return await self._read(keys.api_keys(namespace))

    async def touch_api_key(self, key_id: str) -> None:
        await self._write(keys.touch_api_key(key_id, self._now_s()))

    async def revoke_api_key(self, key_id: str) -> ApiKeyRecord:
        return await self._write(keys.revoke_api_key(key_id, self._now_s()))

    # -- leases ---------------------------------------------------------------------------------

    async def take_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        return await self._write(leases.take_lease(name, holder, ttl_s))

    async def lease(self, name: str) -> Lease | None:
        return await self._read(leases.lease(name))

    async def drop_lease(self, name: str, holder: str) -> None:
        await self._write(leases.drop_lease(name, holder))
