"""pagefs on LMDB and files against localfs, and metadata against SQLite, in one run.

Baseline: localfs on the same disk. Aims: metadata operations at least 0.7 of localfs, 1 MiB
sequential reads and writes at least 0.9. Every cell is operations (or MiB) a second, and the
ratio to localfs. SQLite: the smallest table that could hold the same (WAL, a commit each).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fs9.clock import SystemClock
from fs9.limits import Limits
from fs9.providers import localfs
from fs9.providers.pagefs import backends
from fs9.providers.registry import ProviderContext
from fs9.threads import BlockingPool
from fs9.types import OpenFlags

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fs9.provider import Provider

_MIB = 1024 * 1024
_CREATE = OpenFlags(read=True, write=True, create=True)
_PAGE = 4096


def run(quick: bool) -> None:
    """Print the table; the three alternate, so that a busy machine disturbs all alike."""
    files, mib, rounds = (200, 16, 1) if quick else (2000, 128, 3)
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name, measured in (
            ("localfs", asyncio.run(_measure("localfs", files, mib))),
            ("pagefs", asyncio.run(_measure("pagefs", files, mib))),
            ("sqlite", _sqlite(files)),
        ):
            for what, speed in measured.items():
                row = best.setdefault(what, {})
                row[name] = max(row.get(name, 0.0), speed)
    print("| operation, a second | localfs | pagefs | ratio | SQLite | ratio |")
    print("|---|---|---|---|---|---|")
    for what, row in best.items():
        base = row["localfs"]
        cells = [f"{base:,.0f}"]
        for name in ("pagefs", "sqlite"):
            speed = row.get(name)
            cells += ["", ""] if speed is None else [f"{speed:,.0f}", f"{speed / base:.2f}"]
        print(f"| {what} | {' | '.join(cells)} |")


async def _measure(kind: str, files: int, mib: int) -> dict[str, float]:
    pool = BlockingPool(4)
    with tempfile.TemporaryDirectory() as directory:
        context = ProviderContext("bench", Path(directory), Limits(), SystemClock(), pool)
        provider: Provider
        if kind == "localfs":
            provider = await localfs.create({"root": "{data_dir}/files"}, context)
        else:
            provider = await backends.create({}, context)
        try:
            return await _metadata(provider, files) | await _bytes(provider, mib)
        finally:
            await provider.aclose()
            pool.shutdown()


async def _speed(count: int, step: Callable[[int], Awaitable[object]]) -> float:
    started = time.perf_counter()
    for number in range(count):
        await step(number)
    return count / (time.perf_counter() - started)


async def _metadata(provider: Provider, files: int) -> dict[str, float]:
    async def create(number: int, *, sync: bool = False) -> None:
        file, _ = await provider.open(f"/f{number}", _CREATE)
        await provider.close(file, sync=sync)

    synced = max(20, files // 20)
    return {
        "create": await _speed(files, create),
        "stat": await _speed(files, lambda number: provider.stat(f"/f{number}")),
        "unlink": await _speed(files, lambda number: provider.remove(f"/f{number}")),
        "create, synced": await _speed(synced, lambda number: create(number, sync=True)),
    }


async def _bytes(provider: Provider, mib: int) -> dict[str, float]:
    data = os.urandom(_MIB)
    file, _ = await provider.open("/big", _CREATE)
    pages = mib * _MIB // _PAGE

    async def write(number: int) -> None:
        done = 0
        while done < _MIB:
            done += await provider.write(file, number * _MIB + done, memoryview(data)[done:])

    async def write_page(number: int) -> None:
        await provider.write(file, number * 7919 % pages * _PAGE, data[:_PAGE])

    async def write_synced(number: int) -> None:
        opened, _ = await provider.open("/big", OpenFlags(write=True))
        await provider.write(opened, number * 7919 % pages * _PAGE, data[:_PAGE])
        await provider.close(opened, sync=True)

    started = time.perf_counter()
    await _speed(mib, write)
    unsynced = time.perf_counter() - started
    other, _ = await provider.open("/big", OpenFlags(write=True))
    await provider.close(other, sync=True)
    speeds = {
        "1 MiB sequential write": mib / unsynced,
        "1 MiB sequential write, synced": mib / (time.perf_counter() - started),
        "1 MiB sequential read": await _speed(
            mib, lambda number: provider.read(file, number * _MIB, _MIB)
        ),
        "4 KiB random read": await _speed(
            2000, lambda number: provider.read(file, number * 7919 % pages * _PAGE, _PAGE)
        ),
        "4 KiB random write": await _speed(1000, write_page),
        "4 KiB random write, synced": await _speed(50, write_synced),
    }
    await provider.close(file)
    return speeds


def _sqlite(files: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        base = sqlite3.connect(f"{directory}/base", isolation_level=None)
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = NORMAL")
        base.execute("CREATE TABLE inode (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
        value = bytes(120)

        def speed(count: int, statement: str, *more: object) -> float:
            started = time.perf_counter()
            for number in range(count):
                base.execute(statement, (f"/f{number}", *more)).fetchone()
            return count / (time.perf_counter() - started)

        insert = "INSERT INTO inode VALUES (?, ?)"
        found = {
            "create": speed(files, insert, value),
            "stat": speed(files, "SELECT value FROM inode WHERE name = ?"),
            "unlink": speed(files, "DELETE FROM inode WHERE name = ?"),
        }
        base.execute("PRAGMA synchronous = FULL")
        found["create, synced"] = speed(max(20, files // 20), insert, value)
        base.close()
        return found
