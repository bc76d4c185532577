"""`X-FS9-Hop-Count` of a request, while it runs; what it does on arrival is in `suite_rules`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fs9.wire.hops import hops_so_far
from tests.fix_http import api, server, start_server

if TYPE_CHECKING:
    import httpx2
    import pytest

__all__ = ["api", "server", "start_server"]


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
