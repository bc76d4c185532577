"""`X-FS9-Hop-Count` on arrival: checked, counted on, and of no other request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.wire.hops import hops_so_far
from tests.fix_http import api, server, start_server

if TYPE_CHECKING:
    import httpx2

__all__ = ["api", "server", "start_server"]


@pytest.mark.parametrize(
    ("value", "status"),
    [("0", 200), ("10", 200), ("11", 508), ("999999999", 508), ("-1", 400), ("x", 400), ("", 400)],
)
async def test_the_count_is_checked(api: httpx2.AsyncClient, value: str, status: int):
    answer = await api.get("stat", params={"path": "/"}, headers={"x-fs9-hop-count": value})
    assert answer.status_code == status, answer.text
    if status == 508:
        assert answer.json()["error"] == f"too many proxy hops: {value} (max: 10)"


async def test_the_count_reaches_the_provider_and_nobody_else(
    api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    """It holds while the request runs, and the connection's next request starts at none."""
    seen = []

    async def stat(self: object, path: str) -> None:
        seen.append(hops_so_far.get())
        raise OSError

    monkeypatch.setattr("fs9.vfs.session.Session.stat", stat)
    for headers in ({"x-fs9-hop-count": "3"}, {}, {"x-fs9-hop-count": "0"}):
        await api.get("stat", params={"path": "/"}, headers=headers)
    assert seen == [3, 0, 0]
