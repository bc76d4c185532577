"""proxyfs mounts of servers that run in this process."""

from __future__ import annotations

from functools import partial
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
    **config: Any,
) -> ProxyFs:
    """A mount of a namespace of the server, with a transport in front if wanted."""
    url = f"{server.base_url}/{tenant or new_tenant()}"
    settings = Settings(url, timeout_s=10, retries=retries)
    http = httpx2.AsyncClient(transport=transport or server.transport, timeout=10)
    upstream = Upstream(_Key(url, 10, None), http, Breaker(FAILURES_MAX, RECOVERY_S))
    clock = clock or SystemClock()
    read = Config(url, **config)
    calls = Calls(settings, read.token, upstream, read.max_hops, clock)
    proxy = ProxyFs(calls, read, clock, partial(_close, http))
    await proxy.learn()
    return proxy


async def _close(http: httpx2.AsyncClient) -> None:
    await http.aclose()
