"""What another host, or an administrator, changes in the database is true in a fleet at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx2

from fs9.meta.administration import Administration, at_database
from tests.e2e.conftest import bearer
from tests.fix_fleet import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet

_PATIENCE_S = 60.0
#: Nothing is asked for on the timer while a test runs.
_YAML = """
namespace_template: [{path: /, provider: memfs}]
server: {limits: {reconcile_interval_secs: 600}}
"""
_STATUS = ("PUT", "/api/v1/namespaces/{ns}/status")


def wait_for(ask: Callable[[], httpx2.Response], status: int) -> httpx2.Response:
    """Until it is answered so."""
    end_s = time.monotonic() + _PATIENCE_S
    while (answer := ask()).status_code != status:
        assert time.monotonic() < end_s, answer.text
    return answer


def test_suspended_revoked_deleted(
    start_fleet: Callable[..., Fleet], metadata: dict[str, str]
) -> None:
    """Each takes effect in every worker, on the tenant's handles too."""
    fleet = start_fleet(workers=2, yaml=_YAML, environ={"FS9_JWT_SECRET": SECRET, **metadata})
    dsn = metadata.get("FS9_META_DSN", f"sqlite:{fleet.data_dir / 'meta.db'}")

    def change(method: str, template: str, body: object = None, **names: str) -> Any:
        async def work(service: Administration) -> Any:
            return await service.call(method, template, names, body=body)

        return at_database(dsn, work)

    change(
        "POST",
        "/api/v1/namespaces",
        {"name": "acme", "mounts": [{"path": "/", "provider": "memfs", "config": {}}]},
    )
    with httpx2.Client(base_url=f"{fleet.url}/api/v1/", timeout=_PATIENCE_S) as http:
        http.headers.update(bearer(ns="acme", roles=["read-write"]))
        made = {"path": "/f", "flags": {"create": True, "write": True, "read": True}}
        handle = http.post("open", json=made).json()["handle_id"]
        change(*_STATUS, {"status": "suspended"}, ns="acme")
        refused = wait_for(lambda: http.get("stat?path=/"), 403)
        assert refused.json()["error"] == "Namespace is not active"
        change(*_STATUS, {"status": "active"}, ns="acme")
        wait_for(lambda: http.get("stat?path=/"), 200)
        read = {"handle_id": handle, "offset": 0, "size": 1}
        assert http.post("read", json=read).status_code == 400, "closed with its namespace"
        change("DELETE", "/api/v1/namespaces/{ns}", ns="acme")
        wait_for(lambda: http.get("stat?path=/"), 403)
        fresh = bearer(ns="acme", roles=["read-write"], iat=int(time.time()) + 2)
        wait_for(lambda: http.get("stat?path=/", headers=fresh), 403)
