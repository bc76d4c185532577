"""The metadata service on the wire: bodies, records as JSON, and back.

Records have the fields of both families of the contract's routes (`id`, `name`, `description`,
`status`, …). What file servers need beyond them (mounts, quota and storage of a namespace, the feed
of changes, the audit trail) is added, and optional when it is read: `MetaClient` also understands a
service that has only the contract's fields.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from fs9.errors import KINDS, Fs9Error, InvalidArgument, MethodNotAllowed, RouteNotFound
from fs9.meta.models import (
    ACTIVE,
    DELETED,
    SUSPENDED,
    ApiKeyRecord,
    AuditRecord,
    MountRecord,
    NamespaceRecord,
    Revocation,
    RoleGrant,
    UserRecord,
)
from fs9.quota import NamespaceQuota
from fs9.types import MountSpec

if TYPE_CHECKING:
    from fs9.meta.issuing import Issued, Verdict
    from fs9.meta.models import NamespaceStatus

API = "/api/v1"
KEY_HEADER = "x-fs9-meta-key"
#: The texts that say that the admin key is wrong, which is nothing about a token.
NO_KEY = "missing or invalid admin key"
NO_KEY_ADMIN = "Invalid or missing admin key"
TTL_DEFAULT_S = 86_400

# -- Requests. --------------------------------------------------------------------------------


class NamespaceBody(msgspec.Struct):
    name: str
    description: str = ""
    mounts: list[MountSpec] = []
    quota: NamespaceQuota = NamespaceQuota()
    created_by: str = "system"


class MountBody(msgspec.Struct):
    path: str
    provider: str
    config: dict[str, Any] | None = None
    created_by: str = "system"


class StatusBody(msgspec.Struct):
    status: Literal["active", "suspended", "deleted"]
    by: str = "system"


class UserStatusBody(msgspec.Struct):
    status: Literal["active", "suspended"]
    by: str = "system"


class QuotaBody(msgspec.Struct):
    quota: NamespaceQuota
    by: str = "system"


class UserBody(msgspec.Struct):
    username: str
    password: str | None = None
    email: str | None = None


class MemberBody(msgspec.Struct):
    username: str
    password: str | None = None
    roles: tuple[str, ...] = ("read-write",)


class PasswordBody(msgspec.Struct):
    username: str
    password: str


class NewPasswordBody(msgspec.Struct):
    password: str
    by: str = "system"


class RoleBody(msgspec.Struct):
    namespace: str
    role: str


class TokenBody(msgspec.Struct):
    token: str


class RefreshBody(msgspec.Struct):
    token: str
    ttl_seconds: int | None = None


class GenerateBody(msgspec.Struct):
    user_id: str
    namespace: str | None = None
    roles: list[str] | None = None
    ttl_seconds: int | None = None


class KeyBody(msgspec.Struct):
    namespace: str
    name: str
    roles: list[str] = []
    expires_in_days: int | None = None
    user_id: str | None = None


class KeyValidateBody(msgspec.Struct):
    key: str


class RevocationsBody(msgspec.Struct):
    revocations: list[Revocation]


class EventsBody(msgspec.Struct):
    events: list[AuditRecord]


class TrimBody(msgspec.Struct):
    before_ns: int
    keep_max: int


# -- Answers. ---------------------------------------------------------------------------------


class NamespaceReply(msgspec.Struct):
    """The client reads `status` as `active` and the rest as empty where a service leaves it out."""

    name: str
    id: str = ""
    description: str = ""
    status: str = ACTIVE
    created_at: str | None = None
    created_by: str = ""
    user_count: int | None = None
    updated_at: str | None = None
    deleted_at: str | None = None
    storage: str = ""
    quota: NamespaceQuota = NamespaceQuota()
    #: None: the service tells them at an address of their own.
    mounts: list[MountSpec] | None = None


class MountReply(msgspec.Struct):
    path: str
    provider: str
    config: dict[str, Any] | None = None
    id: str = ""
    namespace_id: str = ""
    created_at: str | None = None
    created_by: str = ""


class UserReply(msgspec.Struct, omit_defaults=True):
    id: str
    username: str
    status: str
    email: str | None
    created_at: str
    active: bool
    updated_at: str | None = None
    namespace: str | None = None
    roles: list[str] | None = None


class KeyReply(msgspec.Struct, omit_defaults=True):
    id: str
    name: str
    namespace: str
    roles: list[str]
    expires_at: str | None
    created_at: str
    last_used_at: str | None
    revoked: bool
    user_id: str
    key: str | None = None


class KeyRecordReply(msgspec.Struct):
    """A key and its owner, as they are stored."""

    key: ApiKeyRecord
    owner: UserRecord


class VerdictReply(msgspec.Struct):
    """The verdict on a credential; the contract has the fields up to `error`."""

    valid: bool
    user_id: str | None = None
    namespace: str | None = None
    #: None: the service does not say.
    roles: list[str] | None = None
    expires_at: str | None = None
    error: str | None = None
    username: str | None = None
    issued_at: int = 0
    jti: str | None = None
    key_id: str | None = None
    mounts: list[str] | None = None
    permissions: list[str] | None = None


class TokenReply(msgspec.Struct):
    token: str
    expires_at: str
    user_id: str = ""
    namespace: str = ""
    roles: list[str] = []


class RevocationsReply(msgspec.Struct):
    revocations: list[Revocation]


class LastChangeReply(msgspec.Struct):
    """`waited`: was there time for a later one, if that was asked for?"""

    last_id: int
    waited: bool = False


class EventsReply(msgspec.Struct):
    events: list[AuditRecord]


class LastEventReply(msgspec.Struct):
    event: AuditRecord | None


class TrimmedReply(msgspec.Struct):
    trimmed: int


class ProblemReply(msgspec.Struct):
    """Both keys of the contract's two services, and the kind from which clients rebuild it."""

    error: str
    detail: str
    code: int
    kind: str


# -- From records, and back. ------------------------------------------------------------------


def time_text(seconds: int | None) -> str | None:
    """RFC 3339, in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def time_s(text: str | None) -> int | None:
    """Whole seconds of an RFC 3339 time; one without an offset is in UTC. Raises ValueError."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp())


def namespace_reply(record: NamespaceRecord, user_count: int | None = None) -> NamespaceReply:
    return NamespaceReply(
        name=record.name,
        id=record.id,
        description=record.description,
        status=record.status,
        created_at=time_text(record.created_at_s),
        created_by=record.created_by,
        user_count=user_count,
        updated_at=time_text(record.updated_at_s),
        deleted_at=time_text(record.deleted_at_s),
        storage=record.storage,
        quota=record.quota,
        mounts=list(record.mounts),
    )


def namespace_record(reply: NamespaceReply, mounts: list[MountSpec]) -> NamespaceRecord:
    """The record; an unknown status counts as not active. Raises ValueError for a bad time."""
    known = reply.status in {ACTIVE, SUSPENDED, DELETED}
    return NamespaceRecord(
        reply.name,
        cast("NamespaceStatus", reply.status if known else SUSPENDED),
        time_s(reply.created_at) or 0,
        reply.created_by,
        tuple(sorted(mounts, key=lambda mount: mount.path)),
        reply.id,
        reply.storage or reply.name,
        reply.description,
        reply.quota,
        time_s(reply.updated_at),
        time_s(reply.deleted_at),
    )


def mount_reply(record: MountRecord) -> MountReply:
    return MountReply(
        record.path,
        record.provider,
        record.config,
        record.id,
        record.namespace_id,
        time_text(record.created_at_s),
        record.created_by,
    )


def mount_record(reply: MountReply) -> MountRecord:
    """The mount of a reply. Raises ValueError for a bad time."""
    return MountRecord(
        reply.id,
        reply.namespace_id,
        reply.path,
        reply.provider,
        reply.config or {},
        time_s(reply.created_at) or 0,
        reply.created_by,
    )


def user_reply(
    user: UserRecord, namespace: str | None = None, roles: list[str] | None = None
) -> UserReply:
    return UserReply(
        user.id,
        user.username,
        user.status,
        user.email,
        time_text(user.created_at_s) or "",
        user.status == ACTIVE,
        time_text(user.updated_at_s),
        namespace,
        roles,
    )


def role_reply(grant: RoleGrant) -> dict[str, str | None]:
    return {
        "namespace": grant.namespace,
        "role": grant.role,
        "created_at": time_text(grant.created_at_s),
    }


def key_reply(record: ApiKeyRecord, key: str | None = None) -> KeyReply:
    return KeyReply(
        record.id,
        record.name,
        record.namespace,
        list(record.roles),
        time_text(record.expires_at_s),
        time_text(record.created_at_s) or "",
        time_text(record.last_used_at_s),
        record.revoked_at_s is not None,
        record.user_id,
        key,
    )


def verdict_reply(verdict: Verdict) -> VerdictReply:
    return VerdictReply(
        verdict.valid,
        verdict.user_id,
        verdict.namespace,
        list(verdict.roles),
        time_text(verdict.expires_at_s),
        verdict.error,
        verdict.username,
        verdict.issued_at_s,
        verdict.jti,
        verdict.key_id,
        list(verdict.mounts),
        list(verdict.permissions),
    )


def token_reply(issued: Issued) -> TokenReply:
    return TokenReply(
        issued.token,
        time_text(issued.expires_at_s) or "",
        issued.user_id,
        issued.namespace,
        list(issued.roles),
    )


def problem(error: Fs9Error, text: str | None = None) -> ProblemReply:
    words = text or _sentence(error)
    return ProblemReply(words, words, error.status, error.kind)


def _sentence(error: Fs9Error) -> str:
    """What most errors of ours have as their detail; of others it is the subject alone."""
    alone = isinstance(error, RouteNotFound | MethodNotAllowed) or " " not in error.detail
    return str(error) if alone else error.detail


def error_of(status: int, body: bytes) -> Fs9Error | None:
    """The error that an answer names by its kind; None when it names none."""
    try:
        said = msgspec.json.decode(body, type=ProblemReply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    kind = KINDS.get(said.kind)
    return None if kind is None or kind.status != status else kind(said.error)


def words_of(body: bytes) -> str:
    """The text of an error answer of any service; empty when there is none."""
    try:
        said = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    text = said.get("error") or said.get("detail") or ""
    return text if isinstance(text, str) else ""


def whole(query: dict[str, str], name: str, default: int | None = None) -> int | None:
    """An integer field of a query; raises InvalidArgument."""
    text = query.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**63:
        raise InvalidArgument(f"{name}: expected a whole number")
    return value
