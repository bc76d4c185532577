"""List, load and unload native plugins, for administrators of the server.

Loading runs the file's code with the server's rights, so it is off unless the settings allow it,
and possible only from the directories that they name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fs9.errors import Conflict, Forbidden, NotFound
from fs9.http.administration import administrator, record_admin
from fs9.http.decode import json_body
from fs9.http.exchange import Reply
from fs9.http.files import NO_CONTENT
from fs9.principal import require_server_admin, require_server_operator
from fs9.wire.codec import encode
from fs9.wire.messages import PluginLoadRequest, PluginReply, PluginRequest

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange
    from fs9.services import Services

_load_body = msgspec.json.Decoder(PluginLoadRequest)
_unload_body = msgspec.json.Decoder(PluginRequest)
#: Namespaces that are looked through at a time.
_PAGE = 1000


async def list_(x: Exchange) -> Reply:
    services = x.context.services
    require_server_operator(await administrator(x), services.settings.admin_namespaces)
    return Reply(200, encode(await services.plugins.names()))


async def load(x: Exchange) -> Reply:
    request = await json_body(x, _load_body)
    services = await _allowed(x)
    await services.plugins.load(request.name, request.path)
    await _record(x, services, "load", request.name)
    return Reply(200, encode(PluginReply(request.name, "loaded")))


async def unload(x: Exchange) -> Reply:
    request = await json_body(x, _unload_body)
    services = await _allowed(x)
    await _refuse_mounted(services, request.name)
    await services.plugins.unload(request.name)
    await _record(x, services, "unload", request.name)
    return NO_CONTENT


async def _record(x: Exchange, services: Services, action: str, name: str) -> None:
    assert x.principal is not None
    details = {"action": action, "plugin": name}
    await record_admin(services, x.principal, x.principal.namespace, "plugin", details)


async def _allowed(x: Exchange) -> Services:
    services = x.context.services
    require_server_admin(await administrator(x), services.settings.admin_namespaces)
    if not services.settings.plugins_api:
        raise Forbidden("plugins cannot be loaded over HTTP here (server.plugins.api)")
    return services


async def _refuse_mounted(services: Services, name: str) -> None:
    """Raise Conflict when a namespace, in memory or not, or the template mounts the plugin.

    Raises NotFound for a built-in provider, which is not a plugin.
    """
    if name in services.registry.names():
        raise NotFound(f"plugin {name}")
    if any(spec.provider == name for spec in services.settings.namespace_template):
        raise Conflict(f"plugin {name} is in the setting namespace_template")
    after = ""
    while records := await services.store.namespaces(after=after, limit=_PAGE):
        for record in records:
            if any(mount.provider == name for mount in record.mounts):
                raise Conflict(f"plugin {name} is mounted in the namespace {record.name}")
        after = records[-1].name
