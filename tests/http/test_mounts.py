"""fs9.http.mounts and fs9.http.namespaces: mounts, status, quota and deletion at run time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fs9.auth.verifier import REVOKED
from fs9.types import MountSpec
from tests.fix_http import Server, StartServer, new_tenant, token
from tests.http.calls import get, open_, problem, put

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

    from fs9.clock import ManualClock
    from fs9.provider import Provider

PAGEFS = (MountSpec("/", "pagefs"),)


def admin_of(server: Server) -> httpx2.AsyncClient:
    return server.client(token=token("default", "admin", sub="root"))


async def made(server: Server, name: str) -> httpx2.AsyncClient:
    """A client of the operator of a new namespace."""
    answer = await admin_of(server).post("namespaces", json={"name": name})
    assert answer.status_code == 201, answer.text
    return server.client(token=token(name, "operator"))


async def paths(client: httpx2.AsyncClient) -> list[str]:
    return [each["path"] for each in (await client.get("mounts")).json()]


async def mount(client: httpx2.AsyncClient, path: str, provider: str, **rest: object) -> int:
    body = {"path": path, "provider": provider, **rest}
    return (await client.post("mount", json=body)).status_code


async def test_an_operator_mounts_and_unmounts(auth_server: Server, acme: str) -> None:
    """It serves at once, is kept in the metadata and shown in listings; the same again is 200."""
    operator = auth_server.client(token=token(acme, "operator"))
    answer = await operator.post("mount", json={"path": "/deep/kv", "provider": "kvfs"})
    assert (answer.status_code, answer.json()) == (
        201,
        {"path": "/deep/kv", "provider_name": "kvfs"},
    )
    assert await mount(operator, "/deep/kv", "kvfs") == 200
    assert await mount(operator, "/deep/kv", "memfs") == 409
    await put(operator, "/deep/kv/a", b"x")
    listed = (await operator.get("readdir", params={"path": "/deep"})).json()
    assert [each["path"] for each in listed] == ["/deep/kv"]
    assert auth_server.context is not None
    store = auth_server.context.services.store
    assert "/deep/kv" in [spec.path for spec in (await store.namespace(acme)).mounts]
    assert (await operator.delete("mount", params={"path": "/deep/kv"})).status_code == 204
    assert "/deep/kv" not in await paths(operator)
    assert (await operator.delete("mount", params={"path": "/deep/kv"})).status_code == 404
    assert await mount(operator, "/deep/kv", "kvfs") == 201
    assert (await get(operator, "/deep/kv/a")).content == b"x"


async def test_who_may_mount(auth_server: Server, acme: str) -> None:
    """Readers and writers may not, operators what the policy allows, unknown providers are 404."""
    for role in ("read-only", "read-write", "reader"):
        client = auth_server.client(token=token(acme, role))
        assert await mount(client, "/x", "memfs") == 403
        assert (await client.delete("mount", params={"path": "/hello"})).status_code == 403
    for role in ("operator", "admin"):
        client = auth_server.client(token=token(acme, role))
        assert await mount(client, "/x", "nosuch") == 404
        assert await mount(client, "/x", "localfs", config={"root": "/tmp"}) == 403
        assert (
            await mount(client, "/x", "proxyfs", config={"upstream": "http://127.0.0.1:1"}) == 403
        )
        remote = {"backend": {"type": "postgres", "dsn": "postgresql://127.0.0.1/x"}}
        assert await mount(client, "/x", "pagefs", config=remote) == 403
        assert await paths(client) == ["/", "/hello", "/other"]


async def test_an_operator_may_mount_kv_as_older_clients_call_it(
    auth_server: Server, acme: str
) -> None:
    operator = auth_server.client(token=token(acme, "operator"))
    assert await mount(operator, "/x", "kv", config={"namespace": "x"}) == 201
    assert "/x" in await paths(operator)


async def test_what_cannot_be_made_is_not_kept(auth_server: Server, acme: str) -> None:
    """A wrong configuration is 400, and neither the table nor the metadata has it."""
    operator = auth_server.client(token=token(acme, "operator"))
    assert await mount(operator, "/x", "kvfs", config={"ttl": 3}) == 400
    await put(operator, "/a", b"the root is in use")
    assert await mount(operator, "relative/..", "kvfs") == 409
    assert await paths(operator) == ["/", "/hello", "/other"]
    assert auth_server.context is not None
    record = await auth_server.context.services.store.namespace(acme)
    assert [spec.path for spec in record.mounts] == ["/", "/hello", "/other"]


async def test_an_unmount_waits_for_open_files_or_closes_them(
    auth_server: Server, acme: str
) -> None:
    operator = auth_server.client(token=token(acme, "operator"))
    await put(operator, "/other/a", b"x")
    handle = await open_(operator, "/other/a", read=True)
    answer = await operator.delete("mount", params={"path": "/other"})
    assert problem(answer)[:2] == (409, "Conflict")
    forced = {"path": "/other", "force": "true"}
    assert (await operator.delete("mount", params=forced)).status_code == 204
    body = {"handle_id": handle, "offset": 0, "size": 1}
    assert problem(await operator.post("read", json=body))[:2] == (400, "InvalidHandle")
    assert await paths(operator) == ["/", "/hello"]


async def test_the_root_goes_with_force_alone(start_server: StartServer) -> None:
    """Replaced by other storage, and back again: what was stored is there."""
    server = await start_server(auth=True, template=PAGEFS)
    operator = await made(server, new_tenant())
    await put(operator, "/a", b"kept")
    assert problem(await operator.delete("mount", params={"path": "/"}))[:2] == (409, "Conflict")
    assert await mount(operator, "/", "memfs") == 409
    assert await mount(operator, "/", "memfs", force=True) == 201
    assert (await operator.get("stat", params={"path": "/a"})).status_code == 404
    wrong = {"backend": {"type": "none"}}
    assert await mount(operator, "/", "pagefs", force=True, config=wrong) == 403
    assert await mount(operator, "/", "pagefs", force=True, config={"uid": -1}) == 400
    await put(operator, "/b", b"still memfs")
    assert await mount(operator, "/", "pagefs", force=True) == 201
    assert (await get(operator, "/a")).content == b"kept"
    assert await mount(operator, "/", "pagefs", force=True) == 200


async def test_an_empty_root_is_replaced_without_force(start_server: StartServer) -> None:
    """As older admin tools do it: create, then mount at `/`, where the template's mount is."""
    server = await start_server(auth=True, template=PAGEFS)
    operator = await made(server, new_tenant())
    assert await mount(operator, "/", "memfs") == 201
    assert (await operator.get("mounts")).json() == [{"path": "/", "provider_name": "memfs"}]
    await put(operator, "/a", b"kept")
    assert await mount(operator, "/", "pagefs") == 409
    assert (await get(operator, "/a")).content == b"kept"


async def test_a_suspended_namespace_is_403_until_it_is_active_again(
    auth_server: Server, acme: str
) -> None:
    """Everywhere, from the answer on; its handles do not come back."""
    admin, client = admin_of(auth_server), auth_server.client(token=token(acme, "admin"))
    await put(client, "/a", b"x")
    handle = await open_(client, "/a", read=True)
    answer = await admin.patch(f"namespaces/{acme}", json={"status": "suspended"})
    assert (answer.status_code, answer.json()["status"]) == (200, "suspended")
    refused = (403, "Forbidden", "Namespace is not active")
    for path in ("stat?path=/", "mounts", f"namespaces/{acme}"):
        assert problem(await client.get(path)) == refused
    assert problem(await client.post("mount", json={"path": "/x", "provider": "memfs"})) == refused
    answer = await admin.patch(f"namespaces/{acme}", json={"status": "active"})
    assert answer.status_code == 200
    assert (await client.get("stat", params={"path": "/"})).status_code == 200
    body = {"handle_id": handle, "offset": 0, "size": 1}
    assert problem(await client.post("read", json=body))[:2] == (400, "InvalidHandle")


async def test_a_quota_holds_from_the_answer_on(auth_server: Server, acme: str) -> None:
    """What the body leaves out stays; null leaves it to the settings. No rate is below one."""
    admin, client = admin_of(auth_server), auth_server.client(token=token(acme))
    await put(client, "/a", b"x")
    answer = await admin.patch(f"namespaces/{acme}", json={"quota": {"files_max": 1}})
    assert answer.json()["quota"] == {"files_max": 1}
    assert (await client.put("upload?path=/b", content=b"x")).status_code == 507
    answer = await admin.patch(
        f"namespaces/{acme}", json={"quota": {"bytes_max": 9, "files_max": None}}
    )
    assert answer.json()["quota"] == {"bytes_max": 9}
    assert (await client.put("upload?path=/b", content=b"x")).status_code == 200
    for wrong in (
        {"files_max": -1},
        {"files_max": "1"},
        {"bytes_max": 2**63},
        {"requests_per_second_max": 0},
    ):
        answer = await admin.patch(f"namespaces/{acme}", json={"quota": wrong})
        assert problem(answer)[:2] == (422, "UnprocessableBody")


async def test_an_admin_of_the_server_sets_the_mounts_of_any_namespace(
    auth_server: Server, acme: str, tmp_path: Path
) -> None:
    """Also what its own operators may not mount; what stays is left alone."""
    admin, client = admin_of(auth_server), auth_server.client(token=token(acme))
    await put(client, "/kept", b"x")
    (tmp_path / "a").write_bytes(b"host")
    local: dict[str, Any] = {
        "path": "/host",
        "provider": "localfs",
        "config": {"root": str(tmp_path)},
    }
    wanted = [{"path": "/", "provider": "memfs"}, local]
    answer = await admin.patch(f"namespaces/{acme}", json={"mounts": wanted})
    assert answer.status_code == 200, answer.text
    assert await paths(client) == ["/", "/host"]
    assert (await get(client, "/kept")).content == b"x"
    assert (await get(client, "/host/a")).content == b"host"
    local["config"] = {"root": str(tmp_path / "nowhere")}
    answer = await admin.patch(f"namespaces/{acme}", json={"mounts": wanted})
    assert problem(answer)[:2] == (400, "InvalidArgument")
    assert await paths(client) == ["/", "/host"]


async def test_a_deleted_namespace_is_gone_and_its_name_is_free(
    start_server: StartServer, clock: ManualClock
) -> None:
    """A new one of the name finds nothing of it, nor do old handles and tokens lead anywhere."""
    template = (*PAGEFS, MountSpec("/kv", "kvfs"))
    server = await start_server(auth=True, template=template, clock=clock)
    admin = server.client(token=token("default", "admin", sub="root", clock=clock))
    name = new_tenant()

    async def make() -> httpx2.AsyncClient:
        assert (await admin.post("namespaces", json={"name": name})).status_code == 201
        return server.client(token=token(name, "operator", clock=clock))

    client = await make()
    await put(client, "/a", b"old")
    await put(client, "/kv/a", b"old")
    handle = await open_(client, "/a", read=True)
    answer = await admin.delete(f"namespaces/{name}")
    assert (answer.status_code, answer.json()) == (
        200,
        {"name": name, "status": "deleted", "purged": False},
    )
    unknown = (403, "Forbidden", "Namespace not found or access denied")
    assert problem(await client.get("stat?path=/")) == unknown
    assert (await admin.delete(f"namespaces/{name}")).status_code == 404
    clock.advance(1)
    old, client = client, await make()
    assert problem(await old.get("stat?path=/")) == (401, "Unauthenticated", REVOKED)
    assert (await old.post("auth/refresh")).status_code == 401
    assert (await client.get("readdir?path=/")).json()[0]["path"] == "/kv"
    assert (await client.get("stat?path=/a")).status_code == 404
    assert (await client.get("stat?path=/kv/a")).status_code == 404
    body = {"handle_id": handle, "offset": 0, "size": 1}
    assert problem(await client.post("read", json=body))[:2] == (400, "InvalidHandle")
    assert (await admin.delete(f"namespaces/{name}?purge=1")).status_code == 200
    clock.advance(1)
    old, client = client, await make()
    assert problem(await old.get("stat?path=/")) == (401, "Unauthenticated", REVOKED)
    assert (await client.get("stat?path=/")).status_code == 200


@pytest.mark.parametrize("purge", ["0", "1"])
async def test_a_token_made_after_the_name_was_given_anew_holds(
    start_server: StartServer, purge: str
) -> None:
    """Also within the second of the deletion; and nobody reads of what was refused until then."""
    server = await start_server(auth=True)
    admin, name = admin_of(server), new_tenant()
    assert (await admin.post("namespaces", json={"name": name})).status_code == 201
    old = token(name, "operator")
    assert (await admin.delete(f"namespaces/{name}?purge={purge}")).status_code == 200
    old_client = server.client(token=old)
    assert (await old_client.get("stat?path=/secret")).status_code == 403
    await old_client.post("auth/refresh")
    assert (await admin.post("namespaces", json={"name": name})).status_code == 201
    new = token(name, "operator")
    assert (await old_client.get("stat?path=/")).status_code == 401
    client = server.client(token=new)
    assert (await client.get("stat?path=/")).status_code == 200
    events = await client.get("events?type=all&outcome=all")
    assert [event["event_type"] for event in events.json()] == ["namespace"]


async def test_a_purge_removes_the_data_of_the_name(start_server: StartServer) -> None:
    """Of all that had it, and of nobody else."""
    root = {"root": "{data_dir}/namespaces/{namespace}/local"}
    template = (*PAGEFS, MountSpec("/kv", "kvfs"), MountSpec("/local", "localfs", root))
    server = await start_server(auth=True, template=template)
    assert server.context is not None
    data_dir = server.context.services.settings.data_dir
    admin, name, other = admin_of(server), new_tenant(), new_tenant()
    for each in (name, other):
        client = await made(server, each)
        for path in ("/a", "/kv/a", "/local/a"):
            await put(client, path, b"secret")
    assert (await admin.delete(f"namespaces/{name}")).status_code == 200
    await made(server, name)
    answer = await admin.delete(f"namespaces/{name}", params={"purge": "1"})
    assert answer.json()["purged"] is True
    for parent in ("namespaces", "pagefs"):
        left = [each.name for each in (data_dir / parent).iterdir()]
        assert [each for each in left if each.startswith(name)] == []
        assert other in left
    assert (await admin.delete(f"namespaces/{name}?purge=1")).status_code == 404
    assert (await get(server.client(token=token(other)), "/local/a")).content == b"secret"


async def test_data_is_removed_after_the_retention(
    start_server: StartServer, clock: ManualClock
) -> None:
    server = await start_server(auth=True, template=PAGEFS, clock=clock)
    assert server.context is not None
    services = server.context.services
    name = new_tenant()
    admin = server.client(token=token("default", "admin", clock=clock))
    await admin.post("namespaces", json={"name": name})
    await put(server.client(token=token(name, clock=clock)), "/a", b"x")
    assert (await admin.delete(f"namespaces/{name}")).status_code == 200
    directory = services.settings.data_dir / "pagefs" / name
    clock.advance(services.settings.namespace_retention_s - 5)
    assert await services.removal.due(lambda _: True) == 0
    assert directory.exists()
    clock.advance(10)
    assert await services.removal.due(lambda _: False) == 0
    assert await services.removal.due(lambda _: True) == 1
    assert not directory.exists()
    assert await services.store.deleted_namespaces(2**33) == []


async def test_nobody_locks_themselves_out(auth_server: Server, acme: str) -> None:
    """`default`, and the namespace of the token, can be neither suspended nor deleted."""
    admin = admin_of(auth_server)
    for answer in (
        await admin.patch("namespaces/default", json={"status": "suspended"}),
        await admin.delete("namespaces/default"),
    ):
        assert problem(answer)[:2] == (409, "Conflict")
    tenant = auth_server.client(token=token(acme, "admin"))
    assert (await tenant.delete(f"namespaces/{acme}")).status_code == 403
    assert (await tenant.patch(f"namespaces/{acme}", json={})).status_code == 403


async def test_a_thousand_first_requests_load_a_namespace_once(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are answered, and its mounts are made once."""
    server = await start_server(auth=True, template=PAGEFS)
    assert server.context is not None
    client = await made(server, new_tenant())
    registry, count = server.context.services.registry, 0
    create = registry.create

    async def counted(*given: Any, **rest: Any) -> Provider:
        nonlocal count
        count += 1
        await asyncio.sleep(0.01)
        return await create(*given, **rest)

    monkeypatch.setattr(registry, "create", counted)
    answers = await asyncio.gather(*(client.get("stat?path=/") for _ in range(1000)))
    assert ({answer.status_code for answer in answers}, count) == ({200}, 1)
