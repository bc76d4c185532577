"""Fixtures of the client's tests: a live server, clients of both colours for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.client import AsyncClient, Client
from tests.fix_live import live, live_auth, live_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["live", "live_auth", "live_url"]


@pytest.fixture
def client(live_url: str) -> Iterator[Client]:
    with Client(live_url) as client:
        yield client


@pytest.fixture
async def aclient(live_url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(live_url) as client:
        yield client
