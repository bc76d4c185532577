"""Delivery to watchers: from a change, and from its answer, to each watcher having its event.

A fleet of one worker and N clients of `GET /watch` (server-sent events) on one host, in this
process; one writer makes changes one after the other, at a steady rate, and then as many as it can.
"From the request" counts from before it is sent: it has the change itself in it. "From the answer"
is what a watcher lags behind the one who made the change; it may be negative.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

import httpx2

from bench.fleet import fleet

if TYPE_CHECKING:
    from bench.fleet import Fleet

_WATCHERS = (1, 100)
_RATE_PER_S = 50
_DEADLINE_S = 60.0
_REQUEST = (
    b"GET /acme/api/v1/watch?path=/ HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n"
)


def run(quick: bool) -> None:
    seconds = 0.2 if quick else 10.0
    print(
        "| watchers | changes/s | events | from the request p50 | p99 | from the answer p50 | p99 |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for watchers in _WATCHERS:
        for rate in (_RATE_PER_S, None):
            with fleet(pinned=False) as server:
                asyncio.run(_measure(server, watchers, rate, seconds))


async def _measure(server: Fleet, watchers: int, rate: int | None, seconds: float) -> None:
    """One row. The changes are chmods: they cost the server little besides telling them."""
    server.call("PUT", "/acme/api/v1/upload?path=/f", b"x")
    seen: list[list[float]] = [[] for _ in range(watchers)]
    ready = asyncio.Semaphore(0)
    url = f"http://127.0.0.1:{server.port}/acme/api/v1/"
    loop = asyncio.get_running_loop()
    connections: list[asyncio.Transport] = []
    for times in seen:
        make = partial(_Watcher, ready, times)
        connections.append((await loop.create_connection(make, "127.0.0.1", server.port))[0])
    for _ in range(watchers):
        await ready.acquire()
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        begun: list[float] = []
        answered: list[float] = []
        end = time.perf_counter() + seconds
        body = {"path": "/f", "changes": {"mode": 0o644}}
        while (now := time.perf_counter()) < end:
            begun.append(now)
            (await client.post("wstat", json=body)).raise_for_status()
            answered.append(time.perf_counter())
            if rate is not None:
                await asyncio.sleep(max(0.0, now + 1 / rate - time.perf_counter()))
        async with asyncio.timeout(_DEADLINE_S):
            while any(len(times) < len(begun) for times in seen):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    for connection in connections:
        connection.close()
    assert all(len(times) == len(begun) for times in seen), "none is missed, none comes twice"
    print(
        f"| {watchers} | {len(begun) / seconds:.0f} | {len(begun) * watchers} "
        f"| {_quantiles(seen, begun)} | {_quantiles(seen, answered)} |",
        flush=True,
    )


class _Watcher(asyncio.Protocol):
    """A client as cheap as can be: 100 of a full library would be what is measured."""

    def __init__(self, ready: asyncio.Semaphore, times: list[float]) -> None:
        self._ready = ready
        self._times = times

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(_REQUEST)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if b'"type":"cursor"' in data:
            self._ready.release()
        self._times += [now] * data.count(b'"type":"chmod"')


def _quantiles(seen: list[list[float]], since: list[float]) -> str:
    lags = [at - start for times in seen for at, start in zip(times, since, strict=True)]
    cuts = statistics.quantiles(lags, n=100)
    return f"{cuts[49] * 1e3:.1f} ms | {cuts[98] * 1e3:.1f} ms"
