"""A damaged LMDB file ends the worker that reads it once; its neighbours go on."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import httpx2

from tests.e2e.test_fleet import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet


async def test_a_damaged_file_does_not_end_one_worker_after_the_other(
    start_fleet: Callable[..., Fleet],
) -> None:
    """The namespace is refused with an error that says so; no worker dies of it again."""
    fleet = await asyncio.to_thread(start_fleet, workers=1)
    async with httpx2.AsyncClient(base_url=fleet.url, timeout=60) as client:

        async def ask(namespace: str, path: str) -> httpx2.Response | None:
            try:
                return await client.get(f"/{namespace}/api/v1/stat", params={"path": path})
            except httpx2.TransportError:  # the worker died
                return None

        for namespace in ("bad", "good"):
            url = f"/{namespace}/api/v1/upload"
            assert (await client.put(url, params={"path": "/f"}, content=b"x")).status_code == 200
        # Pages that are missing at the end of a mapped file are SIGBUS.
        os.truncate(fleet.data_dir / "pagefs/bad/%2F/meta/data.mdb", 2 * 4096)
        fleet.kill_worker(0)

        async def refused() -> bool:
            answer = await ask("bad", "/none")
            return answer is not None and answer.status_code == 500 and "fsck" in answer.text

        await until(refused)
        last = fleet.pid_of(0)
        for _ in range(5):
            assert await refused()
            answer = await ask("good", "/f")
            assert answer is not None
            assert answer.status_code == 200
        assert fleet.pid_of(0) == last
