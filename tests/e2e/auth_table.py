"""Who may do what, as a table: every route with what it needs, every caller with what they get.

`NEEDS` has a line for each route of `fs9.wire.routes`; a route without one fails
`tests/e2e/test_auth_matrix.py`. `OUTCOMES` says for each caller and each need how the server
answers: `ok` is the route's own success, everything else the status and kind of a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: What a route needs, in the order of the columns of the table.
COLUMNS = ("open", "read", "change", "whole", "look", "rule", "see", "serve", "refresh")

# open     nothing
# read     a session; narrowed tokens see what they were left
# change   a session that may change files
# whole    a session of a token that is not narrowed
# look     an operator of the namespace, or of the server
# rule     an admin of the namespace, or of the server
# see      an operator of the server
# serve    an admin of the server
# refresh  a token, which may have expired a while ago
_TABLE = """
                        open read change whole look rule see  serve refresh
no-token                ok   401  401    401   401  401  401  401   401
other-scheme            ok   401  401    401   401  401  401  401   401
garbage                 ok   401  401    401   401  401  401  401   401
other-secret            ok   401  401    401   401  401  401  401   401
expired                 ok   401  401    401   401  401  401  401   ok
expired-long-ago        ok   401  401    401   401  401  401  401   401
not-yet                 ok   401  401    401   401  401  401  401   401
unknown-namespace       ok   403F 403F   403F  403F 403F 403F 403F  403F
foreign-prefix          ok   403F 403F   403F  403F 403F 403F 403F  403F
no-roles                ok   ok   ok     ok    403F 403F 403F 403F  ok
unknown-role            ok   ok   403P   ok    403F 403F 403F 403F  ok
read-only               ok   ok   403P   ok    403F 403F 403F 403F  ok
read-write              ok   ok   ok     ok    403F 403F 403F 403F  ok
operator                ok   ok   ok     ok    ok   403F 403F 403F  ok
admin                   ok   ok   ok     ok    ok   ok   403F 403F  ok
server-operator         ok   ok   ok     ok    ok   403F ok   403F  ok
server-admin            ok   ok   ok     ok    ok   ok   ok   ok    ok
narrowed-to-reading     ok   ok   403P   403P  403F 403F 403F 403F  ok
narrowed-elsewhere      ok   404  404    403P  403F 403F 403F 403F  ok
narrowed-admin          ok   ok   ok     403P  403F 403F 403F 403F  ok
narrowed-server-admin   ok   ok   ok     403P  403F 403F 403F 403F  ok
revoked                 ok   401  401    401   401  401  401  401   401
revoked-user            ok   401  401    401   401  401  401  401   401
suspended-namespace     ok   403F 403F   403F  403F 403F 403F 403F  403F
suspended-user          ok   401  401    401   401  401  401  401   401
key                     ok   ok   ok     ok    403F 403F 403F 403F  401
read-only-key           ok   ok   403P   ok    403F 403F 403F 403F  401
unknown-key             ok   401  401    401   401  401  401  401   401
expired-key             ok   401  401    401   401  401  401  401   401
revoked-key             ok   401  401    401   401  401  401  401   401
key-of-suspended-user   ok   401  401    401   401  401  401  401   401
"""

#: The abbreviations of the table.
_REFUSALS = {
    "401": (401, "Unauthenticated"),
    "403F": (403, "Forbidden"),
    "403P": (403, "PermissionDenied"),
    "404": (404, "NotFound"),
}

#: Caller -> need -> None (the route succeeds) or the status and kind of the refusal.
OUTCOMES: dict[str, dict[str, tuple[int, str] | None]] = {}
for _line in _TABLE.strip().splitlines()[1:]:
    _caller, *_cells = _line.split()
    assert len(_cells) == len(COLUMNS), _line
    OUTCOMES[_caller] = {
        need: None if cell == "ok" else _REFUSALS[cell]
        for need, cell in zip(COLUMNS, _cells, strict=True)
    }


@dataclass(frozen=True)
class Need:
    """One route: what it needs, a request for it, and how it answers who may.

    In texts `{file}` is a file of its own for each request, `{new}` a path where there is nothing,
    `{log}` a file that can be followed, `{dir}` the directory of all three, `{handle}` an open
    file, `{ns}` the caller's namespace, `{n}` the number of the request. `hides`: False where a
    narrowed token is not refused but shown less.
    """

    need: str
    status: int = 200
    query: dict[str, str] = field(default_factory=dict)
    json: Any = None
    data: bytes | None = None
    hides: bool = True
    #: Refusals other than those of the table, by caller.
    but: dict[str, tuple[int, str] | None] = field(default_factory=dict)


_FILE = {"path": "{file}"}
_DIR = {"path": "{dir}"}
_HANDLE = {"handle_id": "{handle}"}
#: To a narrowed token a handle of what is hidden from it is none.
_NO_HANDLE: dict[str, tuple[int, str] | None] = {"narrowed-elsewhere": (400, "InvalidHandle")}
NEEDS: dict[str, Need] = {
    # -- the server itself ------------------------------------------------------------------
    "health": Need("open"),
    "livez": Need("open"),
    "readyz": Need("open"),
    "version": Need("open"),
    "openapi": Need("open"),
    "docs": Need("open"),
    "metrics": Need("see"),
    # -- files by their path ----------------------------------------------------------------
    "stat": Need("read", query=_FILE),
    "wstat": Need("change", 204, json={"path": "{file}", "changes": {"mode": 0o640}}),
    "statfs": Need("read", query=_FILE),
    "readdir": Need("read", query=_DIR),
    "remove": Need("change", 204, query=_FILE),
    "capabilities": Need("read", query=_FILE),
    "mounts": Need("read", hides=False),
    "download": Need("read", query=_FILE),
    "upload": Need("change", query={"path": "{new}"}, data=b"x"),
    # -- open files -------------------------------------------------------------------------
    "open": Need("change", json={"path": "{new}", "flags": {"create": True, "write": True}}),
    "read": Need("read", json={**_HANDLE, "offset": 0, "size": 10}, but=_NO_HANDLE),
    "write": Need("change", query={**_HANDLE, "offset": "0"}, data=b"other", but=_NO_HANDLE),
    "close": Need("read", 204, json=_HANDLE, but=_NO_HANDLE),
    # -- what changes -----------------------------------------------------------------------
    "follow": Need("read", query={"path": "{log}", "wait": "0"}),
    "watch": Need("read", query={"path": "{dir}", "wait": "0"}),
    "events": Need("read", hides=False),
    "event_chain": Need("whole"),
    # -- namespaces -------------------------------------------------------------------------
    "namespace_create": Need("serve", 201, json={"name": "made-{n}"}),
    "namespace_list": Need("see"),
    "namespace_get": Need("look"),
    "namespace_update": Need("serve", json={"quota": {}}),
    # Who may is told that `default` cannot be deleted; that nothing is mounted there.
    "namespace_delete": Need("serve", 409),
    "mount_add": Need("look", 201, json={"path": "/mounted-{n}", "provider": "hellofs"}),
    "mount_remove": Need("look", 404, query={"path": "/nowhere"}),
    # -- plugins: the file is not there, and that is said to nobody else --------------------
    "plugin_list": Need("see"),
    "plugin_load": Need("serve", 404, json={"name": "x", "path": "nowhere.so"}),
    "plugin_unload": Need("serve", 404, json={"name": "nowhere"}),
    # -- tokens -----------------------------------------------------------------------------
    "auth_refresh": Need("refresh"),
    "auth_revoke": Need("rule", 204, json={"user": "nobody-{n}"}),
}
