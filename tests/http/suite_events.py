"""What `GET /events` tells, and to whom: run by `test_suites.py` and on the fast lane."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fs9.observe.audit_chain import AuditRecord, ChainCheck
from tests.fix_http import token
from tests.http.calls import close, mkdir, ok, open_, problem, put, read, write

if TYPE_CHECKING:
    import httpx2

    from tests.fix_http import Server


async def events(client: httpx2.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ok(await client.get("events", params=query)).json()
    return found


async def test_writes_are_told_of_when_the_handle_closes(api: httpx2.AsyncClient) -> None:
    """One event with the sum, whatever the lane; details only for who asks."""
    handle_id = await open_(api, "/f", read=True, write=True, create=True)
    for number in range(5):
        ok(await write(api, handle_id, number * 100_000, b"x" * 100_000))
    ok(await read(api, handle_id, 0, 10))
    assert [event["event_type"] for event in await events(api)] == ["create"]
    ok(await close(api, handle_id))
    (event,) = await events(api, type="write")
    assert set(event) == {"timestamp", "event_type", "path", "user", "count"}
    (event,) = await events(api, type="write", details=1)
    assert event["details"]["bytes"] == 500_000
    assert event["outcome"] == "ok"


async def test_refusals_are_told_of_to_who_asks(auth_server: Server, acme: str) -> None:
    """Of every kind and lane, with the type of what was tried; older clients see none."""
    admin = auth_server.client(token=token(acme, "admin"))
    await put(admin, "/f", b"x")
    handle_id = await open_(admin, "/f", read=True, write=True)
    reader = auth_server.client(token=token(acme, "read-only", sub="alice"))
    narrow = auth_server.client(token=token(acme, "admin", mounts=["/p"]))
    flags = {"write": True, "create": True}
    answers = [
        await reader.put("upload", params={"path": "/u"}, content=b"x"),
        await reader.delete("remove", params={"path": "/f"}),
        await reader.post("open", json={"path": "/o", "flags": flags}),
        await reader.post("wstat", json={"path": "/f", "changes": {"mode": 0}}),
        await reader.post("wstat", json={"path": "/f", "changes": {"name": "a/../stolen"}}),
        await write(reader, handle_id, 0, b"x"),
        await reader.post("namespaces", json={"name": "other"}),
        await narrow.get("stat", params={"path": "/f"}),
    ]
    assert [answer.status_code for answer in answers] == [403] * 7 + [404]
    ok(await close(admin, handle_id))
    refused = await events(admin, outcome="refused")
    assert [(e["event_type"], e["path"], e["outcome"]) for e in reversed(refused)] == [
        ("upload", "/u", "PermissionDenied"),
        ("delete", "/f", "PermissionDenied"),
        ("create", "/o", "PermissionDenied"),
        ("chmod", "/f", "PermissionDenied"),
        ("rename", "/f", "PermissionDenied"),
        ("write", "/f", "PermissionDenied"),
        ("namespace", "/", "Forbidden"),
        ("read", "/f", "NotFound"),
    ]
    details = {e["event_type"]: e["details"] for e in refused}
    assert (details["rename"], details["chmod"]) == ({"target": "/stolen"}, {"mode": 0})
    assert [event["event_type"] for event in await events(admin)] == ["upload"]
    assert await events(narrow, outcome="all") == []
    everything = await events(admin, outcome="all", path="/f")
    assert [event["event_type"] for event in everything if event["outcome"] == "ok"] == ["upload"]


async def test_refusals_before_the_namespace_are_told_of(auth_server: Server, acme: str) -> None:
    """Another tenant's prefix, a mount that is not allowed, a refresh for another tenant."""
    admin, mine = auth_server.client(token=token(acme, "admin")), token(acme, "operator", sub="ann")
    operator = auth_server.client(token=mine)
    foreign = auth_server.client(token=mine, tenant="other")
    local = {"path": "/etc", "provider": "localfs", "config": {"root": "/etc"}}
    answers = [
        await foreign.get("stat", params={"path": "/secret"}),
        await operator.post("mount", json=local),
        await auth_server.client(token=token(acme, "read-only", sub="ann")).delete(
            "mount", params={"path": "/hello"}
        ),
        await foreign.post("auth/refresh"),
    ]
    assert [answer.status_code for answer in answers] == [403] * 4
    refused = await events(admin, outcome="refused", type="all")
    assert [(e["event_type"], e["path"], e["user"]) for e in reversed(refused)] == [
        ("request", "/", "ann"),
        ("mount", "/etc", "ann"),
        ("unmount", "/hello", "ann"),
        ("refresh", "/", "ann"),
    ]


async def test_administration_is_told_of(auth_server: Server, acme: str) -> None:
    """Who made the namespace, revoked or refreshed a token; nothing of the token itself."""
    admin = auth_server.client(token=token(acme, "admin"))
    victim = token(acme, sub="mallory")
    ok(await admin.post("auth/revoke", json={"token": victim}))
    ok(await admin.post("auth/revoke", json={"user": "eve"}))
    ok(await admin.post("auth/refresh"))
    found = await events(admin, type="all", details=1)
    assert [(e["event_type"], e["user"]) for e in reversed(found)] == [
        ("namespace", "alice"),
        ("revoke", "alice"),
        ("revoke", "alice"),
        ("refresh", "alice"),
    ]
    assert found[3]["details"] == {"action": "create", "by_namespace": "default"}
    assert found[2]["details"] == {"kind": "token"}
    assert found[1]["details"] == {"kind": "user", "subject": "eve"}
    assert await events(admin) == []


async def test_events_by_time(api: httpx2.AsyncClient) -> None:
    await put(api, "/a", b"x")
    (event,) = await events(api)
    at_s = event["timestamp"]
    assert await events(api, since=at_s) == [event]
    assert await events(api, until=at_s + 1) == [event]
    assert await events(api, since=at_s + 1) == []
    assert await events(api, until=at_s) == []
    for wrong in ({"since": "x"}, {"until": "-1"}, {"outcome": "bad"}, {"details": "2"}):
        answer = await api.get("events", params=wrong)
        assert problem(answer)[:2] == (400, "InvalidArgument"), wrong


async def test_the_chain_can_be_checked_from_outside(auth_server: Server, acme: str) -> None:
    admin = auth_server.client(token=token(acme, "admin"))
    await mkdir(admin, "/d")
    await put(admin, "/d/ü", b"x")
    ok(await admin.post("wstat", json={"path": "/d/ü", "changes": {"mode": 0o600}}))
    links: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while len(links) < 4:
            after = links[-1]["sequence"] if links else 0
            answer = await admin.get("events/chain", params={"after": after, "limit": 2})
            links += ok(answer).json()
            await asyncio.sleep(0.05)
    check = ChainCheck()
    check.feed([AuditRecord(**link) for link in links])
    assert check.end() is None
    assert [link["event_type"] for link in links] == ["namespace", "mkdir", "upload", "chmod"]
    narrow = auth_server.client(token=token(acme, "admin", mounts=["/d"]))
    assert problem(await narrow.get("events/chain"))[:2] == (403, "PermissionDenied")


async def test_a_follower_must_name_an_event_that_there_is(api: httpx2.AsyncClient) -> None:
    for after in ("x", "-1", "99999"):
        answer = await api.get("events", params={"follow": 1, "after": after})
        assert problem(answer)[:2] == (400, "InvalidArgument"), after
