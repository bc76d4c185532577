"""A process that works on a pagefs and kills itself at a named step: `killed.py DIR STEP CONFIG`.

It writes to the standard output what is acknowledged: the name of each file, once it is synced.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from fs9.clock import SystemClock
from fs9.limits import Limits
from fs9.providers.pagefs import backends, lmdbstore
from fs9.providers.registry import ProviderContext
from fs9.threads import BlockingPool
from fs9.types import REPLACE, StatChanges
from tests.providers.pagefs.faults import FaultPoints, FaultyBlocks, FaultyMeta
from tests.providers.pagefs.scenario import NEW, write


class Killing(FaultPoints):
    def hit(self, step: str) -> None:
        try:
            super().hit(step)
        except Exception:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(directory: Path, step: str, config: str) -> None:
    lmdbstore.JOURNAL_KEYS_MAX = 40
    context = ProviderContext("acme", directory, Limits(), SystemClock(), BlockingPool(2))
    fs = await backends.create(json.loads(config), context)
    points = Killing()
    fs.core.store = FaultyMeta(fs.core.store, None, points)
    if fs.core.blocks is not None:
        fs.core.blocks = FaultyBlocks(fs.core.blocks, None, points)
    points.arm(step)
    for number in range(100):
        name = f"/f{number % 30}"
        file, _ = await fs.open(name, REPLACE)
        await fs.write(file, 0, b"%05d" % number + NEW[: number * 300])
        await fs.close(file, sync=True)
        print(name, number, flush=True)
        await write(fs, "/log", b"%05d" % number, number * 5, sync=False)
        await fs.wstat("/log", StatChanges(mode=0o600 + number % 8))
        if number % 10 == 9:
            await fs.remove(f"/f{number % 30}")
            print(name, -1, flush=True)


asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
