"""Native plugins over HTTP: who may list, load and unload, and what a plugin's failures answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.types import MountSpec
from tests.fix_http import new_tenant, token
from tests.fix_plugins import compiled

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

    from tests.fix_http import Server, StartServer

_MEMFS = (MountSpec("/", "memfs"),)


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    directory = tmp_path / "plugins"
    directory.mkdir()
    (directory / "libodd.so").write_bytes(compiled("odd").read_bytes())
    return directory


@pytest.fixture
async def server(start_server: StartServer, plugins: Path) -> Server:
    settings = {"plugin_directories": (plugins,), "plugins_api": True}
    return await start_server(auth=True, template=_MEMFS, settings=settings)


def client(server: Server, ns: str, *roles: str) -> httpx2.AsyncClient:
    return server.client(token=token(ns, *roles))


async def test_only_administrators_of_the_server_load(server: Server) -> None:
    """Operators list, others do nothing; an admin of a tenant is none of the server."""
    body = {"name": "x", "path": "libodd.so"}
    for caller, lists in (
        (client(server, "default", "read-only"), 403),
        (client(server, "acme", "admin"), 403),
        (client(server, "default", "operator"), 200),
    ):
        assert (await caller.get("plugin/list")).status_code == lists
        assert (await caller.post("plugin/load", json=body)).status_code == 403
        assert (await caller.post("plugin/unload", json={"name": "odd"})).status_code == 403
    admin = client(server, "default", "admin")
    loaded = await admin.post("plugin/load", json=body)
    assert (loaded.status_code, loaded.json()) == (200, {"name": "x", "status": "loaded"})
    assert (await admin.get("plugin/list")).json() == ["odd", "x"]
    unloaded = await admin.post("plugin/unload", json={"name": "x"})
    assert (unloaded.status_code, unloaded.content) == (204, b"")
    assert (await admin.get("plugin/list")).json() == ["odd"]
    assert (await admin.post("plugin/unload", json={"name": "x"})).status_code == 404


async def test_by_default_nothing_is_loaded(start_server: StartServer) -> None:
    """The list is empty, and loading is refused with the setting that would allow it."""
    server = await start_server()
    api = server.client()
    assert (await api.get("plugin/list")).json() == []
    for path, body in (("load", {"name": "x", "path": "x.so"}), ("unload", {"name": "x"})):
        answer = await api.post(f"plugin/{path}", json=body)
        assert answer.status_code == 403
        assert "server.plugins.api" in answer.json()["error"]


async def test_what_a_namespace_mounts_is_not_unloaded(
    start_server: StartServer, plugins: Path
) -> None:
    """Also when that namespace is not in memory."""
    settings = {"plugin_directories": (plugins,), "plugins_api": True}
    server = await start_server(template=(*_MEMFS, MountSpec("/p", "odd")), settings=settings)
    answer = await server.client().post("plugin/unload", json={"name": "odd"})
    assert (answer.status_code, answer.json()["kind"]) == (409, "Conflict")
    answer = await server.client().post("plugin/unload", json={"name": "memfs"})  # is no plugin
    assert (answer.status_code, answer.json()["error"]) == (404, "not found: plugin memfs")


@pytest.fixture
async def api(start_server: StartServer, plugins: Path) -> httpx2.AsyncClient:
    """A namespace with the odd plugin at /p, in its own process."""
    template = (*_MEMFS, MountSpec("/p", "odd"))
    server = await start_server(template=template, settings={"plugin_directories": (plugins,)})
    return server.client(tenant=new_tenant())


async def test_a_crash_is_a_503_of_one_mount(api: httpx2.AsyncClient) -> None:
    """With Retry-After; the mount beside it serves on."""
    answer = await api.put("upload", params={"path": "/p/f"}, content=b"x" * 200_000)
    assert (answer.status_code, answer.json()["bytes_written"]) == (200, 200_000)
    assert (await api.get("download", params={"path": "/p/f"})).content == b"x" * 200_000
    crashed = await api.get("stat", params={"path": "/p/abort"})
    assert (crashed.status_code, crashed.json()["kind"]) == (503, "BackendUnavailable")
    assert int(crashed.headers["retry-after"]) > 0
    assert (await api.get("stat", params={"path": "/"})).status_code == 200


async def test_errors_have_their_kind_and_path(api: httpx2.AsyncClient) -> None:
    """Though the plugin gives a number alone."""
    for code, status, kind in (
        (1, 404, "NotFound"),
        (2, 403, "PermissionDenied"),
        (7, 400, "DirectoryNotEmpty"),
        (8, 400, "InvalidHandle"),
        (9, 500, "Internal"),
        (11, 503, "BackendUnavailable"),
    ):
        answer = await api.get("stat", params={"path": f"/p/code-{code}"})
        assert (answer.status_code, answer.json()["kind"]) == (status, kind)
        assert f"/code-{code}" in answer.json()["error"]
    answer = await api.get("stat", params={"path": "/p/a\0b"})
    assert (answer.status_code, answer.json()["kind"]) == (400, "InvalidArgument")
