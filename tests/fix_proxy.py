"""proxyfs mounts of servers that run in this process, and the wire in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx2

from fs9.client.settings import Settings
from fs9.clock import SystemClock
from fs9.providers.proxyfs import Config, ProxyFs
from fs9.providers.proxyfs_upstream import FAILURES_MAX, RECOVERY_S, Calls, Upstream, _Key
from fs9.resilience.backoff import BackoffPolicy
from fs9.resilience.breaker import Breaker
from tests.fix_http import new_tenant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fs9.clock import Clock
    from tests.fix_http import Server

QUICK = BackoffPolicy(attempts_max=3, delay_first_s=0.001, delay_max_s=0.002, budget_s=10)


async def make_proxy(
    server: Server,
    *,
    tenant: str | None = None,
    clock: Clock | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    retries: BackoffPolicy = QUICK,
    answer_bytes_max: int = 16_000_000,
    **config: Any,
) -> ProxyFs:
    """A mount of a namespace of the server, whose name is its `tenant`."""
    tenant = tenant or new_tenant()
    url = f"{server.base_url}/{tenant}"
    settings = Settings(url, timeout_s=10, retries=retries, answer_bytes_max=answer_bytes_max)
    http = httpx2.AsyncClient(transport=transport or server.transport, timeout=10)
    upstream = Upstream(_Key(url, 10, None), http, Breaker(FAILURES_MAX, RECOVERY_S))
    clock = clock or SystemClock()
    read = Config(url, **config)
    calls = Calls(settings, read.token, upstream, read.max_hops, clock)
    proxy = ProxyFs(calls, read, clock, http.aclose)
    proxy.tenant = tenant  # type: ignore[attr-defined]
    await proxy.learn()
    return proxy


class Wire(httpx2.AsyncBaseTransport):
    """Remembers what went over it; the next `break_next` requests break."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner
        self.requests: list[httpx2.Request] = []
        self.break_next = 0
        self.sent_bytes = 0

    def names(self) -> list[str]:
        return [request.url.path.rpartition("/")[2] for request in self.requests]

    def hops(self) -> list[tuple[str, str]]:
        hops = [request.headers["x-fs9-hop-count"] for request in self.requests]
        return list(zip(self.names(), hops, strict=True))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if self.break_next:
            self.break_next -= 1
            raise httpx2.ReadError("broken by the test", request=request)
        counted = httpx2.Request(
            *(request.method, request.url),
            headers=request.headers,
            stream=_Counted(self, request),
            extensions=request.extensions,
        )
        return await self._inner.handle_async_request(counted)


#: (status, what is sent as JSON, or as it is when it is a text) for the path of a request.
Answer = Callable[[str], tuple[int, Any]]


class Answers(httpx2.AsyncBaseTransport):
    """A server that answers what a test says."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        status, said = self._answer(request.url.path)
        body = said if isinstance(said, str) else json.dumps(said)
        return httpx2.Response(status, stream=_Body(body.encode()), request=request)


class _Body(httpx2.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, wire: Wire, request: httpx2.Request) -> None:
        self._wire = wire
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._request.stream, httpx2.AsyncByteStream)
        async for piece in self._request.stream:
            self._wire.sent_bytes += len(piece)
            yield piece
