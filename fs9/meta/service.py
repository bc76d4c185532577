"""The rules of the metadata service, over any store: users, roles, keys, namespaces and mounts.

The store keeps what it is given; what may be given is decided here. Taking something away
(suspending or deleting a user, withdrawing a role, revoking a key, deleting a namespace) also makes
a revocation, so that file servers hear of it by the feed of changes. Tokens are in
`fs9.meta.issuing`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
from typing import TYPE_CHECKING, Protocol

import msgspec

from fs9 import path as slash_path
from fs9.errors import AlreadyExists, InvalidArgument, NotFound
from fs9.meta.models import ACTIVE, DELETED, Revocation
from fs9.names import DEFAULT_NAMESPACE, check_namespace_name
from fs9.quota import NamespaceQuota
from fs9.types import MountSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fs9.clock import Clock
    from fs9.meta.models import (
        ApiKeyRecord,
        MountRecord,
        NamespaceRecord,
        NamespaceStatus,
        RoleGrant,
        UserRecord,
        UserStatus,
    )
    from fs9.meta.store import Store

#: The roles that there are (`fs9.principal`).
ROLES = ("read-only", "read-write", "operator", "admin")
#: Who made what no user made, and whose an API key is for which no user is named.
SYSTEM = "system"
API_KEY_PREFIX = "fs9_"
API_KEY_DAYS_MAX = 3650
#: The latest time that readers of the feed can keep, far behind the expiry of any token.
FOREVER_S = 2**32 - 1
DAY_S = 86_400

#: Of a quota.
BOUND_MAX = 2**63 - 1

_USERNAME = re.compile(r"[^\x00-\x20\x7f/][^\x00-\x1f\x7f/]{0,127}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}", re.IGNORECASE)
_TEXT_MAX = 1024
_TOKEN_DIGEST = re.compile(r"[0-9a-f]{64}")


class PasswordHashes(Protocol):
    """The part of `fs9.meta.passwords` that is used here."""

    async def hash(self, password: str) -> str: ...

    async def fits(self, kept: str | None, password: str) -> bool: ...


class MetaService:
    """The rules, in one process. It has no state: everything is in the store."""

    def __init__(self, store: Store, passwords: PasswordHashes, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self._passwords = passwords

    # -- namespaces and mounts --------------------------------------------------------------

    async def ensure_default(self) -> None:
        """Create the namespace `default`, empty, if it is missing; operators mount in it."""
        try:
            await self.store.namespace(DEFAULT_NAMESPACE)
        except NotFound:
            with contextlib.suppress(AlreadyExists):  # by another process
                await self.store.create_namespace(DEFAULT_NAMESPACE, SYSTEM, ())

    async def create_namespace(
        self,
        name: str,
        by: str,
        mounts: Sequence[MountSpec] = (),
        quota: NamespaceQuota | None = None,
        description: str = "",
    ) -> NamespaceRecord:
        """Raises InvalidArgument, AlreadyExists."""
        check_namespace_name(name)
        _check_quota(quota)
        checked = [_mount(spec) for spec in mounts]
        return await self.store.create_namespace(
            name, by, checked, quota=quota, description=_text("description", description)
        )

    async def set_status(self, name: str, status: NamespaceStatus, by: str) -> NamespaceRecord:
        """Suspend, activate or delete; raises InvalidArgument for deleting `default`, NotFound."""
        if status == DELETED:
            if name == DEFAULT_NAMESPACE:
                raise InvalidArgument("the namespace 'default' cannot be deleted")
            await self.store.namespace(name)
            # Else its tokens would hold in the next namespace of that name.
            await self._revoke("namespace", name, by, issued_until_s=self._now_s())
        return await self.store.set_status(name, status, by)

    async def set_quota(self, name: str, quota: NamespaceQuota, by: str) -> NamespaceRecord:
        """Raises InvalidArgument, NotFound."""
        _check_quota(quota)
        return await self.store.set_quota(name, quota, by)

    async def add_mount(self, name: str, spec: MountSpec, by: str) -> MountRecord:
        """Raises InvalidArgument, NotFound, AlreadyExists."""
        mount = _mount(spec)
        try:
            return await self.store.add_mount(name, mount, by)
        except AlreadyExists:
            raise AlreadyExists(f"Mount '{mount.path}' already exists") from None

    async def mount(self, name: str, path: str) -> MountRecord:
        """Raises NotFound."""
        wanted = slash_path.clean("/" + path)
        for mount in await self.store.mounts(name):
            if mount.path == wanted:
                return mount
        raise NotFound(f"Mount '{wanted}' not found")

    async def remove_mount(self, name: str, path: str, by: str) -> None:
        """Raises NotFound."""
        await self.store.namespace(name)
        wanted = slash_path.clean("/" + path)
        try:
            await self.store.remove_mount(name, wanted, by)
        except NotFound:
            raise NotFound(f"Mount '{wanted}' not found") from None

    async def user_count(self, name: str) -> int:
        return len(await self.store.members(name))

    # -- users and roles --------------------------------------------------------------------

    async def create_user(
        self,
        username: str,
        password: str | None = None,
        email: str | None = None,
        *,
        namespace: str | None = None,
        roles: Sequence[str] = (),
        by: str = SYSTEM,
    ) -> UserRecord:
        """Create a user, with these roles in the namespace, if one is given.

        Raises InvalidArgument, NotFound (the namespace), AlreadyExists.
        """
        # One that looks like an id could stand for another user in the `sub` of a token.
        if not _USERNAME.fullmatch(username) or _UUID.fullmatch(username):
            raise InvalidArgument("a username has 1 to 128 characters, no '/', and is no UUID")
        check_roles(roles)
        if namespace is not None:
            await self.store.namespace(namespace)
        kept = None if password is None else await self._passwords.hash(password)
        email = None if email is None else _text("email", email)
        user = await self.store.create_user(username, password_hash=kept, email=email)
        if namespace is not None:
            for role in dict.fromkeys(roles):
                await self.store.grant_role(user.id, namespace, role, by)
        return user

    async def set_user_status(self, user_id: str, status: UserStatus, by: str) -> UserRecord:
        """Set the status; unless it is active, revoke the user's tokens and keys.

        Raises NotFound.
        """
        user = await self.store.user(user_id)
        if status != ACTIVE:
            now_s = self._now_s()
            # An id never comes back, a name may.
            of_id = None if status == DELETED else now_s
            await self._revoke("user", user.id, by, issued_until_s=of_id)
            await self._revoke("user", user.username, by, issued_until_s=now_s)
            if status == DELETED:
                for key in await self.store.api_keys():
                    if key.user_id == user.id and key.revoked_at_s is None:
                        await self.revoke_api_key(key.id, by)
        return await self.store.set_user_status(user_id, status)

    async def set_password(self, user_id: str, password: str, by: str) -> UserRecord:
        """Set the password, and revoke the user's earlier tokens, but not their keys.

        Raises InvalidArgument (the password), NotFound.
        """
        user = await self.store.user(user_id)
        kept = await self._passwords.hash(password)
        for subject in (user.id, user.username):
            await self._revoke("user", subject, by, issued_until_s=self._now_s())
        return await self.store.set_password_hash(user_id, kept)

    async def password_fits(self, username: str, password: str) -> bool:
        """Is it the user's password? Takes as long for a user that does not exist."""
        return await self._passwords.fits(await self.store.password_hash(username), password)

    async def grant_role(self, user_id: str, namespace: str, role: str, by: str) -> RoleGrant:
        """Raises InvalidArgument (the role), NotFound, AlreadyExists."""
        check_roles((role,))
        return await self.store.grant_role(user_id, namespace, role, by)

    async def withdraw_role(self, user_id: str, namespace: str, role: str, by: str) -> None:
        """Withdraw the role, and revoke the user's tokens in that namespace. Raises NotFound."""
        user = await self.store.user(user_id)
        await self.store.withdraw_role(user_id, namespace, role)
        for subject in (user.id, user.username):
            await self._revoke(
                "user", subject, by, namespace=namespace, issued_until_s=self._now_s()
            )

    async def granted(self, user_id: str, namespace: str) -> set[str]:
        """The user's roles in the namespace."""
        return {
            grant.role for grant in await self.store.roles(user_id) if grant.namespace == namespace
        }

    # -- API keys ---------------------------------------------------------------------------

    async def create_api_key(
        self,
        namespace: str,
        name: str,
        roles: Sequence[str],
        *,
        user_id: str | None = None,
        expires_in_days: int | None = None,
    ) -> tuple[str, ApiKeyRecord]:
        """A new key and its record; the key cannot be read later. Its owner is by default `system`.

        Raises InvalidArgument, NotFound (user, namespace).
        """
        check_roles(roles)
        if expires_in_days is not None and not 1 <= expires_in_days <= API_KEY_DAYS_MAX:
            raise InvalidArgument(f"expires_in_days is from 1 to {API_KEY_DAYS_MAX}")
        owner = await (self._system_user() if user_id is None else self.store.user(user_id))
        if owner.status != ACTIVE:
            raise InvalidArgument("User is inactive")
        await self.check_held(owner, namespace, roles)
        key = API_KEY_PREFIX + secrets.token_hex(16)
        expires_at_s = None if expires_in_days is None else self._now_s() + expires_in_days * DAY_S
        record = await self.store.create_api_key(
            owner.id,
            namespace,
            _text("name", name),
            tuple(dict.fromkeys(roles)),
            hashlib.sha256(key.encode()).hexdigest(),
            expires_at_s,
        )
        return key, record

    async def check_held(self, user: UserRecord, namespace: str, roles: Sequence[str]) -> None:
        """Raise InvalidArgument for a role that a user with roles there has not been given."""
        held = await self.granted(user.id, namespace)
        missing = sorted(set(roles) - held) if held else []
        if missing or (held and not roles):
            what = f"role '{missing[0]}'" if missing else "every right"
            raise InvalidArgument(
                f"User '{user.username}' has not {what} in namespace '{namespace}', but"
                f" {', '.join(sorted(held))}"
            )

    async def revoke_api_key(self, key_id: str, by: str) -> ApiKeyRecord:
        """Raises NotFound."""
        record = await self.store.revoke_api_key(key_id)
        await self._revoke("key", key_id, by, issued_until_s=None)
        return record

    async def _system_user(self) -> UserRecord:
        try:
            return await self.store.user_named(SYSTEM)
        except NotFound:
            pass
        try:
            return await self.store.create_user(SYSTEM, password_hash=None, email=None)
        except AlreadyExists:  # at the same time
            return await self.store.user_named(SYSTEM)

    # -- revocations ------------------------------------------------------------------------

    async def revoke(self, revocations: Sequence[Revocation]) -> list[Revocation]:
        """Raises InvalidArgument."""
        for revocation in revocations:
            if revocation.kind == "token" and not _TOKEN_DIGEST.fullmatch(revocation.subject):
                raise InvalidArgument("the subject of a token's revocation is its SHA-256 in hex")
        return await self.store.revoke(revocations)

    async def _revoke(
        self,
        kind: str,
        subject: str,
        by: str,
        *,
        issued_until_s: int | None,
        namespace: str | None = None,
    ) -> None:
        made = Revocation(
            kind,  # type: ignore[arg-type]  # one of our own
            subject,
            namespace,
            FOREVER_S,
            self._now_s(),
            by,
            issued_until_s,
        )
        await self.store.revoke([made])

    def _now_s(self) -> int:
        return int(self.clock.now_s())


def check_roles(roles: Sequence[str]) -> None:
    """Raise InvalidArgument for an unknown role."""
    for role in roles:
        if role not in ROLES:
            raise InvalidArgument(f"'{role}' is not a role; there are {', '.join(ROLES)}")


def _check_quota(quota: NamespaceQuota | None) -> None:
    for name, value in msgspec.structs.asdict(quota or NamespaceQuota()).items():
        least = 1 if name == "requests_per_second_max" else 0
        if value is not None and not least <= value <= BOUND_MAX:
            raise InvalidArgument(f"{name} is from {least} to {BOUND_MAX}, or null")


def _mount(spec: MountSpec) -> MountSpec:
    if not spec.path.startswith("/") or "\0" in spec.path:
        raise InvalidArgument(f"the path of a mount begins with '/', got {spec.path!r}")
    if not spec.provider:
        raise InvalidArgument("a mount needs the name of its provider")
    return MountSpec(slash_path.clean(spec.path), spec.provider, spec.config)


def _text(name: str, value: str) -> str:
    if len(value) > _TEXT_MAX:
        raise InvalidArgument(f"{name} is longer than {_TEXT_MAX} characters")
    return value
