"""What a meta store does, whatever the database. Many processes use one at the same time.

`Metadata` is the part that the file server needs: the stores of this package implement it, and
so does the client of a metadata service. `Store` is all of it, for the metadata service.

Every change is one transaction: it is kept (also over a loss of power) when the call returns, and
not at all when it raises. `by` is who did it. Besides the errors named below a call raises
Transient when the database is busy for too long, BackendUnavailable when it fails (if the
connection broke during the commit, the change may have been made), and InvalidArgument for values
that a database cannot keep (U+0000, lone surrogates, numbers beyond 64 bits, times after the year
9999). The texts in the `detail` of NotFound and AlreadyExists are the contract's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fs9.meta.models import (
        ApiKeyRecord,
        AuditRecord,
        Changes,
        Lease,
        MountRecord,
        NamespaceQuota,
        NamespaceRecord,
        NamespaceStatus,
        Revocation,
        RoleGrant,
        UserRecord,
        UserStatus,
    )
    from fs9.observe.audit import EventQuery
    from fs9.types import MountSpec


class Metadata(Protocol):
    """Namespaces, their mounts, what was revoked, and what happened."""

    # -- namespaces -----------------------------------------------------------------------------

    async def create_namespace(
        self,
        name: str,
        by: str,
        mounts: Sequence[MountSpec],
        *,
        quota: NamespaceQuota | None = None,
        description: str = "",
    ) -> NamespaceRecord:
        """A new namespace; the name of a deleted one may be used again.

        Raises InvalidArgument (the name), AlreadyExists.
        """

    async def namespace(self, name: str) -> NamespaceRecord:
        """The namespace, active or suspended. Raises NotFound, also for a deleted one."""

    async def namespaces(
        self, *, after: str = "", limit: int | None = None
    ) -> list[NamespaceRecord]:
        """Namespaces that are not deleted, by name: those after `after`, at most `limit`."""

    async def set_status(self, name: str, status: NamespaceStatus, by: str) -> NamespaceRecord:
        """Suspend, activate or delete. Raises NotFound."""

    async def set_quota(self, name: str, quota: NamespaceQuota, by: str) -> NamespaceRecord:
        """Raises NotFound."""

    async def deleted_namespaces(self, before_s: int) -> list[NamespaceRecord]:
        """Namespaces deleted before this time whose data is not removed yet."""

    async def forget_namespace(self, namespace_id: str) -> None:
        """Delete the record and events of a deleted namespace, after its data was removed."""

    # -- mounts ---------------------------------------------------------------------------------

    async def add_mount(self, name: str, spec: MountSpec, by: str) -> MountRecord:
        """Raises NotFound (the namespace), AlreadyExists (something is mounted there)."""

    async def remove_mount(self, name: str, path: str, by: str) -> None:
        """Raises NotFound."""

    # -- revocations and changes ----------------------------------------------------------------

    async def revoke(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        """Store revocations, with ids; one that exists gets the later expiry of both."""

    async def changes_since(self, change_id: int, limit: int = 10_000) -> Changes:
        """What changed after `change_id`, oldest first; 0: every revocation that still holds.

        At most `limit` of each. No change is missed because another transaction committed later.
        """

    async def last_change(self) -> int:
        """The id of the latest change; 0 when there is none."""

    async def wait_change(self, change_id: int, wait_s: float) -> bool:
        """True as soon as there seems to be a change after `change_id`; False after `wait_s`.

        A change may be missed, for want of a connection or else: whoever must not miss one also
        asks on a timer. Raises Overloaded when too many wait in this process, or it is to end.
        """

    # -- audit ----------------------------------------------------------------------------------

    async def append_events(self, name: str, events: Sequence[AuditRecord]) -> None:
        """Continue the namespace's chain, also that of a deleted one until it is forgotten.

        Raises NotFound, and Conflict when the first event does not follow the last one kept.
        """

    async def events(self, name: str, wanted: EventQuery) -> list[AuditRecord]:
        """The page of the namespace's events that `EventQuery` describes. Raises NotFound."""

    async def last_event(self, name: str) -> AuditRecord | None:
        """The end of the chain."""

    async def trim_events(self, name: str, before_ns: int, keep_max: int) -> int:
        """Delete events older than that, and all but the latest `keep_max`; returns how many.

        The chain begins later then; its first kept event still names the digest before. The last
        event stays in any case.
        """

    async def api_key(self, key_digest: str) -> tuple[ApiKeyRecord, UserRecord]:
        """The key with this SHA-256 (hexadecimal) and its owner.

        Also one that is revoked, expired, or of a suspended owner: the caller says which. Raises
        NotFound, also when its owner or namespace is deleted.
        """

    async def ping(self) -> None:
        """Returns when the store answers."""

    async def aclose(self) -> None:
        """Release the database; nothing runs or follows."""


class Store(Metadata, Protocol):
    """Also users, roles, keys and leases."""

    async def ensure_namespace(
        self, name: str, by: str, mounts: Sequence[MountSpec]
    ) -> NamespaceRecord:
        """The namespace with exactly these mounts, created or changed as needed."""

    async def mounts(self, name: str) -> list[MountRecord]:
        """Sorted by path. Raises NotFound."""

    # -- users and roles ------------------------------------------------------------------------

    async def create_user(
        self, username: str, *, password_hash: str | None, email: str | None
    ) -> UserRecord:
        """Raises AlreadyExists."""

    async def user(self, user_id: str) -> UserRecord:
        """One that is not deleted. Raises NotFound."""

    async def user_named(self, username: str) -> UserRecord:
        """One that is not deleted. Raises NotFound."""

    async def users(self) -> list[UserRecord]:
        """Those that are not deleted, sorted by name."""

    async def set_user_status(self, user_id: str, status: UserStatus) -> UserRecord:
        """Raises NotFound."""

    async def set_password_hash(self, user_id: str, password_hash: str) -> UserRecord:
        """Raises NotFound."""

    async def password_hash(self, username: str) -> str | None:
        """The hash; None when there is no such active user, or they have no password."""

    async def grant_role(self, user_id: str, namespace: str, role: str, by: str) -> RoleGrant:
        """Raises NotFound (user, namespace), AlreadyExists."""

    async def roles(self, user_id: str) -> list[RoleGrant]:
        """Sorted by namespace and role. Raises NotFound."""

    async def members(self, namespace: str) -> list[tuple[UserRecord, tuple[str, ...]]]:
        """Users with a role in the namespace, sorted by name. Raises NotFound."""

    async def withdraw_role(self, user_id: str, namespace: str, role: str) -> None:
        """Raises NotFound."""

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
        """Raises NotFound (user, namespace)."""

    async def api_keys(self, namespace: str | None = None) -> list[ApiKeyRecord]:
        """Newest first, revoked ones too."""

    async def touch_api_key(self, key_id: str) -> None:
        """Record that the key was used now."""

    async def revoke_api_key(self, key_id: str) -> ApiKeyRecord:
        """Raises NotFound."""

    # -- upkeep ---------------------------------------------------------------------------------

    async def forget_expired(self, changes_before_s: int) -> int:
        """Delete expired revocations, and old changes; returns how many revocations."""

    # -- leases ---------------------------------------------------------------------------------

    async def lease(self, name: str) -> Lease | None:
        """The lease that holds now."""

    async def take_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """Take or renew the lease; None while another holder has it. By the database's clock."""

    async def drop_lease(self, name: str, holder: str) -> None:
        """Give the lease back, so that another can take it; no error when it is not held."""
