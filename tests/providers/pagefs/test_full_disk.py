"""A disk that is really full (a small tmpfs): nothing is lost, and files can be removed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from fs9.clock import SystemClock
from fs9.errors import QuotaExceeded
from fs9.limits import Limits
from fs9.providers.pagefs import backends
from fs9.providers.pagefs.fsck import Checker
from fs9.providers.pagefs.lmdbstore import LmdbStore
from fs9.providers.registry import ProviderContext
from tests.providers.pagefs.scenario import is_there, write
from tests.providers.pagefs.test_branches import content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fs9.providers.pagefs.provider import PageFs
    from fs9.threads import BlockingPool

_SIZE = "6m"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(disk)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def open_on(disk: Path, pool: BlockingPool, blocks: str) -> PageFs:
    context = ProviderContext("acme", disk, Limits(), SystemClock(), pool)
    backend = {"type": "lmdb", "blocks": {"type": blocks}}
    return await backends.create({"backend": backend}, context)


async def kill(fs: PageFs) -> None:
    """What the kernel keeps of a process that was killed: what it had written."""
    core, store = fs.core, fs.core.store
    assert isinstance(store, LmdbStore)
    await asyncio.sleep(0)  # what was begun has begun
    tasks = [task for task in (*core._tasks, core._tidying) if task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if store._moving is not None:
        await store._moving
    store._journal.close()
    store._closing.close()
    if core.blocks is not None:
        await core.blocks.aclose()


@pytest.mark.parametrize("blocks", ["files", "inline"])
@pytest.mark.parametrize("how", ["goes on", "killed"])
async def test_a_full_disk(small_disk: Path, pool: BlockingPool, blocks: str, how: str) -> None:
    """What was acknowledged is there, also after a new start; files can be removed.

    What a file had in the block store is room for others then; in LMDB for it alone.
    """
    fs = await open_on(small_disk, pool, blocks)
    acknowledged: dict[str, bytes] = {}
    failures = 0
    for number in range(1000):
        data = random.Random(number).randbytes(200_000 if number < 100 else 3000)
        try:
            await write(fs, f"/f{number}", data)
        except QuotaExceeded:
            failures += 1
            if number > 100 and failures > 100:
                break
            continue
        acknowledged[f"/f{number}"] = data
    assert len(acknowledged) > 5
    if how == "killed":
        await kill(fs)
        fs = await open_on(small_disk, pool, blocks)
    for path, data in acknowledged.items():
        assert await content(fs, path) == data
    paths = list(acknowledged)
    for path in paths[:20]:
        await fs.remove(path)
    await fs.core.settle()
    await fs.core.settle()  # the first may have moved what the second removes
    if blocks == "files":
        await write(fs, "/again", b"again" * 1000)
        paths.append("/again")
        acknowledged["/again"] = b"again" * 1000
    for path in paths[20:]:
        assert await content(fs, path) == acknowledged[path]
    assert not await is_there(fs, paths[0])
    report = await Checker(fs).check()
    assert report.faults == []
    with contextlib.suppress(QuotaExceeded):
        await fs.aclose()
    fs = await open_on(small_disk, pool, blocks)
    for path in paths[20:]:
        assert await content(fs, path) == acknowledged[path]
    assert not await is_there(fs, paths[0])
    with contextlib.suppress(QuotaExceeded):
        await fs.aclose()
