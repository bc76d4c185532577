"""Create, list and get namespaces: for who administers the server.

Admins and operators of another namespace see their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fs9.errors import AlreadyExists, InvalidArgument, NotFound
from fs9.http.administration import administrator, record_admin
from fs9.http.decode import json_body
from fs9.http.exchange import Reply
from fs9.http.failures import reply_to_error
from fs9.principal import (
    require_namespace_operator,
    require_server_admin,
    require_server_operator,
)
from fs9.wire.codec import encode, rfc3339
from fs9.wire.messages import NamespaceReply, NamespaceRequest

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange
    from fs9.meta.models import NamespaceRecord

_create_body = msgspec.json.Decoder(NamespaceRequest)


async def create(x: Exchange) -> Reply:
    request = await json_body(x, _create_body)
    principal = await administrator(x)
    services = x.context.services
    require_server_admin(principal, services.settings.admin_namespaces)
    try:
        record = await services.store.create_namespace(
            request.name, principal.user, services.settings.namespace_template
        )
    except (InvalidArgument, AlreadyExists) as error:
        return reply_to_error(error, text=error.detail)
    await record_admin(services, principal, record.name, "namespace", {"action": "create"})
    return Reply(201, encode(_to_wire(record)))


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


def _to_wire(record: NamespaceRecord) -> NamespaceReply:
    return NamespaceReply(
        record.name, rfc3339(record.created_at_s), record.created_by, record.status
    )
