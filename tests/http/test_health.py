"""/livez, /readyz, /version: three questions, each answered without a token."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import fs9
from fs9.errors import BackendUnavailable
from fs9.observe.readiness import KEPT_S

if TYPE_CHECKING:
    import pytest

    from tests.fix_http import Server, StartServer


async def test_they_answer_without_a_token(auth_server: Server) -> None:
    client = auth_server.client(prefix=False)
    assert (await client.get("livez")).json() == {"status": "ok"}
    assert (await client.get("readyz")).json() == {"status": "ok"}
    assert auth_server.context is not None
    assert (await client.get("version")).json() == {
        "name": "fs9",
        "version": fs9.__version__,
        "python": platform.python_version(),
        "instance_id": auth_server.context.services.instance_id,
    }


async def test_verbose_lists_the_checks(server: Server) -> None:
    client = server.client(prefix=False)
    for query in ("?verbose", "?verbose=1"):
        assert (await client.get("readyz" + query)).json() == {
            "status": "ok",
            "checks": [{"name": name, "ok": True} for name in ("worker", "meta", "root")],
        }


async def test_not_ready_is_503_and_says_why(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fs9.clock import ManualClock

    clock = ManualClock()
    server = await start_server(clock=clock)
    assert server.context is not None
    services = server.context.services
    client = server.client(prefix=False)
    assert (await client.get("readyz")).status_code == 200

    async def down(name: str) -> None:
        raise BackendUnavailable("the disk is gone")

    monkeypatch.setattr(services.store, "namespace", down)
    clock.advance(KEPT_S)
    answer = await client.get("readyz")
    assert answer.status_code == 503
    text = "meta: storage backend unavailable: the disk is gone"
    assert answer.json() == {
        "error": f"overloaded: not ready: {text}",
        "code": 503,
        "kind": "Overloaded",
    }
    assert answer.headers["retry-after"]
    assert answer.headers["cache-control"] == "no-store"
    verbose = await client.get("readyz?verbose")
    assert verbose.json()["error"] == f"overloaded: not ready: worker: ok; {text}; root: ok"
    assert (await client.get("livez")).status_code == 200
    assert (await client.get("health")).status_code == 200


async def test_a_root_mount_that_does_not_answer_is_not_ready(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root of `default`, asked by the worker that owns it; another one does not load it."""
    from fs9.clock import ManualClock

    clock = ManualClock()
    server = await start_server(clock=clock)
    assert server.context is not None
    services = server.context.services
    client = server.client(prefix=False)
    services.owns = lambda _: False
    checks = (await client.get("readyz?verbose")).json()["checks"]
    assert checks[2] == {"name": "root", "ok": True, "detail": "another worker serves it"}
    assert services.namespaces.loaded("default") is None
    services.owns = lambda _: True
    clock.advance(KEPT_S)
    assert (await client.get("readyz")).status_code == 200
    namespace = services.namespaces.loaded("default")
    assert namespace is not None

    async def gone(path: str) -> None:
        raise BackendUnavailable("no such device")

    (root,) = [mount for mount in namespace.vfs.mounts if mount.path == "/"]
    monkeypatch.setattr(root.provider, "stat", gone)
    clock.advance(KEPT_S)
    answer = await client.get("readyz")
    assert answer.status_code == 503
    assert "root: storage backend unavailable: no such device" in answer.json()["error"]


async def test_a_worker_that_leaves_is_not_ready(server: Server) -> None:
    assert server.context is not None
    server.context.services.readiness.leaving = "it is leaving"
    answer = await server.client(prefix=False).get("readyz")
    assert answer.status_code == 503
    assert "worker: it is leaving" in answer.json()["error"]
