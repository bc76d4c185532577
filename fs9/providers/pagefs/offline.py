"""`fs9 fsck` and `fs9 scrub`: every pagefs below a data directory, while no server has it open.

Opening a storage finishes what a crash interrupted, as the next start of a server would; so a
check after a crash says what a user will see.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

import lmdb

from fs9.clock import SystemClock
from fs9.errors import Fs9Error, InvalidArgument
from fs9.limits import Limits
from fs9.providers.pagefs import fileblocks, lmdbstore
from fs9.providers.pagefs.core import Core, Policy
from fs9.providers.pagefs.fsck import Checker
from fs9.providers.pagefs.provider import PageFs
from fs9.threads import BlockingPool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fs9.providers.pagefs.fsck import Report

_THREADS = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found at one mount; `error` says why there is no report."""

    namespace: str
    mount: str
    report: Report | None = None
    error: str = ""

    @property
    def ok(self) -> bool:
        return self.report is not None and self.report.ok


def check_all(data_dir: Path, *, repair: bool = False) -> Iterator[Finding]:
    """Check the structure of every storage. Raises InvalidArgument: no such directory."""
    return _each(data_dir, repair=repair, scrub=False)


def scrub_all(data_dir: Path) -> Iterator[Finding]:
    """Verify every block of every storage. Raises InvalidArgument: no such directory."""
    return _each(data_dir, repair=False, scrub=True)


def _each(data_dir: Path, *, repair: bool, scrub: bool) -> Iterator[Finding]:
    if not data_dir.is_dir():
        raise InvalidArgument(f"{data_dir} is not a directory")
    for directory in sorted((data_dir / "pagefs").glob("*/*")):
        namespace, mount = unquote(directory.parent.name), unquote(directory.name)
        if lmdbstore.in_use(directory):
            error = "a server has it open; stop the server first"
            yield Finding(namespace, mount, error=error)
            continue
        try:
            report = asyncio.run(_look(directory, repair=repair, scrub=scrub))
        except (OSError, lmdb.Error, Fs9Error) as failure:
            yield Finding(namespace, mount, error=str(failure))
        else:
            yield Finding(namespace, mount, report)


async def _look(directory: Path, *, repair: bool, scrub: bool) -> Report:
    pool = BlockingPool(_THREADS)
    try:
        store = await lmdbstore.open_store(directory, pool)
        blocks = await fileblocks.open_blocks(directory / "objects", pool)
        core = Core(store, blocks, Policy(), Limits(), SystemClock())
        try:
            provider = PageFs(core)
            await provider.start()
            await core.settle()
            checker = Checker(provider, repair=repair)
            return await (checker.scrub() if scrub else checker.check())
        finally:
            await core.aclose()
    finally:
        pool.shutdown()
