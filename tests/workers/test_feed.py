"""workers.feed: what a worker that hears nothing any more may rely on, and for how long."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from fs9.auth.tokens import sign
from fs9.config.settings import Settings
from tests.fix_http import SECRET, TEMPLATE
from tests.workers.fix_node import start_node_of
from tests.workers.wire_client import WireClient, request
from workers.feed import Feed, Hearing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from workers.node import Node


def test_what_counts_is_the_last_moment_at_which_either_way_was_complete() -> None:
    lag_s, readings = 0.0, 0
    feed = Feed(lambda: lag_s, lambda: readings, 100.0)
    assert feed.hearing(150.0) == Hearing(0.0, 0.0)
    lag_s = 40.0
    assert feed.hearing(190.0) == Hearing(40.0, 40.0)
    readings += 1
    assert feed.hearing(191.0) == Hearing(40.0, 0.0)
    lag_s = 50.0
    assert feed.hearing(200.0) == Hearing(50.0, 9.0)


@pytest.fixture
async def guarded_node(tmp_path: Path) -> AsyncIterator[tuple[Node, int]]:
    settings = Settings(
        data_dir=tmp_path / "d", jwt_secret=SECRET, mounts=TEMPLATE, namespace_template=TEMPLATE
    )
    async with AsyncExitStack() as stack:
        yield await start_node_of(settings, None, stack)


async def ask(port: int, path: str) -> int:
    client = await WireClient.connect(port)
    claims = {
        "sub": "ann",
        "ns": "default",
        "roles": [],
        "iat": 1_700_000_000,
        "exp": 4_000_000_000,
    }
    headers = {"Authorization": f"Bearer {sign(claims, SECRET)}"}
    await client.send(request("GET", path, headers=headers))
    answer = await asyncio.wait_for(client.response(), 20)
    await client.close()
    return answer.status


async def test_with_authentication_a_deaf_worker_refuses_all_but_what_needs_no_token(
    guarded_node: tuple[Node, int],
) -> None:
    node, port = guarded_node
    limit_s = node.limits.feed_stale_s
    node.heed(Hearing(limit_s - 1, limit_s - 1))
    assert (await ask(port, "/readyz"), await ask(port, "/api/v1/stat?path=/")) == (200, 200)
    node.heed(Hearing(limit_s + 1, 5.0))
    assert (await ask(port, "/readyz"), await ask(port, "/api/v1/stat?path=/")) == (503, 200)
    node.heed(Hearing(limit_s + 2, limit_s + 1))
    assert (await ask(port, "/readyz"), await ask(port, "/livez")) == (503, 200)
    assert await ask(port, "/api/v1/stat?path=/") == 503
    node.heed(Hearing(0.0, 0.0))
    assert (await ask(port, "/readyz"), await ask(port, "/api/v1/stat?path=/")) == (200, 200)
