"""Suite: what holds for every route: methods, tokens, roles, errors and headers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.fix_http import SECRET, Server, new_tenant, token
from tests.http.calls import get, mkdir, ok, open_, problem, put, read, stat, write

if TYPE_CHECKING:
    import httpx2

GETS = ["stat", "statfs", "readdir", "download", "capabilities", "mounts", "events", "namespaces"]


async def test_health_needs_no_token(server: Server, auth_server: Server) -> None:
    for one in (server, auth_server):
        answer = await one.client(prefix=False).get("health")
        assert answer.status_code == 200
        assert re.fullmatch(r'\{"status":"ok","instance_id":"[0-9a-f]{8}"\}', answer.text)
        assert (await one.client().get("health")).status_code in {401, 404}


@pytest.mark.parametrize("path", ["none", "stat/", "stat/x", "", "Stat", "s%74at", "stat%3Fpath=/"])
async def test_an_unknown_path_is_404(api: httpx2.AsyncClient, path: str) -> None:
    assert problem(await api.get(path))[:2] == (404, "RouteNotFound")


@pytest.mark.parametrize("path", ["/", "/none", "/a/b/api/v1/stat", "//api/v1/stat", "/health/"])
async def test_an_unknown_path_outside_is_404(server: Server, path: str) -> None:
    answer = await server.client(prefix=False).get(server.base_url + path)
    assert problem(answer)[:2] == (404, "RouteNotFound")


async def test_an_unknown_path_without_a_token_is_401(auth_server: Server) -> None:
    client = auth_server.client()
    for path in ("none", "stat/", "/", "/x/y"):
        assert (await client.get(path)).status_code == 401
    assert (await client.patch("stat")).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "stat", "GET, HEAD"),
        ("OPTIONS", "stat", "GET, HEAD"),
        ("GET", "wstat", "POST"),
        ("HEAD", "wstat", "POST"),
        ("PATCH", "upload", "PUT"),
        ("DELETE", "namespaces", "GET, HEAD, POST"),
        ("PUT", "namespaces/default", "DELETE, GET, HEAD, PATCH"),
        ("POST", "/health", "GET, HEAD"),
        ("MKCOL", "open", "POST"),
        ("TRACE", "open", "POST"),
    ],
)
async def test_a_wrong_method_is_405_with_allow(
    api: httpx2.AsyncClient, method: str, path: str, allow: str
) -> None:
    url = path if not path.startswith("/") else str(api.base_url.join(path))
    answer = await api.request(method, url)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow
    if method != "HEAD":
        assert problem(answer)[1] == "MethodNotAllowed"


@pytest.mark.parametrize("route", GETS)
async def test_head_answers_as_get_without_the_body(api: httpx2.AsyncClient, route: str) -> None:
    await put(api, "/a", b"x" * 3000)
    await mkdir(api, "/d")
    params = {"path": "/d" if route == "readdir" else "/a"}
    full = await api.get(route, params=params)
    bare = await api.head(route, params=params)
    assert full.status_code == bare.status_code == 200
    assert bare.content == b""
    assert bare.headers["content-length"] == str(len(full.content))
    assert bare.headers["content-type"] == full.headers["content-type"]
    missing = await api.head("stat", params={"path": "/none"})
    assert (missing.status_code, missing.content) == (404, b"")


@pytest.mark.parametrize("query", ["watch?path=/", "events?follow=1"])
async def test_head_of_what_has_no_length_tells_none(api: httpx2.AsyncClient, query: str) -> None:
    answer = await api.head(query, headers={"Accept": "text/event-stream"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "content-length" not in answer.headers


async def test_head_of_pages(server: Server) -> None:
    client = server.client(prefix=False)
    for path in ("health", "openapi.json", "docs"):
        full, bare = await client.get(path), await client.head(path)
        assert (bare.status_code, bare.content) == (200, b"")
        assert bare.headers["content-length"] == str(len(full.content))


async def test_both_prefixes_reach_the_namespace_default(server: Server) -> None:
    name = f"/{new_tenant()}"
    await put(server.client(), name, b"x")
    assert (await stat(server.client(tenant="default"), name))["size"] == 1


async def test_a_tenant_is_created_at_its_first_use_and_private(server: Server) -> None:
    one, other = server.client(tenant=new_tenant()), server.client(tenant=new_tenant())
    await put(one, "/a", b"x")
    assert (await other.get("stat", params={"path": "/a"})).status_code == 404


@pytest.mark.parametrize("tenant", ["Upper", "-x", "a%20b", "x" * 65, "a.b", "%61cme", "ä"])
async def test_a_tenant_that_no_namespace_can_be_is_400(server: Server, tenant: str) -> None:
    client = server.client(prefix=False)
    answer = await client.get(f"{tenant}/api/v1/mounts")
    status, kind, text = problem(answer)
    assert (status, kind) == (400, "InvalidArgument")
    assert "Namespace name" in text


async def test_the_query_is_checked_before_the_body(api: httpx2.AsyncClient) -> None:
    answer = await api.post("wstat?path=/&path=/", content=b"{")
    assert problem(answer)[1] == "InvalidArgument"


async def test_a_repeated_query_key_is_400_on_every_route(api: httpx2.AsyncClient) -> None:
    for route in ("mounts", "namespaces", "events", "/health"):
        url = route if not route.startswith("/") else str(api.base_url.join(route))
        answer = await api.get(f"{url}?x=1&x=2")
        assert problem(answer)[:2] == (400, "InvalidArgument")


# -- Authentication. ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "text"),
    [
        (None, "Missing Authorization header"),
        ("Basic abc", "Authorization header must use Bearer scheme"),
        ("bearer abc", "Authorization header must use Bearer scheme"),
        ("Bearer", "Authorization header must use Bearer scheme"),
        ("Bearer abc", "Invalid token: "),
        ("Bearer é".encode("latin-1"), "Invalid Authorization header"),
    ],
)
async def test_a_wrong_credential_is_401_in_the_contract_s_words(
    auth_server: Server, authorization: str | bytes | None, text: str
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    client = auth_server.client()
    for answer in [
        await client.get("stat", params={"path": "/"}, headers=headers),
        # Credentials come first: before the query, the body, and the route itself.
        await client.get("stat", headers=headers),
        await client.post("open", content=b"{", headers=headers),
    ]:
        status, kind, error = problem(answer)
        assert (status, kind) == (401, "Unauthenticated")
        assert error.startswith(text)
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_tokens_that_do_not_hold_are_401(auth_server: Server, acme: str) -> None:
    for claims in ({"exp": 1_000_000_000}, {"ns": None}, {"aud": "other"}, {"sub": None}):
        client = auth_server.client(token=token(acme, **claims))
        assert problem(await client.get("mounts"))[:2] == (401, "Unauthenticated")
    forged = token(acme)[:-4] + "AAAA"
    assert (await auth_server.client(token=forged).get("mounts")).status_code == 401
    assert SECRET not in (await auth_server.client(token=forged).get("mounts")).text


async def test_a_token_reaches_its_own_namespace(auth_server: Server, acme: str) -> None:
    client = auth_server.client(token=token(acme))
    await put(client, "/a", b"x")
    assert (await stat(client, "/a"))["size"] == 1
    events = (await client.get("events")).json()
    assert events[0]["user"] == "alice"
    other = auth_server.client(token=token("default"))
    assert (await other.get("stat", params={"path": "/a"})).status_code == 404


async def test_a_token_of_an_unknown_namespace_is_403(auth_server: Server) -> None:
    client = auth_server.client(token=token(new_tenant()))
    answer = await client.get("mounts")
    assert problem(answer) == (403, "Forbidden", "Namespace not found or access denied")
    # What is wrong with the request itself is said first.
    assert (await client.get("stat")).status_code == 400
    answer = await client.post("open", json={"path": "/a"})
    assert problem(answer)[:2] == (422, "UnprocessableBody")


async def test_a_tenant_prefix_must_be_the_token_s(auth_server: Server, acme: str) -> None:
    same = auth_server.client(tenant=acme, token=token(acme))
    await put(same, "/a", b"x")
    for tenant in ("default", "Not-a-name", "x" * 100):
        other = auth_server.client(tenant=tenant, token=token(acme))
        for answer in [await other.get("mounts"), await other.get("namespaces")]:
            assert problem(answer)[:2] == (403, "Forbidden")


async def test_a_read_only_token_reads_and_changes_nothing(auth_server: Server, acme: str) -> None:
    await put(auth_server.client(token=token(acme)), "/a", b"content")
    for role in ("read-only", "reader"):
        client = auth_server.client(token=token(acme, role))
        handle_id = await open_(client, "/a", read=True)
        for answer in [
            await client.get("stat", params={"path": "/a"}),
            await client.get("readdir", params={"path": "/"}),
            await get(client, "/a"),
            await read(client, handle_id, 0, 10),
        ]:
            assert answer.status_code == 200
        flags = {"write": True}
        for answer in [
            await write(client, handle_id, 0, b"x"),
            await client.post("open", json={"path": "/a", "flags": flags}),
            await client.put("upload", params={"path": "/a"}, content=b"x"),
            await client.delete("remove", params={"path": "/a"}),
            await client.post("wstat", json={"path": "/a", "changes": {"size": 0}}),
        ]:
            assert problem(answer)[:2] == (403, "PermissionDenied")
    assert (await get(client, "/a")).content == b"content"


async def test_a_narrowed_token_is_narrowed_on_every_route(auth_server: Server, acme: str) -> None:
    """Outside its paths there is nothing, not even by the handle of a wider token."""
    wide = auth_server.client(token=token(acme, "admin"))
    for path in ("/p", "/p/a", "/p/b"):
        await mkdir(wide, path)
    for path in ("/p/a/f", "/p/b/f", "/p/ab", "/f"):
        await put(wide, path, b"content")
    narrow = auth_server.client(token=token(acme, "admin", mounts=["/p/a"]))
    large = b"x" * 200_000
    for path in ("/p/b/f", "/p/b", "/p/ab", "/f", "/none"):
        flags = {"write": True, "create": True}
        for answer in [
            await narrow.get("stat", params={"path": path}),
            await narrow.get("statfs", params={"path": path}),
            await narrow.get("readdir", params={"path": path}),
            await narrow.get("readdir", params={"path": path, "limit": 1}),
            await narrow.get("capabilities", params={"path": path}),
            await get(narrow, path),
            await narrow.post("open", json={"path": path, "flags": {"read": True}}),
            await narrow.post("open", json={"path": path, "flags": flags}),
            await narrow.put("upload", params={"path": path}, content=b"x"),
            await narrow.put("upload", params={"path": path}, content=large),
            await narrow.delete("remove", params={"path": path}),
            await narrow.post("wstat", json={"path": path, "changes": {"size": 0}}),
            await narrow.post("wstat", json={"path": path, "changes": {"name": "/p/a/g"}}),
            await narrow.post("wstat", json={"path": "/p/a/f", "changes": {"name": path}}),
        ]:
            assert problem(answer)[:2] == (404, "NotFound"), path
    handle_id = await open_(wide, "/p/b/f", read=True, write=True)
    for answer in [
        await read(narrow, handle_id, 0, 10),
        await read(narrow, handle_id, 0, 5_000_000),
        await write(narrow, handle_id, 0, b"x"),
        await write(narrow, handle_id, 0, large),
        await narrow.post("close", json={"handle_id": handle_id}),
    ]:
        assert problem(answer)[:2] == (400, "InvalidHandle")
    assert (await read(wide, handle_id, 0, 10)).content == b"content"
    listed = [entry["path"] for entry in (await narrow.get("readdir?path=/")).json()]
    assert listed == ["/p"]
    events = (await narrow.get("events")).json()
    assert {event["path"] for event in events} == {"/p/a", "/p/a/f"}
    await put(narrow, "/p/a/g", large)
    assert (await get(narrow, "/p/a/g")).content == large
    for route in ("namespaces", f"namespaces/{acme}", "namespaces/default"):
        assert problem(await narrow.get(route))[:2] == (403, "Forbidden")


async def test_permissions_of_a_token_are_all_it_may(auth_server: Server, acme: str) -> None:
    wide = auth_server.client(token=token(acme))
    await mkdir(wide, "/in")
    await put(wide, "/in/old", b"old")
    inbox = auth_server.client(token=token(acme, permissions=["create:/in"]))
    await put(inbox, "/in/new", b"x" * 100_000)
    for answer in [
        await get(inbox, "/in/new"),
        await inbox.put("upload", params={"path": "/in/old"}, content=b"x"),
        await inbox.put("upload", params={"path": "/in/new"}, content=b"x" * 100_000),
        await inbox.delete("remove", params={"path": "/in/new"}),
        await inbox.get("readdir", params={"path": "/in"}),
    ]:
        assert problem(answer)[:2] == (403, "PermissionDenied")
    handle_id = await open_(inbox, "/in/made", write=True, create=True)
    assert (await write(inbox, handle_id, 0, b"x" * 100_000)).status_code == 200
    unknown = auth_server.client(token=token(acme, "admin", permissions=["everything"]))
    assert problem(await unknown.get("stat?path=/"))[:2] == (404, "NotFound")


async def test_a_handle_is_its_users_alone(auth_server: Server, acme: str) -> None:
    """For others, an admin too, it is as if there were none."""
    alice = auth_server.client(token=token(acme))
    await put(alice, "/a", b"content")
    handle_id = await open_(alice, "/a", read=True, write=True)
    for role in ("admin", "read-write"):
        bob = auth_server.client(token=token(acme, role, sub="bob"))
        for answer in [
            await read(bob, handle_id, 0, 1),
            await write(bob, handle_id, 0, b"x"),
            await write(bob, handle_id, 0, b"x" * 100_000),
            await bob.post("close", json={"handle_id": handle_id}),
        ]:
            assert problem(answer)[:2] == (400, "InvalidHandle")
    again = auth_server.client(token=token(acme, "read-write", exp=4_000_000_000))
    assert (await read(again, handle_id, 0, 10)).content == b"content"


# -- Namespaces. ----------------------------------------------------------------------------


async def test_an_admin_creates_a_namespace_that_can_be_used(auth_server: Server) -> None:
    name = new_tenant()
    admin = auth_server.client(token=token("default", "admin", sub="root"))
    answer = await admin.post("namespaces", json={"name": name})
    assert answer.status_code == 201
    created = answer.json()
    assert list(created) == ["name", "created_at", "created_by", "status"]
    assert (created["name"], created["created_by"], created["status"]) == (name, "root", "active")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created["created_at"])
    await put(auth_server.client(token=token(name)), "/a", b"x")
    answer = await admin.post("namespaces", json={"name": name})
    text = f"Namespace '{name}' already exists"
    assert problem(answer) == (409, "AlreadyExists", text)
    assert (await admin.get(f"namespaces/{name}")).json() == created
    assert created in (await admin.get("namespaces")).json()


@pytest.mark.parametrize("name", ["BadName", "bad@name!", "", "-x", "x" * 65, "ä"])
async def test_a_bad_namespace_name_is_400(auth_server: Server, name: str) -> None:
    admin = auth_server.client(token=token("default", "admin"))
    status, kind, text = problem(await admin.post("namespaces", json={"name": name}))
    assert (status, kind) == (400, "InvalidArgument")
    assert text.startswith("Namespace name ")


async def test_who_may_see_and_create_namespaces(auth_server: Server) -> None:
    refused = (403, "Forbidden", "Insufficient permissions")
    unknown = (403, "Forbidden", "Namespace not found or access denied")
    for namespace, role, may_list in [
        ("default", "operator", True),
        ("default", "read-write", False),
        ("default", "reader", False),
        ("nowhere", "admin", False),
        ("nowhere", "operator", False),
    ]:
        client = auth_server.client(token=token(namespace, role))
        answer = await client.post("namespaces", json={"name": new_tenant()})
        expected = refused if namespace != "nowhere" else unknown
        assert problem(answer) == expected
        for path in ("namespaces", "namespaces/default"):
            answer = await client.get(path)
            if may_list:
                assert answer.status_code == 200
            else:
                assert problem(answer) == expected
    assert (await auth_server.client().get("namespaces")).status_code == 401


async def test_an_admin_sees_its_own_namespace_and_no_other(auth_server: Server) -> None:
    """The role counts in the namespace of the token."""
    name, other = new_tenant(), new_tenant()
    root = auth_server.client(token=token("admin", "admin"))
    for created in (name, other):
        assert (await root.post("namespaces", json={"name": created})).status_code == 201
    for role in ("admin", "operator"):
        client = auth_server.client(token=token(name, role))
        assert (await client.get(f"namespaces/{name}")).json()["name"] == name
        for foreign in (other, "default", "none"):
            refused = problem(await client.get(f"namespaces/{foreign}"))
            assert refused == (403, "Forbidden", "Insufficient permissions")


async def test_an_unknown_namespace_is_404(auth_server: Server) -> None:
    admin = auth_server.client(token=token("default", "admin"))
    answer = await admin.get("namespaces/none")
    assert problem(answer) == (404, "NotFound", "Namespace 'none' not found")


async def test_namespaces_below_a_tenant(server: Server) -> None:
    tenant = new_tenant()
    client = server.client(tenant=tenant)
    ok(await client.get("mounts"))
    assert (await client.get(f"namespaces/{tenant}")).json()["created_by"] == "system"


@pytest.mark.parametrize(
    ("value", "status"),
    [
        *(("0", 200), ("10", 200), ("0000000000000010", 200)),
        *(("11", 508), ("9999999999", 508), ("-1", 400), ("1.5", 400), ("x", 400), ("", 400)),
    ],
)
async def test_the_hops_of_a_request_are_counted_on_arrival(api, value: str, status: int):
    """Small operations and bodies in pieces alike; one that is refused does nothing."""
    headers = {"x-fs9-hop-count": value}
    content = bytes(300_000)
    answers = (
        await api.put("upload", params={"path": "/f"}, content=content, headers=headers),
        await api.get("stat", params={"path": "/"}, headers=headers),
    )
    for answer in answers:
        assert answer.status_code == status, answer.text
        if status == 508:
            assert answer.json()["error"] == f"too many proxy hops: {value} (max: 10)"
    found = await api.get("download", params={"path": "/f"})
    assert (found.status_code == 200 and found.content == content) == (status == 200)
