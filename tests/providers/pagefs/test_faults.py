"""Whatever goes wrong at whichever step: the tree is consistent, what was synced is there.

After a crash at each step of each operation, on each pair of stores, with and without a loss of
power: the tree is as before the operation or as after it, the check finds no fault and no
garbage, and the counters are exact. `pytest -s` prints the matrix.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from fs9.clock import ManualClock
from fs9.errors import Fs9Error
from fs9.limits import Limits
from fs9.providers.pagefs import fileblocks, lmdbstore
from fs9.providers.pagefs.core import Core, Policy
from fs9.providers.pagefs.fsck import Checker
from fs9.providers.pagefs.memory import MemoryBlocks, MemoryStore
from fs9.providers.pagefs.provider import PageFs
from tests.providers.pagefs.faults import Crash, Machine, OpenStores
from tests.providers.pagefs.scenario import (
    BIG,
    BRANCHING,
    NEW,
    OPERATIONS,
    READ_WRITE,
    SYNCED,
    Operation,
    look,
    make_tree,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fs9.quota import Quota
    from fs9.threads import BlockingPool

STORES = ["memory", "memory+inline", "lmdb+files", "lmdb+inline"]


def opener(kind: str, directory: Path, pool: BlockingPool) -> OpenStores:
    async def open_memory(machine: Machine) -> tuple[Any, Any]:
        blocks = None if "inline" in kind else MemoryBlocks(machine.objects, 2**30)
        return MemoryStore(machine.memory), blocks

    async def open_lmdb(machine: Machine) -> tuple[Any, Any]:
        store = await lmdbstore.open_store(directory, pool, f"boot {machine.boot}")
        if "inline" in kind:
            return store, None
        return store, await fileblocks.open_blocks(directory / "objects", pool)

    return open_lmdb if "lmdb" in kind else open_memory


async def start(machine: Machine, quota: Quota | None = None) -> PageFs:
    meta, blocks = await machine.stores()
    core = Core(meta, blocks, Policy(inline_bytes=64), Limits(), ManualClock(), quota)
    fs = PageFs(core)
    await fs.start()
    return fs


async def die(machine: Machine, fs: PageFs, *, power: bool = False) -> None:
    await asyncio.sleep(0)  # what was begun has begun
    machine.points.dead = True
    core = fs.core
    tasks = [task for task in (*core._tasks, core._tidying) if task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await machine.die(power=power)


async def check(fs: PageFs) -> None:
    await fs.core.settle()
    report = await Checker(fs).check()
    assert (report.faults, report.garbage) == ([], [])


class Bench:
    """A machine with the scenario's tree on it, which can be set up again and again."""

    def __init__(
        self, kind: str, directory: Path, pool: BlockingPool, operation: Operation
    ) -> None:
        self._kind = kind
        self._snapshot = "inline" in kind or operation in BRANCHING
        self._directory = directory
        self._pool = pool
        self._number = 0

    async def set_up(self) -> tuple[Machine, PageFs]:
        self._number += 1
        directory = self._directory / f"{self._number}"
        machine = Machine(opener(self._kind, directory, self._pool), self._number)
        fs = await start(machine)
        await make_tree(fs, snapshot=self._snapshot)
        return machine, fs

    async def rehearse(self, operation: Operation) -> tuple[list[str], Any, Any]:
        """The fault points of the operation, and what is seen before and after it."""
        machine, fs = await self.set_up()
        before = await look(fs)
        machine.points.arm()
        await operation(fs)
        points = list(machine.points.hits)
        machine.points.armed = False
        after = await look(fs)
        await check(fs)
        await fs.aclose()
        return points, before, after


@pytest.fixture(autouse=True)
def quick_syncs(monkeypatch) -> None:
    """The loss of power is simulated here, so nothing has to wait for the disk."""
    monkeypatch.setattr(lmdbstore.lmdb, "open", partial(lmdbstore.lmdb.open, sync=False))
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd: None)


@pytest.fixture(scope="module")
def matrix() -> Iterator[Counter[tuple[str, str, str]]]:
    counts: Counter[tuple[str, str, str]] = Counter()
    yield counts
    print(f"\n{'operation':24}" + "".join(f"{kind:>16}" for kind in STORES))
    for operation in OPERATIONS:
        row = f"{operation.__name__:24}"
        for kind in STORES:
            cells = [counts[operation.__name__, kind, how] for how in ("kill", "power", "error")]
            row += f"{'/'.join(map(str, cells)):>16}"
        print(row)
    print(f"kill / power / error; {sum(counts.values())} in all")


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
async def test_a_crash_at_each_step(
    operation: Operation, kind: str, tmp_path: Path, pool: BlockingPool, matrix: Counter[Any]
) -> None:
    bench = Bench(kind, tmp_path, pool, operation)
    points, before, after = await bench.rehearse(operation)
    for number, point in enumerate(points):
        # On real files, which are slow to set up, by turns.
        for power in [number % 2 == 0] if "lmdb" in kind else [False, True]:
            machine, fs = await bench.set_up()
            machine.points.arm(point)
            done = True
            try:
                await operation(fs)
            except Crash:
                done = False
            if not machine.points.dead:  # a step in the background that did not come this time
                await fs.core.settle()
            await die(machine, fs, power=power)
            fs = await start(machine)
            seen = await look(fs)
            allowed = [after] if done and (not power or operation in SYNCED) else [before, after]
            assert seen in allowed, (point, power, differences(seen, before, after))
            await check(fs)
            await fs.aclose()
            matrix[operation.__name__, kind, "power" if power else "kill"] += 1


@pytest.mark.parametrize("journal_keys_max", [lmdbstore.JOURNAL_KEYS_MAX, 4])
@pytest.mark.parametrize("path", ["/new", "/other"])
async def test_a_sync_covers_what_a_killed_process_left(
    path: str, journal_keys_max: int, tmp_path: Path, pool: BlockingPool, monkeypatch
) -> None:
    """Whichever file is synced, and however long the journal is: no name without its bytes."""
    for seed in range(6):
        machine = Machine(opener("lmdb+files", tmp_path / f"{seed}", pool), seed)
        fs = await start(machine)
        await make_tree(fs, snapshot=seed % 2 == 0)
        for _ in range(2):
            await write(fs, "/new", BIG, sync=False)
            await write(fs, "/d/big", NEW, 30_000, sync=False)
            await die(machine, fs)
            with monkeypatch.context() as patch:
                patch.setattr(lmdbstore, "JOURNAL_KEYS_MAX", journal_keys_max)
                fs = await start(machine)
        file, _ = await fs.open(path, READ_WRITE)
        await fs.close(file, sync=True)
        seen = await look(fs)
        assert seen["/new"][4] == BIG
        await die(machine, fs, power=True)
        fs = await start(machine)
        assert await look(fs) == seen
        await check(fs)
        await fs.aclose()


def differences(seen: Any, before: Any, after: Any) -> list[Any]:
    return [
        (path, repr(seen.get(path))[:99], repr(before.get(path))[:99], repr(after.get(path))[:99])
        for path in {*seen, *before, *after}
        if not seen.get(path) == before.get(path) == after.get(path)
    ]


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
async def test_an_error_at_each_step(
    operation: Operation, kind: str, tmp_path: Path, pool: BlockingPool, matrix: Counter[Any]
) -> None:
    """A full disk, a read-only one, a broken one: an error or success, never something between.

    Afterwards the same storage goes on working, and the counters are exact.
    """
    bench = Bench(kind, tmp_path, pool, operation)
    points, before, after = await bench.rehearse(operation)
    codes = [errno.ENOSPC, errno.EROFS, errno.EIO]
    for number, point in enumerate(points):
        if ".after" in point:
            continue
        machine, fs = await bench.set_up()
        code = codes[number % len(codes)]
        machine.points.arm(point, OSError(code, "injected"))
        failed = False
        try:
            await operation(fs)
        except Fs9Error:
            failed = True
        except OSError as error:  # of methods that are below the provider's translation
            failed = error.strerror == "injected"
        machine.points.armed = False
        seen = await look(fs)
        assert seen in ([before, after] if failed else [after]), (
            point,
            differences(seen, before, after),
        )
        if "sync" not in point:  # after a failed sync nothing may be believed any more
            await check(fs)
        await die(machine, fs)
        fs = await start(machine)
        assert await look(fs) == seen
        await check(fs)
        await fs.aclose()
        matrix[operation.__name__, kind, "error"] += 1
