"""Rows of the meta store as values. Times are whole seconds since 1970."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fs9.observe.audit_chain import AuditRecord as AuditRecord
from fs9.quota import NamespaceQuota as NamespaceQuota
from fs9.types import MountSpec

ACTIVE = "active"
SUSPENDED = "suspended"
DELETED = "deleted"

NamespaceStatus = Literal["active", "suspended", "deleted"]
UserStatus = Literal["active", "suspended", "deleted"]


class NamespaceRecord(msgspec.Struct, frozen=True):
    """One namespace; mounts are sorted by path.

    `id` is a UUID. `storage` names where its data is kept, and is no other namespace's, also not
    of a deleted one whose data is still there: its name can be used again all the same.
    """

    name: str
    status: NamespaceStatus
    created_at_s: int
    created_by: str
    mounts: tuple[MountSpec, ...]
    id: str = ""
    storage: str = ""
    description: str = ""
    quota: NamespaceQuota = NamespaceQuota()
    updated_at_s: int | None = None
    deleted_at_s: int | None = None


class MountRecord(msgspec.Struct, frozen=True):
    id: str
    namespace_id: str
    path: str
    provider: str
    config: dict[str, Any]
    created_at_s: int
    created_by: str


class UserRecord(msgspec.Struct, frozen=True):
    """`username` is unique among users that are not deleted. The password is never read out."""

    id: str
    username: str
    email: str | None
    status: UserStatus
    created_at_s: int
    updated_at_s: int | None = None


class RoleGrant(msgspec.Struct, frozen=True):
    """A user's role in one namespace."""

    user_id: str
    namespace: str
    role: str
    created_at_s: int
    created_by: str


class ApiKeyRecord(msgspec.Struct, frozen=True):
    """A key as stored: its SHA-256, never the key itself."""

    id: str
    user_id: str
    namespace: str
    name: str
    roles: tuple[str, ...]
    created_at_s: int
    expires_at_s: int | None = None
    last_used_at_s: int | None = None
    revoked_at_s: int | None = None


class Revocation(msgspec.Struct, frozen=True):
    """A revocation of tokens or of a key. `id` grows with every revocation.

    `kind` says what `subject` is:

        token      SHA-256 of the token, in hexadecimal
        jti        the token's `jti` claim; of tokens of `namespace`, None: of any
        user       the `sub` claim; of tokens of `namespace`, None: of any
        namespace  the `ns` claim
        key        id of an API key

    Of a user or namespace only tokens issued at `issued_until_s` or before are meant. After
    `expires_at_s` the row may be forgotten, because no such token can hold any more.
    """

    kind: Literal["token", "jti", "user", "namespace", "key"]
    subject: str
    namespace: str | None
    expires_at_s: int
    created_at_s: int
    created_by: str
    issued_until_s: int | None = None
    id: int = 0


class Changes(msgspec.Struct, frozen=True):
    """What changed after some change id: names of namespaces, and revocations.

    `last_id` is where the next question goes on; `more`: ask again at once. `complete` False:
    the question is so old that names of changed namespaces are missing, so that all of them must
    be read anew. Of the revocations that still hold none is ever missing.
    """

    last_id: int
    namespaces: tuple[str, ...] = ()
    revocations: tuple[Revocation, ...] = ()
    more: bool = False
    complete: bool = True


class Lease(msgspec.Struct, frozen=True):
    """Who may write to something until when; `epoch` grows with every new holder.

    The store behind it keeps the highest epoch it has seen and refuses lower ones (fencing): a
    holder that was paused for longer than its lease does not know that the lease is over.
    """

    name: str
    holder: str
    epoch: int
    expires_at_s: float
