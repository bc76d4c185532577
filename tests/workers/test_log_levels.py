"""The log levels of a running fleet change with a file and a signal."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

from tests.workers.wire_client import WireClient, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fix_fleet import Fleet


async def test_sigusr1_makes_the_workers_read_the_levels_again(
    start_fleet: Callable[..., Fleet],
) -> None:
    """Access lines, which are of level info, stop and come again; nonsense changes nothing."""
    fleet = start_fleet(workers=1, yaml="logging: {access: true, level: error}\n")
    levels = fleet.run_directory / "log-level"
    client = await WireClient.connect(fleet.port)
    number = 0

    async def logged() -> bool:
        nonlocal number
        number += 1
        await client.send(
            request("GET", "/api/v1/stat?path=/", headers={"X-Request-ID": f"n-{number}-"})
        )
        await client.response()
        return f"n-{number}-" in fleet.log.read_text()

    async def becomes(wanted: bool) -> None:
        deadline = time.monotonic() + 10
        while await logged() != wanted:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    await becomes(False)
    levels.write_text("error,fs9.access=info\n")
    fleet.process.send_signal(signal.SIGUSR1)
    await becomes(True)
    levels.write_text("loud\n")
    fleet.process.send_signal(signal.SIGUSR1)
    for _ in range(200):
        if "log-level is not understood" in fleet.log.read_text():
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError(fleet.log.read_text())
    await becomes(True)
    levels.unlink()
    fleet.process.send_signal(signal.SIGUSR1)
    await becomes(False)
    await client.close()
