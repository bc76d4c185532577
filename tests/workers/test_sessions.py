"""workers.sessions: a kept session serves as long as its token and its namespace hold."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx2
import pytest

from fs9.clock import ManualClock
from fs9.config.settings import Settings
from tests.fix_http import SECRET, TEMPLATE, token
from tests.workers.fix_node import start_node_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from workers.node import Node


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Node, ManualClock, httpx2.AsyncClient]]:
    clock = ManualClock()
    settings = Settings(data_dir=tmp_path / "d", jwt_secret=SECRET, mounts=TEMPLATE)
    async with AsyncExitStack() as stack:
        node, port = await start_node_of(settings, clock, stack)
        client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}")
        stack.push_async_callback(client.aclose)
        yield node, clock, client


async def stat(client: httpx2.AsyncClient, headers: dict[str, str], prefix: str = "") -> int:
    answer = await client.get(f"{prefix}/api/v1/stat?path=/", headers=headers)
    return answer.status_code


async def test_the_same_headers_enter_without_another_look_at_the_token(
    served: tuple[Node, ManualClock, httpx2.AsyncClient],
) -> None:
    node, clock, client = served
    headers = {"authorization": f"Bearer {token('default', 'admin', clock=clock)}"}
    for _ in range(5):
        assert await stat(client, headers) == 200
    assert node.sessions.entered >= 3
    assert await stat(client, {}) == 401
    other = {"authorization": f"Bearer {token('other', clock=clock)}"}
    assert await stat(client, other) == 403


async def test_a_kept_session_ends_with_its_token(
    served: tuple[Node, ManualClock, httpx2.AsyncClient],
) -> None:
    _, clock, client = served
    headers = {"authorization": f"Bearer {token('default', 'admin', clock=clock)}"}
    for _ in range(3):
        assert await stat(client, headers) == 200
    clock.advance(600 + 61)  # the token's life and the leeway
    for _ in range(2):
        assert await stat(client, headers) == 401


async def test_a_kept_session_does_not_open_another_tenants_prefix(
    served: tuple[Node, ManualClock, httpx2.AsyncClient],
) -> None:
    _, clock, client = served
    headers = {"authorization": f"Bearer {token('default', 'admin', clock=clock)}"}
    for _ in range(3):
        assert await stat(client, headers) == 200
    assert await stat(client, headers, "/other") == 403
    assert await stat(client, headers, "/default") == 200


async def test_a_kept_session_ends_with_its_namespace(
    served: tuple[Node, ManualClock, httpx2.AsyncClient],
) -> None:
    node, clock, client = served
    headers = {"authorization": f"Bearer {token('default', 'admin', clock=clock)}"}
    for _ in range(3):
        assert await stat(client, headers) == 200
    loaded = node.services.namespaces.loaded("default")
    assert loaded is not None
    await node.services.namespaces.aclose()
    assert loaded.closed
    assert await stat(client, headers) == 503, "the server is stopping; not the closed one's files"
