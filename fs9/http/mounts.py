"""Mount and unmount in the caller's namespace, for its admins and operators.

The policy (`fs9.providers.mount_policy`) says what they may mount, unless they administer the
server. The caller needs no session, because a namespace with a broken mount has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fs9.errors import NotFound
from fs9.http.administration import administrator, record_admin
from fs9.http.decode import json_body
from fs9.http.exchange import Reply
from fs9.http.files import NO_CONTENT
from fs9.meta.announce import NamespaceChanged
from fs9.path import clean
from fs9.principal import is_server_admin, require_namespace_operator
from fs9.providers.registry import nearest
from fs9.types import MountSpec
from fs9.wire.codec import encode
from fs9.wire.messages import MountReply, MountRequest
from fs9.wire.query import number, required

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange
    from fs9.principal import Principal
    from fs9.services import Services

_body = msgspec.json.Decoder(MountRequest)


async def add(x: Exchange) -> Reply:
    request = await json_body(x, _body)
    principal, services = await _operator(x)
    name = principal.namespace
    known = await services.registry.all_names()
    if request.provider not in known:
        raise NotFound(f"provider {request.provider}{nearest(request.provider, known)}")
    spec = MountSpec(clean(request.path), request.provider, request.config or {})
    if not is_server_admin(principal, services.settings.admin_namespaces):
        # The namespace may be in the making: without authentication it is made at its first use.
        storage = (await services.store.namespace(name)).storage
        spec = await services.pool.run(services.mount_policy.checked, spec, storage)
    new = await services.namespaces.mount(
        name, spec, principal.user, create=services.verifier is None, force=request.force
    )
    if new:
        details = {"provider": spec.provider}
        await record_admin(services, principal, name, "mount", details, spec.path)
        await services.announce(NamespaceChanged(name))
    return Reply(201 if new else 200, encode(MountReply(spec.path, spec.provider)))


async def remove(x: Exchange) -> Reply:
    path = clean(required(x.query, "path"))
    force = bool(number(_number_of(x.query.get("force", "0")), "force", at_most=1))
    principal, services = await _operator(x)
    name = principal.namespace
    await services.namespaces.unmount(
        name, path, principal.user, create=services.verifier is None, force=force
    )
    await record_admin(services, principal, name, "unmount", {}, path)
    await services.announce(NamespaceChanged(name))
    return NO_CONTENT


def _number_of(text: str) -> str:
    return {"true": "1", "false": "0"}.get(text, text)


async def _operator(x: Exchange) -> tuple[Principal, Services]:
    principal, services = await administrator(x), x.context.services
    require_namespace_operator(principal, principal.namespace, services.settings.admin_namespaces)
    return principal, services
