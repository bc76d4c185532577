"""pagefs on LMDB and files against localfs, and metadata against SQLite, in one run.

Baseline: localfs on the same disk. Aims: metadata operations at least 0.7 of localfs, large
sequential reads and writes at least 0.9: of 64 MiB in requests of 1 MiB, which is what the server
makes of any larger one. All are open at once and take turns: at each request of a large file, else
at each row of a round, so that a busy machine disturbs them alike. The rounds of one process are
alike, and those of another one, in a new directory, differ from them by up to a tenth: where its
memory lies and what it shares with the page cache stay the same to its end. So there are several
processes, one after the other. A row has the medians of all rounds; in brackets where the median
of the ratios lies with a probability of 95 %: whole processes are drawn again (bootstrap).
SQLite: the smallest table that could hold the same (WAL, a commit each).
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from fs9.clock import SystemClock
from fs9.limits import Limits
from fs9.providers import localfs
from fs9.providers.pagefs import backends
from fs9.providers.registry import ProviderContext
from fs9.threads import BlockingPool
from fs9.types import OpenFlags, StatChanges

if TYPE_CHECKING:
    from fs9.provider import OpenFile, Provider

_MIB = 1024 * 1024
_CREATE = OpenFlags(read=True, write=True, create=True)
_PAGE = 4096
_RESAMPLES = 2000

Operation: TypeAlias = Callable[[int], Awaitable[object]]
#: Who -> what was measured in each round.
Row: TypeAlias = dict[str, list[float]]
#: What -> its row.
Table: TypeAlias = dict[str, Row]


def run(quick: bool) -> None:
    """Print the table."""
    processes, size = (2, (100, 8, 2)) if quick else (12, (500, 64, 5))
    tables = []
    for _ in range(processes):
        with multiprocessing.get_context("spawn").Pool(1) as process:
            tables.append(process.apply(_measure, size))
    _show(tables)


def _measure(files: int, mib: int, rounds: int) -> Table:
    """What one process finds."""
    with tempfile.TemporaryDirectory() as home:
        return asyncio.run(_compare(Path(home), files, mib, rounds))


async def _compare(home: Path, files: int, mib: int, rounds: int) -> Table:
    pool = BlockingPool(4)
    contexts = [
        ProviderContext("bench", home / name, Limits(), SystemClock(), pool)
        for name in ("local", "page")
    ]
    providers = {
        "localfs": await localfs.create({"root": "{data_dir}/files"}, contexts[0]),
        "pagefs": await backends.create({}, contexts[1]),
    }
    speeds: Table = {}
    try:
        with _sqlite(home / "sqlite") as base:
            for number in range(rounds):
                for name, provider in providers.items():
                    _note(speeds, name, await _metadata(provider, files, number))
                _note(speeds, "sqlite", _sqlite_speeds(base, files))
        both = {name: await _Big.open(provider, mib) for name, provider in providers.items()}
        for number in range(rounds):
            runs = list(both.items())
            await _stream(runs, home, mib, speeds)
            await _take_turns(runs if number % 2 else runs[::-1], speeds)
        for big in both.values():
            await big.close()
    finally:
        for provider in providers.values():
            await provider.aclose()
        pool.shutdown()
    return speeds


def _note(speeds: Table, name: str, found: dict[str, float]) -> None:
    for what, speed in found.items():
        speeds.setdefault(what, {}).setdefault(name, []).append(speed)


def _show(tables: list[Table]) -> None:
    print("| operation, a second | localfs | pagefs | ratio (95 %) | SQLite | ratio |")
    print("|---|---|---|---|---|---|")
    for what in tables[0]:
        rows = [table[what] for table in tables]
        cells = [f"{_median(rows, 'localfs'):,.0f}"]
        for name in ("pagefs", "sqlite"):
            if name not in rows[0]:
                cells += ["", ""]
                continue
            ratios = [_ratios(row, name) for row in rows]
            spread = _interval(ratios) if name == "pagefs" else ""
            ratio = statistics.median(chain.from_iterable(ratios))
            cells += [f"{_median(rows, name):,.0f}", f"{ratio:.2f}{spread}"]
        print(f"| {what} | {' | '.join(cells)} |")


def _median(rows: list[Row], name: str) -> float:
    return statistics.median(chain.from_iterable(row[name] for row in rows))


def _ratios(row: Row, name: str) -> list[float]:
    return [own / base for own, base in zip(row[name], row["localfs"], strict=True)]


def _interval(processes: list[list[float]]) -> str:
    dice = random.Random(1)
    found = sorted(
        statistics.median(chain.from_iterable(dice.choices(processes, k=len(processes))))
        for _ in range(_RESAMPLES)
    )
    low, high = found[_RESAMPLES // 40], found[-_RESAMPLES // 40 - 1]
    return f" ({low:.2f}-{high:.2f})"


async def _speed(count: int, step: Operation) -> float:
    started = time.perf_counter()
    for number in range(count):
        await step(number)
    return count / (time.perf_counter() - started)


async def _metadata(provider: Provider, files: int, turn: int) -> dict[str, float]:
    async def create(number: int, *, sync: bool = False) -> None:
        file, _ = await provider.open(f"/f{number}", _CREATE)
        await provider.close(file, sync=sync)

    async def rename(number: int) -> None:
        changes = StatChanges(name=f"/g{number}")
        await provider.wstat(f"/f{number}", changes)

    speeds = {
        "create": await _speed(files, create),
        "stat": await _speed(files, lambda number: provider.stat(f"/f{number}")),
        "rename": await _speed(files, rename),
        "unlink": await _speed(files, lambda number: provider.remove(f"/g{number}")),
    }
    synced = max(5, files // 20)
    speeds["create, synced"] = await _speed(
        synced, lambda number: create(number + turn * synced + files, sync=True)
    )
    return speeds


class _Big:
    """One large file of a provider, open."""

    def __init__(self, provider: Provider, file: OpenFile, mib: int) -> None:
        self._provider = provider
        self._file = file
        self._mib = mib
        self._pages = mib * _MIB // _PAGE
        self._data = os.urandom(_MIB)
        self._turn = 0

    @classmethod
    async def open(cls, provider: Provider, mib: int) -> _Big:
        file, _ = await provider.open("/big", _CREATE)
        big = cls(provider, file, mib)
        for number in range(mib):
            await big._write(file, number)
        return big

    async def close(self) -> None:
        await self._provider.close(self._file)

    async def _write(self, file: OpenFile, number: int) -> None:
        done = 0
        while done < _MIB:
            rest = memoryview(self._data)[done:]
            done += await self._provider.write(file, number * _MIB + done, rest)

    async def _upload(self, path: str, *, sync: bool) -> float:
        """Write a new file in order; MiB a second."""
        started = time.perf_counter()
        file, _ = await self._provider.open(path, _CREATE)
        for number in range(self._mib):
            await self._write(file, number)
        await self._provider.close(file, sync=sync)
        return self._mib / (time.perf_counter() - started)

    def _place(self, number: int) -> int:
        self._turn += 1
        return (number + self._turn) * 7919 % self._pages * _PAGE

    async def _write_synced(self, number: int) -> None:
        opened, _ = await self._provider.open("/big", OpenFlags(write=True))
        await self._provider.write(opened, self._place(number), self._data[:_PAGE])
        await self._provider.close(opened, sync=True)

    async def _settle(self) -> None:
        """Leave nothing unsynced: pagefs syncs what came before as well, localfs one file."""
        opened, _ = await self._provider.open("/big", OpenFlags(write=True))
        await self._provider.close(opened, sync=True)

    async def begin(self) -> None:
        """Have a new file open, for `write` and `read`."""
        self.new, _ = await self._provider.open("/new", _CREATE)

    async def write(self, number: int) -> None:
        await self._write(self.new, number)

    async def read(self, number: int, size: int) -> None:
        found = await self._provider.read(self.new, number * size, size)
        assert len(found) == size

    async def end(self) -> None:
        await self._provider.close(self.new)
        await self._provider.remove("/new")

    async def measure(self) -> AsyncIterator[tuple[str, float]]:
        """Row after row, (what, how many a second)."""
        provider, big = self._provider, self._file
        await self._settle()
        yield "1 MiB sequential write, synced", await self._upload("/synced", sync=True)
        await provider.remove("/synced")

        async def write(number: int) -> None:
            await provider.write(big, self._place(number), self._data[:_PAGE])

        yield "4 KiB random write", await _speed(200, write)
        yield "4 KiB random write, synced", await _speed(10, self._write_synced)


async def _stream(runs: list[tuple[str, _Big]], home: Path, mib: int, speeds: Table) -> None:
    """One round of a new file, written and read in order: a request of one, then of the next."""

    async def each(what: str, size: int, step: Callable[[_Big, int], Awaitable[None]]) -> None:
        seconds = dict.fromkeys(dict(runs), 0.0)
        count = mib * _MIB // size
        for number in range(count):
            for name, big in runs if number % 2 else runs[::-1]:
                started = time.perf_counter()
                await step(big, number)
                seconds[name] += time.perf_counter() - started
        for name, taken in seconds.items():
            _note(speeds, name, {what: count / taken})

    for _, big in runs:
        await big.begin()
    await each("1 MiB sequential write", _MIB, lambda big, number: big.write(number))
    _leave_cache(home)
    await each("1 MiB sequential read, from disk", _MIB, lambda big, at: big.read(at, _MIB))
    await each("1 MiB sequential read", _MIB, lambda big, at: big.read(at, _MIB))
    await each("4 MiB sequential read", 4 * _MIB, lambda big, at: big.read(at, 4 * _MIB))
    await each("256 KiB sequential read", _MIB // 4, lambda big, at: big.read(at, _MIB // 4))
    pages = mib * _MIB // _PAGE
    await each("4 KiB random read", _PAGE, lambda big, at: big.read(at * 7919 % pages, _PAGE))
    for _, big in runs:
        await big.end()


def _leave_cache(home: Path) -> None:
    """Have the kernel forget the large files below."""
    for path in home.rglob("*"):
        if path.is_file() and path.stat().st_size >= _MIB:
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


async def _take_turns(runs: list[tuple[str, _Big]], speeds: Table) -> None:
    """One round: each row of one, then of the next one."""
    measured = {name: big.measure() for name, big in runs}
    while measured:
        for name, rows in list(measured.items()):
            row = await anext(rows, None)
            if row is None:
                del measured[name]
            else:
                _note(speeds, name, dict([row]))


@contextlib.contextmanager
def _sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    path.mkdir()
    base = sqlite3.connect(path / "base", isolation_level=None)
    base.execute("PRAGMA journal_mode = WAL")
    base.execute("CREATE TABLE inode (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
    with contextlib.closing(base):
        yield base


def _sqlite_speeds(base: sqlite3.Connection, files: int) -> dict[str, float]:
    def speed(count: int, statement: str, *more: object) -> float:
        started = time.perf_counter()
        for number in range(count):
            base.execute(statement, (*more, f"/f{number}")).fetchone()
        return count / (time.perf_counter() - started)

    value, insert = bytes(120), "INSERT INTO inode (value, name) VALUES (?, ?)"
    base.execute("PRAGMA synchronous = NORMAL")
    found = {
        "create": speed(files, insert, value),
        "stat": speed(files, "SELECT value FROM inode WHERE name = ?"),
        "rename": speed(files, "UPDATE inode SET name = '/g' || name WHERE name = ?"),
        "unlink": speed(files, "DELETE FROM inode WHERE name = '/g' || ?"),
    }
    base.execute("PRAGMA synchronous = FULL")
    found["create, synced"] = speed(max(5, files // 20), insert, value)
    base.execute("DELETE FROM inode")
    return found
