"""Rate limits of the operations, over the application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.clock import ManualClock
from fs9.observe.metrics import RATE_LIMITED
from tests.fix_http import new_tenant, token
from tests.http.calls import ok, problem

if TYPE_CHECKING:
    from tests.fix_http import Server, StartServer


@pytest.fixture
async def limited(start_server: StartServer) -> tuple[Server, ManualClock]:
    """A server whose namespaces have 20 requests in a second, their users 5."""
    clock = ManualClock()
    server = await start_server(auth=True, clock=clock, settings={"rate_limit_enabled": True} | QPS)
    return server, clock


QPS = {"rate_limit_namespace_qps": 20, "rate_limit_user_qps": 5}


async def test_a_burst_of_one_user_is_refused_and_health_and_metrics_never_are(
    limited: tuple[Server, ManualClock],
) -> None:
    server, clock = limited
    key = token("default", "admin", clock=clock)
    api, root = server.client(token=key), server.client(token=key, prefix=False)
    answers = [await api.get("stat", params={"path": "/"}) for _ in range(9)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 4
    refusal = answers[-1]
    assert problem(refusal) == (429, "TooManyRequests", "User rate limit exceeded")
    assert refusal.headers["retry-after"] == "1"
    for path in ("/health", "/livez", "/readyz", "/version", "/metrics"):
        for _ in range(8):
            ok(await root.get(path))
    assert (await root.get("/nothing")).status_code == 429, "what is no route counts, too"
    other = server.client(token=token("default", sub="bob", clock=clock))
    ok(await other.get("stat", params={"path": "/"}))
    clock.advance(1.0)
    ok(await api.get("stat", params={"path": "/"}))


async def test_a_transfer_is_one_request_and_a_namespace_has_its_own_rate(
    limited: tuple[Server, ManualClock],
) -> None:
    server, clock = limited
    users = [server.client(token=token("default", sub=f"u{n}", clock=clock)) for n in range(5)]
    big = b"x" * 3_000_000
    ok(await users[0].put("upload", params={"path": "/big"}, content=big))
    for user in users[:4]:
        for _ in range(5 - (user is users[0])):
            assert ok(await user.get("download", params={"path": "/big"})).content == big
    refused = await users[4].get("download", params={"path": "/big"})
    assert problem(refused)[2] == "Namespace rate limit exceeded"
    assert server.context is not None
    assert server.context.services.metrics._counts[RATE_LIMITED, ("namespace",)] == 1


async def test_nobody_is_limited_by_default(auth_server: Server) -> None:
    api = auth_server.client(token=token("default"))
    for _ in range(150):
        ok(await api.get("stat", params={"path": "/"}))


async def test_an_address_with_bad_tokens_is_refused_before_they_are_looked_at(
    start_server: StartServer,
) -> None:
    clock = ManualClock()
    server = await start_server(auth=True, clock=clock, failed_credentials_per_minute_max=6)
    assert server.context is not None
    verifier = server.context.services.verifier
    assert verifier is not None
    known = server.client(token=token("default", clock=clock))
    ok(await known.get("stat", params={"path": "/"}))
    for number in range(6):
        bad = server.client(token=f"bad{number}")
        assert (await bad.get("stat", params={"path": "/"})).status_code == 401
    verified = verifier.stats()
    fresh = server.client(token=token("default", sub="bob", clock=clock))
    for client in (server.client(token="bad"), fresh):
        refused = await client.get("stat", params={"path": "/"})
        text = "Too many failed credentials from this address"
        assert problem(refused) == (429, "TooManyRequests", text)
        assert int(refused.headers["retry-after"]) == 10
    assert verifier.stats() == verified, "nobody looked"
    ok(await known.get("stat", params={"path": "/"}))
    missing = await server.client().get("stat", params={"path": "/"})
    assert missing.status_code == 401, "no credential is no bad one"
    clock.advance(10)
    ok(await fresh.get("stat", params={"path": "/"}))


async def test_refreshing_is_limited_by_token_and_by_address(start_server: StartServer) -> None:
    clock = ManualClock()
    server = await start_server(
        auth=True,
        clock=clock,
        settings={"rate_limit_enabled": True} | QPS,
        failed_credentials_per_minute_max=7,
    )
    live = server.client(token=token("default", clock=clock))
    answers = [await live.post("auth/refresh") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert problem(answers[-1])[2] == "User rate limit exceeded"
    bad = [await server.client(token=f"bad{n}").post("auth/refresh") for n in range(9)]
    assert [answer.status_code for answer in bad] == [401] * 7 + [429] * 2


async def test_behind_a_trusted_proxy_the_address_is_the_forwarded_one(
    start_server: StartServer,
) -> None:
    server = await start_server(
        auth=True,
        settings={"trusted_proxies": ("127.0.0.1",)},
        failed_credentials_per_minute_max=3,
    )

    async def bad(forwarded_for: str | None) -> int:
        headers = {"x-forwarded-for": forwarded_for} if forwarded_for else {}
        client = server.client(token="bad")
        return (await client.get("stat", params={"path": "/"}, headers=headers)).status_code

    assert [await bad("192.0.2.1") for _ in range(5)] == [401] * 3 + [429] * 2
    assert await bad("203.0.113.9, 192.0.2.1") == 429, "what the client wrote itself is ignored"
    assert await bad("192.0.2.2") == 401
    assert [await bad(None) for _ in range(5)] == [401] * 5, "the proxy itself is nobody"


async def test_a_tenant_of_a_server_without_tokens_is_limited_as_a_whole(
    start_server: StartServer,
) -> None:
    server = await start_server(clock=ManualClock(), settings={"rate_limit_enabled": True} | QPS)
    one, two = server.client(tenant=new_tenant()), server.client(tenant=new_tenant())
    answers = [await one.get("stat", params={"path": "/"}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    ok(await two.get("stat", params={"path": "/"}))
