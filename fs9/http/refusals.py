"""Records refused requests in the audit trail: who was refused what, and with which error."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from fs9.errors import (
    NO_ACCESS,
    Forbidden,
    Fs9Error,
    PermissionDenied,
    QuotaExceeded,
    TooManyRequests,
)
from fs9.http.gate import ForeignTenant
from fs9.path import clean
from fs9.vfs.changes import Change, changed_by_wstat
from fs9.vfs.permissions import Hidden
from fs9.wire.codec import changes_from_wire
from fs9.wire.messages import MountRequest, OpenRequest, WstatRequest

if TYPE_CHECKING:
    from fs9.http.exchange import Exchange
    from fs9.types import StatChanges

#: What a principal is refused for its rights or its use, not because the request is wrong. What is
#: hidden from a narrowed token is among it, under the kind that the client saw.
REFUSALS: tuple[type[Fs9Error], ...] = (
    PermissionDenied,
    Forbidden,
    QuotaExceeded,
    TooManyRequests,
    Hidden,
)

_TYPES = {
    **dict.fromkeys(("stat", "statfs", "readdir", "read", "download", "follow", "watch"), "read"),
    **dict.fromkeys(("capabilities", "mounts", "events", "event_chain"), "read"),
    "remove": "delete",
    "upload": "upload",
    "write": "write",
    "close": "upload",
    "auth_revoke": "revoke",
    "mount_remove": "unmount",
}

#: Of the others the first word of the operation's name, if it is one of these.
_KNOWN = frozenset({*_TYPES.values(), "namespace", "plugin", "mount"})


_UNKNOWN: Change = ("request", "/", {})


def record_refusal(x: Exchange, operation: str, error: Fs9Error) -> None:
    """Record it in the trail of the caller's namespace. Nothing is recorded for unknown callers.

    Nor for a namespace that does not exist: the next one of its name must not read about it.
    """
    principal = x.principal if x.session is None else x.session.principal
    if isinstance(error, ForeignTenant):
        principal = error.principal
    if principal is None or is_of_none(error):
        return
    event_type, path, details = _UNKNOWN
    if not isinstance(error, TooManyRequests | ForeignTenant):
        event_type, path, details = _subject(x, operation)
    trail = x.context.services.trails.trail(principal.namespace)
    trail.refused(event_type, path, principal.user, error.kind, details)


def is_of_none(error: Fs9Error) -> bool:
    """Was it refused because the caller's namespace does not exist?"""
    foreign = isinstance(error, ForeignTenant)
    return isinstance(error, Forbidden) and not foreign and error.detail == NO_ACCESS


def _subject(x: Exchange, operation: str) -> Change:
    """What is known of the refused operation; for a change of attributes also the new values."""
    match x.request:
        case OpenRequest(path=path, flags=flags):
            if flags.create:
                return "mkdir" if flags.directory else "create", _cleaned(path), {}
            return "write" if flags.write or flags.truncate else "read", _cleaned(path), {}
        case WstatRequest(path=path):
            return _wstat(_cleaned(path), changes_from_wire(x.request.changes))
        case MountRequest(path=path):
            return "mount", _cleaned(path), {}
    event_type = _TYPES.get(operation) or operation.partition("_")[0]
    handle_id = x.query.get("handle_id") or getattr(x.request, "handle_id", None)
    if handle_id is not None and x.session is not None:
        return event_type, x.session.path_of(handle_id) or "/", {}
    known = event_type if event_type in _KNOWN else "request"
    return known, _cleaned(x.query.get("path", "/")), {}


def _wstat(path: str, changes: StatChanges) -> Change:
    if changes.name is not None and changes.symlink_target is None:
        changes = msgspec.structs.replace(changes, name=_cleaned(changes.name))
    return changed_by_wstat(path, changes)


def _cleaned(path: str) -> str:
    with suppress(Fs9Error):
        return clean(path)
    return path
