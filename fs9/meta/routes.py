"""The metadata service's routes: each makes one call of the rules and encodes its result.

The contract's two families, `/api/v1/…` and `/api/v1/admin/…`, and what file servers need beyond
them. `fs9.meta.app` drives the table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from fs9.errors import InvalidArgument, Overloaded
from fs9.meta import wire
from fs9.meta.service import FOREVER_S
from fs9.meta.wire import API
from fs9.observe.audit import EventQuery
from fs9.types import MountSpec

if TYPE_CHECKING:
    from fs9.meta.issuing import Issuer
    from fs9.meta.service import MetaService

ADMIN = f"{API}/admin"
#: How long a call is held at most until something changes; proxies commonly allow a minute.
_WAIT_MAX_S = 30


@dataclass(slots=True)
class Call:
    """A request, decoded. `body` is of the type that the route names."""

    service: MetaService
    issuer: Issuer
    params: dict[str, str]
    query: dict[str, str]
    body: Any = None

    @property
    def ns(self) -> str:
        return self.params["ns"]


Run: TypeAlias = Callable[[Call], Awaitable[object]]


class Route(msgspec.Struct, frozen=True):
    method: str
    template: str
    run: Run
    body: Any = None


# -- Namespaces and mounts. -------------------------------------------------------------------


async def _create_namespace(c: Call) -> object:
    record = await c.service.create_namespace(
        c.body.name, c.body.created_by, c.body.mounts, c.body.quota, c.body.description
    )
    return wire.namespace_reply(record, 0)


async def _namespaces(c: Call) -> object:
    if "after" in c.query or "limit" in c.query:  # by pages, without counts
        records = await c.service.store.namespaces(
            after=c.query.get("after", ""), limit=wire.whole(c.query, "limit")
        )
        return [wire.namespace_reply(record) for record in records]
    records = await c.service.store.namespaces()
    return [
        wire.namespace_reply(record, await c.service.user_count(record.name)) for record in records
    ]


async def _namespace(c: Call) -> object:
    record = await c.service.store.namespace(c.ns)
    return wire.namespace_reply(record, await c.service.user_count(c.ns))


async def _delete_namespace(c: Call) -> object:
    await c.service.set_status(c.ns, "deleted", "system")
    return {"deleted": True, "status": "deleted", "name": c.ns}


async def _set_status(c: Call) -> object:
    return wire.namespace_reply(await c.service.set_status(c.ns, c.body.status, c.body.by))


async def _set_quota(c: Call) -> object:
    return wire.namespace_reply(await c.service.set_quota(c.ns, c.body.quota, c.body.by))


async def _deleted_namespaces(c: Call) -> object:
    before_s = wire.whole(c.query, "before", FOREVER_S)
    assert before_s is not None
    records = await c.service.store.deleted_namespaces(before_s)
    return [wire.namespace_reply(record) for record in records]


async def _forget_namespace(c: Call) -> object:
    await c.service.store.forget_namespace(c.params["id"])
    return {"forgotten": True}


async def _add_mount(c: Call) -> object:
    spec = MountSpec(c.body.path, c.body.provider, c.body.config or {})
    return wire.mount_reply(await c.service.add_mount(c.ns, spec, c.body.created_by))


async def _mounts(c: Call) -> object:
    return [wire.mount_reply(mount) for mount in await c.service.store.mounts(c.ns)]


async def _mount(c: Call) -> object:
    return wire.mount_reply(await c.service.mount(c.ns, c.params["path"]))


async def _remove_mount(c: Call) -> object:
    path = c.params.get("path") or c.query.get("path")
    if path is None:
        raise InvalidArgument("name the mount: ?path=/")
    await c.service.remove_mount(c.ns, path, c.query.get("by", "system"))
    return {"deleted": True}


# -- Users and roles. -------------------------------------------------------------------------


async def _create_user(c: Call) -> object:
    user = await c.service.create_user(c.body.username, c.body.password, c.body.email)
    return wire.user_reply(user)


async def _users(c: Call) -> object:
    return [wire.user_reply(user) for user in await c.service.store.users()]


async def _user(c: Call) -> object:
    return wire.user_reply(await c.service.store.user(c.params["id"]))


async def _user_named(c: Call) -> object:
    return wire.user_reply(await c.service.store.user_named(c.params["username"]))


async def _set_user_status(c: Call) -> object:
    user = await c.service.set_user_status(c.params["id"], c.body.status, c.body.by)
    return wire.user_reply(user)


async def _set_password(c: Call) -> object:
    user = await c.service.set_password(c.params["id"], c.body.password, c.body.by)
    return wire.user_reply(user)


async def _delete_user(c: Call) -> object:
    await c.service.set_user_status(c.params["id"], "deleted", "system")
    return {"deleted": True, "status": "deleted", "user_id": c.params["id"]}


async def _verify_password(c: Call) -> object:
    if not await c.service.password_fits(c.body.username, c.body.password):
        return {"valid": False, "user_id": None}
    user = await c.service.store.user_named(c.body.username)
    return {"valid": True, "user_id": user.id}


async def _create_member(c: Call) -> object:
    roles = list(dict.fromkeys(c.body.roles))
    user = await c.service.create_user(
        c.body.username, c.body.password, namespace=c.ns, roles=roles
    )
    return wire.user_reply(user, c.ns, roles)


async def _members(c: Call) -> object:
    members = await c.service.store.members(c.ns)
    return [wire.user_reply(user, c.ns, list(roles)) for user, roles in members]


async def _grant_role(c: Call) -> object:
    grant = await c.service.grant_role(
        c.params["id"], c.body.namespace, c.body.role, c.query.get("by", "system")
    )
    return wire.role_reply(grant)


async def _roles(c: Call) -> object:
    return [wire.role_reply(grant) for grant in await c.service.store.roles(c.params["id"])]


async def _withdraw_role(c: Call) -> object:
    by = c.query.get("by", "system")
    await c.service.withdraw_role(c.params["id"], c.ns, c.params["role"], by)
    return {"revoked": True}


# -- Tokens and keys. -------------------------------------------------------------------------


async def _generate(c: Call) -> object:
    ttl_s = wire.TTL_DEFAULT_S if c.body.ttl_seconds is None else c.body.ttl_seconds
    issued = await c.issuer.generate(c.body.user_id, c.body.namespace, c.body.roles, ttl_s)
    return wire.token_reply(issued)


async def _validate(c: Call) -> object:
    return wire.verdict_reply(await c.issuer.judge(c.body.token))


async def _refresh(c: Call) -> object:
    ttl_s = wire.TTL_DEFAULT_S if c.body.ttl_seconds is None else c.body.ttl_seconds
    return wire.token_reply(await c.issuer.refresh(c.body.token, ttl_s))


async def _create_key(c: Call) -> object:
    key, record = await c.service.create_api_key(
        c.body.namespace,
        c.body.name,
        c.body.roles,
        user_id=c.body.user_id,
        expires_in_days=c.body.expires_in_days,
    )
    return wire.key_reply(record, key)


async def _keys(c: Call) -> object:
    records = await c.service.store.api_keys(c.query.get("namespace"))
    return [wire.key_reply(record) for record in records]


async def _validate_key(c: Call) -> object:
    data = c.body.key.encode(errors="surrogatepass")
    return wire.verdict_reply(await c.issuer.judge_key(hashlib.sha256(data).hexdigest()))


async def _key_by_digest(c: Call) -> object:
    return wire.KeyRecordReply(*await c.service.store.api_key(c.params["digest"]))


async def _revoke_key(c: Call) -> object:
    await c.service.revoke_api_key(c.params["id"], c.query.get("by", "system"))
    return {"revoked": True}


# -- What file servers need beyond that. ------------------------------------------------------


async def _ping(c: Call) -> object:
    await c.service.store.ping()
    return {"status": "ok"}


async def _changes(c: Call) -> object:
    after = wire.whole(c.query, "after", 0)
    limit = wire.whole(c.query, "limit", 10_000)
    assert after is not None
    assert limit is not None
    return await c.service.store.changes_since(after, min(max(limit, 1), 10_000))


async def _last_change(c: Call) -> object:
    """With `after` and `wait`: as soon as there is a later one, at the latest after so long."""
    after, wait_s = wire.whole(c.query, "after"), wire.whole(c.query, "wait", 0)
    assert wait_s is not None
    waited = after is not None and wait_s > 0
    if after is not None and waited:
        try:
            await c.service.store.wait_change(after, min(wait_s, _WAIT_MAX_S))
        except Overloaded:
            waited = False
    return wire.LastChangeReply(await c.service.store.last_change(), waited)


async def _revoke(c: Call) -> object:
    return wire.RevocationsReply(await c.service.revoke(c.body.revocations))


async def _append_events(c: Call) -> object:
    await c.service.store.append_events(c.ns, c.body.events)
    return {"appended": len(c.body.events)}


async def _events(c: Call) -> object:
    query = c.query
    found = await c.service.store.events(
        c.ns,
        EventQuery(
            limit=min(wire.whole(query, "limit", 100) or 0, 10_000),
            offset=wire.whole(query, "offset", 0) or 0,
            path=query.get("path", ""),
            event_type=query.get("type"),
            since_ns=wire.whole(query, "since_ns"),
            until_ns=wire.whole(query, "until_ns"),
            after=wire.whole(query, "after"),
        ),
    )
    return wire.EventsReply(found)


async def _last_event(c: Call) -> object:
    return wire.LastEventReply(await c.service.store.last_event(c.ns))


async def _trim_events(c: Call) -> object:
    trimmed = await c.service.store.trim_events(c.ns, c.body.before_ns, c.body.keep_max)
    return wire.TrimmedReply(trimmed)


_NS = f"{API}/namespaces/{{ns}}"

ROUTES = (
    Route("POST", f"{API}/namespaces", _create_namespace, wire.NamespaceBody),
    Route("GET", f"{API}/namespaces", _namespaces),
    Route("GET", _NS, _namespace),
    Route("DELETE", _NS, _delete_namespace),
    Route("PUT", f"{_NS}/status", _set_status, wire.StatusBody),
    Route("PUT", f"{_NS}/quota", _set_quota, wire.QuotaBody),
    Route("POST", f"{_NS}/mounts", _add_mount, wire.MountBody),
    Route("GET", f"{_NS}/mounts", _mounts),
    Route("DELETE", f"{_NS}/mounts", _remove_mount),
    Route("GET", f"{_NS}/mounts/{{path:path}}", _mount),
    Route("DELETE", f"{_NS}/mounts/{{path:path}}", _remove_mount),
    Route("POST", f"{_NS}/events", _append_events, wire.EventsBody),
    Route("GET", f"{_NS}/events", _events),
    Route("GET", f"{_NS}/events/last", _last_event),
    Route("POST", f"{_NS}/events/trim", _trim_events, wire.TrimBody),
    Route("GET", f"{API}/deleted-namespaces", _deleted_namespaces),
    Route("DELETE", f"{API}/deleted-namespaces/{{id}}", _forget_namespace),
    Route("POST", f"{API}/users", _create_user, wire.UserBody),
    Route("GET", f"{API}/users", _users),
    Route("GET", f"{API}/users/by-name/{{username}}", _user_named),
    Route("GET", f"{API}/users/{{id}}", _user),
    Route("DELETE", f"{API}/users/{{id}}", _delete_user),
    Route("PUT", f"{API}/users/{{id}}/status", _set_user_status, wire.UserStatusBody),
    Route("PUT", f"{API}/users/{{id}}/password", _set_password, wire.NewPasswordBody),
    Route("POST", f"{API}/users/verify-password", _verify_password, wire.PasswordBody),
    Route("POST", f"{API}/users/{{id}}/roles", _grant_role, wire.RoleBody),
    Route("GET", f"{API}/users/{{id}}/roles", _roles),
    Route("DELETE", f"{API}/users/{{id}}/roles/{{ns}}/{{role}}", _withdraw_role),
    Route("POST", f"{API}/tokens/generate", _generate, wire.GenerateBody),
    Route("POST", f"{API}/tokens/validate", _validate, wire.TokenBody),
    Route("POST", f"{API}/tokens/refresh", _refresh, wire.RefreshBody),
    Route("POST", f"{API}/apikeys", _create_key, wire.KeyBody),
    Route("GET", f"{API}/apikeys", _keys),
    Route("POST", f"{API}/apikeys/validate", _validate_key, wire.KeyValidateBody),
    Route("GET", f"{API}/apikeys/by-digest/{{digest}}", _key_by_digest),
    Route("DELETE", f"{API}/apikeys/{{id}}", _revoke_key),
    Route("GET", f"{API}/ping", _ping),
    Route("GET", f"{API}/changes", _changes),
    Route("GET", f"{API}/changes/last", _last_change),
    Route("POST", f"{API}/revocations", _revoke, wire.RevocationsBody),
    Route("POST", f"{ADMIN}/namespaces", _create_namespace, wire.NamespaceBody),
    Route("GET", f"{ADMIN}/namespaces", _namespaces),
    Route("GET", f"{ADMIN}/namespaces/{{ns}}", _namespace),
    Route("DELETE", f"{ADMIN}/namespaces/{{ns}}", _delete_namespace),
    Route("POST", f"{ADMIN}/namespaces/{{ns}}/users", _create_member, wire.MemberBody),
    Route("GET", f"{ADMIN}/namespaces/{{ns}}/users", _members),
    Route("DELETE", f"{ADMIN}/users/{{id}}", _delete_user),
    Route("POST", f"{ADMIN}/tokens", _generate, wire.GenerateBody),
)
