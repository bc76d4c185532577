"""One directory with a million files: pagefs and localfs, and rows of a table in SQLite.

Every one does the same, in a process of its own: create all, stat, list pages of 1,000, rename and
remove one in ten. Baseline: localfs on the same disk. `memory`: the most that the process's own
(anonymous) memory grew; it must not follow the number of files.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fs9.clock import SystemClock
from fs9.limits import Limits
from fs9.providers import localfs
from fs9.providers.pagefs import backends
from fs9.providers.registry import ProviderContext
from fs9.threads import BlockingPool
from fs9.types import MKDIR, OpenFlags, StatChanges

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fs9.provider import Provider

_CREATE = OpenFlags(write=True, create=True, exclusive=True)
_PAGE = 1000
_SAMPLE = 2000
#: The step from one file to the next that is touched: all over the directory.
_STRIDE = 7919


def run(quick: bool) -> None:
    """Print a row for each kind as soon as it is measured; localfs takes the longest."""
    files = 2_000 if quick else 1_000_000
    print(f"{files:,} files in one directory; operations a second")
    head: list[str] = []
    for kind in ("pagefs", "sqlite", "localfs"):
        with multiprocessing.get_context("spawn").Pool(1) as process:
            found = process.apply(_measure, (kind, files))
        if not head:
            head = list(found)
            print(f"| | {' | '.join(head)} |\n|---{'|---' * len(head)}|")
        cells = [f"{found[what]:,.0f}" for what in head]
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)


class _Directory(Protocol):
    async def create(self, number: int) -> object: ...

    async def stat(self, number: int) -> object: ...

    async def page(self, number: int) -> object: ...

    async def rename(self, number: int) -> object: ...

    async def remove(self, number: int) -> object: ...


class _Files:
    """Files of a provider."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def create(self, number: int) -> object:
        file, _ = await self._provider.open(f"/d/f{number:08}", _CREATE)
        await self._provider.close(file)
        return file

    async def stat(self, number: int) -> object:
        return await self._provider.stat(f"/d/f{number:08}")

    async def page(self, number: int) -> object:
        return await self._provider.readdir("/d", f"f{number:08}", _PAGE)

    async def rename(self, number: int) -> None:
        changes = StatChanges(name=f"/d/g{number:08}")
        await self._provider.wstat(f"/d/f{number:08}", changes)

    async def remove(self, number: int) -> None:
        await self._provider.remove(f"/d/g{number:08}")


class _Rows:
    """Rows of a table, each change committed, without waiting for the disk."""

    def __init__(self, path: Path) -> None:
        self.base = sqlite3.connect(path, isolation_level=None)
        self.base.execute("PRAGMA journal_mode = WAL")
        self.base.execute("PRAGMA synchronous = NORMAL")
        self.base.execute("CREATE TABLE inode (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")

    def _do(self, statement: str, *values: object) -> object:
        return self.base.execute(statement, values).fetchall()

    async def create(self, number: int) -> object:
        return self._do("INSERT INTO inode VALUES (?, ?)", f"f{number:08}", bytes(120))

    async def stat(self, number: int) -> object:
        return self._do("SELECT value FROM inode WHERE name = ?", f"f{number:08}")

    async def page(self, number: int) -> object:
        query = "SELECT * FROM inode WHERE name > ? ORDER BY name LIMIT ?"
        return self._do(query, f"f{number:08}", _PAGE)

    async def rename(self, number: int) -> object:
        statement = "UPDATE inode SET name = ? WHERE name = ?"
        return self._do(statement, f"g{number:08}", f"f{number:08}")

    async def remove(self, number: int) -> object:
        return self._do("DELETE FROM inode WHERE name = ?", f"g{number:08}")


@asynccontextmanager
async def _opened(kind: str, home: Path) -> AsyncIterator[_Directory]:
    if kind == "sqlite":
        rows = _Rows(home / "base")
        yield rows
        rows.base.close()
        return
    pool = BlockingPool(4)
    context = ProviderContext("bench", home, Limits(), SystemClock(), pool)
    provider: Provider
    if kind == "localfs":
        provider = await localfs.create({"root": "{data_dir}/files"}, context)
    else:
        provider = await backends.create({}, context)
    made, _ = await provider.open("/d", MKDIR)
    await provider.close(made)
    yield _Files(provider)
    await provider.aclose()
    pool.shutdown()


def _measure(kind: str, files: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as home:
        return asyncio.run(_steps(kind, Path(home), files))


async def _steps(kind: str, home: Path, files: int) -> dict[str, float]:
    grown = 0
    async with _opened(kind, home) as directory:
        before = _anonymous_bytes()

        async def speed(count: int, step: Callable[[int], Awaitable[object]]) -> float:
            nonlocal grown
            started = time.perf_counter()
            for number in range(count):
                await step(number * _STRIDE % files)
                if number % _SAMPLE == 0:
                    grown = max(grown, _anonymous_bytes() - before)
            seconds = time.perf_counter() - started
            grown = max(grown, _anonymous_bytes() - before)
            return count / seconds

        found: dict[str, Any] = {
            "create": await speed(files, directory.create),
            "stat": await speed(files // 10, directory.stat),
            "page of 1,000 names": await speed(5, directory.page),
            "rename": await speed(files // 10, directory.rename),
            "remove": await speed(files // 10, directory.remove),
        }
    return found | {"memory, most grown, MiB": grown / 2**20}


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("the kernel does not tell the anonymous memory")
