"""The table of operations: each route of `fs9.wire.routes` with the function that serves it.

Both drivers call the same function. It suspends only where a call of the session suspends.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import msgspec

from fs9.http import (
    document,
    events,
    files,
    follow,
    handles,
    health,
    mounts,
    namespaces,
    plugins,
    tokens,
    transfers,
    watch,
)
from fs9.http.exchange import Exchange, Reply
from fs9.wire.route import Access, BodyKind
from fs9.wire.routes import BY_NAME, ROUTES

Run: TypeAlias = Callable[[Exchange], Coroutine[Any, Any, Reply]]


class Operation(msgspec.Struct, frozen=True):
    """`path` is below `/api/v1` when `prefixed`, else from the root.

    `fast`: may be answered in the protocol class of the workers.
    """

    name: str
    method: str
    path: str
    run: Run
    access: Access
    body: BodyKind
    fast: bool
    prefixed: bool


_RUN: dict[str, Run] = {
    "health": health.health,
    "livez": health.livez,
    "readyz": health.readyz,
    "version": health.version,
    "metrics": health.metrics,
    "openapi": document.openapi,
    "docs": document.docs,
    "stat": files.stat,
    "wstat": files.wstat,
    "statfs": files.statfs,
    "open": handles.open_,
    "read": handles.read,
    "write": handles.write,
    "close": handles.close,
    "download": transfers.download,
    "upload": transfers.upload,
    "readdir": files.readdir,
    "remove": files.remove,
    "capabilities": files.capabilities,
    "mounts": files.mounts,
    "events": events.events,
    "event_chain": events.chain,
    "follow": follow.follow,
    "watch": watch.watch,
    "plugin_list": plugins.list_,
    "plugin_load": plugins.load,
    "plugin_unload": plugins.unload,
    "namespace_create": namespaces.create,
    "namespace_list": namespaces.list_,
    "namespace_get": namespaces.get,
    "namespace_update": namespaces.update,
    "namespace_delete": namespaces.delete,
    "mount_add": mounts.add,
    "mount_remove": mounts.remove,
    "auth_refresh": tokens.refresh,
    "auth_revoke": tokens.revoke,
}
assert _RUN.keys() == BY_NAME.keys(), "every route has a function, every function a route"

OPERATIONS: tuple[Operation, ...] = tuple(
    Operation(
        name=route.name,
        method=route.method,
        path=route.path,
        run=_RUN[route.name],
        access=route.access,
        body=route.body,
        fast=route.fast,
        prefixed=route.prefixed,
    )
    for route in ROUTES
)
