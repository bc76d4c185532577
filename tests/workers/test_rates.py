"""Rate limits hold in a running fleet: the same on both lanes, exact over all workers."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from fs9.auth.tokens import sign
from fs9.clock import ManualClock
from fs9.config.settings import Settings
from fs9.limits import Limits
from tests.fix_fleet import SECRET
from tests.fix_http import TEMPLATE
from tests.workers.fix_node import start_node_of
from tests.workers.test_metrics import scrape_until, total
from tests.workers.wire_client import Response, WireClient, request
from workers.connection_filter import REFUSED_MAX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fix_fleet import Fleet

YAML = """
server:
  trusted_proxies: [unix]
  rate_limit: {enabled: true, namespace_qps: 60, user_qps: 20}
"""
LANES = pytest.mark.parametrize("environ", [{}, {"FS9_FAST_LANE": "false"}], ids=["fast", "web"])
STAT = "/api/v1/stat?path=/"


def bearer(namespace: str, user: str = "alice") -> dict[str, str]:
    now_s = int(time.time())
    claims = {"sub": user, "ns": namespace, "iat": now_s, "exp": now_s + 600, "roles": ["admin"]}
    return {"Authorization": f"Bearer {sign(claims, SECRET)}"}


async def ask(fleet: Fleet, headers: dict[str, str], times: int) -> list[Response]:
    """One after the other, on a connection of its own."""
    client = await WireClient.connect(fleet.port)
    answers = []
    for _ in range(times):
        await client.send(request("GET", STAT, headers=headers))
        answers.append(await client.response())
    await client.close()
    return answers


def passed(answers: list[Response]) -> int:
    return sum(answer.status == 200 for answer in answers)


@LANES
async def test_a_burst_is_refused_in_the_envelope_whatever_worker_accepted_it(
    start_fleet: Callable[..., Fleet], environ: dict[str, str]
) -> None:
    """Connections to any worker share the one bucket of the owner: no more than rate and time."""
    fleet = start_fleet(workers=2, yaml=YAML, environ=environ | {"FS9_JWT_SECRET": SECRET})
    began_s = time.monotonic()
    parts = await asyncio.gather(*(ask(fleet, bearer("default"), 15) for _ in range(8)))
    answers = [answer for part in parts for answer in part]
    took_s = time.monotonic() - began_s
    assert 20 <= passed(answers) <= 20 * (1 + took_s) + 1
    refused = [answer for answer in answers if answer.status != 200]
    for answer in refused:
        body = json.loads(answer.body)
        assert (answer.status, body["kind"]) == (429, "TooManyRequests")
        assert body["error"] == "User rate limit exceeded"
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/json"
        assert "connection" not in answer.headers
    client = await WireClient.connect(fleet.port)
    for path in ("/health", "/livez", "/readyz", "/version", "/metrics") * 10:
        await client.send(request("GET", path, headers=bearer("default")))
        assert (await client.response()).status == 200
    await client.close()
    parts = await asyncio.gather(*(ask(fleet, bearer("default", f"u{n}"), 20) for n in range(8)))
    took_s = time.monotonic() - began_s
    granted = passed(answers) + sum(passed(part) for part in parts)
    assert granted <= 60 * (1 + took_s) + 1


@LANES
async def test_an_address_with_bad_tokens_is_refused_and_the_counts_say_so(
    start_fleet: Callable[..., Fleet], environ: dict[str, str]
) -> None:
    yaml = "server: {limits: {max_failed_credentials_per_minute: 12}}\n"
    fleet = start_fleet(workers=1, yaml=yaml, environ=environ | {"FS9_JWT_SECRET": SECRET})
    known = await WireClient.connect(fleet.port)
    good = bearer("default")
    await known.send(request("GET", STAT, headers=good))
    assert (await known.response()).status == 200
    bad = {"Authorization": bearer("default")["Authorization"] + "x"}
    statuses = [answer.status for answer in await ask(fleet, bad, 30)]
    assert statuses[:12] == [401] * 12
    assert 429 in statuses[12:]
    await known.send(request("GET", STAT, headers=good))
    assert (await known.response()).status == 200, "it is known to hold"
    await known.close()


async def test_no_more_keys_are_looked_up_than_an_address_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many come at once; one that holds is looked up, and counts for nothing."""
    settings = Settings(
        data_dir=tmp_path / "d",
        jwt_secret=SECRET,
        mounts=TEMPLATE,
        limits=Limits(failed_credentials_per_minute_max=5),
    )
    clock = ManualClock(1_800_000_000)
    asked: list[str] = []
    go_on = asyncio.Event()
    async with AsyncExitStack() as stack:
        node, port = await start_node_of(settings, clock, stack)
        client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60)
        stack.push_async_callback(client.aclose)
        look_up = node.services.store.api_key

        async def slow(digest: str) -> Any:
            asked.append(digest)
            await go_on.wait()
            return await look_up(digest)

        monkeypatch.setattr(node.services.store, "api_key", slow)

        async def status(number: int) -> int:
            headers = {"authorization": f"Bearer fs9_{number:032x}"}
            return (await client.get(STAT, headers=headers)).status_code

        asking = [asyncio.create_task(status(number)) for number in range(20)]
        await asyncio.wait(asking, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        go_on.set()
        statuses = await asyncio.gather(*asking)
        assert len(asked) == 5
        assert sorted(statuses) == [401] * 5 + [429] * 15
        assert await status(20) == 429
        assert len(asked) == 5, "nor later"
        clock.advance(12)
        assert [await status(number) for number in (21, 22)] == [401, 429]


async def test_refusals_that_are_answered_late_are_no_load(
    start_fleet: Callable[..., Fleet],
) -> None:
    """They take no place from requests that can be answered.

    An address that opens one new connection after the other for them is blocked.
    """
    yaml = YAML.replace("server:", "server:\n  max_concurrent_requests: 4")
    fleet = start_fleet(workers=1, yaml=yaml)
    await ask(fleet, {}, 1)  # loads the namespace
    pressing = [asyncio.create_task(_press(fleet)) for _ in range(16)]
    for _ in range(10):
        client = await WireClient.connect(fleet.port)
        await client.send(request("GET", "/other/api/v1/download?path=/nothing"))
        assert (await client.response()).status == 404
        await client.close()
        await asyncio.sleep(0.1)
    refused = sum(await asyncio.gather(*pressing))
    name = "fs9_rate_limited_total"
    samples = await scrape_until(fleet, 0, lambda seen: total(seen, name) >= refused)
    assert total(samples, name, limit="user") == refused > 0

    knocking: list[asyncio.StreamWriter] = []
    for _ in range(1000):
        try:
            knocking.append(await asyncio.wait_for(_knock(fleet, "127.0.0.2"), 0.5))
        except TimeoutError:  # once, it may be this process that had to wait
            if len(knocking) >= REFUSED_MAX:
                break
    assert REFUSED_MAX <= len(knocking) < 1000
    (await _knock(fleet, "127.0.0.3")).close()
    for each in knocking:
        each.close()


async def _knock(fleet: Fleet, address: str) -> asyncio.StreamWriter:
    """Open one more connection, ask, and wait for no answer."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", fleet.port, local_addr=(address, 0), limit=1024
    )
    writer.write(request("GET", STAT))
    return writer


async def _press(fleet: Fleet) -> int:
    answers = await ask(fleet, {}, 12)
    assert {answer.status for answer in answers} <= {200, 429}
    return len(answers) - passed(answers)
