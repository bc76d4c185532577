"""Namespaces: create, list, get, change, delete. For who administers the server.

Admins and operators of another namespace see their own. A change is kept in the metadata, then
told to every worker; the answer comes when all of them have heard it, or after a bound.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from fs9.clock import next_second_s
from fs9.errors import (
    AlreadyExists,
    Conflict,
    InvalidArgument,
    NotDirectory,
    NotFound,
    PermissionDenied,
)
from fs9.http.administration import administrator, record_admin
from fs9.http.decode import json_body
from fs9.http.exchange import Reply
from fs9.http.failures import reply_to_error
from fs9.meta.announce import NamespaceChanged, Revoked
from fs9.meta.client import MetaClient
from fs9.meta.models import SUSPENDED
from fs9.names import DEFAULT_NAMESPACE
from fs9.path import clean
from fs9.principal import (
    require_namespace_operator,
    require_server_admin,
    require_server_operator,
)
from fs9.quota import NO_BOUNDS, NamespaceQuota
from fs9.removal import last_tokens_of
from fs9.types import MountSpec
from fs9.vfs.handles import background
from fs9.wire.codec import encode, rfc3339
from fs9.wire.messages import (
    MountRequest,
    NamespaceChangeRequest,
    NamespaceDeletedReply,
    NamespaceReply,
    NamespaceRequest,
    QuotaRequest,
)
from fs9.wire.query import number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fs9.http.exchange import Exchange
    from fs9.meta.models import NamespaceRecord
    from fs9.principal import Principal
    from fs9.services import Services

_create_body = msgspec.json.Decoder(NamespaceRequest)
_change_body = msgspec.json.Decoder(NamespaceChangeRequest)


async def create(x: Exchange) -> Reply:
    request = await json_body(x, _create_body)
    principal = await administrator(x)
    services = x.context.services
    require_server_admin(principal, services.settings.admin_namespaces)
    await _revoke_tokens_of_earlier(services, request.name)
    try:
        record = await services.store.create_namespace(
            request.name, principal.user, services.settings.namespace_template
        )
    except (InvalidArgument, AlreadyExists) as error:
        return reply_to_error(error, text=error.detail)
    await record_admin(services, principal, record.name, "namespace", {"action": "create"})
    return Reply(201, encode(_to_wire(record)))


async def _revoke_tokens_of_earlier(services: Services, name: str) -> None:
    """Revoke the tokens of deleted namespaces of this name: they must not open the new one."""
    if not isinstance(services.store, MetaClient):  # which has seen to it at the deletion
        earlier = [last_tokens_of(record) for record in await services.removal.deleted(name)]
        if earlier:
            await services.announce(Revoked(tuple(await services.store.revoke(earlier))))
    # Tokens say in whole seconds when they were issued: those of after the answer must not be of
    # the second of a deletion, of which there is no record any more when that was a purge.
    verifier, now_s = services.verifier, services.clock.now_s()
    if verifier is not None and verifier.revocations.mean_all_of(name, int(now_s)):
        await asyncio.sleep(next_second_s(now_s))


async def list_(x: Exchange) -> Reply:
    services = x.context.services
    require_server_operator(await administrator(x), services.settings.admin_namespaces)
    records = await services.store.namespaces()
    return Reply(200, encode([_to_wire(record) for record in records]))


async def get(x: Exchange) -> Reply:
    services = x.context.services
    name = x.params["ns"]
    principal = await administrator(x)
    require_namespace_operator(principal, name, services.settings.admin_namespaces)
    try:
        record = await services.store.namespace(name)
    except NotFound as error:
        # Here the contract's text is the whole text, without our prefix.
        return reply_to_error(error, text=error.detail)
    return Reply(200, encode(_to_wire(record)))


async def update(x: Exchange) -> Reply:
    """Change what the body names; the rest stays."""
    request = await json_body(x, _change_body)
    principal = await administrator(x)
    services, name = x.context.services, x.params["ns"]
    require_server_admin(principal, services.settings.admin_namespaces)
    if request.status == SUSPENDED:
        _refuse_lockout(principal, name)
    try:
        record = await services.store.namespace(name)
        details = await _update(services, principal, record, request)
        record = await services.store.namespace(name)
    except NotFound as error:
        return reply_to_error(error, text=error.detail)
    if details:
        await record_admin(services, principal, name, "namespace", details)
        await services.announce(NamespaceChanged(name))
    return Reply(200, encode(_to_wire(record)))


async def _update(
    services: Services,
    principal: Principal,
    record: NamespaceRecord,
    request: NamespaceChangeRequest,
) -> dict[str, Any]:
    """Store what the body changes; returns the changes, for the audit trail."""
    details: dict[str, Any] = {}
    by = principal.user
    if request.mounts is not UNSET:
        await _update_mounts(services, record, [_spec(each) for each in request.mounts], by)
        details["mounts"] = [each.path for each in request.mounts]
    if request.quota is not UNSET:
        quota = _merged(record.quota, request.quota)
        await services.store.set_quota(record.name, quota, by)
        details["quota"] = msgspec.to_builtins(quota)
    if request.status is not UNSET:
        await services.store.set_status(record.name, request.status, by)
        details["status"] = request.status
    return details and {"action": "change", **details}


def _merged(held: NamespaceQuota, changes: QuotaRequest) -> NamespaceQuota:
    return NamespaceQuota(
        **msgspec.structs.asdict(held)
        | {
            name: value
            for name, value in msgspec.structs.asdict(changes).items()
            if value is not UNSET
        }
    )


def _spec(request: MountRequest) -> MountSpec:
    return MountSpec(clean(request.path), request.provider, request.config or {})


async def _update_mounts(
    services: Services, record: NamespaceRecord, wanted: list[MountSpec], by: str
) -> None:
    """Store these mounts; raises InvalidArgument when one cannot be made, and stores nothing."""
    if len({spec.path for spec in wanted}) < len(wanted):
        raise InvalidArgument("two mounts have the same path")
    new = [spec for spec in wanted if spec not in record.mounts]
    await _try(services, record, new)
    for spec in record.mounts:
        if spec not in wanted:
            await services.store.remove_mount(record.name, spec.path, by)
    for spec in new:
        await services.store.add_mount(record.name, spec, by)


async def _try(services: Services, record: NamespaceRecord, specs: Iterable[MountSpec]) -> None:
    for spec in specs:
        try:
            provider = await services.registry.create(
                spec,
                services.resources,
                namespace=record.name,
                storage=record.storage,
                trial=True,
            )
        except (NotFound, NotDirectory, PermissionDenied) as error:
            raise InvalidArgument(f"{spec.path} cannot be mounted: {error}") from error
        await provider.aclose()


async def delete(x: Exchange) -> Reply:
    principal = await administrator(x)
    services, name = x.context.services, x.params["ns"]
    require_server_admin(principal, services.settings.admin_namespaces)
    purge = bool(number(x.query.get("purge", "0"), "purge", at_most=1))
    _refuse_lockout(principal, name)
    missing: NotFound | None = None
    try:
        await services.store.namespace(name)
        await record_admin(services, principal, name, "namespace", {"action": "delete"})
        await services.store.set_status(name, "deleted", principal.user)
    except NotFound as error:
        missing = error
    await services.announce(NamespaceChanged(name))
    if purge:
        # Goes on when the caller has gone.
        removal = services.removal.purge(name, services.announce)
        count = await asyncio.shield(background(removal))
        missing = None if count else missing
    if missing is not None:
        return reply_to_error(missing, text=missing.detail)
    return Reply(200, encode(NamespaceDeletedReply(name, "deleted", purge)))


def _refuse_lockout(principal: Principal, name: str) -> None:
    if name == DEFAULT_NAMESPACE:
        raise Conflict("the namespace default is always there; it cannot be suspended or deleted")
    if name == principal.namespace:
        raise Conflict("this is the namespace of the token itself; use one of another namespace")


def _to_wire(record: NamespaceRecord) -> NamespaceReply:
    return NamespaceReply(
        record.name,
        rfc3339(record.created_at_s),
        record.created_by,
        record.status,
        # The very object, which is left out.
        NO_BOUNDS if record.quota == NO_BOUNDS else record.quota,
    )
